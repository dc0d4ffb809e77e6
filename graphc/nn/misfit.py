"""Errors inside layers: the layer, the call, what it got, and where the layer was made."""

from __future__ import annotations

import linecache
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graphc.errors import GraphcError, ShapeError, shown_file
from graphc.ir import ops
from graphc.ir.graph import PACKAGE, Origin, user_origin
from graphc.settings import check_whole
from graphc.tensor import Tensor

if TYPE_CHECKING:
    from graphc.nn.module import Module


def misfit(layer: Module, short: str, found: str, x: Tensor, advice: Sequence[str] = ()) -> ShapeError:
    """`fc2 = Linear(255 -> 10) got …`, on the line of the call, with the input's type and the layer's own line."""
    title = f"{layer._path} = {short}" if layer._path else short
    called = user_origin()
    note = argument(called, layer._path.rpartition(".")[2]) + described(x)
    return ShapeError(f"{title} got {found}", called, [*advice, *declaration(layer.declared)], note)


def show_declaration(error: GraphcError, layer: Module) -> None:
    """Add to an error that came out of a layer of this package where the layer was made."""
    ours = type(layer).__module__.partition(".")[0] == PACKAGE and not layer._modules
    lines = declaration(layer.declared) if ours else []
    error.details += tuple(line for line in lines if line not in error.details)


def check_sizes(layer: str, **sizes: Any) -> None:
    """Refuse sizes of a layer that are not whole numbers of at least 1."""
    for name, size in sizes.items():
        check_whole(f"{layer}: {name}", size, 1)


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
