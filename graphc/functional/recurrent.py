"""One step of a recurrent network: cells under PyTorch's names, and what follows the product with the input.

x     [n, in], or [in] with states of one axis
hx    the state [n, hidden]; for an LSTM the pair (h, c)
w_ih  [gates * hidden, in], w_hh [gates * hidden, hidden], b_ih and b_hh [gates * hidden]: the gates one above the other
"""

from __future__ import annotations

from typing import Any

from graphc.errors import ShapeError
from graphc.functional.products import linear
from graphc.ir.graph import user_origin
from graphc.settings import require
from graphc.tensor import Tensor, as_tensor
from graphc.tensor.joining import split
from graphc.tensor.maths import relu, sigmoid, tanh

__all__ = ["gru_cell", "lstm_cell", "rnn_relu_cell", "rnn_tanh_cell"]


def rnn_tanh_cell(x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Tensor:
    """tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)."""
    return tanh(linear(x, w_ih, b_ih) + linear(hx, w_hh, b_hh))


def rnn_relu_cell(x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Tensor:
    """relu(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)."""
    return relu(linear(x, w_ih, b_ih) + linear(hx, w_hh, b_hh))


def lstm_cell(x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> tuple[Tensor, Tensor]:
    """The next (h, c). Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000."""
    require(isinstance(hx, (tuple, list)) and len(hx) == 2, "hx", hx, "the pair (h, c)")
    h, c = hx
    return lstm_gates(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh), as_tensor(c))


def gru_cell(x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Tensor:
    """The next h. Source: Cho et al. 2014, the reset gate after the product as in PyTorch."""
    return gru_gates(linear(x, w_ih, b_ih), linear(hx, w_hh, b_hh), as_tensor(hx))


def lstm_gates(sums: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(h, c) after the gates with these sums [..., 4 * hidden]: input, forget, cell, output."""
    entering, kept, new, shown = parts(sums, 4)
    c = sigmoid(kept) * c + sigmoid(entering) * tanh(new)
    return sigmoid(shown) * tanh(c), c


def gru_gates(given: Tensor, recurrent: Tensor, h: Tensor) -> Tensor:
    """h after the gates with these sums [..., 3 * hidden] of the input and of h: reset, update, new."""
    of_input, of_state = parts(given, 3), parts(recurrent, 3)
    reset, kept = (sigmoid(a + b) for a, b in zip(of_input[:2], of_state[:2], strict=True))
    new = tanh(of_input[2] + reset * of_state[2])
    return new + kept * (h - new)


def parts(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """Equal parts of the last axis."""
    last = x.shape[-1]
    if not isinstance(last, int) or last % count:
        raise ShapeError(f"{count} gates do not divide the last axis of {x.type}", user_origin())
    return split(x, [last // count] * count, -1)
