"""Dropout layers. They drop in training mode only; the functions of the same names in graphc.functional say what."""

from __future__ import annotations

from typing import Any

from graphc import functional
from graphc.nn.module import Applied
from graphc.settings import check_share, check_switch
from graphc.tensor import Tensor


class Dropout(Applied):
    """0 with probability p, the other elements divided by 1 - p. Raises ArgumentError for a p outside of [0, 1]."""

    function = staticmethod(functional.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p, self.inplace = check_share("p", p), check_switch("inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    function = staticmethod(functional.dropout1d)


class Dropout2d(Dropout):
    function = staticmethod(functional.dropout2d)


class Dropout3d(Dropout):
    function = staticmethod(functional.dropout3d)


class AlphaDropout(Dropout):
    function = staticmethod(functional.alpha_dropout)
