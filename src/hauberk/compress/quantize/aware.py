"""Quantization-aware training: a graph is trained as it will run, rounding included, until it answers as before.

The core is quantized as `quantize-static` does it (ranges from the calibration records). The twin of that quantized
graph is then trained: weights are floats that are rounded at every use, gradients pass straight through the rounding,
and the float model teaches. What comes out is written by the same twin, so that it is QDQ of the one form that ONNX
Runtime fuses completely into integer kernels. After Jacob et al. 2018 (arXiv:1712.05877).

Scales are learned with the weights (Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153: that is the
gradient that a scale gets through straight-through rounding), or follow the ranges that training sees.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress import cluster
from hauberk.compress.core import Core, read_core
from hauberk.compress.quantize.bias import correct_biases, mean_inputs
from hauberk.compress.quantize.calibrate import Calibrator
from hauberk.compress.quantize.codes import Affine, along, largest_code
from hauberk.compress.quantize.fake import FakeQuantized
from hauberk.compress.quantize.layers import (
    Constants,
    Layer,
    with_constant_weights,
)
from hauberk.compress.quantize.plan import Plan
from hauberk.compress.quantize.qdq import WeightCode, weight_codes, write
from hauberk.compress.quantize.static import activation_ranges, codes_of, prepared_plan
from hauberk.compress.quantize.weights_alone import (
    decoded_at_load,
    layers_with_weights,
    left_in_float,
    write_weights,
)
from hauberk.compress.teaching import Distance, teachers_lesson
from hauberk.compress.tuning import Tuning, answers, records, tune
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.graph.verify import decisions
from hauberk.recipe import Context, Contract, Lossy, Step

WeightLevels = Literal["uniform", "k-means", "powers-of-two"]
_SHRINKS = np.linspace(0.15, 1.0, 35)  # of the largest magnitude, tried as ends of a grid of few levels
_FOR_EIGHT_BITS = Tuning(epochs=8, batch_size=64, learning_rate=1e-4)
_FOR_FEWER = Tuning(epochs=15, batch_size=64, learning_rate=5e-4)
_BATCH = 256
_STANDARD_ERRORS = 2  # by which training has to bring a student nearer to its teacher
_INT8 = 127
_INT32 = 2.0**30  # half of the largest code of a bias
_SMALLEST_SCALE = np.float32(1e-30)
_WINDOWS = 3  # axes of windows [N, T, D]
_LARGEST_POWER = 64  # so that 64, 32, … 1 are whole codes


class QuantizeAware(Step, frozen=True, kw_only=True, tag="quantize-aware"):
    """Quantize, then train until the quantized graph answers like the float one.

    Attributes:
        weight_bits: 8, 4, 3 or 2. Below 8, weights are kept as indices into a codebook of int8 levels (four bits a
            weight in the file) and still computed with in integer kernels.
        levels: Below 8 bits: a uniform grid with a learned scale a channel, levels found by k-means and trained, or
            powers of two.
        activations: "uint8", or "float32" to quantize weights alone (below 8 bits).
        ranges: Of activations: "learned" with the weights, or "tracked" as a moving average of what training sees.
        calibrator: How the ranges that training starts from are chosen.
        percentile: For the calibrator of that name.
        reduced_range: At 8 bits and for the levels of a codebook, codes of 7 bits; see `quantize-static`.
        keep_float: Names of layers that stay in float.
        tuning: How to train; `alpha` weighs the float model's answers against the labels. By default 8 epochs at a
            learning rate of 1e-4 for 8 bits, where little is to be won back, and 15 at 5e-4 below; the float model
            alone teaches.
    """

    weight_bits: Literal[8, 4, 3, 2] = 8
    levels: WeightLevels = "uniform"
    activations: Literal["uint8", "float32"] = "uint8"
    ranges: Literal["learned", "tracked"] = "learned"
    calibrator: Calibrator = "min-max"
    percentile: float = 99.99
    reduced_range: bool | Literal["auto"] = "auto"
    keep_float: tuple[str, ...] = ()
    tuning: Tuning | None = None

    trains: ClassVar[bool] = True
    _CONTRACTS: ClassVar[dict[int, Lossy]] = {
        8: Lossy(agreement=0.98, rms=0.1),
        4: Lossy(agreement=0.97, rms=0.2),
        3: Lossy(agreement=0.95, rms=0.3),
        2: Lossy(agreement=0.9, rms=0.5),
    }

    def __post_init__(self) -> None:
        if self.weight_bits not in self._CONTRACTS:
            raise InputError(f"{self.name}: weight_bits is {self.weight_bits}; 8, 4, 3 or 2 are right")
        if self.weight_bits == 8 and (self.levels != "uniform" or self.activations != "uint8"):
            raise InputError(f"{self.name}: levels and float32 activations are for weights of 4, 3 or 2 bits")

    @property
    def contract(self) -> Contract:
        """At 8 bits decisions agree on 98 % of real records, logits within 10 %; wider with fewer bits."""
        return self._CONTRACTS[self.weight_bits]

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """What stays in float, and why."""
        core = read_core(with_constant_weights(artifact), self.name)
        if self.activations == "uint8":
            return prepared_plan(core, self.keep_float).left
        return left_in_float(core, self.keep_float)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the trained quantized graph if that is a gain beyond chance, or else the untrained one, and say so.

        The trained one has to decide as the float model does on at least as many validation records, and its logits
        have to be nearer there by more than two standard errors. One that was trained under attack is returned as it
        is. With `context.trained` false the graph is quantized
        and not trained.

        Raises:
            InputError: What `quantize-static` raises; training or validation records are missing; training diverged.
        """
        core = read_core(with_constant_weights(artifact), self.name)
        student = self._student(core, context)
        if context.trained:
            self._train(student, core, context)
        written = student.to_artifact()
        if self.weight_bits == 8:
            return core.finished(onnx.load_model_from_string(written.model))
        return core.finished(self._packed(onnx.load_model_from_string(written.model), student.coded))

    def _student(self, core: Core, context: Context) -> FakeQuantized:
        """The twin of the quantized core, with its weights as they were before rounding."""
        if self.activations == "float32":
            layers = layers_with_weights(core, self.keep_float)
            weights = self._weight_codes(core, layers, None)
            written = write_weights(core.model, layers, weights)
            plan = None
        else:
            plan = prepared_plan(core, self.keep_float)
            layers = plan.layers
            ranges = activation_ranges(core, context, plan.sources, self.calibrator, self.percentile)
            codes = codes_of(plan, ranges)
            weights = self._weight_codes(core, layers, (plan, codes))
            if self.weight_bits == 8:  # begin where `quantize-static` ends
                correct_biases(core.model, plan, weights, mean_inputs(core.model, plan, core.calibration(context)))
            written = write(core.model, plan, codes, weights)
        student = FakeQuantized(Twin(core.finished(written)))
        constants = Constants(core.model.graph)
        for layer in layers:
            self._add_weight(student, layer, constants, weights[layer.name])
        if plan is not None:
            self._add_activations(student, plan, core.model.graph.input[0].name)
            biases = {node.output[0]: node.input[2] for node in core.model.graph.node if len(node.input) > 2}
            for layer in plan.layers:
                if layer.bias:
                    scales = (f"{plan.groups[layer.data]}/scale", f"{layer.name}/weight/scale")
                    student.add_bias(f"{layer.name}/bias", constants.floats(biases[layer.name]), scales)
        return student

    def _weight_codes(
        self, core: Core, layers: tuple[Layer, ...], coded: tuple[Plan, dict[str, Affine]] | None
    ) -> dict[str, WeightCode]:
        """The scales that training starts from, by layer."""
        if self.weight_bits == 8 and coded is not None:
            return weight_codes(core.model, *coded, levels=largest_code(self.reduced_range))
        constants, found = Constants(core.model.graph), {}
        for layer in layers:
            weight = constants.floats(layer.weight)
            assert weight is not None  # noqa: S101 - what makes it a layer
            if self.levels == "uniform":
                scale = best_scales(weight, layer.axis, *uniform_ends(self.weight_bits))
            else:
                scale = cluster.channel_scales(weight, layer.axis).reshape(-1) / np.float32(self._largest_level())
            bias = constants.floats(layer.bias)
            if coded is not None and bias is not None:  # which is in int32, in steps of the product of two scales
                data = float(coded[1][coded[0].groups[layer.data]].scale)
                scale = np.maximum(scale, np.abs(bias) / (data * _INT32)).astype(np.float32)
            found[layer.name] = WeightCode(np.maximum(scale, _SMALLEST_SCALE), _INT8)
        return found

    def _add_weight(self, student: FakeQuantized, layer: Layer, constants: Constants, code: WeightCode) -> None:
        weight = constants.floats(layer.weight)
        assert weight is not None  # noqa: S101 - what makes it a layer
        name = f"{layer.name}/weight"
        if self.levels == "uniform":
            ends = (-code.levels, code.levels) if self.weight_bits == 8 else uniform_ends(self.weight_bits)
            student.add_uniform_weight(name, weight, ends)
            return
        steps = (weight / along(code.scale, weight.ndim, layer.axis)).astype(np.float32)
        unit = self._largest_level()
        if self.levels == "k-means":
            levels = cluster.k_means(steps / np.float32(unit), 2**self.weight_bits)
        else:
            powers = np.unique(np.rint(cluster.powers_of_two(2**self.weight_bits) * unit))
            levels = (powers / unit).astype(np.float32)
        student.add_codebook_weight(name, weight, levels, unit=unit, trained=self.levels == "k-means")

    def _largest_level(self) -> int:
        """The largest code of a codebook's levels; 7 bits where integer kernels saturate."""
        if self.levels == "powers-of-two":
            return _LARGEST_POWER
        return _INT8 if self.activations == "float32" else largest_code(self.reduced_range)

    def _add_activations(self, student: FakeQuantized, plan: Plan, graph_input: str) -> None:
        """Let the codes of every group but the graph's own input move: the range of features is what it is."""
        for group in dict.fromkeys(plan.groups.values()):
            if group == graph_input:
                continue
            if self.ranges == "learned":
                student.learn_scale(f"{group}/scale")
            else:
                student.track(group, [name for name in plan.sources if plan.groups[name] == group])

    def _train(self, student: FakeQuantized, core: Core, context: Context) -> None:
        """Train; put everything back unless the student now agrees as well with its teacher and is nearer to it.

        That is judged on validation records, and nearer means by more than chance: what is no better is not worth
        having been trained on other records than those that come.
        """
        tuning = self.tuning or (_FOR_EIGHT_BITS if self.weight_bits == 8 else _FOR_FEWER)
        training, validation = records(context, self.name)
        core.check_features(training.features, "training")
        core.check_features(validation.features, "validation")
        # The step's own input teaches, whatever `context.teacher` is: that is what its contract compares with.
        lesson = teachers_lesson(core.artifact, replace(context, teacher=None), tuning, step=self.name)
        taught = answers(core.artifact, validation.features)
        wanted, far = decisions(taught, context), Distance(torch.from_numpy(taught), tuning, context.benign)
        first, start = _answered(student, validation.features), deepcopy(student.state_dict())
        tune(student, context, tuning, step=self.name, lesson=lesson)
        if tuning.robust is not None:  # what it learned shows under attack, where this comparison does not look
            return
        last = _answered(student, validation.features)
        agreed, agrees = (np.mean(decisions(each.numpy(), context) == wanted) for each in (first, last))
        distances = [far.of_each(each, torch.from_numpy(taught)) for each in (first, last)]
        if agrees < agreed or not _nearer(*distances, shared=_shared(validation.features)):
            student.load_state_dict(start)
            context.remark("training was undone: validation records show no gain beyond chance")

    def _packed(self, model: onnx.ModelProto, coded: tuple[str, ...]) -> onnx.ModelProto:
        """Weights of few levels as uint4 indices into a codebook."""
        model = cluster.at_least_opset(model, self.name)
        graph = model.graph
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        if self.activations == "uint8":
            nodes = [node for name in coded for node in cluster.replace_codes(graph, tensors[f"{name}/codes"])]
        else:
            nodes = [node for name in coded for node in decoded_at_load(graph, name, tensors)]
        cluster.put_first(graph, nodes)
        return model


