"""The kernel language: what a kernel text may say, and what it means in NumPy.

A kernel is Python text: one `def` over flat pointers and scalars. It may contain

- assignments to local names (`x += y` is `x = x + y`), expressions, comparisons, `and` and `or` in conditions,
- `for i in range(stop)`, `range(start, stop)`, `range(start, stop, step)` with step > 0, `while`, and `if`,
- calls of the primitives below and of the kernels listed in `Kernel.calls`, by the name in their `def` line,
- one `return value` at the end if `Kernel.returns` names a type; otherwise no return.

Types are strings:

- scalars "f32" "f64" "i32" "i64" "u8" "bool";
- pointers "f32*" "f64*" "i32*" "i64*" "u8*" "bool*" (a bool in memory is one byte, 0 or 1), never aliasing each other;
- vectors of LANES = 16 elements "f32x16" "f64x16" "i32x16" "i64x16" "u8x16", and masks "boolx16";
- register tiles "tile{R}x{V}": R <= 14 rows of V <= 3 vectors "f32x16".

Nothing converts by itself: both operands of an operator have the same type, a vector never meets a scalar (`spread`
it first). A Python integer is an i64 and a Python float an f64; other constants are written f32(1.5), i32(3), u8(1),
true, false; `inf` and `nan` are f64. A name has one type throughout.

Operators:

- `+ - *` on floats and integers, `/` on floats (IEEE division), unary `-`; integers wrap around;
- `//` and `%` on integers that are not negative (the result is undefined when one is);
- `< <= > >= ==` are false on NaN and `!=` is true on it, so `x != x` finds NaN; they give a bool or a mask;
- `& | ^ ~` on integers, bools and masks; `<< >>` on i32 and i64, `>>` keeps the sign, 0 <= count < width.

No operation carries fast-math flags and nothing is contracted: a multiply and an add round twice, `fma` rounds once.
Every name has a meaning in NumPy in `backends/meanings.py` and one in LLVM in `backends/lower`; tests compare the two.
In NumPy a pointer is a one-dimensional array, a vector an array of 16, a tile an array of (R, V, 16).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, Literal

import numpy as np

from graphc.backends.meanings import ELEMENTS, MEANINGS, tile_load, tile_zeros
from graphc.ir.frozen import dataclass
from graphc.ir.loops import LANES
from graphc.ir.types import FLOATS

Codegen = Literal["auto", "direct", "numba"]  # who lowers a kernel: see `backends.lower.lower`

TILE_ROWS_LIMIT = 14
TILE_VECTORS_LIMIT = 3

_DEF = re.compile(r"def\s+(\w+)\s*\(")
_TILE_TYPE = re.compile(r"tile(\d+)x(\d+)")
_TILE_NAME = re.compile(r"(tile_zeros|tile_load)_(\d+)x(\d+)")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel text with its types.

    name: the symbol of the compiled function; unique for (text, parameter types).
    parameters: (name, type) in the order of the text's `def`.
    returns: type of the returned value, "" for none.
    inline: copied into every caller, or never.
    calls: the kernels this one calls; those whose `def` lines share a name are told apart by argument types.
    narrow: its indices fit 32 bits, so code may hold them in no more; what the text means is the same.
    """

    name: str
    text: str
    parameters: tuple[tuple[str, str], ...]
    returns: str = ""
    inline: bool = True
    calls: tuple[Kernel, ...] = ()
    narrow: bool = False

    @property
    def plain_name(self) -> str:
        """The name in the text's `def` line: the one callers write."""
        found = _DEF.search(self.text)
        if found is None:
            raise ValueError(f"the text of kernel {self.name} has no `def` line:\n{self.text}")
        return found[1]

    @property
    def parameter_types(self) -> tuple[str, ...]:
        return tuple(kind for _, kind in self.parameters)


def is_pointer(kind: str) -> bool:
    return kind.endswith("*")


def is_vector(kind: str) -> bool:
    return kind.endswith(f"x{LANES}") and kind[: -len(f"x{LANES}")] in ELEMENTS


def element_of(kind: str) -> str:
    """The scalar type of a pointer or vector; a scalar type itself."""
    return kind.removesuffix("*").removesuffix(f"x{LANES}")


def vector_of(scalar: str) -> str:
    return f"{scalar}x{LANES}"


def constant(number: float, dtype: str) -> str:
    """A number as a kernel text writes it."""
    if dtype == "bool":
        return "true" if number else "false"
    if dtype in FLOATS:
        return f"{dtype}({float(number)!r})"
    return f"{dtype}({int(number)})"


def tile_extents(kind: str) -> tuple[int, int] | None:
    """(rows, vectors) of a tile type "tile{R}x{V}", None for every other type."""
    found = _TILE_TYPE.fullmatch(kind)
    return (int(found[1]), int(found[2])) if found else None


