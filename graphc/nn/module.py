"""Module: a part of a model, with its parameters, buffers and parts."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from inspect import cleandoc
from typing import Any, ClassVar, Self

import numpy as np

from graphc.arrays import as_array
from graphc.cuda import check_device
from graphc.errors import ArgumentError, DTypeError, GraphcError, UnknownNameError
from graphc.ir.graph import in_module, user_origin
from graphc.ir.types import FLOATS
from graphc.nn.misfit import show_declaration
from graphc.settings import check_function, check_switch, require
from graphc.states import load_named
from graphc.tensor import DType, Parameter, Tensor, as_dtype, f32, f64
from graphc.tensor.tracing import current_trace

IncompatibleKeys = namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])


class Module:
    """A part of a model: parameters, buffers and other modules as attributes, and a `forward` over tensors.

    Subclasses define `__init__` and `forward`. Calling a module adds its `forward` to the graph that is traced.
    """

    training: bool

    def __new__(cls, *_: Any, **__: Any) -> Self:
        self = super().__new__(cls)
        registers: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}, "_transient": set()}
        # Straight into the dictionary: attributes set on a module look at these.
        self.__dict__.update(registers, training=True, declared=user_origin(), _path="")
        return self

    def __init__(self) -> None:
        """Nothing is left to do: `__new__` has made the registers."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The arithmetic of the layer, over tensors; every subclass defines its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define it with the layer's arithmetic")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._path:
            name_parameters(self)
        trace = current_trace()
        if trace is not None:
            trace.layers[self._path] = type(self).__name__
        try:
            with in_module(self._path) if self._path else nullcontext():
                return self.forward(*args, **kwargs)
        except GraphcError as error:
            show_declaration(error, self)
            raise
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            raise ArgumentError(str(error), user_origin()) from None  # forward does not take these arguments

    # -- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter) and name not in self._buffers:
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif name in self._buffers and value is not None:
            self._set_buffer(name, value)
        elif (known := self._register_of(name)) is None:
            super().__setattr__(name, value)
        elif value is None:
            known[name] = None
        else:
            kind = "a parameter" if known is self._parameters else "a module"
            raise ArgumentError(
                f"{name} of {type(self).__name__} is {kind}; {type(value).__name__} cannot take its place",
                user_origin(),
            )

    def __getattr__(self, name: str) -> Any:
        known = None if name.startswith("__") else self._register_of(name)
        if known is None and name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        if known is None:
            text = f"{type(self).__name__} has no attribute {name!r}"
            raise UnknownNameError(text, user_origin(), wanted=name, known=lambda: dir(self))
        return known[name]

    def __delattr__(self, name: str) -> None:
        known = self._register_of(name)
        if known is None:
            super().__delattr__(name)
        else:
            del known[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _register_of(self, name: str) -> dict[str, Any] | None:
        registers = (self.__dict__.get(kind, {}) for kind in ("_parameters", "_buffers", "_modules"))
        return next((register for register in registers if name in register), None)

    def _register(self, kind: str, name: str, value: Any) -> None:
        """Enter a value into one register, out of all others."""
        fits = isinstance(name, str) and name != "" and "." not in name
        require(fits, "the name of a part", name, "a text without dots")
        taken = name in ("training", "declared") or hasattr(type(self), name)
        require(not taken, "the name of a part", name, f"another, since {type(self).__name__}.{name} is something else")
        known = self._register_of(name)
        if known is not None and known is not self.__dict__[kind]:
            del known[name]
        self.__dict__.pop(name, None)
        self.__dict__[kind][name] = value

    def _set_buffer(self, name: str, value: Any) -> None:
        if self._buffers[name] is None:
            self.register_buffer(name, value, persistent=name not in self._transient)
        else:
            self._buffers[name].copy_(value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """A parameter under a name; None keeps the name without one."""
        if param is not None and not isinstance(param, Parameter):
            raise ArgumentError(
                f"{name} of {type(self).__name__} must be a Parameter or None, got {type(param).__name__}",
                user_origin(),
            )
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """State that no gradient reaches: an array, or None for none yet; in the state_dict if persistent.

        Setting the attribute later copies into it; inside a traced step that is recorded as an update.
        """
        check_switch("persistent", persistent)
        dtype = tensor.dtype if isinstance(tensor, Parameter) else None
        buffer = None if tensor is None else Parameter(tensor, name, requires_grad=False, dtype=dtype)
        self._register("_buffers", name, buffer)
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """A module under a name; None keeps the name without one."""
        if module is not None and not isinstance(module, Module):
            raise ArgumentError(
                f"{name} of {type(self).__name__} must be a Module or None, got {type(module).__name__}", user_origin()
            )
        self._register("_modules", name, module)

    register_module = add_module

    # -- what it consists of; everything shared is named once

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted path, module) of this module and all below, parents first."""
        seen: set[Module] = set()
        for path, module in walk(self, prefix):
            if module not in seen:
                seen.add(module)
                yield path, module

    def modules(self) -> Iterator[Module]:
        """This module and all below, parents first."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the parts directly below."""
        return ((name, module) for name, module in self._modules.items() if module is not None)

    def children(self) -> Iterator[Module]:
        """The parts directly below."""
        return (module for _, module in self.named_children())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter); from now on the parameters bear these names."""
        name_parameters(self, self._path)
        return self._named("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Those of this module and, if `recurse`, of all below; each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, buffer)."""
        return self._named("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Parameter]:
        """State that no gradient reaches, of this module and, if `recurse`, of all below."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(self, kind: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Parameter]]:
        seen: set[Parameter] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, parameter in module.__dict__[kind].items():
                if parameter is not None and parameter not in seen:
                    seen.add(parameter)
                    yield join(path, name), parameter

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path below this one."""
        require(isinstance(target, str), "target", target, "a dotted name")
        found = dict(walk(self, ""))
        if target not in found:
            raise AttributeError(f"{type(self).__name__} has no module {target!r}; it has {', '.join(found)}")
        return found[target]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name. Raises AttributeError where there is none."""
        return self._get("_parameters", target)

    def get_buffer(self, target: str) -> Parameter:
        """The buffer of a dotted name. Raises AttributeError where there is none."""
        return self._get("_buffers", target)

    def _get(self, kind: str, target: str) -> Parameter:
        require(isinstance(target, str), "target", target, "a dotted name")
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path).__dict__[kind].get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no {kind[1:-1]} {target!r}")
        return found  # type: ignore[no-any-return]

    # -- state

    def state_dict(self, prefix: str = "") -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and persistent buffers by dotted name; shared ones under each of their names."""
        require(isinstance(prefix, str), "prefix", prefix, "a text")
        return {prefix + name: parameter.numpy() for name, parameter in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy arrays into parameters and buffers of the same names.

        strict  names must match; else only the common ones are loaded. Returns the names that did not match.

        Raises CheckpointError, before anything changes, for missing and unexpected names and for other shapes.
        """
        require(isinstance(state_dict, Mapping), "state_dict", state_dict, "a dict of arrays")
        check_switch("strict", strict)
        own = self._state()
        given = {name: as_array(array, f"{name} in the state") for name, array in state_dict.items()}
        common = own.keys() & given.keys()
        missing, unexpected = [n for n in own if n not in common], [n for n in given if n not in common]
        if not strict:
            own, given = {n: own[n] for n in own if n in common}, {n: given[n] for n in own if n in common}
        load_named(own, given, type(self).__name__)
        return IncompatibleKeys(missing, unexpected)

    def _state(self) -> dict[str, Parameter]:
        found: dict[str, Parameter] = {}
        for path, module in walk(self, ""):
            kept = {name: buffer for name, buffer in module._buffers.items() if name not in module._transient}
            named = {**module._parameters, **kept}
            found |= {join(path, name): parameter for name, parameter in named.items() if parameter is not None}
        return found

    # -- modes

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode, for this module and all below; the next compile uses it."""
        check_switch("mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode, which the next compile uses: without dropout, with the averages of BatchNorm."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Whether backward() gives the parameters gradients; a frozen parameter is not updated."""
        check_switch("requires_grad", requires_grad)
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of this trace; the next call of a compiled step starts afresh anyway."""
        for parameter in self.parameters():
            forget_gradient(parameter)

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` with every module below, then with this one."""
        check_function("fn", fn)
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # -- device and dtype

    def to(self, device: Any = None, dtype: DType | None = None) -> Self:
        """Parameters and buffers of floats in another dtype; `to(gx.f64)`, `to("cpu")`, `to("cpu", gx.f64)`.

        A device is that of what is compiled from now on for these parameters and names none: of train_step and its kin,
        @gx.step, gx.function, apply_step. Parameters are brought where they are needed, those of an optimizer too.
        Raises DeviceError for a device that is not there, TraceError for parameters that a compiled function works on,
        DTypeError for a dtype that is not f32 or f64.
        """
        named = isinstance(device, DType | np.dtype | type)
        place, given = (None, device) if named else (device, dtype)
        if place is not None:
            chosen = check_device(str(place))
            for held in (*self.parameters(), *self.buffers()):
                held.chosen_device = chosen
        if given is not None:
            wanted = check_float(given)
            for held in (*self.parameters(), *self.buffers()):
                if held.dtype.name in FLOATS:
                    held.convert_(wanted)
        return self

    def cpu(self) -> Self:
        """`to("cpu")`."""
        return self.to("cpu")

    def cuda(self) -> Self:
        """`to("cuda")`."""
        return self.to("cuda")

    def float(self) -> Self:
        """Parameters and buffers of floats in f32."""
        return self.to(f32)

    def double(self) -> Self:
        """Parameters and buffers of floats in f64; give it f64 inputs."""
        return self.to(f64)

    # -- text

    def extra_repr(self) -> str:
        """The arguments that its text shows."""
        return ""

    def __repr__(self) -> str:
        parts = [f"({name}): {indented(repr(module))}" for name, module in self._modules.items()]
        lines = [*self.extra_repr().splitlines(), *parts]
        if len(lines) < 2 and not parts:
            return f"{type(self).__name__}({''.join(lines)})"
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"


def walk(module: Module, path: str) -> Iterator[tuple[str, Module]]:
    """(path, module) of a module and all below, shared ones every time."""
    yield path, module
    for name, child in module.named_children():
        yield from walk(child, join(path, name))


def name_parameters(module: Module, path: str = "") -> None:
    """Give every module from here on its dotted path, and every parameter and buffer that path and its own name."""
    for place, each in module.named_modules(path):
        each.__dict__["_path"] = place
    for kind in ("_parameters", "_buffers"):
        for name, parameter in module._named(kind, path, recurse=True):
            parameter.name = name


def check_float(given: Any) -> DType:
    dtype = as_dtype(given)
    if dtype.name not in FLOATS:
        raise DTypeError(f"parameters of layers are f32 or f64, not {dtype.name}", user_origin())
    return dtype


def new_parameter(shape: tuple[int, ...], device: Any = None, dtype: DType | None = None) -> Parameter:
    """A parameter as layers make it, f32 unless a float dtype is named; its numbers are still to come.

    Raises TraceError for a device that is not there, DTypeError for a dtype that is not f32 or f64.
    """
    if device is not None:
        check_device(str(device))
    wanted = f32 if dtype is None else check_float(dtype)
    try:
        numbers = np.empty(shape, wanted.numpy)
    except (MemoryError, ValueError):  # the latter where not even the count of bytes is possible
        extents = ",".join(map(str, shape))
        message = f"a parameter {wanted.name}[{extents}] does not fit into memory; give the layer smaller sizes"
        raise ArgumentError(message, user_origin()) from None
    return Parameter(numbers, dtype=wanted)


def forget_gradient(parameter: Parameter) -> None:
    """Set the `grad` of a parameter back to None."""
    if parameter.grad is not None:
        parameter.grad = None


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def indented(text: str) -> str:
    return text.replace("\n", "\n  ")


class Applied(Module):
    """A module of one function of graphc.functional; what that says of itself is said of the module, too."""

    function: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls) -> None:
        said = vars(cls)["function"].__doc__ if "function" in vars(cls) else None
        if cls.__doc__ is None and said is not None:
            cls.__doc__ = f"`functional.{cls.function.__name__}` as a module.\n\n{cleandoc(said)}"
