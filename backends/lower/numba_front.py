"""numba as the front end of the kernel language: the only file that knows numba's internals.

numba reads the bytecode, builds SSA form, infers types and lowers control flow. What a name or operator means comes
from `operations`, through a typing context and a target context of our own: none of numba's registries, runtime,
calling convention, optimiser or wrappers takes part, so what comes out is one plain C-like function.
`tests/test_numba_contract.py` pins numba's minor version and every name used here.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import callconv, errors, funcdesc, lowering, types, typing
from numba.core import ir as numba_ir
from numba.core.base import BaseContext
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
from numba.core.datamodel import models, register_default
from numba.core.typed_passes import IRLegalization, NopythonTypeInference, PreLowerStripPhis
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

from graphc.backends.lower.emission import I64, Operation, call_declared, like, llvm_type
from graphc.backends.lower.operations import operation
from graphc.backends.primitives import Kernel, define, is_pointer

_OPERATORS = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.neg: "negate", operator.lt: "<", operator.le: "<=", operator.gt: ">",
    operator.ge: ">=", operator.eq: "==", operator.ne: "!=", operator.and_: "&", operator.or_: "|",
    operator.xor: "^", operator.invert: "~", operator.lshift: "<<", operator.rshift: ">>",
}  # fmt: skip
_CONSTANTS = {"true": True, "false": False, "inf": float("inf"), "nan": float("nan")}
_SCALARS = {
    "f32": types.float32, "f64": types.float64, "i32": types.int32, "i64": types.int64, "u8": types.uint8,
    "bool": types.boolean, "": types.none,
}  # fmt: skip
_KINDS = {scalar: kind for kind, scalar in _SCALARS.items()}


# --- types ------------------------------------------------------------------------------------------------------------


class KernelType(types.Type):
    """A pointer, vector, mask or tile; `kind` is its name in the kernel language."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


_RANGE = types.Opaque("range")
_RANGE_ITERATOR = types.Opaque("range iterator")
_NEXT_INDEX = types.Pair(types.int64, types.boolean)


@dataclass(frozen=True)
class Called:
    """What a name in call position stands for: an operation, or kernels told apart by their argument types."""

    name: str
    operation: Operation | None = None
    instances: tuple[Kernel, ...] = ()


class CalledType(types.Callable):
    """The type of a `Called`."""

    def __init__(self, called: Called) -> None:
        self.called = called
        super().__init__(f"called {called.name}")

    @property
    def key(self) -> Called:
        return self.called

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        args = tuple(types.unliteral(arg) for arg in args)
        if kws:
            raise errors.TypingError(f"{self.called.name} takes positional arguments only")
        if self.called.name == "range":
            return _range_signature(args)
        return typing.signature(_numba_type(_result(self.called, tuple(_kind(arg) for arg in args))), *args)

    def get_call_signatures(self) -> tuple[list[Any], bool]:
        return [], False

    def get_impl_key(self, sig: Any) -> Called:
        return self.called


@register_default(KernelType)
class _KernelModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: KernelType) -> None:
        super().__init__(manager, kind, llvm_type(kind.kind))


@register_default(CalledType)
class _CalledModel(models.OpaqueModel):
    pass


def _numba_type(kind: str) -> Any:
    return _SCALARS[kind] if kind in _SCALARS else KernelType(kind)


def _kind(numba_type: Any) -> str:
    return numba_type.kind if isinstance(numba_type, KernelType) else _KINDS.get(numba_type, str(numba_type))


def _range_signature(args: tuple[Any, ...]) -> Any:
    if not 1 <= len(args) <= 3 or set(args) != {types.int64}:
        raise errors.TypingError(f"range takes one to three i64, got ({_list(map(_kind, args))})")
    return typing.signature(_RANGE, *args)


def _result(called: Called, kinds: tuple[str, ...]) -> str:
    """The kernel type of a call's value. Raises numba's TypingError, which knows the line."""
    if called.operation is None:
        return _instance(called, kinds).returns
    kind = called.operation.result(kinds)
    if kind is None:
        raise errors.TypingError(f"{called.name} takes {called.operation.takes}, got ({_list(kinds)})")
    return kind


def _instance(called: Called, kinds: tuple[str, ...]) -> Kernel:
    fitting = [kernel for kernel in called.instances if kernel.parameter_types == kinds]
    if len(fitting) != 1:
        known = "; ".join(f"{kernel.name}({_list(kernel.parameter_types)})" for kernel in called.instances)
        raise errors.TypingError(f"{len(fitting)} instances of {called.name} take ({_list(kinds)}); known: {known}")
    return fitting[0]


def _list(kinds: Any) -> str:
    return ", ".join(kinds)


