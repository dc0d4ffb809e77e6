"""Tensors with memory, run-time scalars, and gradients with respect to them."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from graphc.arrays import as_array
from graphc.backends.runtime import Storage
from graphc.errors import DTypeError, GradientError, ShapeError, TraceError
from graphc.ir import ops
from graphc.ir.dependence import depends_on
from graphc.ir.graph import Value, reachable, user_origin
from graphc.ir.initial import Initial
from graphc.ir.types import DTYPES, FLOATS, NAMES, TensorType, bound
from graphc.settings import check_switch, is_number, require
from graphc.tensor.building import (
    apply,
    as_tensor,
    cast_value,
    common_shape,
    converted,
    is_plain_number,
    stretch,
)
from graphc.tensor.dtypes import as_dtype, dtype_name, f32
from graphc.tensor.placing import index_put
from graphc.tensor.tensor import Tensor, the_number
from graphc.tensor.tracing import active_trace, current_trace

NUMBERS = count()  # of parameters, in the order they are made


class Gradient(Tensor):
    """A parameter's gradient inside a traced step."""

    def zero_(self) -> Gradient:
        """Nothing to do: every call of a compiled step starts with fresh gradients."""
        return self


class Parameter(Tensor):
    """A tensor with memory: concrete numbers outside, a symbol inside a graph.

    data  numbers to copy, of any supported dtype: what `__array__`, `__dlpack__` or a buffer shows, or lists; float64
          becomes float32 unless `dtype` says otherwise

    `np.asarray(parameter)` and `np.from_dlpack(parameter)` are read-only views of its memory and `torch.from_dlpack` a
    tensor that shares it: they see later updates, until the first function that works on it is compiled and gives it
    other memory. `numpy()` is a copy. Once a function on a GPU works on it, DLPack and `__cuda_array_interface__` show
    its memory there, for reading.

    chosen_device  "cpu" or "cuda": of functions that work on it and name no device; see `Module.to`
    """

    chosen_device = "cpu"

    def __init__(self, data: Any, name: str = "", requires_grad: bool = True, dtype: Any = None) -> None:
        require(isinstance(name, str), "the name of a parameter", name, "text; its other settings are named")
        array = as_array(data, name or "a parameter's data")
        given = DTYPES["f32"] if array.dtype == DTYPES["f64"] else array.dtype
        wanted = given if dtype is None else as_dtype(dtype).numpy
        if wanted not in NAMES or array.dtype.kind not in "biuf":
            raise DTypeError(f"a parameter cannot have dtype {array.dtype}", user_origin())
        self.storage = Storage(array.astype(wanted, copy=False))
        self.initial = constant_of(self.storage.array)
        self.number = next(NUMBERS)
        self.name = name
        self.requires_grad = check_switch("requires_grad", requires_grad) and NAMES[wanted] in FLOATS
        kind = TensorType(NAMES[wanted], tuple(int(extent) for extent in array.shape))
        self.input = replace(ops.input(name=name or "parameter", role="state", type=kind), owner=self)
        super().__init__(self.input)

    @property
    def value(self) -> Value:
        """Its value at this point of the trace: the input, or what the last update made of it."""
        trace = current_trace()
        return trace.current[self].value if trace is not None and self in trace.current else self.input

    @property
    def grad(self) -> Gradient | None:
        """Its gradient, after backward() in the same traced step."""
        trace = current_trace()
        found = None if trace is None else trace.gradients.get(self)
        return found  # type: ignore[return-value]

    @grad.setter
    def grad(self, new: Tensor | None) -> None:
        trace = active_trace("setting .grad")
        if new is None:
            trace.gradients.pop(self, None)
        else:
            trace.gradients[self] = new

    def __deepcopy__(self, memo: Any) -> Parameter:
        copy = Parameter(self.storage.array, self.name, self.requires_grad, self.dtype)
        copy.initial, copy.chosen_device = self.initial, self.chosen_device
        return copy

    def __copy__(self) -> Parameter:
        return self.__deepcopy__({})

    def __reduce__(self) -> tuple[Any, ...]:  # type: ignore[override]
        return restored, (self.storage.array, self.name, self.requires_grad, self.dtype, self.initial)

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy of its numbers."""
        return self.storage.array.copy()

    def item(self) -> Any:
        return the_number("item()", self.type, self.storage.array)

    def tolist(self) -> Any:
        """Its numbers as nested lists."""
        return self.storage.array.tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if current_trace() is not None:
            super().__array__()  # which refuses: updates of this trace are not in its memory
        view = self.storage.array.view()
        view.flags.writeable = False  # new numbers come by `copy_` and by updates
        return np.array(view, dtype, copy=copy)

    def __dlpack__(
        self, *, stream: Any = None, max_version: tuple[int, int] | None = None, dl_device: Any = None, **options: Any
    ) -> Any:
        mirror = self.storage.mirror
        if mirror is not None and dl_device in (None, mirror.dlpack_device):
            return mirror.dlpack(stream)
        # Consumers that name no version cannot be told that memory is read-only, and would get none.
        array = self.storage.array if max_version is None else self.__array__()
        return array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        mirror = self.storage.mirror
        return self.storage.array.__dlpack_device__() if mirror is None else mirror.dlpack_device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.storage.mirror is None:  # which tells who asks that it is not on a device
            raise AttributeError(f"{self.name or 'a parameter'} is in the memory of no GPU")
        return self.storage.mirror.interface()

    def copy_(self, data: Any) -> Parameter:
        """New numbers, of the same shape; inside a traced step, a recorded update.

        Raises ShapeError, and DTypeError for floats where integers are kept.
        """
        if current_trace() is not None:
            return self._record(as_tensor(data))
        array = self._new_numbers(data)
        if array.shape != self.storage.array.shape:
            name = self.name or "a parameter"
            raise ShapeError(f"{name} is {self.type}, the new data has shape {array.shape}", user_origin())
        self.assign(array)
        return self

    def assign(self, array: Any) -> None:
        """Numbers from now on that are given, not drawn; NumPy's errors for what does not fit."""
        self.storage.array[...] = array
        self.initial = None

    def draw_(self, numbers: Initial, seed: int) -> Parameter:
        """New numbers of which is known how they are made, so that native code can make them again."""
        if current_trace() is not None:
            drawn = np.empty(self.storage.array.shape)
            numbers.fill(drawn, seed)
            return self._record(as_tensor(drawn))
        numbers.fill(self.storage.array, seed)
        self.initial = numbers
        return self

    def _new_numbers(self, data: Any) -> np.ndarray[Any, Any]:
        """Data as an array that can be written into its memory."""
        name = self.name or "a parameter"
        array = as_array(data, f"the new data of {name}")
        if not np.can_cast(array.dtype, self.storage.array.dtype, "same_kind"):
            raise DTypeError(f"{name} is {self.type}, the new data has dtype {array.dtype}", user_origin())
        return array

    def fill_(self, number: float) -> Parameter:
        require(is_plain_number(number), "the number of fill_", number, "a number")
        fitting = converted(number, self.input.dtype)
        return self.copy_(np.full(self.storage.array.shape, fitting, self.storage.array.dtype))

    def zero_(self) -> Parameter:
        return self.fill_(0)

    def normal_(self, mean: float = 0.0, std: float = 1.0) -> Parameter:
        """Random numbers of a normal distribution, from the generator that gx.manual_seed seeds."""
        from graphc import init  # which works on parameters, so it imports this file

        return init.normal_(self, mean, std)

    def uniform_(self, low: float = 0.0, high: float = 1.0) -> Parameter:
        """Random numbers between low and high, from the generator that gx.manual_seed seeds."""
        from graphc import init  # which works on parameters, so it imports this file

        return init.uniform_(self, low, high)

    def convert_(self, dtype: Any) -> Parameter:
        """Its numbers in another dtype from now on. Raises TraceError once a compiled function works on its memory."""
        wanted = as_dtype(dtype)
        if wanted != self.dtype:
            if self.storage.in_block or self.storage.mirror is not None:
                name = self.name or "a parameter"
                raise TraceError(
                    f"{name} cannot become {wanted.name}: a compiled function works on its memory",
                    user_origin(),
                    ["convert before the step is compiled, or convert a copy: copy.deepcopy(net).double()"],
                )
            initial, number = self.initial, self.number
            Parameter.__init__(self, self.storage.array, self.name, self.requires_grad, wanted)
            self.initial, self.number = initial, number
        return self

    @property
    def data(self) -> Parameter:
        """Itself: there is no tape that an in-place change could disturb."""
        return self

    def _record(self, new: Tensor) -> Parameter:
        trace = active_trace("an in-place update")
        value = cast_value(new.value, self.input.dtype)
        if common_shape([value, self.input]) != self.input.shape:
            raise ShapeError(
                f"an update of {new.type} does not fit {self.name or 'a parameter'} of {self.type}", user_origin()
            )
        trace.current[self] = Tensor(stretch(value, self.input.shape))
        return self

    def __setitem__(self, index: Any, new: Any) -> None:
        """New numbers at places; inside a traced step, a recorded update."""
        if current_trace() is not None:
            self._record(index_put(self, index, new))
            return
        array = self._new_numbers(new)
        try:
            self.storage.array[index] = array
            self.initial = None
        except (IndexError, ValueError, TypeError) as error:
            raise ShapeError(f"{self.name or 'a parameter'} is {self.type}: {error}", user_origin()) from None

    def __iadd__(self, other: Any) -> Parameter:
        return self._record(self + other)

    def __isub__(self, other: Any) -> Parameter:
        return self._record(self - other)

    def __imul__(self, other: Any) -> Parameter:
        return self._record(self * other)

    def __itruediv__(self, other: Any) -> Parameter:
        return self._record(self / other)

    def add_(self, other: Any, alpha: Any = 1) -> Parameter:
        return self._record(self.add(other, alpha=alpha))

    def sub_(self, other: Any, alpha: Any = 1) -> Parameter:
        return self._record(self.sub(other, alpha=alpha))

    def mul_(self, other: Any) -> Parameter:
        return self._record(self * other)


