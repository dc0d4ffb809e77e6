"""Vectors for numbers: tables that are looked up."""

from __future__ import annotations

from typing import Any, Self

from graphc import functional, init
from graphc.errors import ShapeError
from graphc.ir.graph import user_origin
from graphc.nn.misfit import check_sizes
from graphc.nn.module import Module, new_parameter
from graphc.settings import check_switch, check_whole
from graphc.tensor import DType, Parameter, Tensor


class Embedding(Module):
    """Row i of a table for every index i: [...] of whole numbers -> [..., embedding_dim].

    padding_idx  a row that starts at 0 and gets no gradient; counted from the end if negative
    sparse       accepted for PyTorch's sake: a step adds to the rows that were looked up in any case

    weight [num_embeddings, embedding_dim] starts normal with mean 0 and deviation 1. An index outside of
    0 .. num_embeddings - 1 is LabelError in the call, before anything is updated.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        sparse: bool = False,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        check_switch("sparse", sparse)
        if padding_idx is not None and not -num_embeddings <= check_whole("padding_idx", padding_idx) < num_embeddings:
            raise ShapeError(f"padding_idx={padding_idx} is outside of {num_embeddings} embeddings", user_origin())
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = new_parameter((num_embeddings, embedding_dim), device, dtype)
        self.reset_parameters()

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None) -> Self:
        """A table of given rows, which steps do not update unless freeze is False."""
        check_switch("freeze", freeze)
        table = Parameter(embeddings)
        if table.ndim != 2:
            raise ShapeError(f"embeddings are a matrix of rows, got {table.type}", user_origin())
        count, width = table.shape
        layer = cls(count, width, padding_idx, dtype=table.dtype)
        layer.weight.copy_(table)
        layer.weight.requires_grad = not freeze
        return layer

    def reset_parameters(self) -> None:
        """New initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            rows = self.weight.numpy()
            rows[self.padding_idx] = 0
            self.weight.copy_(rows)

    def forward(self, input: Any) -> Tensor:
        return functional.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
