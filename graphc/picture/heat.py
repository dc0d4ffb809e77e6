"""Colour by a quantity instead of by the part a card plays: bytes, operations or seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphc.ir.dot.style import bytes_text
from graphc.ir.graph import Graph, Value
from graphc.ir.types import bound

QUANTITIES, TIME = ("bytes", "operations"), "time"
COLD, HOT = (255, 255, 255), (253, 186, 116)  # text can be read on both
STEPS = 40  # of the scale that is drawn


@dataclass(frozen=True, slots=True)
class Scale:
    """What is measured of each card, by the card's key."""

    quantity: str
    amounts: Mapping[str, float]

    def fill(self, key: str) -> str:
        """White for none, full colour for the largest; "" for what is not measured."""
        most = max(self.amounts.values(), default=0.0)
        return shade(self.amounts[key] / most if most else 0.0) if key in self.amounts else ""

    def share(self, key: str) -> str:
        """One line for a tooltip, "" for what is not measured."""
        if key not in self.amounts:
            return ""
        total = sum(self.amounts.values())
        return f"{amount_text(self.quantity, self.amounts[key])}, {self.amounts[key] / (total or 1):.1%} of all"


def shade(share: float) -> str:
    """The square root, so that what is small can still be told from nothing."""
    part = min(max(share, 0.0), 1.0) ** 0.5
    return "#" + "".join(f"{round(cold + (hot - cold) * part):02x}" for cold, hot in zip(COLD, HOT, strict=True))


def amount_text(quantity: str, amount: float) -> str:
    if quantity == "bytes":
        return bytes_text(round(amount))
    if quantity == TIME:
        return f"{amount * 1e6:.3g} µs" if amount < 1e-3 else f"{amount * 1e3:.3g} ms"
    size, name = next((unit for unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if amount >= unit[0]), (1.0, ""))
    return f"{amount / size:.3g}{name} operations"


def draw_scale(scale: Scale, x: float, y: float) -> Iterator[str]:
    from graphc.picture.drawing import write

    yield write(x, y + 10, f"{scale.quantity}:  0", 11, "#475569")
    left = x + 90
    for step in range(STEPS):
        fill = shade((step + 1) / STEPS)
        yield f'<rect x="{left + step * 4:.1f}" y="{y:.1f}" width="4.2" height="12" fill="{fill}"/>'
    most = amount_text(scale.quantity, max(scale.amounts.values(), default=0.0))
    yield write(left + STEPS * 4 + 8, y + 10, most, 11, "#475569")


def moved(value: Value) -> int:
    """Bytes one op reads and writes by itself, at the dims' maxima."""
    return value.type.max_bytes + sum(operand.type.max_bytes for operand in value.operands)


def operations(value: Value) -> int:
    """Operations on one element each; a multiply-add of a product counts as two."""
    if value.op.kind in ("source", "view"):
        return 0
    count = bound(value.type.count)
    if value.op.kind == "loop":
        body: Graph = value.attrs["body"].graph
        return bound(value.attrs["length"]) * sum(map(operations, body.values()))
    if value.op.kind == "contraction":
        return 2 * count * bound(value.operands[0].shape[-1])
    if value.op.kind == "reduce":
        return bound(value.operands[0].type.count)
    return count * value.op.cost
