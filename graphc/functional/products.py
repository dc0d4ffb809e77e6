"""Products of vectors and matrices, and sums of products over named axes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import Any, NoReturn

from graphc.errors import ArgumentError, ShapeError
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import Extent, TensorType
from graphc.settings import is_whole
from graphc.tensor import Tensor, apply, as_tensor, cast_value, common_dtype, elementwise
from graphc.tensor.building import lift_all
from graphc.tensor.products import (
    bmm,
    dot,
    inner,
    kron,
    matmul,
    mm,
    mv,
    outer,
    product_over,
    tensordot,
)
from graphc.tensor.views import permuted, reshaped

__all__ = [
    "bilinear",
    "bmm",
    "dot",
    "einsum",
    "inner",
    "kron",
    "linear",
    "matmul",
    "mm",
    "mv",
    "outer",
    "tensordot",
]


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x [..., in], weight [out, in], bias [out] -> [..., out]: x @ weight.T + bias."""
    rows, matrix = as_tensor(x), as_tensor(weight)
    if matrix.ndim != 2 or not rows.ndim or rows.shape[-1] != matrix.shape[1]:
        raise ShapeError(
            f"linear of {rows.type} and weight {matrix.type}: it takes [..., in] and [out, in]", user_origin()
        )
    if rows.ndim > 2:
        flat = linear(rows.reshape(-1, rows.shape[-1]), weight, bias)
        return flat.reshape(*rows.shape[:-1], flat.shape[-1])
    product = matmul(rows, matrix.T)
    return product if bias is None else product + bias


def bilinear(x1: Any, x2: Any, weight: Any, bias: Any = None) -> Tensor:
    """x1 [..., in1], x2 [..., in2], weight [out, in1, in2], bias [out] -> [..., out]: x1 @ weight[k] @ x2."""
    first, second, forms = as_tensor(x1), as_tensor(x2), as_tensor(weight)
    fits = first.ndim and second.ndim and (forms.shape[1:] == (first.shape[-1], second.shape[-1]))
    if forms.ndim != 3 or not fits or first.shape[:-1] != second.shape[:-1]:
        raise ShapeError(
            f"bilinear of {first.type}, {second.type} and weight {forms.type}: "
            "it takes [..., in1], [..., in2] and [out, in1, in2]",
            user_origin(),
        )
    out, in1, in2 = forms.shape
    products = matmul(first.reshape(-1, in1), forms.permute(1, 0, 2).reshape(in1, out * in2)).reshape(-1, out, in2)
    sums = (products * second.reshape(-1, 1, in2)).sum(2).reshape(*first.shape[:-1], out)
    return sums if bias is None else sums + bias


# -- einsum


