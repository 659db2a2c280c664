"""Preprocessing, core and decision become one graph, so that what is measured, signed and served takes a raw record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, numpy_helper

from hauberk.artifact import OnnxArtifact, Verdict
from hauberk.errors import InputError, one_line
from hauberk.graph.check import check_model
from hauberk.graph.compare import Tally
from hauberk.graph.model import parse, run, session, signature_of
from hauberk.graph.passes.strip_metadata import strip
from hauberk.recipe import Close
from hauberk.schema.decision import Decision
from hauberk.tensors import TensorSpec

_BATCH = 256

CONTRACT = Close(rtol=1e-5, atol=1e-6)
"""How far the merged graph's scores may be from those of the three parts run one after the other; labels may differ
only where the score lies within this distance of the threshold's."""


def merge(preprocessing: OnnxArtifact, core: OnnxArtifact, decision: OnnxArtifact) -> OnnxArtifact:
    """Join the three parts.

    Args:
        preprocessing: `numeric`, `codes` -> `features` (`preprocessing_graph`), or `images` -> `features`
            (`image_preprocessing_graph`).
        core: `features` -> `logits` (`export` or `normalise`, and any step on it).
        decision: `logits` -> `scores`, `labels` (`decision_graph`, `classification_graph`).

    Returns:
        The merged graph, checked and without metadata, with the origin and history of `core`; names inside begin with
        `preprocessing/`, `core/` and `decision/`, names of inputs and outputs are kept.

    Raises:
        InputError: The parts do not fit: another width, number of logits, name or opset.
    """
    _check_seam(preprocessing, core)
    _check_seam(core, decision)
    parts = {"preprocessing": preprocessing, "core": core, "decision": decision}
    protos = {name: compose.add_prefix(parse(part.model), f"{name}/") for name, part in parts.items()}
    try:
        front = compose.merge_models(
            protos["preprocessing"], protos["core"], [("preprocessing/features", "core/features")]
        )
        whole = compose.merge_models(front, protos["decision"], [("core/logits", "decision/logits")])
    except (ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"merge: the three parts do not fit together: {one_line(error)}") from error
    _unprefix_ends(whole)
    model = strip(whole.SerializeToString())
    check_model(model)
    return replace(core, model=model, signature=signature_of(parse(model)))


def verify_merged(
    merged: OnnxArtifact,
    preprocessing: OnnxArtifact,
    core: OnnxArtifact,
    decision: OnnxArtifact,
    records: Mapping[str, NDArray[np.generic]],
) -> Verdict:
    """Compare the merged graph with its three parts, run one after the other, on coded records.

    Args:
        merged: What `merge` returned.
        preprocessing: First part.
        core: Second part.
        decision: Third part.
        records: The inputs of the merged graph by name, N >= 1 records each (`numeric`, `codes`).

    Returns:
        The verdict by `CONTRACT`; `agreement` is the share of equal labels.
    """
    count = len(next(iter(records.values())))
    runners = [session(part.model) for part in (preprocessing, core, decision)]
    whole = session(merged.model)
    tally = Tally(CONTRACT)
    equal, flipped = 0, ""
    for first, size in [(first, _BATCH) for first in range(0, count, _BATCH)] + [(0, 1)]:
        batch = {name: np.ascontiguousarray(value[first : first + size]) for name, value in records.items()}
        features = run(runners[0], batch)[0]
        logits = run(runners[1], {"features": features})[0]
        scores, labels = run(runners[2], {"logits": logits})
        merged_scores, merged_labels = run(whole, batch)
        tally.add("real", first, ("scores",), [scores], [merged_scores])
        differ = labels != merged_labels
        far = differ & ~_undecided(decision, logits, scores)
        if far.any():
            row = int(far.argmax())
            flipped = f"label {labels[row]} became {merged_labels[row]} on real[{first + row}], far from the threshold"
        if size == _BATCH:
            equal += int(np.count_nonzero(~differ))
    worst = tally.fault or tally.worst
    return Verdict(
        holds=tally.fault is None and not flipped,
        compared=tally.compared,
        agreement=equal / count,
        max_difference=tally.worst.difference if tally.worst else 0.0,
        worst_input=worst.where if worst else "",
        reason=f"{tally.fault}, more than merging may change" if tally.fault else flipped,
    )


def _undecided(decision: OnnxArtifact, logits: NDArray[np.generic], scores: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Bool [N]: the label hangs on a difference within `CONTRACT`, of a score from the threshold or of two classes."""
    threshold = _score_threshold(decision)
    if threshold is None:  # a classification graph
        second, first = np.sort(logits.astype(np.float64), axis=1)[:, -2:].T
        close: NDArray[np.bool_] = first - second <= CONTRACT.atol + CONTRACT.rtol * np.abs(first)
        return close
    distance = np.abs(scores.astype(np.float64) - threshold)
    near: NDArray[np.bool_] = distance <= CONTRACT.atol + CONTRACT.rtol * threshold
    return near


def _score_threshold(decision: OnnxArtifact) -> float | None:
    """The threshold that a decision graph holds, as a score; `None` for a classification graph."""
    graph = parse(decision.model).graph
    for tensor in graph.initializer:
        if tensor.name == "threshold":
            return Decision(threshold=float(numpy_helper.to_array(tensor))).score_threshold
    if any(node.op_type == "ArgMax" for node in graph.node):
        return None
    raise InputError("merge: the decision graph holds no threshold; build it with decision_graph")


def _check_seam(first: OnnxArtifact, second: OnnxArtifact) -> None:
    """What flows out of the first part is what the second one takes, free dimensions aside."""
    given, taken = first.signature.outputs, second.signature.inputs
    if len(given) != 1 or len(taken) != 1 or given[0].name != taken[0].name or given[0].dtype != taken[0].dtype:
        raise InputError(f"merge: {_names(given)} does not flow into {_names(taken)}")
    sizes = given[0].shape[1:], taken[0].shape[1:]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"merge: {given[0].name!r} has width {list(sizes[0])} where it is computed and {list(sizes[1])} where it is"
            " used; the model belongs to another schema"
        )


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype}" for spec in specs) or "nothing"


def _unprefix_ends(proto: onnx.ModelProto) -> None:
    """Give the merged graph's inputs and outputs their own names back."""
    ends = {value.name: value.name.partition("/")[2] for value in (*proto.graph.input, *proto.graph.output)}
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = ends[value.name]
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [ends.get(name, name) for name in names]
