"""Weights set to zero one by one, or in a pattern, while the graph keeps its shape.

The file compresses better and nothing gets faster: see `hauberk.compress.prune.sparsity` for the verdict and its
measurement. Magnitude pruning is that of Han et al. 2015, "Learning both Weights and Connections for Efficient Neural
Networks" (arXiv:1506.02626); N:M that of Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks"
(arXiv:2104.08378).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import Core, read_core
from hauberk.compress.prune.allocate import check_shares
from hauberk.compress.prune.prepare import prepare
from hauberk.compress.prune.sparsity import rectified, weights_of
from hauberk.compress.teaching import teachers_lesson
from hauberk.compress.tuning import Lesson, Tuning, tune
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.recipe import Context, Contract, Lossy, Step
from hauberk.train import Objective

Masks = dict[str, NDArray[np.bool_]]
"""By weight, which of its elements stay."""

Weights = dict[str, tuple[NDArray[np.float32], int]]
"""By name, a layer's weights and the axis of them that runs over its inputs."""


class Masking(Step, frozen=True, kw_only=True):
    """What steps have in common that set weights to zero and train the others.

    Attributes:
        tuning: How to train with the zeros held, taught by `Context.teacher` or else the graph as it was; `None` does
            not train.
    """

    tuning: Tuning | None = Tuning()

    trains: ClassVar[bool] = True
    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.9)

    @property
    def contract(self) -> Contract:
        """Decisions agree on 90 % of real records; logits are the trained graph's own."""
        return self.CONTRACT

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the graph with zeros; not trained where `context.trained` is False.

        Raises:
            InputError: Not a float core, no weights, or there are no records to train on.
        """
        core = read_core(artifact, self.name)
        core.require_float()
        tuning = self.tuning if context.trained else None
        lesson = teachers_lesson(core.artifact, context, tuning, step=self.name) if tuning else None
        sparse = core.finished(prepare(core.artifact, self.name).model)
        rounds = self._rounds() if tuning else 1
        for number in range(1, rounds + 1):
            weights = _weights(read_core(sparse, self.name))
            masks = self._masks(weights, number / rounds)
            twin = Twin(sparse)
            hold(twin, masks)
            if tuning:
                tune(twin, context, tuning, step=self.name, lesson=lesson)
                hold(twin, masks)
            sparse = twin.to_artifact()
        return core.finished(read_core(sparse, self.name).model)

    @abstractmethod
    def _masks(self, weights: Weights, done: float) -> Masks:
        """What stays, that part of the way done."""

    def _rounds(self) -> int:
        return 1


class PruneUnstructured(Masking, frozen=True, kw_only=True, tag="prune-unstructured"):
    """Set the smallest weights to zero.

    Attributes:
        amount: Share of zeros among the weights, in (0, 1).
        allocation: Whether the smallest of each layer go ("uniform"), or the smallest of all ("global").
        layers: Share of single weights by name, 0 to leave one alone; overrides the allocation.
        iterations: How often to prune and train; the amount is reached in geometric steps.
    """

    amount: float = 0.9
    allocation: Literal["uniform", "global"] = "global"
    layers: dict[str, float] = msgspec.field(default_factory=dict)
    iterations: int = 1

    def __post_init__(self) -> None:
        check_shares(self.amount, self.layers, self.name)
        if self.iterations < 1:
            raise InputError(f"{self.name}: iterations is {self.iterations}; 1 or more is right")

    def _rounds(self) -> int:
        return self.iterations

    def _masks(self, weights: Weights, done: float) -> Masks:
        arrays = {name: array for name, (array, _) in weights.items()}
        if unknown := next((name for name in self.layers if name not in arrays), ""):
            raise InputError(f"{self.name}: there is no weight {unknown!r}; weights are {', '.join(arrays)}")
        free = {name: array for name, array in arrays.items() if name not in self.layers}
        share = 1 - (1 - self.amount) ** done
        masks = {name: largest(arrays[name], 1 - (1 - own) ** done) for name, own in self.layers.items()}
        if self.allocation == "uniform" or not free:
            return masks | {name: largest(array, share) for name, array in free.items()}
        together = largest(np.concatenate([array.ravel() for array in free.values()]), share)
        ends = np.cumsum([array.size for array in free.values()])[:-1]
        parts = np.split(together, ends)
        return masks | {name: part.reshape(free[name].shape) for name, part in zip(free, parts, strict=True)}


class PruneNM(Masking, frozen=True, kw_only=True, tag="prune-n-m"):
    """Keep `n` of every `m` weights that meet neighbouring inputs, the largest (2:4 by default).

    Graphics processors of the NVIDIA Ampere generation and newer have kernels for 2:4; processors do not.

    Attributes:
        n: How many stay, at least 1.
        m: Of how many, above `n`. Where a layer's inputs are no multiple of `m`, the last block is shorter.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m:
            raise InputError(f"{self.name}: {self.n} of {self.m} makes no sense; n is at least 1 and below m")

    def _masks(self, weights: Weights, done: float) -> Masks:  # noqa: ARG002 - there is one round
        return {name: largest_of_block(array, axis, n=self.n, m=self.m) for name, (array, axis) in weights.items()}