class Scalar(Tensor):
    """A run-time number of a step: changing it never recompiles."""

    def __init__(self, name: str, number: float, dtype: Any = f32) -> None:
        self.name = check_name("a scalar", name)
        self.set(number)
        self.input = replace(ops.input(name=name, role="scalar", type=TensorType(dtype_name(dtype), ())), owner=self)
        super().__init__(self.input)

    @property
    def home(self) -> tuple[dict[str, Any], str]:
        """The dictionary and the key where its number is: what is there is another object once that changes."""
        return vars(self), "number"

    def set(self, number: float) -> None:
        require(is_number(number), f"the number of {self.name}", number, "a number")
        self.number = number

    def __copy__(self) -> Scalar:
        return Scalar(self.name, self.number, self.dtype)

    def __deepcopy__(self, memo: Any) -> Scalar:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:  # type: ignore[override]
        return Scalar, (self.name, self.number, self.dtype)

    def item(self) -> Any:
        return self.number


def restored(array: Any, name: str, requires_grad: bool, dtype: Any, initial: Initial | None) -> Parameter:
    """A parameter out of a pickle."""
    parameter = Parameter(array, name, requires_grad, dtype)
    parameter.initial = initial
    return parameter


def constant_of(array: np.ndarray[Any, Any]) -> Initial | None:
    """How an array is made whose elements are all one number; None for others."""
    if array.size and array.flat[0] == array.flat[-1] and (array == array.flat[0]).all():
        return Initial(0, "constant", array.flat[0].item(), 0.0)
    return None


