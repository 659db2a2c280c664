"""Looking for inputs on which two models differ: by gradients where the twin knows the graph, by climbing where not.

Nothing here judges. What a hunt finds are points; both models are run on them like on any other input. A hunt that has
worked for `LIMIT` seconds begins nothing new: of a graph that is slow to run, fewer points are found.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.errors import InputError, one_line
from hauberk.graph.compare import Outputs, distance
from hauberk.graph.feeds import float_inputs
from hauberk.graph.model import parse, signature_of
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Feeds, Runner, Trial
from hauberk.graph.twin import Twin

LIMIT = 20.0
"""Seconds of this thread's own work (not of the clock: a busy machine hunts as long) after which a hunt ends."""

_LOG = logging.getLogger(__name__)

_STEPS = 8
_FEW_STEPS = 4
_STARTS = 16
_LARGE = 1 << 15
"""Numbers in one record from which on a hunt takes fewer steps from fewer starts."""
_MOST_INSIDE = 6
_MOST_PINNED = 3
_CLIMBS = 4
_ROUNDS = 100
_MOST_CLIMBED = 1 << 18

Bounds = tuple[NDArray[np.float32], NDArray[np.float32]]
Model = Callable[[Tensor], Tensor]


def by_gradient(
    before: Artifact, after: Artifact, starts: NDArray[np.float32], bounds: Bounds, seed: int
) -> NDArray[np.float32]:
    """Records on which gradients say that two cores differ most, or that lie where a graph saturates.

    Signed gradient ascent from real records, projected on the bounds outside the differentiated function, on several
    objectives in turn: the distance of the two outputs; each model's output up and down; single tensors inside the
    graphs up and down, those first that only one of the two has, because that is where the step worked.

    Args:
        before: A torch module or a graph with one float32 input and one output.
        after: The same.
        starts: Float32 [N, *shape]; at most 16 are used.
        bounds: Float32 [*shape] twice.
        seed: Of signs and choices.

    Returns:
        Float32 [M, *shape] within the bounds, M a few times as many as there were starts.

    Raises:
        InputError: A graph has an operator that the twin does not know.
    """
    random = np.random.default_rng(seed)
    large = int(np.prod(starts.shape[1:])) >= _LARGE
    few, steps = (2, _FEW_STEPS) if large else (_STARTS, _STEPS)
    begin = torch.from_numpy(np.ascontiguousarray(starts[random.permutation(len(starts))[:few]]))
    low, high = (torch.from_numpy(np.array(bound, np.float32)) for bound in bounds)
    with _as_refusal():
        models = _entrant(before), _entrant(after)
        return np.concatenate(
            [
                _ascend(objective, begin, low, high, steps)
                for objective in _within(
                    time.thread_time() + LIMIT, _objectives(*models, random, inside=1 if large else _MOST_INSIDE)
                )
            ]
        )


def _within(end: float, objectives: Iterable[Callable[[Tensor], Tensor]]) -> Iterator[Callable[[Tensor], Tensor]]:
    """The first objective, and the others for as long as this thread has worked less than `end` seconds."""
    for number, objective in enumerate(objectives):
        if number and time.thread_time() >= end:
            _LOG.debug("hunt: ended after %d objectives, the graph is slow to run", number)
            return
        yield objective