_CALLED_OPERATORS = {fn: CalledType(Called(symbol, operation(symbol))) for fn, symbol in _OPERATORS.items()}
_CALLED_BUILTINS = {
    range: CalledType(Called("range")),
    bool: CalledType(Called("condition", Operation("a bool", like(["bool"], lambda _: "bool"), lambda b, kinds, x: x))),
}


# --- contexts ---------------------------------------------------------------------------------------------------------


class KernelTyping(typing.BaseContext):
    """Types constants, names and operators; everything else about inference is numba's."""

    def refresh(self) -> None:
        """There are no registries to load."""

    def resolve_value_type(self, val: Any) -> Any:
        if isinstance(val, Called):
            return CalledType(val)
        if isinstance(val, (bool, int, float)) or val is None:
            return super().resolve_value_type(val)
        try:
            return _CALLED_BUILTINS.get(val) or _CALLED_OPERATORS[val]
        except (KeyError, TypeError):
            raise errors.TypingError(f"{val!r} is not part of the kernel language") from None

    def resolve_function_type(self, func: Any, args: tuple[Any, ...], kws: Any) -> Any:
        if func == "getiter" and args == (_RANGE,):
            return typing.signature(_RANGE_ITERATOR, _RANGE)
        if func == "iternext" and args == (_RANGE_ITERATOR,):
            return typing.signature(_NEXT_INDEX, _RANGE_ITERATOR)
        if isinstance(func, str):
            raise errors.TypingError(f"{func} of {_list(map(str, args))} is not part of the kernel language")
        called = func if isinstance(func, CalledType) else self.resolve_value_type(func)
        return called.get_call_type(self, args, dict(kws))


class KernelCall(callconv.BaseCallConv):
    """The natural C-like convention: values in, one value or nothing out."""

    def _make_call_helper(self, builder: Any) -> None:
        return None

    def get_function_type(self, restype: Any, argtypes: Any) -> ir.FunctionType:
        return ir.FunctionType(llvm_type(_kind(restype)), [llvm_type(_kind(argtype)) for argtype in argtypes])

    def decorate_function(self, fn: ir.Function, args: Any, fe_argtypes: Any, noalias: bool = False) -> None:
        for argument, name, argtype in zip(fn.args, args, fe_argtypes, strict=True):
            argument.name = name
            if noalias and is_pointer(_kind(argtype)):
                argument.add_attribute("noalias")

    def decode_arguments(self, builder: Any, argtypes: Any, func: ir.Function) -> Any:
        return func.args

    def return_value(self, builder: Any, retval: Any) -> None:
        if isinstance(builder.function.function_type.return_type, ir.VoidType):
            builder.ret_void()
        else:
            builder.ret(retval)


class KernelTarget(BaseContext):
    """Emits operations; knows no other function, and casts nothing but literals."""

    def __init__(self, typing_context: KernelTyping) -> None:
        super().__init__(typing_context, "cpu")
        self.symbol = ""

    def refresh(self) -> None:
        """There are no registries to load."""

    def codegen(self) -> None:
        """There is no code generator: the lowered module is the result."""

    @property
    def call_conv(self) -> KernelCall:
        return KernelCall(self)

    def mangler(self, name: str, types: Any, *, abi_tags: Any = (), uid: Any = None) -> str:
        return self.symbol

    def declare_env_global(self, module: ir.Module, envname: str) -> None:
        """A kernel has no Python environment."""

    def get_constant_generic(self, builder: Any, ty: Any, val: Any) -> ir.Value:
        if isinstance(ty, CalledType) or ty is types.none:
            return self.get_dummy_value()
        return ir.Constant(self.get_value_type(ty), val)

    def cast(self, builder: Any, val: ir.Value, fromty: Any, toty: Any) -> ir.Value:
        if fromty is types._undef_var:
            return ir.Constant(self.get_value_type(toty), ir.Undefined)
        if types.unliteral(fromty) != types.unliteral(toty):
            raise errors.TypingError(f"a name is {_kind(toty)} in one place and {_kind(fromty)} in another")
        return val

    def pair_first(self, builder: Any, val: tuple[ir.Value, ir.Value], ty: Any) -> ir.Value:
        return val[0]

    def pair_second(self, builder: Any, val: tuple[ir.Value, ir.Value], ty: Any) -> ir.Value:
        return val[1]

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Any:
        if fn in _RANGE_STEPS:
            return _RANGE_STEPS[fn]
        # numba first asks for forms that take a Python value in place of a typed one; it takes this error for "none".
        if any(isinstance(arg, (types.Literal, types.Omitted)) for arg in sig.args):
            raise NotImplementedError
        called = fn.called
        if called.name == "range":
            return _emit_range
        kinds = tuple(_kind(arg) for arg in sig.args)
        if called.operation is not None:
            return lambda builder, args, loc=None: called.operation.emit(builder, kinds, *args)
        instance = _instance(called, kinds)
        result = llvm_type(instance.returns)
        return lambda builder, args, loc=None: self._call(builder, instance, result, args)

    def _call(self, builder: Any, instance: Kernel, result: ir.Type, args: Any) -> ir.Value | None:
        value = call_declared(builder, instance.name, result, args)
        return value if instance.returns else None


