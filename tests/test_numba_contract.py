"""What we use of numba's internals is there and has the form we read; numba's minor version is pinned."""

from __future__ import annotations

import inspect
from importlib.metadata import version


def test_numba_is_the_version_its_internals_were_read_from() -> None:
    assert version("numba").startswith("0.68."), "read numba_front.py against the new numba, then pin its minor version"


def test_numba_internals_have_the_form_this_uses() -> None:
    from numba.core import base, callconv, codegen, compiler, lowering, types, typing

    from graphc.backends.lower import numba_front as ours

    overridden = {
        (base.BaseContext, ours.KernelTarget): (
            "refresh", "mangler", "declare_env_global", "get_constant_generic", "cast", "pair_first", "pair_second",
            "get_function",
        ),
        (callconv.MinimalCallConv, ours.KernelCall): (
            "_make_call_helper", "get_function_type", "decorate_function", "return_value",
        ),
        (callconv.BaseCallConv, ours.KernelCall): ("decode_arguments",),
        (typing.BaseContext, ours.KernelTyping): ("refresh", "resolve_value_type", "resolve_function_type"),
        (lowering.Lower, ours.KernelLower): (
            "_find_singly_assigned_variable", "storevar", "alloca_lltype", "delvar",
        ),
        (compiler.CompilerBase, ours.KernelCompiler): ("define_pipelines",),
        (types.Callable, ours.CalledType): ("get_call_type", "get_call_signatures", "get_impl_key"),
    }  # fmt: skip
    for (theirs, mine), names in overridden.items():
        for name in names:
            expected = list(inspect.signature(getattr(theirs, name)).parameters)
            assert list(inspect.signature(vars(mine)[name]).parameters) == expected, f"{theirs.__name__}.{name}"
    assert list(inspect.signature(compiler.compile_extra).parameters) == [
        "typingctx", "targetctx", "func", "args", "return_type", "flags", "locals", "library", "pipeline_class",
    ]  # fmt: skip
    for name in ("create_ir_module", "add_ir_module"):
        assert callable(getattr(codegen.CodeLibrary, name)), name
        assert name in vars(ours.EmptyModules)
    set_there = lowering.Lower._find_singly_assigned_variable.__code__.co_names
    assert {"_singly_assigned_vars", "_blk_local_varmap"} <= set(set_there)
