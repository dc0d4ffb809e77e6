"""The record an op is declared with, and the table of all ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import Any

from graphc.ir.frozen import dataclass
from graphc.ir.graph import IRError, Value, current_origin, record
from graphc.ir.types import TensorType, Walk

KINDS = (
    "source", "elementwise", "reduce", "view", "contraction", "gather", "scatter", "sweep", "loop", "part",
    "join", "custom", "gradient", "attention", "tiles",
)  # fmt: skip
# How many of its first operands an op reads at places of its own choosing, not at the point it computes.
WHOLE = {
    "contraction": 2, "gather": 1, "sweep": 1, "loop": math.inf, "part": 1, "join": math.inf, "tiles": math.inf,
}  # fmt: skip

# Kinds that go over arrays in an order of their own, in a nest that is theirs alone.
FRAMELESS = ("sweep", "loop", "join", "tiles")


@dataclass(frozen=True, slots=True)
class Sample:
    """One way to call an op in the tests: operand types as text, where the numbers lie, attributes."""

    operands: tuple[str, ...]
    low: float = -2.0
    high: float = 2.0
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Op:
    """One op.

    infer     (*operand types, **attrs) -> TensorType; raises IRError
    numpy     (*arrays, **attrs) -> array: what the op means
    vjp       (cotangent, out, *operands) -> one cotangent or None (zero) per operand; no vjp: not differentiable
    scalar    kernel-language expression of one element, `{0}` `{1}` for the operands
    cost      of one element, in additions
    commutes  the two operands may be swapped (rewrite rules match either order)
    walk      of a view, (operand type, **attrs) -> one Walk an operand axis: where each element of the view stands
    """

    name: str
    kind: str
    infer: Callable[..., TensorType]
    numpy: Callable[..., Any]
    samples: tuple[Sample, ...]
    vjp: Callable[..., tuple[Value | None, ...]] | None = None
    scalar: str = ""
    commutes: bool = False
    cost: int = 1
    walk: Callable[..., tuple[Walk, ...]] | None = None

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *operands: Value, **attrs: Any) -> Value:
        try:
            result = self.infer(*(value.type for value in operands), **attrs)
        except IRError as error:
            types = ", ".join(str(value.type) for value in operands)
            raise IRError(f"{self.name}({types}): {error}") from None
        return record(Value(self, operands, attrs, result, current_origin()))


OPS: dict[str, Op] = {}


def define(name: str, kind: str, **rules: Any) -> Op:
    """Declare an op: enter it into the table under its name."""
    if name in OPS or kind not in KINDS:
        raise IRError(f"op {name!r} of kind {kind!r} is already defined or of no known kind")
    OPS[name] = op = Op(name, kind, **rules)
    return op
