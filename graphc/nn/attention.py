"""Attention with several heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc import functional, init
from graphc.errors import ArgumentError
from graphc.functional.attention import attention_weights
from graphc.ir.graph import user_origin
from graphc.nn.linear import Linear
from graphc.nn.misfit import check_sizes, misfit
from graphc.nn.module import Module, new_parameter
from graphc.settings import check_share, check_switches
from graphc.tensor import DType, Tensor, as_tensor

PARTS = ("q", "k", "v")


class MultiheadAttention(Module):
    """Attention of several heads, each on its own part of the projected queries, keys and values.

    embed_dim    features of queries and of the result; every head works on embed_dim / num_heads of them
    dropout      the share of weights that are set to 0 in training
    kdim, vdim   features of keys and of values; embed_dim if left out
    batch_first  inputs are [n, length, features] rather than [length, n, features]; [length, features] is one sample

    in_proj_weight [3 * embed_dim, embed_dim] projects to queries, keys and values, one above the other; where kdim or
    vdim differ, q_proj_weight, k_proj_weight and v_proj_weight do. They start as init.xavier_uniform_ makes them,
    out_proj.weight as Linear makes it, biases at 0.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        check_switches(bias=bias, batch_first=batch_first)
        check_sizes("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads, kdim=self.kdim, vdim=self.vdim)
        if embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: {num_heads} heads do not divide embed_dim={embed_dim}", user_origin()
            )
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.dropout, self.head_dim = check_share("dropout", dropout), embed_dim // num_heads
        alike = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = new_parameter((3 * embed_dim, embed_dim), device, dtype) if alike else None
        for part, features in zip(PARTS, (embed_dim, self.kdim, self.vdim), strict=True):
            weight = None if alike else new_parameter((embed_dim, features), device, dtype)
            self.register_parameter(f"{part}_proj_weight", weight)
        self.in_proj_bias = new_parameter((3 * embed_dim,), device, dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New initial values."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        self.out_proj.reset_parameters()
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(result, weights or None): [n, length, embed_dim] and [n, length, source], or the input's order of axes.

        key_padding_mask      [n, source]: keys to leave out, where bool True or by floats that are added
        need_weights          also return the weights: means over the heads, or of every head [n, heads, length, source]
        attn_mask             [length, source] or [n * heads, length, source], in the sense of key_padding_mask
        is_causal             place i sees the keys 0 .. i only; of no effect beside an attn_mask

        A query that sees no key takes nothing: its weights are 0 (PyTorch's are NaN when it returns them).
        """
        if query is key is value and self.in_proj_weight is not None:
            q, k, v = self.project_together(self.batched(query, self.embed_dim))
        else:
            inputs = (query, self.embed_dim), (key, self.kdim), (value, self.vdim)
            q, k, v = self.project([self.batched(x, features) for x, features in inputs])
        masks = self.masks(q, k, key_padding_mask, attn_mask)
        weights = attention_weights(q, k, masks, is_causal and attn_mask is None)
        weights = functional.dropout(weights, self.dropout, self.training)
        heads = functional.matmul(weights, v).permute(0, 2, 1, 3)
        result = self.out_proj(heads.reshape(*heads.shape[:2], self.embed_dim))
        if not self.batch_first:
            result = result.permute(1, 0, 2)
        weights = weights.mean(1) if average_attn_weights else weights
        if as_tensor(query).ndim == 2:
            result, weights = result.reshape(-1, self.embed_dim), weights.squeeze(0)
        return result, weights if need_weights else None

    def batched(self, x: Any, features: int) -> Tensor:
        """An input as [n, length, features]."""
        tensor = as_tensor(x)
        if tensor.ndim not in (2, 3) or tensor.shape[-1] != features:
            title = f"MultiheadAttention({self.embed_dim}, {self.num_heads})"
            raise misfit(self, title, f"an input that is not [length, {features}] or a batch of those", tensor)
        if tensor.ndim == 2:
            return tensor.unsqueeze(0)
        return tensor if self.batch_first else tensor.permute(1, 0, 2)

    def project(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Queries, keys and values, [n, heads, length, head_dim] each."""
        weights: Any = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases: Any = [None] * 3 if self.in_proj_bias is None else functional.split(self.in_proj_bias, self.embed_dim)
        if self.in_proj_weight is not None:
            weights = functional.split(self.in_proj_weight, self.embed_dim)
        return [
            functional.linear(x, weight, bias).reshape(*x.shape[:2], self.num_heads, self.head_dim).permute(0, 2, 1, 3)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        ]

    def project_together(self, x: Tensor) -> Tensor:
        """The same of one input, by one product: [3, n, heads, length, head_dim]."""
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        return projected.reshape(*x.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)

    def masks(self, query: Tensor, key: Tensor, key_padding_mask: Any, attn_mask: Any) -> list[Tensor]:
        """The masks that there are, as attention_weights takes them: bool says who takes part."""
        n, heads, length, _ = query.shape
        source = key.shape[-2]
        given = []
        if key_padding_mask is not None:
            given.append(as_tensor(key_padding_mask).reshape(n, 1, 1, source))
        if attn_mask is not None:
            mask = as_tensor(attn_mask)
            given.append(mask.reshape(n, heads, length, source) if mask.ndim == 3 else mask)
        return [~mask if mask.value.dtype == "bool" else mask for mask in given]
