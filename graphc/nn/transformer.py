"""Transformer layers (Vaswani et al. 2017, Attention is all you need) and rows of them.

Masks mean what they mean in MultiheadAttention: bool True leaves a key out, floats are added. Where is_causal is set
and no mask is given, place i sees the places 0 .. i only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

from graphc import functional
from graphc.nn.attention import MultiheadAttention
from graphc.nn.containers import ModuleList
from graphc.nn.dropout import Dropout
from graphc.nn.linear import Linear
from graphc.nn.misfit import check_sizes
from graphc.nn.module import Module
from graphc.nn.normalization import LayerNorm
from graphc.settings import check_switch, require
from graphc.tensor import DType, Tensor

Part = Callable[[Any], Tensor]
ACTIVATIONS: dict[str, Part] = {"relu": functional.relu, "gelu": functional.gelu}


class TransformerLayer(Module):
    """What both kinds of layers share: attention and two linear layers, each added to its input and normalized.

    d_model          features of inputs and results
    nhead            heads of each attention
    dim_feedforward  features between the two linear layers
    dropout          the share of elements, and of attention weights, that are set to 0 in training
    activation       "relu", "gelu", or a function of a tensor
    batch_first      inputs are [n, length, d_model] rather than [length, n, d_model]; [length, d_model] is one sample
    norm_first       normalize before each part rather than behind its sum
    """

    attentions: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Part = functional.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        self.activation: Any = ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
        require(callable(self.activation), "activation", activation, "'relu', 'gelu' or a function")
        self.norm_first = check_switch("norm_first", norm_first)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        for name in self.attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **made))
        self.linear1 = Linear(d_model, dim_feedforward, bias, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **made)
        parts = range(1, len(self.attentions) + 2)
        for part in parts:
            setattr(self, f"norm{part}", LayerNorm(d_model, layer_norm_eps, bias=bias, **made))
        for part in parts:
            setattr(self, f"dropout{part}", Dropout(dropout))

    def add(self, x: Any, number: int, part: Part) -> Tensor:
        """x and what a part of the layer makes of it."""
        norm, dropout = (getattr(self, f"{name}{number}") for name in ("norm", "dropout"))
        added: Tensor = x + dropout(part(norm(x) if self.norm_first else x))
        return added if self.norm_first else norm(added)

    def feed_forward(self, x: Any) -> Tensor:
        widened = self.dropout(self.activation(self.linear1(x)))
        return self.linear2(widened)  # type: ignore[no-any-return]


class TransformerEncoderLayer(TransformerLayer):
    """Attention of a sequence to itself, then two linear layers."""

    attentions = ("self_attn",)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        def attend(x: Any) -> Tensor:
            return attended(self.self_attn, x, x, src_mask, src_key_padding_mask, is_causal)

        return self.add(self.add(src, 1, attend), 2, self.feed_forward)


class TransformerDecoderLayer(TransformerLayer):
    """Attention of a sequence to itself, then to another one, then two linear layers."""

    attentions = ("self_attn", "multihead_attn")

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        def attend(x: Any) -> Tensor:
            return attended(self.self_attn, x, x, tgt_mask, tgt_key_padding_mask, tgt_is_causal)

        def remember(x: Any) -> Tensor:
            return attended(self.multihead_attn, x, memory, memory_mask, memory_key_padding_mask, memory_is_causal)

        return self.add(self.add(self.add(tgt, 1, attend), 2, remember), 3, self.feed_forward)


class Layers(Module):
    """Copies of one layer, in a row, and a normalization behind them if one is given."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        check_sizes(type(self).__name__, num_layers=num_layers)
        require(isinstance(layer, Module), "the layer", layer, "a module")
        require(norm is None or isinstance(norm, Module), "norm", norm, "a module or None")
        self.layers = ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm = norm

    def run(self, x: Any, *args: Any, **kwargs: Any) -> Tensor:
        for layer in self.layers:
            x = layer(x, *args, **kwargs)
        return x if self.norm is None else self.norm(x)  # type: ignore[no-any-return]


class TransformerEncoder(Layers):
    """num_layers copies of an encoder layer, equal at the start, and `norm` behind the last.

    enable_nested_tensor and mask_check are accepted for PyTorch's sake.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Tensor:
        return self.run(src, mask, src_key_padding_mask, bool(is_causal))


class TransformerDecoder(Layers):
    """num_layers copies of a decoder layer, equal at the start, and `norm` behind the last."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        return self.run(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)


def attended(
    attention: MultiheadAttention, x: Any, source: Any, mask: Any, key_padding_mask: Any, is_causal: bool
) -> Tensor:
    """What an attention takes from a source, without its weights."""
    result, _ = attention(x, source, source, key_padding_mask, False, mask, is_causal=is_causal)
    return result  # type: ignore[no-any-return]
