"""Running two models on the same inputs, one after the other, and telling what differs.

A trial is one call of both models. The first model runs all of them before the second one is loaded, so that two large
models never lie in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.errors import HauberkError, InputError, one_line
from hauberk.graph.compare import Outputs, Tally

Feeds = dict[str, NDArray[np.generic]]
Runner = Callable[[Feeds], Outputs]

Level = Literal["as written", "optimised"]
"""How ONNX Runtime runs a graph: node by node as it is written, or rewritten and fused as it is deployed."""

Opener = Callable[[Level], Runner]
"""Loads a model. Raises `InputError` where it does not load."""


class Broken(Exception):  # noqa: N818 - not an error: the way from deep inside to a verdict
    """The result of the step is not even comparable; the message says why."""


@dataclass(frozen=True)
class Trial:
    """One call of both models.

    Attributes:
        family: What kind of input it is ("real", "boundary", "random-2", …).
        first: Index of its first record within the family.
        feeds: One array an input.
        repeats: Whether its records are also part of another trial, in another batch.
    """

    family: str
    first: int
    feeds: Feeds
    repeats: bool = False

    @property
    def where(self) -> str:
        """Family and index, as in `boundary[12]`."""
        return f"{self.family}[{self.first}]"


@dataclass
class Answers:
    """What the first model answered, trial by trial.

    Attributes:
        outputs: One list of arrays a trial; `None` where the model fails on it.
        failure: The first failure's message, for when nothing could be run.
    """

    outputs: list[Outputs | None] = field(default_factory=list)
    failure: str = ""

    @property
    def skipped(self) -> int:
        """Trials that the first model itself fails on: there is nothing to compare with."""
        return sum(outputs is None for outputs in self.outputs)


def opener(artifact: Artifact) -> Opener:
    """What loads an artifact: torch for a module, at either level; a session for a graph."""
    if isinstance(artifact, OnnxArtifact):
        return lambda level: session_runner(artifact.model, level)
    module, (name,) = artifact.module, (spec.name for spec in artifact.signature.inputs)

    def run_module(feeds: Feeds) -> Outputs:
        with torch.no_grad():
            return [module(torch.from_numpy(feeds[name])).numpy()]

    return lambda level: run_module  # noqa: ARG005 - a module has one way of running


def session_runner(model: bytes | str, level: Level) -> Runner:
    """A plain session of a serialised model or of a file: one thread, CPU, silent.

    Raises:
        InputError: ONNX Runtime refuses the model; the message is its own, in one line.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if level == "as written":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runner_with(options, model)


def runner_with(options: onnxruntime.SessionOptions, model: bytes | str) -> Runner:
    """A session with these options, on the CPU alone, as a function of its inputs.

    Raises:
        InputError: ONNX Runtime refuses the model; the message is its own, in one line.
    """
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # its exceptions share no base but Exception
        raise InputError(f"ONNX Runtime refuses the model: {one_line(error)}") from error

    def run(feeds: Feeds) -> Outputs:
        try:
            return [np.asarray(output) for output in session.run(None, feeds)]
        except Exception as error:  # its exceptions share no base but Exception
            raise InputError(f"ONNX Runtime cannot run the model: {one_line(error)}") from error

    return run


def runs_on(run: Callable[[Feeds], object]) -> Callable[[Feeds], bool]:
    """Whether a model runs on some inputs."""

    def runs(values: Feeds) -> bool:
        try:
            run(values)
        except HauberkError:
            return False
        return True

    return runs


def ask(run: Runner, trials: Sequence[Trial]) -> Answers:
    """Run the first model on every trial; where it fails, that is noted and the trial counts as skipped."""
    answers = Answers()
    for trial in trials:
        try:
            answers.outputs.append(run(trial.feeds))
        except Exception as error:  # noqa: BLE001 - a torch module may raise anything
            answers.outputs.append(None)
            answers.failure = answers.failure or f"{trial.where}: {one_line(error)}"
    return answers


def compare(
    run: Runner, trials: Sequence[Trial], answers: Answers, names: tuple[str, ...], tally: Tally
) -> list[tuple[Trial, Outputs, Outputs]]:
    """Run the second model on what the first one answered, and count every element in the tally.

    Args:
        run: The second model.
        trials: What to run.
        answers: Of the first model, one a trial.
        names: Of the outputs.
        tally: Where differences are collected.

    Returns:
        Every trial that was compared, with what both models answered.

    Raises:
        Broken: The second model fails where the first one does not, or returns other shapes or dtypes.
    """
    compared = []
    for trial, old in zip(trials, answers.outputs, strict=True):
        if old is None:
            continue
        try:
            new = run(trial.feeds)
        except Exception as error:  # a module that a step made may raise anything
            raise Broken(f"the result fails on {trial.where}, {_sizes(trial.feeds)}: {one_line(error)}") from error
        _check_layout(names, old, new, trial.where)
        tally.add(trial.family, trial.first, names, old, new)
        compared.append((trial, old, new))
    return compared


def _sizes(feeds: Mapping[str, NDArray[np.generic]]) -> str:
    """The shapes of a call in few words: how many records at once, or the shape of every input."""
    if len(feeds) == 1:
        (array,) = feeds.values()
        return f"{len(array) if array.ndim else 1} at once"
    return ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())


def _check_layout(names: tuple[str, ...], old: Outputs, new: Outputs, where: str) -> None:
    """Arrays as the models really return them have equal shapes and dtypes."""
    if len(new) != len(old):
        raise Broken(f"{len(old)} outputs became {len(new)} on {where}")
    for name, was, now in zip(names, old, new, strict=True):
        if was.shape != now.shape or was.dtype != now.dtype:
            raise Broken(
                f"output {name!r} was {was.dtype} {list(was.shape)} and became {now.dtype} {list(now.shape)} on {where}"
            )
