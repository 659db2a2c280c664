"""Does a step keep its contract? Two models answer the same records, and every output is compared.

What is compared, in this order; the first that fails decides:

1. names, dtypes and shapes of inputs and outputs;
2. outputs on real, boundary and random records (and extremes under `Exact`), at two batch sizes: 256 and 1;
3. under `Lossy`, the share of real records with the same decision and the relative error of their logits.

Whatever the contract: an output that was finite stays finite.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.artifact import Artifact, OnnxArtifact, Verdict
from hauberk.errors import InputError
from hauberk.graph.compare import Outputs, Tally
from hauberk.graph.model import describe, one_line, parse, record_shape, run, session, signature_of
from hauberk.graph.records import Family, families
from hauberk.recipe import Context, Contract, Exact, Lossy
from hauberk.schema.decision import Decision
from hauberk.tensors import Signature, TensorSpec

_BATCH = 256
_SINGLE = 8
"""How many records of each family are also run one by one."""

Runner = Callable[[NDArray[np.float32]], Outputs]


class _Broken(Exception):  # noqa: N818 - not an error: the way from deep inside to a verdict
    """The result of the step is not even comparable; the message says why."""


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
    tried = families(context, record_shape(before.signature, "verification"), extremes=isinstance(contract, Exact))
    tally = Tally(contract)
    try:
        _check_signature(before.signature, after)
        real = _compare(before, after, tried, tally)
    except _Broken as broken:
        return Verdict(False, tally.compared, 0.0, 0.0, "", str(broken))  # noqa: FBT003 - a struct's first field
    return _judge(tally, *real, context)


def _compare(
    before: Artifact, after: Artifact, tried: tuple[Family, ...], tally: Tally
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run both on every family and fill the tally; return the logits on real records, before and after."""
    old_runner = _runner(before)
    try:
        new_runner = _runner(after)
    except InputError as error:
        raise _Broken(f"the result does not load: {error}") from error
    names = tuple(spec.name for spec in before.signature.outputs)
    real: list[tuple[NDArray[np.generic], NDArray[np.generic]]] = []
    for family in tried:
        batches = range(0, len(family.records), _BATCH)
        singles = range(min(_SINGLE, len(family.records)))
        for first, size in [*((first, _BATCH) for first in batches), *((first, 1) for first in singles)]:
            records = family.records[first : first + size]
            old, where = old_runner(records), f"{family.name}[{first}]"
            new = _attempt(new_runner, records, where)
            _check_layout(names, old, new, where)
            tally.add(family.name, first, names, old, new)
            if family.name == "real" and size == _BATCH:
                real.append((old[0], new[0]))
    olds, news = zip(*real, strict=True)
    return np.concatenate(olds).astype(np.float32), np.concatenate(news).astype(np.float32)


def _judge(tally: Tally, old: NDArray[np.float32], new: NDArray[np.float32], context: Context) -> Verdict:
    """The verdict on everything that was compared; `old` and `new` are logits [N, K] of the real records."""
    agreement = float(np.mean(decisions(old, context) == decisions(new, context)))
    reason = ""
    if tally.fault is not None:
        reason = f"{tally.fault}; contract {_show(tally.contract)}"
    elif isinstance(tally.contract, Lossy):
        reason = _loss(tally.contract, agreement, old, new)
        if reason and tally.worst is not None:
            reason += f"; worst: {tally.worst}"
    worst = tally.fault or tally.worst
    return Verdict(
        holds=not reason,
        compared=tally.compared,
        agreement=agreement,
        max_difference=tally.worst.difference if tally.worst else 0.0,
        worst_input=worst.where if worst else "",
        reason=reason,
    )


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


def _show(contract: Contract) -> str:
    """The contract as it stands in recipes: `exact`, `close(rtol=…, atol=…)`, …."""
    fields = {name: getattr(contract, name) for name in contract.__struct_fields__}
    shown = ", ".join(f"{name}={value:g}" for name, value in fields.items() if value is not None)
    return f"{contract.__struct_config__.tag}({shown})" if shown else str(contract.__struct_config__.tag)


def _runner(artifact: Artifact) -> Runner:
    """What runs an artifact: torch for a module, a plain session for a graph."""
    name = artifact.signature.inputs[0].name
    if isinstance(artifact, OnnxArtifact):
        runner = session(artifact.model)
        return lambda records: run(runner, {name: records})
    module = artifact.module

    def run_module(records: NDArray[np.float32]) -> Outputs:
        with torch.no_grad():
            return [module(torch.from_numpy(records)).numpy()]

    return run_module


def _attempt(runner: Runner, records: NDArray[np.float32], where: str) -> Outputs:
    try:
        return runner(records)
    except Exception as error:  # a module that a step made may raise anything
        raise _Broken(f"the result fails on {where}, {len(records)} at once: {one_line(error)}") from error


def _check_signature(expected: Signature, after: Artifact) -> None:
    """The step kept names, dtypes and shapes; for a graph, what the graph itself declares counts too."""
    found = [after.signature]
    if isinstance(after, OnnxArtifact):
        try:
            found.append(signature_of(parse(after.model)))
        except InputError as error:
            raise _Broken(f"the result does not load: {error}") from error
    for signature in found:
        for kind, wanted, got in (
            ("inputs", expected.inputs, signature.inputs),
            ("outputs", expected.outputs, signature.outputs),
        ):
            if list(map(_fixed, wanted)) != list(map(_fixed, got)):
                was, now = (", ".join(map(describe, specs)) or "none" for specs in (wanted, got))
                raise _Broken(f"{kind} were {was} and became {now}")


def _fixed(spec: TensorSpec) -> tuple[str, str, tuple[int | None, ...]]:
    """What must not change: the names that free dimensions happen to have may."""
    return spec.name, spec.dtype, tuple(size if isinstance(size, int) else None for size in spec.shape)


def _check_layout(names: tuple[str, ...], old: Outputs, new: Outputs, where: str) -> None:
    """Arrays as the models really return them have equal shapes and dtypes."""
    if len(new) != len(old):
        raise _Broken(f"{len(old)} outputs became {len(new)} on {where}")
    for name, was, now in zip(names, old, new, strict=True):
        if was.shape != now.shape or was.dtype != now.dtype:
            raise _Broken(
                f"output {name!r} was {was.dtype} {list(was.shape)} and became {now.dtype} {list(now.shape)} on {where}"
            )
