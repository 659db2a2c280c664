"""LSTM, GRU and RNN.

A layer in the plain form that torch knows is run by torch's own kernel; every other form (peepholes, clipping, other
activations, sequences of different lengths, a GRU with the reset before its matrix) by a loop over the steps. Shapes
are those of the ONNX specification: X [T, N, inputs], W [directions, gates * hidden, inputs],
R [directions, gates * hidden, hidden], B [directions, 2 * gates * hidden]; Y [T, directions, N, hidden].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node, Operator

_Activation = Callable[[Tensor], Tensor]
_State = tuple[Tensor, ...]

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""torch's gates (input forget cell output; reset update new) by their place in ONNX (i o f c; z r h)."""

_PLAIN = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@dataclass(frozen=True)
class _Layer:
    """One recurrent node and its operands, batch second."""

    node: Node
    data: Tensor
    weight: Tensor
    recurrence: Tensor
    bias: Tensor | None
    lengths: Tensor | None
    states: tuple[Tensor, ...]
    peepholes: Tensor | None

    @property
    def hidden(self) -> int:
        return self.recurrence.shape[-1]

    @property
    def directions(self) -> int:
        return self.weight.shape[0]

    def activations(self, direction: int) -> tuple[_Activation, ...]:
        """The functions of one direction."""
        plain = _PLAIN[self.node.operator]
        names = self.node.get("activations", plain * self.directions)
        made = [_activation(self.node, name) for name in names]
        return tuple(made[direction * len(plain) : (direction + 1) * len(plain)])

    @property
    def native(self) -> bool:
        """Whether torch's kernel computes exactly this."""
        names = [name.lower() for name in self.node.get("activations", [])]
        usual = [name.lower() for name in _PLAIN[self.node.operator]] * self.directions
        return (
            (names in ([], usual) or (self.node.operator == "RNN" and set(names) == {"relu"}))
            and self.lengths is None
            and self.peepholes is None
            and not self.node.get("clip", 0)
            and not self.node.get("input_forget", 0)
            and self.node.get("direction", "forward") != "reverse"
            and (self.node.operator != "GRU" or bool(self.node.get("linear_before_reset", 0)))
        )


