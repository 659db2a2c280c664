"""Does a step on a detector's core keep its contract? The harness, on the records that the context has.

What is compared, in this order; the first that fails decides:

1. names, dtypes and shapes of inputs and outputs;
2. outputs on real, boundary and random records (and extremes under `Exact`), at batches of 256, 17, 7, 2, 1 and 0;
3. outputs on records that gradients, or a search without them, found to be where the two differ most;
4. under `Lossy`, the share of real records with the same decision and the relative error of their logits.

Whatever the contract: an output that was finite stays finite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import Artifact, OnnxArtifact, Verdict
from hauberk.errors import InputError
from hauberk.graph import hunt
from hauberk.graph.harness import (
    Examination,
    Hunter,
    check_signature,
    check_verifiable,
    examine,
    refused,
    subject_of,
)
from hauberk.graph.model import parse, record_shape
from hauberk.graph.records import Family, families
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Broken, Runner, Trial
from hauberk.recipe import Context, Contract, Exact, Lossy
from hauberk.schema.decision import Decision

_BATCH = 256
_SINGLE = 8
"""How many records of each family are also run one by one."""
_SIZES = (0, 2, 7, 17)
"""Other batches, of random records."""


def verify(before: Artifact, after: Artifact, contract: Contract, context: Context) -> Verdict:
    """Compare an artifact before and after a step; satisfies `hauberk.recipe.Verifier`.

    Args:
        before: The step's input, with one input float32 [batch, *shape] and one output [batch, K].
        after: The step's output.
        contract: What the step promised.
        context: Real records and bounds; `task`, `benign` and `threshold` tell how logits decide.

    Returns:
        The verdict. A result that no longer loads or runs is a broken contract, not an error.

    Raises:
        InputError: `before` does not run, or the context's records do not fit it.
    """
    shape = record_shape(before.signature, "verification")
    tried = families(context, shape, extremes=isinstance(contract, Exact))
    batches = _trials(tried, before.signature.inputs[0].name)
    try:
        if isinstance(before, OnnxArtifact):
            check_verifiable(parse(before.model))
        check_signature(before.signature, after)
        hunter = _hunter(before, after, tried, context)
        examination = examine(subject_of(before), subject_of(after), contract, batches, hunter)
    except Broken as broken:
        return refused(str(broken))
    return _judge(examination, context)


def _trials(tried: Sequence[Family], name: str) -> list[Trial]:
    """Every family in batches, its first records one by one, and random ones in batches of other sizes."""
    result = []
    for family in tried:
        records = family.records
        batches = [(first, _BATCH) for first in range(0, len(records), _BATCH)]
        others = [(first, 1) for first in range(min(_SINGLE, len(records)))]
        if family.name == "random":
            others += [(0, size) for size in _SIZES]
        for cuts, repeats in ((batches, False), (others, True)):
            result += [
                Trial(family.name, first, {name: records[first : first + size]}, repeats) for first, size in cuts
            ]
    return result


def _hunter(before: Artifact, after: Artifact, tried: Sequence[Family], context: Context) -> Hunter:
    """Looks for records on which a core differs: with gradients, or without where the twin does not know a graph."""
    (real,) = (family.records for family in tried if family.name == "real")
    name = before.signature.inputs[0].name

    def look(old: Runner, new: Runner) -> Sequence[Trial]:
        try:
            found = hunt.by_gradient(before, after, real, context.bounds, context.seed)
        except InputError:
            low, high = context.bounds
            samples = Samples(low={name: low}, high={name: high})
            starts = [Trial("real", 0, {name: real[:4]}), Trial("real", 0, {name: real[-1:]})]
            return hunt.by_climbing(old, new, starts, samples, context.seed)
        return [Trial("hunted", first, {name: found[first : first + _BATCH]}) for first in range(0, len(found), _BATCH)]

    return look


def _judge(examination: Examination, context: Context) -> Verdict:
    """The verdict on everything that was compared; real records decide whether decisions agree."""
    real = [
        (old[0], new[0]) for trial, old, new in examination.compared if trial.family == "real" and not trial.repeats
    ]
    if not real:
        raise InputError("verification: the model before the step runs on no real record")
    olds, news = (np.concatenate(arrays).astype(np.float32) for arrays in zip(*real, strict=True))
    agreement = float(np.mean(decisions(olds, context) == decisions(news, context)))
    reason = examination.reason
    if not reason and isinstance(examination.contract, Lossy):
        reason = _loss(examination.contract, agreement, olds, news)
        if reason and examination.tally.worst is not None:
            reason += f"; worst: {examination.tally.worst}"
    return examination.verdict(agreement, reason)


def decisions(logits: NDArray[np.float32], context: Context) -> NDArray[np.int64]:
    """What logits [N, K] decide, int64 [N]: 0 or 1 (alarm) in detection, the class in classification."""
    if context.task == "classification":
        classes: NDArray[np.int64] = logits.argmax(axis=1)
        return classes
    decision = Decision(outputs=logits.shape[1], benign=context.benign)
    with np.errstate(invalid="ignore", over="ignore"):
        alarms: NDArray[np.int64] = (decision.margin(logits) >= context.threshold).astype(np.int64)
    return alarms


def _loss(contract: Lossy, agreement: float, old: NDArray[np.float32], new: NDArray[np.float32]) -> str:
    """What a lossy step lost too much of, or nothing."""
    if agreement < contract.agreement:
        return (
            f"the decision agrees on {100 * agreement:.2f} % of {len(old)} real records,"
            f" the contract asks for {100 * contract.agreement:g} %"
        )
    if contract.rms is None:
        return ""
    error = float(np.sqrt(np.mean(np.square(new.astype(np.float64) - old))))
    allowed = contract.rms * float(np.sqrt(np.mean(np.square(old.astype(np.float64)))))
    if error <= allowed:
        return ""
    return (
        f"logits of {len(old)} real records differ by {error:.4g} (root mean square), the contract allows {allowed:.4g}"
    )
