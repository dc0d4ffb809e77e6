"""Linear layers, and those that only change the shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphc import functional, init
from graphc.functional.products import bilinear, linear
from graphc.nn.misfit import check_sizes, misfit
from graphc.nn.module import Module, new_parameter
from graphc.settings import check_list, check_switch, check_whole
from graphc.tensor import DType, Tensor, as_tensor


class Identity(Module):
    """Its input; takes and forgets any arguments, to stand in for a layer."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Axes start_dim to end_dim as one: [n, 1, 28, 28] -> [n, 784]."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = check_whole("start_dim", start_dim), check_whole("end_dim", end_dim)

    def forward(self, x: Any) -> Tensor:
        return functional.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Axis `dim` as several, of which one may be -1: Unflatten(1, (1, 28, 28)) makes [n, 1, 28, 28] of [n, 784]."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        extents = check_list("unflattened_size", unflattened_size, "a list of extents")
        self.dim = check_whole("dim", dim)
        self.unflattened_size = tuple(check_whole("unflattened_size", extent, -1) for extent in extents)

    def forward(self, x: Any) -> Tensor:
        return functional.unflatten(x, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Linear(Module):
    """x @ weight.T + bias: [..., in_features] -> [..., out_features].

    weight [out_features, in_features] and bias [out_features] start evenly in ±1/sqrt(in_features).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: DType | None = None
    ) -> None:
        super().__init__()
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        check_switch("bias", bias)
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter((out_features, in_features), device, dtype)
        self.bias = new_parameter((out_features,), device, dtype) if bias else None
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
            from graphc.suggestions import for_features

            found = f"an input of {tensor.shape[-1]} features" if tensor.ndim else "a single number"
            advice = for_features(tensor.value.shape, self.in_features)
            raise misfit(self, f"Linear({self.in_features} -> {self.out_features})", found, tensor, advice)
        return linear(tensor, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """x1 @ weight[k] @ x2 + bias[k] for each k: [..., in1_features], [..., in2_features] -> [..., out_features].

    weight [out_features, in1_features, in2_features] and bias [out_features] start evenly in ±1/sqrt(in1_features).
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        check_sizes("Bilinear", in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        check_switch("bias", bias)
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = new_parameter((out_features, in1_features, in2_features), device, dtype)
        self.bias = new_parameter((out_features,), device, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New initial values."""
        limit = 1 / math.sqrt(self.in1_features)
        for parameter in self.parameters():
            init.uniform_(parameter, -limit, limit)

    def forward(self, x1: Any, x2: Any) -> Tensor:
        sizes = f"Bilinear({self.in1_features}, {self.in2_features} -> {self.out_features})"
        for x, features in ((x1, self.in1_features), (x2, self.in2_features)):
            tensor = as_tensor(x)
            if not tensor.ndim or tensor.shape[-1] != features:
                raise misfit(self, sizes, f"an input of type {tensor.type} for {features} features", tensor)
        return bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