def tile_primitive(name: str) -> tuple[str, int, int] | None:
    """("tile_zeros" or "tile_load", rows, vectors) of a primitive whose name carries the extents, else None."""
    found = _TILE_NAME.fullmatch(name)
    if found is None:
        return None
    rows, vectors = int(found[2]), int(found[3])
    if not (1 <= rows <= TILE_ROWS_LIMIT and 1 <= vectors <= TILE_VECTORS_LIMIT):
        limit = f"{TILE_ROWS_LIMIT}x{TILE_VECTORS_LIMIT}"
        raise ValueError(f"{name}: a tile has at least 1x1 and at most {limit} vectors")
    return found[1], rows, vectors


def define(kernel: Kernel, resolve: Callable[[str], object]) -> FunctionType:
    """The Python function of a kernel's text; `resolve` gives the object behind each global name the text uses.

    Raises ValueError where text and `kernel.parameters` disagree.
    """
    tree = ast.fix_missing_locations(_AugmentedAssignments().visit(ast.parse(kernel.text)))
    space: dict[str, Any] = {}
    exec(compile(tree, f"<kernel {kernel.name}>", "exec"), space)
    code = space.pop(kernel.plain_name).__code__
    written = code.co_varnames[: code.co_argcount]
    declared = tuple(name for name, _ in kernel.parameters)
    if written != declared:
        raise ValueError(f"kernel {kernel.name}: its text takes {written}, its parameters are {declared}")
    space.update({name: resolve(name) for name in code.co_names})
    return FunctionType(code, space, kernel.plain_name)


class _AugmentedAssignments(ast.NodeTransformer):
    """`x += y` means `x = x + y`: a value under another name stays as it is, which NumPy would not promise."""

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.Assign:
        name = node.target
        if not isinstance(name, ast.Name):
            raise ValueError(f"line {node.lineno}: only names can be assigned to")
        total = ast.BinOp(ast.Name(name.id, ast.Load()), node.op, node.value)
        return ast.copy_location(ast.Assign([name], total), node)


def run(kernel: Kernel, *args: Any) -> Any:
    """Run a kernel uncompiled. Pointers are one-dimensional NumPy arrays and are written in place.

    Raises TypeError for a wrong argument or stored value, IndexError for an access outside an array: views given for
    pointers are the only memory a kernel may touch, so this is also the check of a kernel's bounds.
    """
    if len(args) != len(kernel.parameters):
        raise TypeError(f"kernel {kernel.name} takes {len(kernel.parameters)} arguments, got {len(args)}")
    accepted = [_accept(kernel, name, kind, value) for (name, kind), value in zip(kernel.parameters, args, strict=True)]
    with np.errstate(all="ignore"):
        return _uncompiled(kernel)(*accepted)


@lru_cache(maxsize=256)
def _uncompiled(kernel: Kernel) -> FunctionType:
    return define(kernel, lambda name: meaning(kernel, name))


def _accept(kernel: Kernel, name: str, kind: str, value: Any) -> Any:
    if kind == "bool*" and isinstance(value, np.ndarray) and value.dtype == np.uint8:
        value = value.view(np.bool_)
    if not (is_pointer(kind) or is_vector(kind) or tile_extents(kind)):
        return ELEMENTS[kind](value)
    if not _has_type(value, kind):
        given = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"kernel {kernel.name}: {name} is {kind}, got {given}")
    return value


def _has_type(value: Any, kind: str) -> bool:
    extents = tile_extents(kind)
    if extents is not None:
        return isinstance(value, np.ndarray) and value.shape == (*extents, LANES) and value.dtype == np.float32
    if kind == "i64" and type(value) is int:
        return True
    if is_pointer(kind):
        return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == ELEMENTS[element_of(kind)]
    if is_vector(kind):
        return isinstance(value, np.ndarray) and value.shape == (LANES,) and value.dtype == ELEMENTS[element_of(kind)]
    return isinstance(value, ELEMENTS[kind])


def meaning(kernel: Kernel, name: str) -> object:
    """What a kernel's text means by a name: a kernel it calls, or a primitive."""
    instances = [called for called in kernel.calls if called.plain_name == name]
    if instances:
        return lambda *args: _call(name, instances, args)
    tile = tile_primitive(name)
    if tile is not None:
        form, rows, vectors = tile
        return tile_zeros(rows, vectors) if form == "tile_zeros" else tile_load(rows, vectors)
    if name not in MEANINGS:
        raise ValueError(f"kernel {kernel.name}: {name} is neither a primitive nor among the kernel's calls")
    return MEANINGS[name]


def _call(name: str, instances: list[Kernel], args: tuple[Any, ...]) -> Any:
    for called in instances:
        kinds = called.parameter_types
        if len(kinds) == len(args) and all(_has_type(value, kind) for value, kind in zip(args, kinds, strict=True)):
            return run(called, *args)
    known = ", ".join(f"{called.name}{called.parameter_types}" for called in instances)
    raise TypeError(f"no instance of {name} takes these arguments; known: {known}")
