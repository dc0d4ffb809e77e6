"""Kernel source to LLVM IR text: `lower(kernel)`.

The text holds one plain C-like function named after the kernel and declarations of what it calls. It is not optimised
and names no target, so it can be kept on disk and built for any machine by `backends.target`.

Two lowerings share the operations and the rules about types: numba's, and a direct one that is some thirty times
quicker. `tests/test_codegen.py` compares them on every kernel of representative programs.
"""

from __future__ import annotations

import re

from llvmlite import binding as llvm
from llvmlite import ir

from graphc.backends.lower.direct import NotCovered, lower_directly
from graphc.backends.lower.narrow import lower_narrow
from graphc.backends.primitives import Codegen, Kernel

_ATTRIBUTES = 'nounwind "no-builtins" "prefer-vector-width"="512"'
_DEFINITION = re.compile(r"^(define .*\)) \{$", re.MULTILINE)
_ABOUT_THE_MODULE = re.compile(r"^(?:; .*|source_filename.*|target .*|attributes .*)\n+|(?<=\)) #\d+$", re.MULTILINE)


class LoweringError(Exception):
    """A kernel text could not be lowered. Kernel texts are generated, so this is a fault of the compiler itself."""

    def __init__(self, kernel: Kernel, reason: str) -> None:
        self.kernel = kernel
        numbered = "\n".join(f"{number:4} {line}" for number, line in enumerate(kernel.text.splitlines(), 1))
        super().__init__(f"internal error: kernel {kernel.name} cannot be lowered: {reason}\n{numbered}")


def lower(kernel: Kernel, codegen: Codegen = "auto") -> str:
    """LLVM IR of one kernel, the same text in every process.

    `@<kernel.name>` takes and returns plain values: scalars, `ptr noalias`, vectors, tiles. Kernels it calls are
    declared by their names and not defined.

    codegen: "numba" or "direct"; "auto" goes to numba, which is imported then, only for what "direct" does not cover.

    Raises LoweringError, which shows the kernel's text.
    """
    text = None if codegen == "numba" else lower_if_covered(kernel)
    if text is None and codegen == "direct":
        raise LoweringError(kernel, "the direct lowering does not cover it")
    return text or _attributed(kernel, _lower_through_numba(kernel))


def lower_if_covered(kernel: Kernel) -> str | None:
    """What the direct lowering gives, None for texts it does not cover."""
    try:
        return _attributed(kernel, lower_narrow(kernel) if kernel.narrow else lower_directly(kernel))
    except NotCovered:
        return None


def _attributed(kernel: Kernel, text: str) -> str:
    inlining = "alwaysinline" if kernel.inline else "noinline"
    return _DEFINITION.sub(rf"\1 {inlining} {_ATTRIBUTES} {{", text, count=1)


def _lower_through_numba(kernel: Kernel) -> str:
    from graphc.backends.lower.numba_front import lower_to_module

    try:
        module = lower_to_module(kernel)
    except Exception as error:  # numba reports what it cannot do by many kinds of exceptions
        raise LoweringError(kernel, str(error)) from error
    _check_declarations(kernel, module)
    return _normalise(kernel, str(module))


def _normalise(kernel: Kernel, text: str) -> str:
    """Check the text and print it LLVM's way, less what is about the module: its name, target and attributes."""
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise LoweringError(kernel, f"{error}\n{text}") from error
    return _ABOUT_THE_MODULE.sub("", str(module))


def _check_declarations(kernel: Kernel, module: ir.Module) -> None:
    called = {instance.name for instance in kernel.calls}
    declared = {function.name for function in module.functions if function.is_declaration}
    foreign = sorted(name for name in declared - called if not name.startswith("llvm."))
    if foreign or len(module.functions) - len(declared) != 1:
        raise LoweringError(kernel, f"it needs the undefined symbols {foreign}")