def _recurrent(  # noqa: PLR0917 - the operator's own inputs
    node: Node,
    data: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Y, the last hidden state and, of an LSTM, the last cell state, in the layout that the node asks for."""
    batch_first = bool(node.get("layout", 0))
    if batch_first:
        data = data.transpose(0, 1)
    count = 2 if node.operator == "LSTM" else 1
    shape = (weight.shape[0], data.shape[1], recurrence.shape[-1])
    given = [state if state is None or not batch_first else state.transpose(0, 1) for state in (hidden, cell)]
    states = tuple(data.new_zeros(shape) if state is None else state for state in given[:count])
    layer = _Layer(node, data, weight, recurrence, bias, lengths, states, peepholes)
    output, last = _by_torch(layer) if layer.native else _by_steps(layer)
    if batch_first:
        return (output.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last))
    return (output, *last)


def _by_torch(layer: _Layer) -> tuple[Tensor, _State]:
    """Run the layer by torch's kernel: gates in torch's order, both directions in one."""
    kind, steps, batch = layer.node.operator, layer.data.shape[0], layer.data.shape[1]
    parameters: list[Tensor] = []
    for direction in range(layer.directions):
        parameters += [_reordered(kind, layer.weight[direction]), _reordered(kind, layer.recurrence[direction])]
        if layer.bias is not None:
            parameters += [_reordered(kind, half) for half in layer.bias[direction].chunk(2)]
    relu = "relu" in (name.lower() for name in layer.node.get("activations", []))
    functions: dict[str, Callable[..., tuple[Tensor, ...]]] = {"LSTM": torch.lstm, "GRU": torch.gru}
    function = functions.get(kind, torch.rnn_relu if relu else torch.rnn_tanh)
    states = [state.contiguous() for state in layer.states]
    output, *last = function(
        layer.data,
        states if kind == "LSTM" else states[0],
        parameters,
        layer.bias is not None,
        1,  # layers
        0.0,  # dropout
        False,  # noqa: FBT003 - training: torch's positional signature
        layer.directions == 2,
        False,  # noqa: FBT003 - batch first
    )
    return output.reshape(steps, batch, layer.directions, layer.hidden).transpose(1, 2), tuple(last)


def _reordered(kind: str, gates: Tensor) -> Tensor:
    """The rows of a weight or bias in torch's order of gates."""
    if kind == "RNN":
        return gates
    parts = gates.chunk(len(_ORDER[kind]))
    return torch.cat([parts[place] for place in _ORDER[kind]])


def _by_steps(layer: _Layer) -> tuple[Tensor, _State]:
    """Run the layer step by step."""
    name = layer.node.get("direction", "forward")
    outputs, lasts = [], []
    for direction in range(layer.directions):
        backwards = name == "reverse" or direction == 1
        output, last = _one_direction(layer, direction, backwards=backwards)
        outputs.append(output)
        lasts.append(last)
    return torch.stack(outputs, 1), tuple(torch.stack(states) for states in zip(*lasts, strict=True))


def _one_direction(layer: _Layer, direction: int, *, backwards: bool) -> tuple[Tensor, _State]:
    data, order = layer.data, None
    if backwards:
        order = _reversal(layer)
        data = data.gather(0, order.unsqueeze(-1).expand_as(data))
    step = _STEPS[layer.node.operator](layer, direction)
    projected = functional.linear(data, layer.weight[direction])
    state = tuple(initial[direction] for initial in layer.states)
    outputs = []
    for time, inputs in enumerate(projected):
        new = step(inputs, state)
        if layer.lengths is None:
            state = new
            outputs.append(new[0])
            continue
        valid = (layer.lengths > time).unsqueeze(-1)  # beyond its end a sequence gives zeros and keeps its state
        outputs.append(torch.where(valid, new[0], torch.zeros_like(new[0])))
        state = tuple(torch.where(valid, after, before) for after, before in zip(new, state, strict=True))
    output = torch.stack(outputs)
    return (output if order is None else output.gather(0, order.unsqueeze(-1).expand_as(output))), state


def _reversal(layer: _Layer) -> Tensor:
    """[T, N]: the place of each step when every sequence is read from its own end; its own inverse."""
    steps, batch = layer.data.shape[:2]
    times = torch.arange(steps, device=layer.data.device).unsqueeze(-1).expand(steps, batch)
    lengths = torch.full((batch,), steps, device=times.device) if layer.lengths is None else layer.lengths.long()
    return torch.where(times < lengths, lengths - 1 - times, times)


_Step = Callable[[Tensor, _State], _State]


def _lstm_step(layer: _Layer, direction: int) -> _Step:
    """`c' = f c + i g`, `h' = o h(c')`; gates i, o, f, c; peepholes i, o, f."""
    first, second, third = layer.activations(direction)
    recurrence, bias = layer.recurrence[direction], _biases(layer, direction)[0]
    peepholes = None if layer.peepholes is None else layer.peepholes[direction].chunk(3)
    clip, coupled = _clipping(layer), bool(layer.node.get("input_forget", 0))

    def step(inputs: Tensor, state: _State) -> _State:
        hidden, cell = state
        enter, leave, forget, new = (inputs + functional.linear(hidden, recurrence) + bias).chunk(4, -1)
        if peepholes is not None:
            enter, forget = enter + peepholes[0] * cell, forget + peepholes[2] * cell
        entered = first(clip(enter))
        forgotten = 1 - entered if coupled else first(clip(forget))
        cell = forgotten * cell + entered * second(clip(new))
        left = first(clip(leave if peepholes is None else leave + peepholes[1] * cell))
        return left * third(cell), cell

    return step


def _gru_step(layer: _Layer, direction: int) -> _Step:
    """`h' = (1 - z) n + z h`; gates z, r, h; the reset before or after the matrix of the new state."""
    first, second = layer.activations(direction)
    clip, after = _clipping(layer), bool(layer.node.get("linear_before_reset", 0))
    hidden = layer.hidden
    gates, candidate = torch.split(layer.recurrence[direction], [2 * hidden, hidden])
    together, recurrent = _biases(layer, direction)

    def step(inputs: Tensor, state: _State) -> _State:
        before = state[0]
        both = inputs[:, : 2 * hidden] + functional.linear(before, gates) + together[: 2 * hidden]
        update, reset = (first(clip(gate)) for gate in both.chunk(2, -1))
        new = inputs[:, 2 * hidden :]
        if after:
            of_input = together[2 * hidden :] - recurrent[2 * hidden :]
            new = new + of_input + reset * (functional.linear(before, candidate) + recurrent[2 * hidden :])
        else:
            new = new + together[2 * hidden :] + functional.linear(reset * before, candidate)
        return ((1 - update) * second(clip(new)) + update * before,)

    return step


def _rnn_step(layer: _Layer, direction: int) -> _Step:
    (function,) = layer.activations(direction)
    recurrence, bias, clip = layer.recurrence[direction], _biases(layer, direction)[0], _clipping(layer)

    def step(inputs: Tensor, state: _State) -> _State:
        return (function(clip(inputs + functional.linear(state[0], recurrence) + bias)),)

    return step


_STEPS: dict[str, Callable[[_Layer, int], _Step]] = {"LSTM": _lstm_step, "GRU": _gru_step, "RNN": _rnn_step}


def _biases(layer: _Layer, direction: int) -> tuple[Tensor, Tensor]:
    """The bias of input and recurrence together, and that of the recurrence alone."""
    if layer.bias is None:
        zeros = layer.data.new_zeros(layer.weight.shape[1])
        return zeros, zeros
    of_input, of_recurrence = layer.bias[direction].chunk(2)
    return of_input + of_recurrence, of_recurrence


def _clipping(layer: _Layer) -> _Activation:
    bound = layer.node.get("clip", 0)
    return (lambda value: torch.clamp(value, -bound, bound)) if bound else (lambda value: value)


def _activation(node: Node, name: str) -> _Activation:
    """An activation by its name in the specification, in any case; those with parameters are refused."""
    plain: dict[str, _Activation] = {
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "softplus": functional.softplus,
        "softsign": functional.softsign,
        "tanh": torch.tanh,
    }
    if name.lower() not in plain:
        raise node.unsupported(f"the activation {name}")
    return plain[name.lower()]


OPERATORS: dict[str, Operator] = {"GRU": _recurrent, "LSTM": _recurrent, "RNN": _recurrent}
