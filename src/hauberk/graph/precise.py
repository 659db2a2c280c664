"""The same graph in double precision: the yardstick that tells a wrong answer from a rounding error.

Two float32 graphs that compute the same function may differ by any amount where the function itself is
ill-conditioned: a difference of two large numbers, a step that lies a rounding error away. Comparing each with double
precision shows which it is. Where the first graph is itself that far from the exact answer, a second one that is no
farther did no harm.

The yardstick can be wrong: onnx's reference resizes to aligned corners otherwise than ONNX Runtime does. So it is asked
in single precision too, and what the two precisions of the same code do not explain is not called rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hauberk.graph.compare import Outputs, Tally, is_number
from hauberk.graph.model import nested_graphs, parse
from hauberk.graph.trials import Feeds, Runner, Trial

SLACK = 4.0
"""How many times the first graph's own rounding error the second one may have."""

REACH = 16.0
"""How many times larger than a number another one may be whose rounding error still speaks for it."""

_MISTRUST = 16.0
"""How many times the reference's own rounding error ONNX Runtime's may be; it sums in another order."""

_MOST_TRIALS = 64
"""Double precision is slow, and differences in more trials than this are no accident."""
_MOST_SECONDS = 60.0
"""Of this thread's work, after which what is left is not judged again."""
_DOUBLED = {TensorProto.FLOAT: TensorProto.DOUBLE}


@dataclass(frozen=True)
class Yardstick:
    """A graph in onnx's reference implementation.

    Attributes:
        double: In double precision.
        single: As it is.
    """

    double: Runner
    single: Runner


def yardstick(model: bytes) -> Yardstick:
    """A serialised model, with its weights inline, in both precisions; raises what `double_runner` raises."""
    evaluator = ReferenceEvaluator(parse(model))

    def run(feeds: Feeds) -> Outputs:
        with np.errstate(all="ignore"):
            return [np.asarray(output) for output in evaluator.run(None, dict(feeds))]

    return Yardstick(double_runner(model), run)


def double_runner(model: bytes) -> Runner:
    """Run a graph in double precision with onnx's reference implementation, which shares no code with ONNX Runtime.

    Every float32 of the graph becomes float64, in initializers, attributes, casts and nested graphs; half precision and
    integers stay what they are, because rounding to them is part of what the graph computes.

    Args:
        model: A serialised model with its weights inline.

    Returns:
        A runner that takes the feeds of the original and answers float64 where it answers float32.

    Raises:
        Exception: Of any kind, when it is built or run: the reference does not know every operator.
    """
    proto = parse(model)
    for graph in _graphs(proto):
        _double(graph)
    for function in proto.functions:
        _double_nodes(function.node)
    evaluator = ReferenceEvaluator(proto)

    def run(feeds: Feeds) -> Outputs:
        doubled = {
            name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in feeds.items()
        }
        with np.errstate(all="ignore"):
            return [np.asarray(output) for output in evaluator.run(None, doubled)]

    return run


def rejudge(
    exact: Callable[[], Yardstick],
    compared: Sequence[tuple[Trial, Outputs, Outputs]],
    names: tuple[str, ...],
    tally: Tally,
) -> Tally:
    """Judge again what broke `Close`, with the first graph's own rounding error allowed for.

    An element may differ from the first model's by the contract's tolerance plus `SLACK` times the largest distance
    that the first model has from double precision in that output of that trial, among the elements of its own size or
    smaller (see `REACH`): the rounding of a huge number says nothing about a small one. A distance that the reference's
    own two precisions do not have counts as the reference's mistake. What is not finite in one of the two models is not
    excused.

    Args:
        exact: Builds the yardstick of the first model.
        compared: Every trial with the answers of both models.
        names: Of the outputs.
        tally: The judgement without the allowance; `contract` is `Close`.

    Returns:
        The tally with the allowance, or the given one where double precision cannot be had.
    """
    suspects = [entry for entry in compared if _breaks(entry, names, tally)]
    if not 0 < len(suspects) <= _MOST_TRIALS:
        return tally
    again = Tally(tally.contract)
    again.compared, again.worst = tally.compared, tally.worst
    try:
        reference = exact()
        end = time.thread_time() + _MOST_SECONDS
        for trial, old, new in suspects:
            if time.thread_time() >= end:
                return tally
            answers = old, reference.double(trial.feeds), reference.single(trial.feeds)
            allowance = [_allowance(*each) for each in zip(*answers, strict=True)]
            again.add(trial.family, trial.first, names, old, new, allowance)
    except Exception:  # noqa: BLE001 - whatever the reference cannot do leaves the stricter judgement standing
        return tally
    again.compared = tally.compared
    return again


def _breaks(entry: tuple[Trial, Outputs, Outputs], names: tuple[str, ...], tally: Tally) -> bool:
    trial, old, new = entry
    alone = Tally(tally.contract)
    alone.add(trial.family, trial.first, names, old, new)
    return alone.fault is not None


def _allowance(
    was: NDArray[np.generic], truth: NDArray[np.generic], single: NDArray[np.generic]
) -> NDArray[np.float64]:
    """What each element of an output may differ by on account of rounding.

    An integer that double precision does not confirm (the larger of two nearly equal numbers) may be any other, where
    rounding changes the reference's answers too.
    """
    if not is_number(was):
        return np.where((was == truth) | np.array_equal(single, truth), 0.0, np.inf)
    exact = truth.astype(np.float64)
    found, explained = (_nearby(was, np.abs(each.astype(np.float64) - exact)) for each in (was, single))
    return SLACK * np.minimum(found, _MISTRUST * explained)


def _nearby(was: NDArray[np.generic], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each element the largest error among those at most `REACH` times as large as it, or as the median."""
    sizes = np.abs(was.astype(np.float64))
    usable = np.isfinite(error) & np.isfinite(sizes)
    if not usable.any():
        return np.zeros(was.shape)
    order = np.argsort(sizes[usable])
    ascending, largest = sizes[usable][order], np.maximum.accumulate(error[usable][order])
    reach = REACH * np.fmax(sizes, np.median(ascending))
    result: NDArray[np.float64] = largest[np.searchsorted(ascending, reach, side="right") - 1]
    return result


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it."""
    pending = [model.graph]
    pending += _nested(node for function in model.functions for node in function.node)
    while pending:
        graph = pending.pop()
        yield graph
        pending += _nested(graph.node)


def _nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    return (graph for node in nodes for graph in nested_graphs(node.attribute))


def _double(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _double_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        kind.elem_type = _DOUBLED.get(kind.elem_type, kind.elem_type)
    _double_nodes(graph.node)


def _double_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _double_tensor(attribute.t)
            elif node.op_type in {"Cast", "EyeLike"} and attribute.name in {"to", "dtype"}:
                attribute.i = _DOUBLED.get(attribute.i, attribute.i)
        if node.op_type == "Constant":
            _double_constant(node)


def _double_constant(node: onnx.NodeProto) -> None:
    """Floats in attributes of a `Constant` are float32 tensors."""
    for attribute in list(node.attribute):
        if attribute.name in {"value_float", "value_floats"}:
            value = helper.get_attribute_value(attribute)
            tensor = numpy_helper.from_array(np.array(value, np.float32).astype(np.float64))
            attribute.CopyFrom(helper.make_attribute("value", tensor))


def _double_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
