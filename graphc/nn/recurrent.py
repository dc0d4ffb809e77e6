"""Recurrent layers and cells. A layer is one scan for each direction, so its graph is as large for any length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from graphc import functional, init
from graphc.control import scan
from graphc.functional.recurrent import gru_gates, lstm_gates
from graphc.nn.misfit import check_sizes, misfit
from graphc.nn.module import Module, new_parameter
from graphc.settings import check_choice, check_share, check_switch, check_switches, is_whole, require
from graphc.tensor import DType, Parameter, Tensor, as_floats

States = tuple[Tensor, ...]  # h, or h and c

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": functional.tanh, "relu": functional.relu}
ENDS = ("", "_reverse")  # of parameters' names, by direction
USUAL = {
    "proj_size": 0, "num_layers": 1, "nonlinearity": "tanh", "bias": True, "batch_first": False, "dropout": 0.0,
    "bidirectional": False,
}  # fmt: skip


class Weights(NamedTuple):
    """The parameters of one layer in one direction."""

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None
    weight_hr: Parameter | None


class Recurrent(Module):
    """What RNN, LSTM and GRU share: layers, of which each takes the outputs of the one before.

    bias           whether there are bias_ih and bias_hh
    batch_first    input and output are [n, length, features] rather than [length, n, features]; states are not
    dropout        the share of every layer's outputs, but the last one's, that is set to 0 in training
    bidirectional  each layer runs from the end too; those outputs stand behind the others

    Layer k has weight_ih_lk [gates * hidden_size, features], weight_hh_lk [gates * hidden_size, hidden_size],
    bias_ih_lk and bias_hh_lk [gates * hidden_size]; what runs from the end has the same with _reverse. All of them
    start evenly in ±1/sqrt(hidden_size).

    Called with an input [length, n, input_size], or [length, input_size] for one sample, and the first states
    [num_layers * directions, n, hidden_size], 0 if left out. Returns the outputs of the last layer
    [length, n, directions * hidden_size] and the last states.
    """

    gates: ClassVar[int]
    step: Callable[[Tensor, States, Weights], States]  # what the input gives to the gates, states -> states, h first
    proj_size: int = 0  # LSTM has it

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_switches(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        fits = is_whole(self.proj_size) and 0 <= self.proj_size < hidden_size
        require(fits, "proj_size", self.proj_size, f"a whole number from 0 up to but without hidden_size={hidden_size}")
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, check_share("dropout", dropout), bidirectional
        for layer in range(num_layers):
            features = len(self.ends) * self.state_sizes[0] if layer else input_size
            for end in self.ends:
                for name, shape in self.shapes(features).items():
                    self.register_parameter(f"{name}_l{layer}{end}", new_parameter(shape, device, dtype))
        self.reset_parameters()

    @property
    def ends(self) -> tuple[str, ...]:
        return ENDS if self.bidirectional else ENDS[:1]

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Features of each state, of the outputs first."""
        return (self.hidden_size,)

    def shapes(self, features: int) -> dict[str, tuple[int, ...]]:
        """The parameters of one layer in one direction."""
        rows, outputs = self.gates * self.hidden_size, self.state_sizes[0]
        biases = {"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {}
        projection = {"weight_hr": (outputs, self.hidden_size)} if self.proj_size else {}
        return {"weight_ih": (rows, features), "weight_hh": (rows, outputs), **biases, **projection}

    def reset_parameters(self) -> None:
        """New initial values."""
        start_evenly(self)

    # -- the call

    def forward(self, x: Any, hx: Any = None) -> tuple[Tensor, Any]:
        rows, starts, alone = self.fitted(x, hx)
        lasts: list[States] = []
        for layer in range(self.num_layers):
            outputs = []
            for end in self.ends:
                start = tuple(state[len(lasts)] for state in starts)
                last, output = self.run(rows, start, f"l{layer}{end}")
                lasts.append(last)
                outputs.append(output)
            rows = functional.cat(outputs, -1) if self.bidirectional else outputs[0]
            if layer < self.num_layers - 1:
                rows = functional.dropout(rows, self.dropout, self.training)
        states = [functional.stack(each) for each in zip(*lasts, strict=True)]
        if alone:
            rows, states = rows.squeeze(1), [state.squeeze(1) for state in states]
        elif self.batch_first:
            rows = rows.permute(1, 0, 2)
        return rows, states[0] if len(states) == 1 else tuple(states)

    def run(self, rows: Tensor, start: States, place: str) -> tuple[States, Tensor]:
        """The last states and all outputs of one layer in one direction."""
        weights = Weights(*(self._parameters.get(f"{name}_{place}") for name in Weights._fields))

        def step(states: States, given: Tensor) -> tuple[States, Tensor]:
            states = self.step(given, states, weights)
            return states, states[0]

        last, outputs = scan(step, start, self.projected(rows, weights), reverse=place.endswith(ENDS[1]))
        return last, outputs

    def projected(self, rows: Tensor, weights: Weights) -> Tensor:
        """What the input gives to the gates in all steps, in one product: [length, n, gates * hidden_size]."""
        biases = None if weights.bias_ih is None else weights.bias_ih + weights.bias_hh
        return functional.linear(rows, weights.weight_ih, biases)

    def fitted(self, x: Any, hx: Any) -> tuple[Tensor, list[Tensor], bool]:
        """The input [length, n, input_size], its first states, and whether it came without n."""
        tensor, _, *given = as_floats(x, self.weight_ih_l0, *listed(hx))
        if tensor.ndim not in (2, 3) or tensor.shape[-1] != self.input_size:
            takes = f"[length, {self.input_size}] or a batch of those"
            raise misfit(self, titled(self), f"an input of type {tensor.type}; it takes {takes}", tensor)
        alone = tensor.ndim == 2
        if self.batch_first and not alone:
            tensor = tensor.permute(1, 0, 2)
        runs, batch = self.num_layers * len(self.ends), tensor.shape[1:-1]
        starts = first_states(self, given, [(runs, *batch, size) for size in self.state_sizes], tensor)
        if alone:
            tensor, starts = tensor.unsqueeze(1), [state.unsqueeze(1) for state in starts]
        return tensor, starts, alone

    def extra_repr(self) -> str:
        return settings(self)


class RNN(Recurrent):
    """h = tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh) at every step, or relu.

    nonlinearity  "tanh" or "relu"

    `Recurrent` says what it takes and returns: the last h [num_layers * directions, n, hidden_size] is its state.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        self.nonlinearity = check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def step(self, given: Tensor, states: States, weights: Weights) -> States:
        return (NONLINEARITIES[self.nonlinearity](given + functional.linear(states[0], weights.weight_hh)),)


class LSTM(Recurrent):
    """Long short-term memory: gates as in functional.lstm_cell, the states h and c.

    proj_size  h is weight_hr [proj_size, hidden_size] times what it would be; 0 for none (Sak et al. 2014)

    `Recurrent` says what it takes and returns: (h, c) and (h_n, c_n) are its states.
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        self.proj_size = proj_size
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size

    def step(self, given: Tensor, states: States, weights: Weights) -> States:
        h, c = states
        h, c = lstm_gates(given + functional.linear(h, weights.weight_hh), c)
        return (h if weights.weight_hr is None else functional.linear(h, weights.weight_hr)), c


class GRU(Recurrent):
    """Gated recurrent units: gates as in functional.gru_cell.

    `Recurrent` says what it takes and returns: the last h [num_layers * directions, n, hidden_size] is its state.
    """

    gates = 3

    def projected(self, rows: Tensor, weights: Weights) -> Tensor:
        return functional.linear(rows, weights.weight_ih, weights.bias_ih)

    def step(self, given: Tensor, states: States, weights: Weights) -> States:
        recurrent = functional.linear(states[0], weights.weight_hh, weights.bias_hh)
        return (gru_gates(given, recurrent, states[0]),)


# -- cells


class RecurrentCell(Module):
    """What the cells share: one step, with weight_ih, weight_hh, bias_ih and bias_hh as one layer has them.

    Called with an input [n, input_size] or [input_size], and states [n, hidden_size] or [hidden_size], 0 if left out.
    Returns the next states.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: DType | None = None
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, check_switch("bias", bias)
        rows = self.gates * hidden_size
        self.weight_ih = new_parameter((rows, input_size), device, dtype)
        self.weight_hh = new_parameter((rows, hidden_size), device, dtype)
        self.bias_ih = new_parameter((rows,), device, dtype) if bias else None
        self.bias_hh = new_parameter((rows,), device, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New initial values."""
        start_evenly(self)

    def fitted(self, x: Any, hx: Any) -> list[Tensor]:
        """The input and its states."""
        tensor, _, *given = as_floats(x, self.weight_ih, *listed(hx))
        if tensor.ndim not in (1, 2) or tensor.shape[-1] != self.input_size:
            takes = f"[{self.input_size}] or a batch of those"
            raise misfit(self, titled(self), f"an input of type {tensor.type}; it takes {takes}", tensor)
        shape = *tensor.shape[:-1], self.hidden_size
        return [tensor, *first_states(self, given, [shape] * self.states, tensor)]

    def weights(self) -> tuple[Parameter | None, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def extra_repr(self) -> str:
        return settings(self)


class RNNCell(RecurrentCell):
    """tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh), or relu: (x, h) -> h."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        self.nonlinearity = check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, x: Any, hx: Any = None) -> Tensor:
        cell = functional.rnn_tanh_cell if self.nonlinearity == "tanh" else functional.rnn_relu_cell
        return cell(*self.fitted(x, hx), *self.weights())


class LSTMCell(RecurrentCell):
    """One step of an LSTM: (x, (h, c)) -> (h, c)."""

    gates, states = 4, 2

    def forward(self, x: Any, hx: Any = None) -> tuple[Tensor, Tensor]:
        tensor, *states = self.fitted(x, hx)
        return functional.lstm_cell(tensor, states, *self.weights())


class GRUCell(RecurrentCell):
    """One step of a GRU: (x, h) -> h."""

    gates = 3

    def forward(self, x: Any, hx: Any = None) -> Tensor:
        return functional.gru_cell(*self.fitted(x, hx), *self.weights())


# -- what layers and cells have in common


def start_evenly(layer: Recurrent | RecurrentCell) -> None:
    """Parameters evenly in ±1/sqrt(hidden_size)."""
    limit = 1 / math.sqrt(layer.hidden_size)
    for parameter in layer.parameters():
        init.uniform_(parameter, -limit, limit)


def titled(layer: Recurrent | RecurrentCell) -> str:
    return f"{type(layer).__name__}({layer.input_size}, {layer.hidden_size})"


def settings(layer: Recurrent | RecurrentCell) -> str:
    """Sizes, and what differs from the defaults."""
    found = {name: getattr(layer, name) for name in USUAL if hasattr(layer, name)}
    differing = [f"{name}={value!r}" for name, value in found.items() if value != USUAL[name]]
    return ", ".join([str(layer.input_size), str(layer.hidden_size), *differing])


def listed(hx: Any) -> list[Any]:
    """The states given to a call."""
    if hx is None:
        return []
    return list(hx) if isinstance(hx, (tuple, list)) else [hx]


def first_states(
    layer: Recurrent | RecurrentCell, given: Sequence[Tensor], shapes: Sequence[tuple[Any, ...]], x: Tensor
) -> list[Tensor]:
    """The states given, of these shapes; zeros if there are none."""
    if not given:
        return [functional.zeros(shape, dtype=x.dtype) for shape in shapes]
    if [state.shape for state in given] != list(shapes):
        found, takes = (" and ".join(map(str, each)) for each in ([state.type for state in given], map(list, shapes)))
        raise misfit(layer, titled(layer), f"first states {found}; it takes {takes}", x)
    return list(given)
