"""What the user probably meant: the nearest name, the shape that would fit, what to write in place of Python or NumPy.

Only errors import this.
"""

from __future__ import annotations

import ast
import difflib
import linecache
import math
from collections.abc import Iterable, Sequence
from typing import Any

from graphc.ir.graph import Origin, Value
from graphc.ir.types import Extent, Shape, multiply

MOST = 3  # names that are suggested
LIKENESS = 0.6  # of two names, from 0 to 1
# What NumPy and PyTorch call what has another name here.
ELSEWHERE = {
    "float": "f32", "float32": "f32", "float64": "f64", "double": "f64", "int": "i32", "int32": "i32", "int64": "i64",
    "long": "i64", "uint8": "u8", "byte": "u8", "bool": "bool_", "tensor": "parameter", "array": "parameter",
    "concatenate": "concat", "convolve": "conv1d", "compile": "function", "jit": "step",
}  # fmt: skip


def did_you_mean(name: Any, known: Iterable[str]) -> list[str]:
    """One line with the names most like it, or none."""
    found = nearest(name, known)
    return [f"did you mean {' or '.join(found)}?"] if found else []


def nearest(name: Any, known: Iterable[str], likeness: float = LIKENESS) -> list[str]:
    """The known names most like one, the best first; equal but for case and underscores before all others."""
    if not isinstance(name, str):
        return []
    plain: dict[str, str] = {}
    for each in known:
        plain.setdefault(bare(each), each)
    if ELSEWHERE.get(name) in plain.values():
        return [ELSEWHERE[name]]
    if bare(name) in plain:
        return [plain[bare(name)]]
    return [plain[each] for each in difflib.get_close_matches(bare(name), plain, MOST, likeness)]


def bare(name: str) -> str:
    return name.replace("_", "").lower()


# -- shapes


def for_product(left: Shape, right: Shape) -> list[str]:
    """How two shapes whose inner sizes differ could be multiplied."""
    if len(left) < 1 or len(right) != 2:
        return []
    if left[-1] == right[-1]:
        return [f"did you mean x @ w.T? It is [{joined((*left[:-1], right[0]))}]"]
    if len(left) == 2 and left[0] == right[0]:
        return [f"did you mean x.T @ w? It is [{left[1]}, {right[1]}]"]
    if multiply(*left[1:]) == right[0]:
        return [f"did you mean x.flatten(1) @ w? x.flatten(1) is [{joined((left[0], right[0]))}]"]
    return ["did you mean w @ x?"] if len(left) == 2 and right[1] == left[0] else []


def for_broadcast(one: Shape, other: Shape) -> list[str]:
    """How two shapes that do not broadcast could meet."""
    if len(one) == len(other) == 2 and one == other[::-1]:
        return ["did you mean the transpose of one, x.T?"]
    short, long = sorted((one, other), key=len)
    if len(short) == len(long) - 1 and short and short == long[: len(short)]:
        return [f"the shapes meet from the right: x.unsqueeze(-1) makes [{joined(short)}] [{joined((*short, 1))}]"]
    return []


def for_features(shape: Shape, features: int) -> list[str]:
    """How an input of other features could fit a linear layer."""
    if len(shape) > 2 and multiply(*shape[1:]) == features:
        product = "*".join(map(str, shape[1:]))
        return [f"did you mean nn.Flatten() before it? {product} is {features}"]
    if len(shape) == 2 and shape[0] == features:
        return ["did you mean its transpose, x.T?"]
    return []


def for_channels(shape: Shape, channels: int, axes: int) -> list[str]:
    """How an input of other channels could fit a convolution over so many axes."""
    if len(shape) == axes + 2 and shape[-1] == channels:
        order = ", ".join(map(str, (0, axes + 1, *range(1, axes + 1))))
        return [f"channels come second: x.permute({order})"]
    if len(shape) == axes + 1 and channels == 1:
        return ["did you mean x.unsqueeze(1)? It adds the axis of one channel"]
    return []


def for_array(given: Sequence[int], wanted: Shape) -> list[str]:
    """How an array of another shape could fit an input."""
    if len(given) == len(wanted) - 1 and fits(given, wanted[1:]):
        return ["did you mean a batch of one? It is array[None]"]
    if len(given) == len(wanted) - 1 and wanted[-1] == 1 and fits(given, wanted[:-1]):
        return ["did you mean array[:, None]?" if len(given) == 1 else "did you mean array[..., None]?"]
    if len(given) == len(wanted) + 1 and given[-1] == 1 and fits(given[:-1], wanted):
        return ["did you mean array[..., 0]?"]
    if len(given) == 2 and fits(given[::-1], wanted):
        return ["did you mean its transpose, array.T?"]
    last_first = (given[0], given[-1], *given[1:-1]) if len(given) > 2 else given
    if len(given) > 2 and fits(last_first, wanted):
        order = ", ".join(map(str, (0, len(given) - 1, *range(1, len(given) - 1))))
        return [f"channels come second: array.transpose({order})"]
    row = wanted[1:]
    plain = [extent for extent in row if isinstance(extent, int)]
    if given and len(plain) == len(row) and math.prod(given[1:]) == math.prod(plain):
        return [f"did you mean array.reshape(-1{''.join(f', {extent}' for extent in plain)})?"]
    return []


