"""What a teacher shows besides its answers: tensors on the way to them.

Feature hints (Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", arXiv:1412.6550): the student's tensor, through
a learned linear map of its channels (a 1×1 convolution), is to be the teacher's. Attention transfer (Zagoruyko and
Komodakis 2017, "Paying More Attention to Attention", arXiv:1612.03928): where the student is active is to be where the
teacher is, whatever their channels.

Teacher and student are twins of their graphs, so that tensors are named as they are in the ONNX files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import parse
from hauberk.graph.twin import Twin
from hauberk.train import Objective

_HIDDEN = frozenset(
    ("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu", "Tanh", "HardSwish", "Mish", "Softplus", "LSTM", "GRU", "RNN")
)
"""Operators whose first result is a hidden layer's."""


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor of the teacher's graph, and the tensor of the student's graph that is to be like it."""

    teacher: str
    student: str


class Hints(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Feature hints: `weight * mean((t - R(s))²)`, summed over the pairs; R maps channels and is learned meanwhile.

    Attributes:
        weight: Of the hints beside the loss on answers, above 0.
        pairs: Tensors by name; empty for the one pair of activations that lie nearest to the middle of both graphs.
        channels: Axis of the channels: 1 in records [N, D] and images [N, C, H, W], -1 in windows [N, T, D] of
            recurrent networks and Transformers. Other axes must have the same size in teacher and student.
    """

    weight: float = 1.0
    pairs: tuple[Pair, ...] = ()
    channels: int = 1

    def __post_init__(self) -> None:
        _check_weight("hints", self.weight)