@contextmanager
def _as_refusal() -> Iterator[None]:
    """Run torch with one thread, and turn whatever it raises on a graph that it was not made for into our error.

    Graphs here are small and calls are many: a second thread would cost more than it brings.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(f"hunt: the twin cannot run the graph: {one_line(error)}") from error
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Entrant:
    """A model as torch runs it.

    Attributes:
        run: Features to outputs.
        twin: The twin, where the model is a graph.
        names: Of the tensors that the graph computes.
    """

    run: Model
    twin: Twin | None = None
    names: tuple[str, ...] = ()


def _entrant(artifact: Artifact) -> _Entrant:
    if not isinstance(artifact, OnnxArtifact):
        return _Entrant(artifact.module)
    twin = Twin(artifact).eval().requires_grad_(requires_grad=False)
    names = (name for node in parse(artifact.model).graph.node for name in node.output if name)
    return _Entrant(twin, twin, tuple(names))


def _objectives(
    before: _Entrant, after: _Entrant, random: np.random.Generator, *, inside: int
) -> Iterator[Callable[[Tensor], Tensor]]:
    """What is worth maximising, one after the other."""
    yield lambda features: (after.run(features) - before.run(features)).abs().sum()
    for sign in (1.0, -1.0):
        yield lambda features, sign=sign: sign * before.run(features).sum()  # type: ignore[misc]
    for twin, name in _inside(before, after, random)[:inside]:
        for sign in (1.0, -1.0):
            yield lambda features, twin=twin, name=name, sign=sign: _pushed(twin, name, features, sign)  # type: ignore[misc]


def _pushed(twin: Twin, name: str, features: Tensor, sign: float) -> Tensor:
    """A tensor inside the graph, up or down: for each record another element of it, and a little of all of them."""
    (inner,) = twin.capture(features, [name]).values()
    if not inner.is_floating_point() or not inner.numel():
        return features.sum() * 0
    rows = len(features) if inner.dim() and len(inner) == len(features) else 1
    flat = inner.reshape(rows, -1)
    columns = torch.arange(rows) % flat.shape[1]
    return sign * (flat[torch.arange(rows), columns].sum() + 0.01 * flat.sum())


def _inside(before: _Entrant, after: _Entrant, random: np.random.Generator) -> list[tuple[Twin, str]]:
    """Tensors inside the graphs: first those of one graph alone, then others, in random order."""
    alone = [
        (one.twin, name)
        for one, other in ((before, after), (after, before))
        for name in one.names
        if one.twin is not None and name not in other.names
    ]
    both = [(before.twin, name) for name in before.names if before.twin is not None and name in after.names]
    return [entries[index] for entries in (alone, both) for index in random.permutation(len(entries))]


def _ascend(
    objective: Callable[[Tensor], Tensor], begin: Tensor, low: Tensor, high: Tensor, steps: int
) -> NDArray[np.float32]:
    """Signed gradient ascent with a step that shrinks from half of the range to a fiftieth of it."""
    points = begin.clone()
    for step in range(steps):
        points.requires_grad = True
        with torch.enable_grad():
            value = objective(points)
            if not value.requires_grad:
                break
            (gradient,) = torch.autograd.grad(value, points, allow_unused=True)
        if gradient is None:
            break
        size = 0.5 * 0.04 ** (step / max(steps - 1, 1))
        with torch.no_grad():
            moved = points + size * (high - low) * torch.nan_to_num(gradient).sign()
            points = torch.minimum(torch.maximum(moved, low), high)
    return np.asarray(points.detach().numpy(), dtype=np.float32)


def by_gradient_of_calls(
    before: OnnxArtifact, after: OnnxArtifact, starts: Sequence[Trial], samples: Samples, seed: int
) -> list[Trial]:
    """The same for graphs with several inputs: one float32 input moves, the others stay what they are in a start.

    Args:
        before: Any graph.
        after: One with the same inputs and outputs.
        starts: Calls to start from.
        samples: Tell how far an input may move.
        seed: Of signs and choices.

    Raises:
        InputError: For no input and output does the twin know both graphs.
    """
    found: list[Trial] = []
    refused: InputError | None = None
    ways = [
        (start, spec, output)
        for output in before.signature.outputs
        for start in starts
        for spec in float_inputs(before.signature)
        if spec.dtype == "float32" and start.feeds[spec.name].ndim and start.feeds[spec.name].size
    ]
    chosen = np.random.default_rng(seed).permutation(len(ways))[:_MOST_PINNED]
    end = time.thread_time() + LIMIT
    for start, spec, output in (ways[index] for index in chosen):
        if found and time.thread_time() >= end:
            break
        value = start.feeds[spec.name]
        low, high = (
            np.broadcast_to(reach.astype(np.float32), value.shape[1:]) for reach in samples.range_of(spec.name)
        )
        try:
            pinned = [_pinned(graph, start.feeds, spec.name, output.name) for graph in (before, after)]
            points = _by_gradient_whole(pinned, value.astype(np.float32), (low, high), seed, end)
        except InputError as error:
            refused = error
            continue
        found += [
            Trial(f"hunted-{len(found) + index}", 0, {**start.feeds, spec.name: point})
            for index, point in enumerate(points)
        ]
    if not found:
        raise refused or InputError("hunt: no float32 input leads to a float32 output")
    return found


def _by_gradient_whole(
    graphs: Sequence[OnnxArtifact], start: NDArray[np.float32], bounds: Bounds, seed: int, end: float
) -> list[NDArray[np.float32]]:
    """Points of one call each; the call is moved as a whole, because its rows need not be independent."""
    random = np.random.default_rng(seed)
    large = start.size >= _LARGE
    low, high = (torch.from_numpy(np.array(bound, np.float32)) for bound in bounds)
    begin = torch.from_numpy(np.ascontiguousarray(start))
    with _as_refusal():
        models = _entrant(graphs[0]), _entrant(graphs[1])
        return [
            _ascend(objective, begin, low, high, _FEW_STEPS if large else _STEPS)
            for objective in _within(end, _objectives(*models, random, inside=1 if large else _MOST_INSIDE))
        ]


def _pinned(graph: OnnxArtifact, feeds: Feeds, free: str, output: str) -> OnnxArtifact:
    """The graph as a function of one input, the others held, with one output."""
    proto = parse(graph.model)
    held = [value.name for value in proto.graph.input if value.name in feeds and value.name != free]
    kept = [value for value in proto.graph.input if value.name == free]
    wanted = [value for value in proto.graph.output if value.name == output]
    if not wanted or not wanted[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        raise InputError(f"hunt: output {output!r} is not float32")
    del proto.graph.input[:], proto.graph.output[:]
    proto.graph.input.extend(kept)
    proto.graph.output.extend(wanted)
    for name in held:
        if feeds[name].dtype.kind in "OUS":
            raise InputError(f"hunt: input {name!r} holds strings")
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(feeds[name]), name))
    model = proto.SerializeToString()
    return OnnxArtifact(model, signature_of(proto), graph.origin)


def by_climbing(before: Runner, after: Runner, starts: Sequence[Trial], samples: Samples, seed: int) -> list[Trial]:
    """Hill climbing on the difference of the two models' answers; needs nothing of them but answers.

    From each start, inputs are changed at random (one element, some, all; a small step, a whole number, an end of the
    range). What increases the difference stays; where there is none, what drives outputs up (or down, in turn) does.

    Args:
        before: The first model.
        after: The second one.
        starts: Calls to start from; small ones are used.
        samples: Tell how far an input may move.
        seed: Of the changes.

    Returns:
        The best point of every climb, and the first one on which the second model failed, if there was one.
    """
    random = np.random.default_rng(seed)
    found: list[Trial] = []
    end = time.thread_time() + LIMIT
    for number, start in enumerate(starts[:_CLIMBS]):
        if sum(array.size for array in start.feeds.values()) > _MOST_CLIMBED:
            continue
        best = dict(start.feeds)
        sign = -1.0 if number % 2 else 1.0
        score = _score(before, after, best, sign)
        if score is None:
            continue
        for _ in range(_ROUNDS):
            if time.thread_time() >= end:
                break
            candidate = _changed(best, samples, random)
            try:
                reached = _score(before, after, candidate, sign)
            except _AfterFailedError:
                return [*found, Trial(f"climbed-{len(found)}", 0, candidate)]
            if reached is not None and reached >= score:
                best, score = candidate, reached
        found.append(Trial(f"climbed-{len(found)}", 0, best))
    return found


class _AfterFailedError(Exception):
    """Only the second model fails on an input."""


def _score(before: Runner, after: Runner, feeds: Feeds, sign: float) -> tuple[float, float] | None:
    """The largest difference, then the highest (or lowest) output; `None` where the first model fails."""
    try:
        old = before(feeds)
    except InputError:
        return None
    try:
        new = after(feeds)
    except InputError as error:
        raise _AfterFailedError from error
    if [array.shape for array in old] != [array.shape for array in new]:
        raise _AfterFailedError
    differences = [float(distance(was, now).max()) for was, now in zip(old, new, strict=True) if was.size]
    return max(differences, default=0.0), _reach(old, sign)


def _reach(outputs: Outputs, sign: float) -> float:
    """The highest number of all outputs, or the lowest where `sign` is -1."""
    arrays = [sign * array.astype(np.float64) for array in outputs if array.size and array.dtype.kind not in "OUS"]
    return max((float(np.nan_to_num(array).max()) for array in arrays), default=0.0)


def _changed(feeds: Feeds, samples: Samples, random: np.random.Generator) -> Feeds:
    """The same call with some of its numbers changed; integers only change places, so that indices stay valid."""
    result: Feeds = {}
    for name, array in feeds.items():
        if not array.size:
            result[name] = array
        elif array.dtype.kind == "f":
            low, high = samples.range_of(name)
            share = random.choice([1 / array.size, 0.1, 0.1, 1.0])
            chosen = random.random(array.shape) < share
            chosen.flat[random.integers(array.size)] = True
            step = array.astype(np.float64) + random.normal(size=array.shape) * (high - low) * 10.0 ** -random.integers(
                0, 4
            )
            values = random.choice([0, 1, 2, 2])
            proposed = (step, np.round(step), np.where(random.random(array.shape) < 0.5, low, high))[values]
            result[name] = np.where(chosen, np.clip(proposed, low, high), array).astype(array.dtype)
        elif random.random() < 0.5:
            result[name] = random.permuted(array.reshape(-1)).reshape(array.shape)
        else:
            result[name] = array
    return result