def fits(given: Sequence[int], wanted: Sequence[Extent]) -> bool:
    """Whether an array of the shape is one of the type; a symbolic extent takes any."""
    pairs = zip(given, wanted, strict=False)
    return len(given) == len(wanted) and all(not isinstance(want, int) or have == want for have, want in pairs)


def for_order(arrays: Sequence[Any], inputs: Sequence[Value]) -> list[str]:
    """Whether two arrays of a call would fit each other's inputs, and not their own."""
    if len(arrays) != 2 or len(inputs) != 2:
        return []
    given, wanted = [getattr(array, "shape", ()) for array in arrays], [value.shape for value in inputs]
    own, swapped = (all(map(fits, given, order)) for order in (wanted, wanted[::-1]))
    return ["the arrays fit in the other order"] if swapped and not own else []


def for_state(missing: Sequence[str], unknown: Sequence[str]) -> list[str]:
    """Why the names of a state are not those of its owner: a prefix, or a slip."""
    for name in missing[:1]:
        for other in unknown:
            if other.endswith(f".{name}"):
                return [f"the state has {other.removesuffix(name)!r} before each name: give it the part of that"]
            if name.endswith(f".{other}"):
                return [f"the state lacks {name.removesuffix(other)!r} before each name: load it into that part"]
    pairs = ((name, nearest(name, missing)) for name in unknown)
    return [f"{name!r} in the state: did you mean {found[0]!r}?" for name, found in pairs if found][:1]


def joined(shape: Iterable[Any]) -> str:
    return ", ".join(map(str, shape))


# -- Python and NumPy in place of operations of the graph


def expression(origin: Origin | None) -> ast.expr | None:
    """The user's expression at a place, where it stands on one line."""
    if origin is None or origin.column is None or origin.end_column is None:
        return None
    code = linecache.getline(origin.file, origin.line).encode()[origin.column : origin.end_column]
    try:
        return ast.parse(code.decode(errors="ignore"), mode="eval").body
    except SyntaxError:
        return None


CALLS = {
    "max": "gx.maximum(a, b)",
    "min": "gx.minimum(a, b)",
    "sorted": "gx.sort(x)",
    "any": "x.any()",
    "all": "x.all()",
}


def in_place_of_condition(origin: Origin | None) -> str:
    """What to write where Python asked for the truth of a tensor."""
    found = expression(origin)
    line = linecache.getline(origin.file, origin.line).strip() if origin else ""
    match found:
        case ast.Call(ast.Name(name)) if name in CALLS:
            return f"write {CALLS[name]} instead of {name}()"
        case ast.Compare(left, [first, second, *_], [middle, right, *_]):
            one, other = ast.Compare(left, [first], [middle]), ast.Compare(middle, [second], [right])
            return f"write ({ast.unparse(one)}) & ({ast.unparse(other)}): Python takes a chain of comparisons apart"
        case ast.BoolOp(ast.And()):
            return "write a & b, or gx.logical_and(a, b), instead of `and`"
        case ast.BoolOp(ast.Or()):
            return "write a | b, or gx.logical_or(a, b), instead of `or`"
        case ast.UnaryOp(ast.Not()):
            return "write ~a, or gx.logical_not(a), instead of `not`"
    if line.startswith("while"):
        return (
            "write gx.scan for a loop of a known length, with gx.where(condition, new, old) for steps that do nothing"
        )
    if line.startswith("assert"):
        return "look at it after the call: gx.probe(x, name), or gx.debug() for numbers that are not finite"
    return "write gx.where(condition, a, b) instead of `if`, or gx.cond(condition, f, g) for whole branches"


def in_place_of_number(origin: Origin | None) -> str:
    """What to write where Python asked for the number of a tensor."""
    match expression(origin):
        case ast.Call(ast.Attribute(ast.Name("math"), name)):
            return in_place_of_function(f"math.{name}", name)
        case ast.Call(ast.Name("float" | "int" as name), [argument]):
            return f"for another dtype write {ast.unparse(argument)}.{name}(); for its number, return it from the step"
        case ast.Call(ast.Name("range")):
            return "loops of Python need a number that is fixed; gx.scan goes along an axis, or takes a length"
        case ast.Subscript():
            return "gather from a tensor instead of a list: gx.stack(items)[index], or gx.take"
    return "return the tensor from the step; the call gives you its numbers. gx.print(x) prints them after each call"


def in_place_of_function(title: str, name: str) -> str:
    """What to write in place of a function of Python or NumPy."""
    from graphc import functional

    known = [each for each in dir(functional) if not each.startswith("_")]
    if name in known:
        return f"write gx.{name} instead of {title}"
    if found := nearest(name, known, 0.75):
        return f"there is no gx.{name}; did you mean {' or '.join(f'gx.{each}' for each in found)}?"
    return f"there is no gx.{name}: compute it before the step and pass it in, or write it with functions of gx"
