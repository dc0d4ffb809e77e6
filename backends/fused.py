"""Fused multiply-add on machines that have it for vectors of 16 bytes and nothing else, such as WebAssembly."""

from __future__ import annotations

import re
from collections.abc import Iterator

_DECLARATION = re.compile(r"^declare [^@\n]*@llvm\.fma\..*\n", re.MULTILINE)
_NAME = re.compile(r"@llvm\.fma\.(?:v(\d+))?(f32|f64)\b")
_TYPES = {"f32": ("float", 4), "f64": ("double", 2)}  # what it is called, how many of them there are in 16 bytes


def in_pieces(text: str, intrinsic: str) -> str:
    """The LLVM IR with every `llvm.fma` done by `intrinsic` on pieces of 16 bytes; a number alone lies in one."""
    found = sorted({(kind, int(count or 1)) for count, kind in _NAME.findall(text)})
    own = _NAME.sub(lambda each: f"@fused.{_kind(each[2], int(each[1] or 1))}", _DECLARATION.sub("", text))
    declared = {line: None for kind, count in found for line in _declarations(intrinsic, kind, count)}
    return "\n".join([own, *declared, *(_definition(intrinsic, kind, count) for kind, count in found)])


def _kind(kind: str, count: int) -> str:
    return f"v{count}{kind}" if count > 1 else kind


def _type(kind: str, count: int) -> str:
    name, _ = _TYPES[kind]
    return f"<{count} x {name}>" if count > 1 else name


def _declarations(intrinsic: str, kind: str, count: int) -> Iterator[str]:
    _, width = _TYPES[kind]
    part, whole = _type(kind, width), _type(kind, count)
    yield f"declare {part} @{intrinsic}.{_kind(kind, width)}({part}, {part}, {part})"
    if count > 1:
        yield f"declare {part} @llvm.vector.extract.{_kind(kind, width)}.{_kind(kind, count)}({whole}, i64)"
        yield f"declare {whole} @llvm.vector.insert.{_kind(kind, count)}.{_kind(kind, width)}({whole}, {part}, i64)"


def _definition(intrinsic: str, kind: str, count: int) -> str:
    _, width = _TYPES[kind]
    whole, part, small, large = _type(kind, count), _type(kind, width), _kind(kind, width), _kind(kind, count)
    given = ", ".join(f"{whole} %{each}" for each in "abc")
    lines = [f"define internal {whole} @fused.{large}({given}) alwaysinline nounwind {{"]
    done = "poison"
    for first in range(0, count, width):
        for each in "abc":
            taken = f"call {part} @llvm.vector.extract.{small}.{large}({whole} %{each}, i64 {first})"
            alone = f"insertelement {part} poison, {whole} %{each}, i32 0"
            lines.append(f"  %{each}.{first} = {taken if count > 1 else alone}")
        parts = ", ".join(f"{part} %{each}.{first}" for each in "abc")
        lines.append(f"  %part.{first} = call {part} @{intrinsic}.{small}({parts})")
        put = f"call {whole} @llvm.vector.insert.{large}.{small}({whole} {done}, {part} %part.{first}, i64 {first})"
        alone = f"extractelement {part} %part.{first}, i32 0"
        done = f"%done.{first}"
        lines.append(f"  {done} = {put if count > 1 else alone}")
    return "\n".join([*lines, f"  ret {whole} {done}", "}", ""])
