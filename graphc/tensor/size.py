"""Symbolic extents as users hold them."""

from __future__ import annotations

from typing import Any, NoReturn

from graphc.errors import TraceError
from graphc.ir import ops
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import Extent, TensorType, multiply
from graphc.tensor.arithmetic import multiply as product
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
        return self.extent == (other.extent if isinstance(other, Size) else other)

    def __ne__(self, other: object) -> bool:  # type: ignore[override]
        return not self == other

    def __hash__(self) -> int:
        return hash(self.extent)

    def __mul__(self, other: Any) -> Any:
        factor = other.extent if isinstance(other, Size) else other
        return Size(multiply(self.extent, factor)) if isinstance(factor, Extent) else product(self, factor)

    __rmul__ = __mul__

    def _refuse(self) -> NoReturn:
        raise TraceError(
            f"the size of {self.extent} is not known while the step is traced",
            user_origin(),
            ["use it in shapes or arithmetic; Python loops and conditions need a fixed extent"],
        )

    def __bool__(self) -> bool:
        self._refuse()

    def __int__(self) -> int:
        self._refuse()

    __index__ = __int__

    def __float__(self) -> float:
        self._refuse()
