"""Errors inside layers: the layer, the call, what it got, and where the layer was made."""

from __future__ import annotations

import linecache
import re

from graphc.errors import ShapeError, shown_file
from graphc.ir import ops
from graphc.ir.graph import Origin, user_origin
from graphc.nn.module import Module
from graphc.tensor import Tensor


def misfit(layer: Module, short: str, found: str, x: Tensor) -> ShapeError:
    """`fc2 = Linear(255 -> 10) got …`, on the line of the call, with the input's type and the layer's own line."""
    title = f"{layer._path} = {short}" if layer._path else short
    called = user_origin()
    note = argument(called, layer._path.rpartition(".")[2]) + described(x)
    return ShapeError(f"{title} got {found}", called, declaration(layer.declared), note)


def argument(origin: Origin | None, name: str) -> str:
    """`h: ` for a call of that name such as `self.fc2(h)`; nothing for any other expression."""
    if origin is None:
        return ""
    code = linecache.getline(origin.file, origin.line).encode()[origin.column : origin.end_column].decode()
    found = re.search(rf"\b{name}\((\w+)\)$", code) if name else None
    return f"{found[1]}: " if found else ""


def declaration(origin: Origin | None) -> list[str]:
    if origin is None:
        return []
    code = linecache.getline(origin.file, origin.line).strip()
    return [f"declared in    {shown_file(origin.file)}:{origin.line}   {code}"]


def described(x: Tensor) -> str:
    """What a tensor is and where it was made: `f32[batch,256] from relu at mlp.py:11`."""
    source = x.value
    while source.op is ops.stop_gradient:
        source = source.operands[0]
    if source.op is ops.input:
        return f"{x.type}, input {source.attrs['name']}"
    return f"{x.type} from {source.op.name} at {source.origin}"