def uniform_ends(bits: int) -> tuple[int, int]:
    """The lowest and the highest code of a uniform grid: -8 and 7 at 4 bits, -4 and 3, -2 and 1."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def best_scales(weight: NDArray[np.float32], axis: int, low: int, high: int) -> NDArray[np.float32]:
    """The scale a channel with the least squared error on a uniform grid of codes, float32 [channels].

    With few levels the largest weight is a bad end: it leaves most weights in the code zero.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    largest = np.where(largest > 0, largest, 1.0)
    best, least = largest / high, np.full(largest.shape, np.inf)
    for shrink in _SHRINKS:
        scale = largest * shrink / high
        coded = np.clip(np.rint(rows / scale), low, high) * scale
        error = np.square(coded - rows).sum(axis=1, keepdims=True)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best.reshape(-1).astype(np.float32)


def _answered(student: nn.Module, features: NDArray[np.float32]) -> Tensor:
    """Logits [N, K] of a student as it is now."""
    student.eval()
    with torch.no_grad():
        return torch.cat([student(part) for part in torch.split(torch.from_numpy(features), _BATCH)])


def _shared(features: NDArray[np.float32]) -> int:
    """How many neighbours may hold the same row of traffic: the length of windows [N, T, D], 1 for anything else."""
    return int(features.shape[1]) if features.ndim == _WINDOWS else 1


def _nearer(before: Tensor, now: Tensor, *, shared: int) -> bool:
    """Whether distances [N] of the same records have fallen by more than chance makes them fall.

    Windows that follow each other hold the same rows, so that many of them tell little more than one. One observation
    is therefore the mean of a block of neighbours: all that share a row with the one in its middle (batch means).
    Windows have to stand in the order of their recording: shuffled, chance passes for a gain far more often. Fewer
    records than two blocks of `2 * shared - 1` show no gain.
    """
    gained = (before - now).double()
    blocks = len(gained) // (2 * shared - 1)
    if blocks <= 1:
        return False
    lengths = np.full(blocks, len(gained) // blocks) + (np.arange(blocks) < len(gained) % blocks)
    means = np.add.reduceat(gained.detach().numpy(), np.cumsum(lengths) - lengths) / lengths
    return bool(means.mean() > _STANDARD_ERRORS * means.std(ddof=1) / blocks**0.5)