# --- for i in range ---------------------------------------------------------------------------------------------------
# Ranges, their iterators and (index, whether there is one) never reach memory, so they are tuples of LLVM values.


def _emit_range(builder: Any, args: Any, loc: Any = None) -> tuple[ir.Value, ...]:
    """(start, stop, step)."""
    start = args[0] if len(args) > 1 else I64(0)
    stop = args[1] if len(args) > 1 else args[0]
    step = args[2] if len(args) > 2 else I64(1)
    return start, stop, step


def _emit_iterator(builder: Any, args: Any) -> tuple[ir.Value, ...]:
    """(where the next index is kept, stop, step)."""
    start, stop, step = args[0]
    with builder.goto_entry_block():
        following = builder.alloca(I64, name="next")
    builder.store(start, following)
    return following, stop, step


def _emit_next(builder: Any, args: Any) -> tuple[ir.Value, ir.Value]:
    """(index, whether it is below stop). Indices stay far from overflow, which `nsw` tells LLVM."""
    following, stop, step = args[0]
    index = builder.load(following)
    builder.store(builder.add(index, step, flags=["nsw"]), following)
    return index, builder.icmp_signed("<", index, stop)


_RANGE_STEPS = {"getiter": _emit_iterator, "iternext": _emit_next}


# --- compiler ---------------------------------------------------------------------------------------------------------


class KernelLower(lowering.Lower):
    """Keeps a name that is assigned in one place as an LLVM value, and only names that loops carry in memory.

    In SSA form the one assignment comes before every use. Nothing is reference counted, so forgetting or overwriting
    a name emits nothing.
    """

    def _find_singly_assigned_variable(self) -> None:
        assigned = Counter(
            statement.target.name for block in self.blocks.values() for statement in block.find_insts(numba_ir.Assign)
        )
        self._singly_assigned_vars = {name for name, count in assigned.items() if count == 1}
        self._blk_local_varmap: dict[str, Any] = {}

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def alloca_lltype(self, name: str, lltype: ir.Type, datamodel: Any = None) -> ir.Value:
        with self.builder.goto_entry_block():
            return self.builder.alloca(lltype, name=name)

    def delvar(self, name: str) -> None:
        pass


@register_pass(mutates_CFG=True, analysis_only=False)
class KernelLowering(LoweringPass):
    """Typed numba IR to an LLVM module, which is the result of the compilation."""

    _name = "kernel_lowering"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        descriptor = funcdesc.PythonFunctionDescriptor.from_specialized_function(
            state.func_ir, state.typemap, state.return_type, state.calltypes,
            mangler=state.targetctx.mangler, inline=False, noalias=True, abi_tags=(),
        )  # fmt: skip
        lower = KernelLower(state.targetctx, state.library, descriptor, state.func_ir)
        lower.lower()
        state.cr = lower.module
        return True


class KernelCompiler(CompilerBase):
    """The passes the kernel language needs, and no others."""

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("kernel")
        for compiler_pass in (
            TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA, NopythonTypeInference, PreLowerStripPhis,
            IRLegalization, KernelLowering,
        ):  # fmt: skip
            manager.add_pass(compiler_pass, compiler_pass._name)
        manager.finalize()
        return [manager]


class EmptyModules:
    """Stands where numba expects a code library: it is asked for a module to fill, and needs to do nothing with it."""

    def create_ir_module(self, name: str) -> ir.Module:
        return ir.Module("kernel")

    def add_ir_module(self, module: ir.Module) -> None:
        pass


_TYPING = KernelTyping()


@global_compiler_lock
def lower_to_module(kernel: Kernel) -> ir.Module:
    """The LLVM module of one kernel: its definition and the declarations it needs.

    Raises numba's errors, or ValueError where the text and the parameters disagree.
    """
    function = define(kernel, lambda name: _meaning(kernel, name))
    target = KernelTarget(_TYPING)
    target.symbol = kernel.name
    parameters = tuple(_numba_type(kind) for kind in kernel.parameter_types)
    returns = _numba_type(kernel.returns)
    return compile_extra(_TYPING, target, function, parameters, returns, Flags(), {}, EmptyModules(), KernelCompiler)


def _meaning(kernel: Kernel, name: str) -> object:
    instances = tuple(called for called in kernel.calls if called.plain_name == name)
    if instances:
        return Called(name, instances=instances)
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    if name == "range":
        return range
    known = operation(name)
    if known is None:
        raise ValueError(f"{name} is neither a primitive nor among the kernel's calls")
    return Called(name, known)