class Attention(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Attention transfer: `weight / 2 * ‖Q(t) / ‖Q(t)‖ - Q(s) / ‖Q(s)‖‖²` a record, summed over the pairs.

    `Q` is the sum of squares over channels, flattened (the paper's F²_sum; its equation 2 with the norm squared, as its
    authors' code has it).

    Attributes:
        weight: Beside the loss on answers, above 0.
        pairs: As in `Hints`.
        channels: As in `Hints`; there must be another axis besides, so records [N, D] have no attention.
    """

    weight: float = 1.0
    pairs: tuple[Pair, ...] = ()
    channels: int = 1

    def __post_init__(self) -> None:
        _check_weight("attention", self.weight)


def _check_weight(name: str, weight: float) -> None:
    if not 0 < weight < float("inf"):
        raise InputError(f"{name}: weight is {weight}; a number above 0 is needed")


class _Term(NamedTuple):
    """One pair of tensors and its loss: (teacher's tensor, student's tensor) to a scalar."""

    pair: Pair
    loss: Callable[[Tensor, Tensor], Tensor]


class Shown(nn.Module):
    """A student in training that is shown its teacher's tensors.

    It answers like the student. Its parameters are those of the student and of the regressors, which are thrown away
    afterwards.

    Args:
        student: The twin of the student's graph, trained in place.
        teacher: The teacher's graph.
        shows: What is shown of it.
        example: Float32 [N, *shape], a record or two to learn the tensors' shapes by.
        step: Who asks, for messages.

    Raises:
        InputError: A tensor is not there, or sizes do not fit.
    """

    def __init__(
        self,
        student: Twin,
        teacher: OnnxArtifact,
        shows: Sequence[Hints | Attention],
        example: NDArray[np.float32],
        step: str,
    ) -> None:
        super().__init__()
        self.student = student
        self.regressors = nn.ModuleList()
        shown = Twin(teacher).eval()
        self._shows = shown.capture  # the method, not the twin: a teacher is no part of what is trained
        features = torch.from_numpy(np.ascontiguousarray(example[:2]))
        shapes = _Shapes(shown, hidden(teacher), student, hidden(student.to_artifact()), features, step)
        self._terms = [self._term(show, pair, shapes) for show in shows for pair in shapes.pairs(show)]
        self._seen: dict[str, Tensor] = {}
        self._answered: Tensor | None = None
        for term in self._terms:
            student.on_tensor[term.pair.student] = self._keeper(term.pair.student)

    def forward(self, features: Tensor) -> Tensor:
        """The student's logits [N, K]."""
        self._answered = features
        logits: Tensor = self.student(features)
        return logits

    def objective(self, base: Objective) -> Objective:
        """`base` on the answers plus what is shown, compared on the same records, whatever `base` looked at last."""

        def total(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
            loss = base(module, features, targets, indices)
            if self._answered is not features:  # but attacked ones, say
                module(features)
            with torch.no_grad():
                shown = self._shows(features, {term.pair.teacher for term in self._terms})
            for term in self._terms:
                loss = loss + term.loss(shown[term.pair.teacher], self._seen[term.pair.student])
            return loss

        return total

    def finish(self) -> Twin:
        """The student, no longer watched."""
        for term in self._terms:
            self.student.on_tensor.pop(term.pair.student, None)
        self._seen.clear()
        self._answered = None
        return self.student

    def _keeper(self, name: str) -> Callable[[Tensor], Tensor]:
        def keep(tensor: Tensor) -> Tensor:
            self._seen[name] = tensor
            return tensor

        return keep

    def _term(self, show: Hints | Attention, pair: Pair, shapes: _Shapes) -> _Term:
        teacher, student = shapes.of(pair, show)
        if isinstance(show, Attention):
            return _Term(pair, lambda t, s: show.weight / 2 * attention_loss(t, s, show.channels))
        regressor = nn.Linear(student[show.channels], teacher[show.channels])
        self.regressors.append(regressor)
        return _Term(pair, lambda t, s: show.weight * hint_loss(t, s, regressor, show.channels))


class _Shapes:
    """The tensors that can be shown, with the shapes that they have for two records."""

    def __init__(
        self,
        teacher: Twin,
        teacher_names: Sequence[str],
        student: Twin,
        student_names: Sequence[str],
        features: Tensor,
        step: str,
    ) -> None:
        self._step, self._features, self._twins = step, features, (teacher, student)
        self._hidden = (self._sizes(teacher, teacher_names), self._sizes(student, student_names))

    def pairs(self, show: Hints | Attention) -> tuple[Pair, ...]:
        """The named pairs, or the pair nearest to the middle of both graphs whose sizes fit."""
        if show.pairs:
            return show.pairs
        (teacher, student), best = self._hidden, None
        for row, (one, size) in enumerate(teacher.items()):
            for column, (other, found) in enumerate(student.items()):
                if _fault(size, found, show):
                    continue
                depths = (row + 1) / (len(teacher) + 1), (column + 1) / (len(student) + 1)
                distance = sum(abs(depth - 0.5) for depth in depths) + abs(depths[0] - depths[1])
                if best is None or distance < best[0]:
                    best = (distance, Pair(one, other))
        if best is None:
            kind = "attention" if isinstance(show, Attention) else "hints"
            raise InputError(
                f"{self._step}: {kind}: no activation of the student has the sizes of one of the teacher's besides its"
                f" channels (axis {show.channels}); name pairs of tensors"
            )
        return (best[1],)

    def of(self, pair: Pair, show: Hints | Attention) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of both tensors of a pair.

        Raises:
            InputError: One is not there, or they differ in more than their channels.
        """
        one = self._sizes(self._twins[0], [pair.teacher])[pair.teacher]
        other = self._sizes(self._twins[1], [pair.student])[pair.student]
        fault = _fault(one, other, show)
        if fault:
            raise InputError(
                f"{self._step}: teacher's {pair.teacher!r} {list(one)} and student's {pair.student!r} {list(other)}:"
                f" {fault}"
            )
        return one, other

    def _sizes(self, twin: Twin, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        with torch.no_grad():
            captured = twin.capture(self._features, names)
        return {name: tuple(captured[name].shape) for name in names}


def _fault(teacher: tuple[int, ...], student: tuple[int, ...], show: Hints | Attention) -> str:
    """Why two tensors cannot be compared; empty where they can."""
    if len(teacher) != len(student):
        return "they differ in rank"
    rank = len(teacher)
    axis = show.channels % rank if -rank <= show.channels < rank else 0
    if not axis:
        return f"axis {show.channels} holds no channels"
    rest, others = (tuple(size for place, size in enumerate(shape) if place != axis) for shape in (teacher, student))
    if rest != others:
        return f"besides channels (axis {axis}) they are {list(rest)} and {list(others)}"
    if isinstance(show, Attention) and rank < 3:
        return "there is no axis besides records and channels that attention could lie on"
    return ""


def hidden(artifact: OnnxArtifact) -> tuple[str, ...]:
    """Names of a graph's activations, in its order: what hidden layers pass on."""
    nodes = parse(artifact.model).graph.node
    return tuple(node.output[0] for node in nodes if node.op_type in _HIDDEN and node.output[0])


def hint_loss(teacher: Tensor, student: Tensor, regressor: nn.Module, channels: int) -> Tensor:
    """`mean((t - R(s))²)`, R applied along the channels."""
    wanted, got = teacher.movedim(channels, -1), student.movedim(channels, -1)
    return functional.mse_loss(regressor(got), wanted)


def attention_loss(teacher: Tensor, student: Tensor, channels: int) -> Tensor:
    """Squared distance of the normalised attention maps, the mean over records."""
    return (_attention(teacher, channels) - _attention(student, channels)).square().sum(dim=1).mean()


def _attention(tensor: Tensor, channels: int) -> Tensor:
    """[N, positions], of length 1."""
    return functional.normalize(tensor.square().sum(dim=channels).flatten(1), dim=1)
