"""What the functions of an artifact have in common: types and attributes of LLVM, extents, places in the arena."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.backends.interface import EpochLayout, epoch_dim
from graphc.backends.primitives import Kernel
from graphc.ir.program import Program, round_up
from graphc.ir.types import Dim, Extent, monomials

LLVM_TYPES = {"f32": "float", "f64": "double", "i32": "i32", "i64": "i64", "u8": "i8", "bool": "i8"}
ATTRIBUTES = 'nounwind "no-builtins" "prefer-vector-width"="512"'


def epoch_layout(program: Program) -> EpochLayout:
    offset = round_up(program.work_bytes)
    places: list[list[int]] = [[], []]
    inputs = [value.type for value in program.graph.of_role("data")]
    results = [output.value.type for output in program.graph.of_kind("result")]
    for found, types in zip(places, (inputs, results), strict=True):
        for tensor_type in types:
            found.append(offset)
            offset += round_up(tensor_type.max_bytes)
    return EpochLayout(tuple(places[0]), tuple(places[1]), offset)


def meeting_place(program: Program) -> int:
    """The offset in the arena behind all that threads share: there they meet, and behind that lies what is private."""
    return round_up(program.work_bytes) if epoch_dim(program.graph) is None else epoch_layout(program).size


def told(words: Sequence[str], numbers: Iterable[str] = ()) -> list[str]:
    """The words at the address `%call`, by their names: pointers, but for those that are numbers."""
    lines = []
    for number, name in enumerate(words):
        lines.append(f"  %word.{number} = getelementptr inbounds i64, ptr %call, i64 {number}")
        lines.append(f"  %{name} = load {'i64' if name in numbers else 'ptr'}, ptr %word.{number}, align 8")
    return lines


def llvm_type(kind: str) -> str:
    return "ptr" if kind.endswith("*") else LLVM_TYPES[kind]


def declare(kernel: Kernel) -> str:
    kinds = ", ".join(llvm_type(kind) for _, kind in kernel.parameters)
    return f"declare {llvm_type(kernel.returns) if kernel.returns else 'void'} @{kernel.name}({kinds})"


def extent_operand(extent: Extent, name: str, dims: tuple[Dim, ...], lines: list[str]) -> str:
    """A constant, or the name of the sum of products of dims, computed in `lines`."""
    if isinstance(extent, int):
        return str(extent)
    total = ""
    for number, (names, factor) in enumerate(monomials(extent).items()):
        term = str(factor)
        for step, dim in enumerate(names):
            lines.append(f"  %{name}.{number}.{step} = mul nsw i64 {term}, %d{dims.index(dim)}")
            term = f"%{name}.{number}.{step}"
        if total:
            lines.append(f"  %{name}.{number} = add nsw i64 {total}, {term}")
            term = f"%{name}.{number}"
        total = term
    return total
