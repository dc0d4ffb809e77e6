"""Symbolic extents as users hold them."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from graphc.errors import TraceError
from graphc.ir import ops
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import Extent, TensorType, add, divide, multiply, subtract
from graphc.tensor import arithmetic
from graphc.tensor.operators import Operators


class Size(Operators):
    """A symbolic extent read off a shape: usable in shapes, and as a number in arithmetic."""

    def __init__(self, extent: Extent) -> None:
        self.extent = extent

    @property
    def value(self) -> Value:
        """The run-time number, f32[]."""
        return ops.size(extent=self.extent, type=TensorType("f32", ()))

    def __repr__(self) -> str:
        return str(self.extent)

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return self.extent == extent_of(other)

    def __ne__(self, other: object) -> bool:  # type: ignore[override]
        return not self == other

    def __hash__(self) -> int:
        return hash(self.extent)

    # What is a size again can be used in shapes; everything else is a number.

    def __add__(self, other: Any) -> Any:
        extent = extent_of(other)
        return arithmetic.add(self, other) if extent is None else sized(add(self.extent, extent))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        extent = extent_of(other)
        return arithmetic.subtract(self, other) if extent is None else sized(subtract(self.extent, extent))

    def __rsub__(self, other: Any) -> Any:
        extent = extent_of(other)
        return arithmetic.subtract(other, self) if extent is None else sized(subtract(extent, self.extent))

    def __mul__(self, other: Any) -> Any:
        extent = extent_of(other)
        return arithmetic.multiply(self, other) if extent is None else sized(multiply(self.extent, extent))

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        extent = extent_of(other)
        quotient = None if extent is None else divide(self.extent, extent)
        return arithmetic.floor_divide(self, other) if quotient is None else sized(quotient)

    def _refuse(self) -> NoReturn:
        raise TraceError(
            f"the size of {self.extent} is not known while the step is traced",
            user_origin(),
            ["use it in shapes or arithmetic; Python loops and conditions need a fixed extent, gx.scan takes any"],
        )

    def __bool__(self) -> bool:
        self._refuse()

    def __int__(self) -> int:
        self._refuse()

    __index__ = __int__

    def __float__(self) -> float:
        self._refuse()


def sized(extent: Extent) -> Any:
    """An extent as users see it: a number, or a Size."""
    return extent if isinstance(extent, int) else Size(extent)


def extent_of(x: Any) -> Extent | None:
    """The extent a whole number or a Size stands for."""
    found = getattr(x, "extent", x)
    if isinstance(found, (int, np.integer)):
        return None if isinstance(found, bool) else int(found)
    return found if isinstance(found, Extent) else None
