"""Kernel source to LLVM IR text: `lower(kernel)`.

The text holds one plain C-like function named after the kernel and declarations of what it calls. It is not optimised
and names no target, so it can be kept on disk and built for any machine by `backends.target`.
"""

from __future__ import annotations

import re

from llvmlite import binding as llvm
from llvmlite import ir

from graphc.backends.lower.numba_front import lower_to_module
from graphc.backends.primitives import Kernel

_DEFINITION = re.compile(r"^(define .*\))$", re.MULTILINE)
_HEADER = re.compile(r"^(; ModuleID|source_filename|target ).*\n+", re.MULTILINE)


class LoweringError(Exception):
    """A kernel text could not be lowered. Kernel texts are generated, so this is a fault of the compiler itself."""

    def __init__(self, kernel: Kernel, reason: str) -> None:
        self.kernel = kernel
        numbered = "\n".join(f"{number:4} {line}" for number, line in enumerate(kernel.text.splitlines(), 1))
        super().__init__(f"internal error: kernel {kernel.name} cannot be lowered: {reason}\n{numbered}")


def lower(kernel: Kernel) -> str:
    """LLVM IR of one kernel, the same text in every process.

    `@<kernel.name>` takes and returns plain values: scalars, `ptr noalias`, vectors, tiles. Kernels it calls are
    declared by their names and not defined.

    Raises LoweringError, which shows the kernel's text.
    """
    try:
        module = lower_to_module(kernel)
    except Exception as error:  # numba reports what it cannot do by many kinds of exceptions
        raise LoweringError(kernel, str(error)) from error
    _check_declarations(kernel, module)
    inlining = "alwaysinline" if kernel.inline else "noinline"
    attributes = f'attributes #0 = {{ {inlining} nounwind "no-builtins" "prefer-vector-width"="512" }}'
    return _normalise(kernel, _DEFINITION.sub(r"\1 #0", str(module)) + f"\n{attributes}\n")


def _normalise(kernel: Kernel, text: str) -> str:
    """Check the text and print it LLVM's way, less the lines that name a module or a target."""
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise LoweringError(kernel, f"{error}\n{text}") from error
    return _HEADER.sub("", str(module))


def _check_declarations(kernel: Kernel, module: ir.Module) -> None:
    called = {instance.name for instance in kernel.calls}
    declared = {function.name for function in module.functions if function.is_declaration}
    foreign = sorted(name for name in declared - called if not name.startswith("llvm."))
    if foreign or len(module.functions) - len(declared) != 1:
        raise LoweringError(kernel, f"it needs the undefined symbols {foreign}")
