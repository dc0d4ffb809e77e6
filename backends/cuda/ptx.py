"""LLVM IR to PTX, by the NVPTX target of LLVM: no tool of NVIDIA's has a hand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from graphc.backends.cuda.device import DeviceProgram
from graphc.backends.cuda.entries import SHARED, declarations, for_device
from graphc.backends.cuda.plan import Drawing, draw
from graphc.backends.lower import lower
from graphc.backends.primitives import Codegen, Kernel
from graphc.backends.target import BuildError, joined, run_passes
from graphc.ir.graph import Graph

TRIPLE = "nvptx64-nvidia-cuda"
FEATURES = "+ptx80"
ARCHITECTURES = ("sm_80", "sm_90")


def program_of(graph: Graph) -> DeviceProgram:
    """What a call of a graph that went through the passes is on a GPU, with the LLVM IR of its kernels."""
    drawing = draw(graph)
    return replace(drawing.program, modules=modules(drawing))


def ptx(program: DeviceProgram, architecture: str) -> str:
    """The PTX of all kernels of a program, for one of ARCHITECTURES or a later one that this LLVM knows.

    Raises BuildError where LLVM has no NVPTX target.
    """
    return compile_modules(program.modules, program.kernels, architecture)


def modules(drawing: Drawing, codegen: Codegen = "auto") -> tuple[str, ...]:
    """LLVM IR of all entries and of the kernels they call."""
    kernels = [for_threads(kernel, lower(kernel, codegen)) for kernel in drawing.kernels]
    declared = [line for made in drawing.entries for line in declarations(made, "", True)]
    return (SHARED, *kernels, *declared, *(for_device(made) for made in drawing.entries))


def for_threads(kernel: Kernel, text: str) -> str:
    """The LLVM IR of a kernel as many threads run it: where they meet, they see what others have written."""
    return text.replace("ptr noalias ", "ptr ") if "barrier()" in kernel.text else text


def compile_modules(texts: Sequence[str], kernels: Sequence[str], architecture: str) -> str:
    """The PTX of LLVM IR texts, in which the functions named are kernels to be launched.

    architecture  one of ARCHITECTURES, or a later one that this LLVM knows

    Raises BuildError where LLVM has no NVPTX target, or refuses the texts, or something is left undefined.
    """
    module = optimised(texts, kernels, architecture)
    return str(_machine(architecture).emit_assembly(module))


def optimised(texts: Sequence[str], kernels: Sequence[str], architecture: str) -> Any:
    """LLVM's module that PTX is made of; raises as `compile_modules` does."""
    from llvmlite import binding as llvm

    machine = _machine(architecture)
    head = f'target datalayout = "{machine.target_data}"\ntarget triple = "{TRIPLE}"\n'
    try:
        module = llvm.parse_assembly(head + joined(texts))
        module.verify()
    except RuntimeError as error:
        raise BuildError(f"LLVM refuses the modules for {architecture}: {error}") from error
    hide_all_but(module, kernels)
    run_passes(module, machine)  # no more: the assembler behind PTX optimises for itself, O2 leaves as many registers
    undefined = [each.name for each in module.functions if each.is_declaration and not each.name.startswith("llvm.")]
    if undefined:
        raise BuildError(f"the PTX would need undefined symbols: {', '.join(undefined)}", undefined)
    return module


def hide_all_but(module: Any, kernels: Sequence[str]) -> None:
    from llvmlite.binding import Linkage

    for function in module.functions:
        if not function.is_declaration and function.name not in kernels:
            function.linkage = Linkage.internal


@cache
def _machine(architecture: str) -> Any:
    from llvmlite import binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        known = llvm.Target.from_triple(TRIPLE)
    except RuntimeError as error:
        raise BuildError(f"this LLVM makes no code for NVIDIA GPUs: {error}") from error
    return known.create_target_machine(cpu=architecture, features=FEATURES, opt=3)