def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products over named axes, NumPy's einsum: "bij,bjk->bik" is a product of stacks of matrices.

    equation  a letter for each axis of each operand, commas between them, "->" and the letters of the result. Letters
              that are not in the result are summed over; a letter twice in one operand walks its diagonal; "..." are
              axes that broadcast. Without "->" the result has the letters that occur once, in alphabetical order.
              Spaces mean nothing. Or operands and lists of numbers in turn: einsum(a, [0, 1], b, [1, 2], [0, 2]).

    Operands are multiplied from left to right, two at a time, as one matrix product where they share a letter that is
    summed over. Raises ArgumentError for an equation that cannot be read, ShapeError for operands that do not fit it.
    """
    if not isinstance(equation, str):
        equation, operands = from_lists((equation, *operands))
    if not operands:
        raise ArgumentError(f"einsum {equation!r} has no operands", user_origin())
    values = lift_all(operands)
    dtype = common_dtype(operands, values)
    values = [cast_value(value, "i64" if dtype == "bool" else dtype) for value in values]
    inputs, output = labels_of(equation, values)
    extents = extents_of(equation, values, inputs)
    factors = [Factor(value, labels).plain(extents) for value, labels in zip(values, inputs, strict=True)]
    result = factors[0]
    for number, factor in enumerate(factors[1:], 1):
        later = {label for other in factors[number + 1 :] for label in other.labels}
        result = result.times(factor, later | set(output))
    return as_tensor(result.summed_to(output).permuted_to(output))


@dataclass(frozen=True, slots=True)
class Factor:
    """An operand of einsum, one label for each of its axes."""

    value: Value
    labels: list[str]

    def plain(self, extents: dict[str, Extent]) -> Factor:
        """With every label once, and without axes of size 1 whose label is longer in another operand."""
        found = self
        for label in dict.fromkeys(self.labels):
            while found.labels.count(label) > 1:
                found = found.diagonal(label)
        kept = [axis for axis, label in enumerate(found.labels) if found.value.shape[axis] == extents[label]]
        shape = tuple(found.value.shape[axis] for axis in kept)
        return Factor(reshaped(found.value, shape), [found.labels[axis] for axis in kept])

    def diagonal(self, label: str) -> Factor:
        """The first two axes of that label walked together."""
        first = self.labels.index(label)
        second = self.labels.index(label, first + 1)
        shape = tuple(extent for axis, extent in enumerate(self.value.shape) if axis != second)
        places = [axis if axis < second else axis - 1 for axis in range(len(self.labels))]
        places[second] = -1
        steps = ops.iota(axis=first, type=TensorType("i64", shape))
        found = apply(ops.gather, self.value, steps, places=tuple(places))
        return Factor(found.value, [each for axis, each in enumerate(self.labels) if axis != second])

    def summed_to(self, labels: Iterable[str]) -> Factor:
        """Summed over all other labels."""
        kept = [axis for axis, label in enumerate(self.labels) if label in labels]
        axes = tuple(axis for axis in range(len(self.labels)) if axis not in kept)
        if not axes:
            return self
        total = apply(ops.sum, self.value, axes=axes).value
        shape = tuple(total.shape[axis] for axis in kept)
        return Factor(reshaped(total, shape), [self.labels[axis] for axis in kept])

    def permuted_to(self, labels: Sequence[str]) -> Value:
        return permuted(self.value, self.axes(labels))

    def axes(self, labels: Sequence[str]) -> list[int]:
        return [self.labels.index(label) for label in labels]

    def times(self, other: Factor, wanted: set[str]) -> Factor:
        """The product, summed over all labels that are not wanted."""
        left, right = self.summed_to({*wanted, *other.labels}), other.summed_to({*wanted, *self.labels})
        shared = [label for label in left.labels if label in right.labels]
        summed, kept = ([label for label in shared if (label in wanted) == keep] for keep in (False, True))
        if not summed:
            return left.spread_over(right)
        axes = [(factor.axes(summed), factor.axes(kept)) for factor in (left, right)]
        product = product_over(left.value, right.value, axes[0][0], axes[1][0], (axes[0][1], axes[1][1]))
        rest = [label for factor in (left, right) for label in factor.labels if label not in shared]
        return Factor(product, [*kept, *rest])

    def spread_over(self, other: Factor) -> Factor:
        """The product over all labels of both."""
        new = [label for label in other.labels if label not in self.labels]
        labels = [*self.labels, *new]
        left = reshaped(self.value, (*self.value.shape, *[1] * len(new)))
        moved = [label for label in labels if label in other.labels]
        right = other.permuted_to(moved)
        sizes = dict(zip(moved, right.shape, strict=True))
        right = reshaped(right, tuple(sizes.get(label, 1) for label in labels))
        return Factor(elementwise(ops.mul, as_tensor(left), as_tensor(right)).value, labels)


def from_lists(items: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The equation of operands and lists of numbers in turn, and the operands."""
    letters = ascii_uppercase + ascii_lowercase
    pairs, result = items[: len(items) // 2 * 2], items[len(items) // 2 * 2 :]
    terms = []
    for names in (*pairs[1::2], *result):
        if not isinstance(names, (list, tuple)) or not all(is_label(each) for each in names):
            raise ArgumentError(
                f"einsum takes an equation, or lists of numbers 0..51 and ... behind operands; got {names!r}",
                user_origin(),
            )
        terms.append("".join("..." if each is ... else letters[each] for each in names))
    arrow = f"->{terms.pop()}" if result else ""
    return ",".join(terms) + arrow, pairs[0::2]


def is_label(given: Any) -> bool:
    return given is ... or (is_whole(given) and 0 <= given < 52)


def labels_of(equation: str, values: Sequence[Value]) -> tuple[list[list[str]], list[str]]:
    """The labels of every operand's axes and of the result's; those for "..." count from the right: ".2", ".1"."""
    text = equation.replace(" ", "")
    term = r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"
    if re.fullmatch(rf"{term}(,{term})*(->{term})?", text) is None:
        raise ArgumentError(
            f'einsum cannot read {equation!r}; write it like "ij,jk->ik" or "...ij,...jk->...ik"', user_origin()
        )
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(values):
        raise ArgumentError(f"einsum {equation!r} names {len(terms)} operands, got {len(values)}", user_origin())
    covered = [len(value.shape) - len(each.replace("...", "")) for each, value in zip(terms, values, strict=True)]
    for each, rest, value in zip(terms, covered, values, strict=True):
        if rest < 0 or (rest and "..." not in each):
            misfit(equation, values, f"{each!r} does not name the axes of {value.type}")
    inputs = [spelled(each, rest) for each, rest in zip(terms, covered, strict=True)]
    longest = max((rest for each, rest in zip(terms, covered) if "..." in each), default=0)
    named = [label for labels in inputs for label in labels]
    if not arrow:
        once = sorted(label for label in set(named) if label.isalpha() and named.count(label) == 1)
        return inputs, [*spelled("...", longest), *once]
    output = spelled(right, longest)
    wrong = [label for label in output if output.count(label) > 1 or label not in named]
    if wrong or (longest and "..." not in right):
        what = f"{wrong[0]!r} twice or not in an operand" if wrong else 'not the axes of "..."'
        raise ArgumentError(f"einsum {equation!r}: the result has {what}", user_origin())
    return inputs, output


def spelled(term: str, covered: int) -> list[str]:
    """The labels of a term whose "..." covers that many axes."""
    before, _, after = term.partition("...")
    return [*before, *(f".{number}" for number in range(covered, 0, -1)), *after]


def extents_of(equation: str, values: Sequence[Value], inputs: Sequence[Sequence[str]]) -> dict[str, Extent]:
    """The extent of every label, where size 1 fits any. Raises ShapeError for two others."""
    found: dict[str, Extent] = {}
    for value, labels in zip(values, inputs, strict=True):
        for extent, label in zip(value.shape, labels, strict=True):
            known = found.get(label, 1)
            if 1 not in (known, extent) and known != extent:
                axis = '"..."' if label.startswith(".") else repr(label)
                misfit(equation, values, f"{axis} is {known} and {extent}")
            found[label] = extent if known == 1 else known
    return found


def misfit(equation: str, values: Sequence[Value], reason: str) -> NoReturn:
    types = ", ".join(str(value.type) for value in values)
    raise ShapeError(f"einsum {equation!r} of {types}: {reason}", user_origin())
