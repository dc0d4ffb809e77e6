"""Products of vectors and matrices."""

from __future__ import annotations

from typing import Any

from graphc.tensor import Tensor, as_tensor, matmul

__all__ = ["dot", "linear", "matmul", "outer"]


def dot(a: Any, b: Any) -> Tensor:
    """NumPy's dot: of vectors, of matrices, and with numbers."""
    left, right = as_tensor(a), as_tensor(b)
    return matmul(left, right) if left.ndim and right.ndim else left * right


def outer(a: Any, b: Any) -> Tensor:
    """[n], [m] -> [n, m]; more axes are flattened."""
    return as_tensor(a).reshape(-1, 1) * as_tensor(b).reshape(1, -1)


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x [..., in], weight [out, in], bias [out] -> [..., out]."""
    rows = as_tensor(x)
    if rows.ndim > 2:
        flat = linear(rows.reshape(-1, rows.shape[-1]), weight, bias)
        return flat.reshape(*rows.shape[:-1], flat.shape[-1])
    product = matmul(rows, as_tensor(weight).T)
    return product if bias is None else product + bias