def record_gradients(loss: Tensor) -> None:
    """What loss.backward() does: every parameter the scalar depends on gets its `.grad` in the active trace."""
    trace = active_trace("backward()")
    check_scalar(loss)
    holders = [holder for value in reachable((loss.value,)) if isinstance(holder := value.owner, Parameter)]
    wanted = [holder for holder in holders if holder.requires_grad]
    reached = depends_on(loss.value, tuple(holder.value for holder in wanted))
    for holder in wanted:
        if holder.value in reached:
            gradient = apply(ops.gradient, loss.value, holder.value)
            known = trace.gradients.get(holder)
            trace.gradients[holder] = Gradient((gradient if known is None else known + gradient).value)


def check_scalar(loss: Tensor) -> None:
    require(isinstance(loss, Tensor), "the loss", loss, "a tensor of one number")
    if bound(loss.type.count) != 1:
        raise GradientError(
            f"a gradient needs a loss of one number, this one is {loss.type}",
            user_origin(),
            ["reduce it first: loss.mean() or loss.sum()"],
        )


def grad(loss: Tensor, wrt: Any) -> Any:
    """d loss / d wrt as more graph: one tensor, or a list for a list of them.

    Raises GradientError when the loss is not one number or does not depend on a wrt through differentiable operations.
    """
    check_scalar(loss)
    many = isinstance(wrt, (list, tuple))
    targets = list(wrt) if many else [wrt]
    for target in targets:
        require(isinstance(target, Tensor), "wrt", target, "a tensor, or a list of tensors")
    reached = depends_on(loss.value, tuple(target.value for target in targets))
    for target in targets:
        if target.value not in reached:
            name = getattr(target, "name", "") or str(target.type)
            raise GradientError(
                f"the loss does not depend on {name} through differentiable operations",
                user_origin(),
                ["leave it out, or check for comparisons, integer casts and stop_gradient on the way"],
            )
    found = [apply(ops.gradient, loss.value, target.value) for target in targets]
    return found if many else found[0]


def input(name: str, type: TensorType) -> Tensor:
    """A data input of a function. Raises ArgumentError for what is no tensor type, such as a dtype without a shape."""
    check_name("an input", name)
    wanted = 'a tensor type, such as gx.f32["n", 4], or gx.f32[()] for one number'
    require(isinstance(type, TensorType), f"the type of input {name!r}", type, wanted)
    return Tensor(ops.input(name=name, role="data", type=type))


def check_name(what: str, name: Any) -> str:
    require(isinstance(name, str) and name != "", f"the name of {what}", name, "text that is not empty")
    return str(name)


def parameter(name: str, data: Any) -> Parameter:
    """Concrete storage that is a symbol in a graph."""
    return Parameter(data, name)


def scalar(name: str, number: float) -> Scalar:
    """A run-time input with a value, f32[]."""
    return Scalar(name, number)