class SparsifyActivations(Step, frozen=True, kw_only=True, tag="sparsify-activations"):
    """Train a graph so that more of its feature maps are zero behind Relu: an L1 penalty on what they let through.

    The answers are held by `Context.teacher`, or else the graph as it was. Back ends gain nothing from the zeros (see
    `hauberk.compress.prune.sparsity`); hardware that skips them does.

    Attributes:
        strength: Weight of the penalty, the mean absolute activation behind all Relu, above 0.
        tuning: How to train.
    """

    strength: float = 0.1
    tuning: Tuning = Tuning()

    trains: ClassVar[bool] = True
    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.9)

    def __post_init__(self) -> None:
        if not 0 < self.strength < math.inf:
            raise InputError(f"{self.name}: strength is {self.strength}; a number above 0 is needed")

    @property
    def contract(self) -> Contract:
        """Decisions agree on 90 % of real records."""
        return self.CONTRACT

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the trained graph; the same graph where `context.trained` is False.

        Raises:
            InputError: Not a float core, no Relu in it, or there are no records to train on.
        """
        core = read_core(artifact, self.name)
        core.require_float()
        names = rectified(core.model)
        if not names:
            raise InputError(f"{self.name}: nothing to make sparse, the graph has no Relu")
        plain = core.finished(core.model)
        if not context.trained:
            return plain
        lesson = teachers_lesson(core.artifact, context, self.tuning, step=self.name)
        twin, let_through = Twin(plain), {}

        def remember(name: str) -> Callable[[Tensor], Tensor]:
            def watch(tensor: Tensor) -> Tensor:
                let_through[name] = tensor.abs().mean()
                return tensor

            return watch

        def penalised(answer: Objective) -> Objective:
            def objective(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
                loss = answer(module, features, targets, indices)
                return loss + self.strength * torch.stack(list(let_through.values())).mean()

            return objective

        judge = penalised(lesson.judge) if lesson.judge else None
        penalty = Lesson(penalised(lesson.objective), judge, lesson.records)
        twin.on_tensor.update({name: remember(name) for name in names})
        tune(twin, context, self.tuning, step=self.name, lesson=penalty)
        twin.on_tensor.clear()
        return core.finished(read_core(twin.to_artifact(), self.name).model)


def hold(twin: Twin, masks: Masks) -> None:
    """Set what is masked to zero, and keep it there while the twin is trained."""
    with torch.no_grad():
        for name, mask in masks.items():
            kept = torch.from_numpy(mask).to(twin.tensor(name).dtype)
            twin.tensor(name).mul_(kept)
            twin.on_tensor[name] = _times(kept)


def _times(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda weight: weight * mask


def largest(array: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Mask of an array without that share of its elements, the smallest ones."""
    gone = round(share * array.size)
    order = np.argsort(np.abs(array), axis=None, kind="stable")
    mask = np.ones(array.size, np.bool_)
    mask[order[:gone]] = False
    return mask.reshape(array.shape)


def largest_of_block(array: NDArray[np.float32], axis: int, *, n: int, m: int) -> NDArray[np.bool_]:
    """Mask that keeps the `n` largest of every `m` neighbours along an axis."""
    rows = np.moveaxis(np.abs(array), axis, -1)
    short = -rows.shape[-1] % m
    blocks = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, short)], constant_values=-1.0)
    blocks = blocks.reshape(*rows.shape[:-1], -1, m)
    ranks = np.argsort(np.argsort(-blocks, axis=-1, kind="stable"), axis=-1, kind="stable")
    mask = (ranks < n).reshape(*rows.shape[:-1], -1)[..., : rows.shape[-1]]
    return np.moveaxis(mask, -1, axis)


def _weights(core: Core) -> Weights:
    """Weights of a core and the axis over each layer's inputs.

    Raises:
        InputError: There are none.
    """
    arrays = {tensor.name: tensor for tensor in core.model.graph.initializer}
    found = {name: (numpy_helper.to_array(arrays[name]), axis) for name, axis in weights_of(core.model).items()}
    if not found:
        raise InputError(f"{core.step}: nothing to prune, the graph has no layer with float32 constant weights")
    return found
