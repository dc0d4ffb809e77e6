"""Linear layers, and those that only change the shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import functional, init
from graphc.errors import ShapeError
from graphc.ir.graph import user_origin
from graphc.nn.misfit import misfit
from graphc.nn.module import Module
from graphc.tensor import Parameter, Tensor, as_tensor


class Flatten(Module):
    """Axes start_dim to end_dim as one: [n, 1, 28, 28] -> [n, 784]."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Tensor:
        return functional.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Linear(Module):
    """x @ weight.T + bias: [..., in_features] -> [..., out_features].

    weight [out_features, in_features] and bias [out_features] start evenly in ±1/sqrt(in_features).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ShapeError(f"Linear({in_features} -> {out_features}): sizes must be at least 1", user_origin())
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.empty((out_features, in_features), np.float32))
        self.bias = Parameter(np.empty(out_features, np.float32)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            limit = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -limit, limit)

    def forward(self, x: Any) -> Tensor:
        tensor = as_tensor(x)
        if not tensor.ndim or tensor.shape[-1] != self.in_features:
            found = f"an input of {tensor.shape[-1]} features" if tensor.ndim else "a single number"
            raise misfit(self, f"Linear({self.in_features} -> {self.out_features})", found, tensor)
        return functional.linear(tensor, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Its input; takes and forgets any arguments, to stand in for a layer."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x
