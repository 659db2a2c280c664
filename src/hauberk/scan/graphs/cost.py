"""What one run of a model takes: memory at its peak and scalar operations, told from the file alone.

The model is followed (`estimator`) for assumed sizes: those of its inputs that it leaves open, several
where it needs that.
See docs/reference/scan-onnx.md for the assumptions.
"""

from __future__ import annotations

from collections.abc import Iterator

from hauberk.scan.examination import Examination
from hauberk.scan.graphs import rules
from hauberk.scan.graphs.account import Account, StopEstimateError
from hauberk.scan.graphs.elements import INT64
from hauberk.scan.graphs.estimator import Estimator
from hauberk.scan.graphs.model import Model
from hauberk.scan.graphs.values import UnmodelledError

FREE_SIZES = (256, 512, 64)
"""What a size counts for that the model leaves open, the batch excepted: the first, unless that makes no sense."""

ODD_SIZE = 97
"""What it counts for on a second look, for bombs that spare the sizes above."""

_LONGEST_SHAPE, _LARGEST_HINT, _MOST_HINTS = 8, 4096, 16


def estimate(model: Model, examination: Examination) -> None:
    """Follow a model through one run; report what is beyond the limits or cannot be told, and write the facts.

    Sizes that the model leaves open are assumed. Many models only run for some (an export that holds on to the length
    of its example), so others are tried where a run with the first would fail; what is found on the way counts.

    Args:
        model: With a sound structure (`structure.check_structure`).
        examination: Its limits are those of the run.
    """
    batch, free = examination.limits.batch, any(_free(model))
    account = _follow(model, examination, batch, FREE_SIZES[0])
    if free:
        for size in [*FREE_SIZES[1:], *_hints(model)]:
            if account.complete or account.found:
                break
            account = _follow(model, examination, batch, size)
    if not account.complete and not account.found:
        tried = "the sizes that were tried" if free else "its own sizes"
        examination.find(rules.UNMODELLED, f"shapes contradict each other for {tried}")
    found = [(rule, what, at) for rule, what, at in account.found]
    if free and not found:
        # A model may be built to be small for the sizes that are assumed above.
        second = _follow(model, examination, batch + 1, ODD_SIZE, allowance=1 + 1 / max(1, batch))
        note = f", for {batch + 1} records and free sizes of {ODD_SIZE}"
        found = [(rule, what + note, at) for rule, what, at in second.found]
    for rule, what, at in found:
        examination.find(rule, what, at=at)
    examination.facts["peak_memory_bytes"] = int(min(account.peak, 1 << 62))
    examination.facts["operations"] = int(min(account.operations.most, 1 << 62))
    examination.facts["batch"] = batch


def _hints(model: Model) -> list[int]:
    """Sizes that stand in the model where shapes do: an export may only run for those of its example."""
    found: dict[int, None] = {}
    for each in model.tensors():
        if each.element == INT64 and each.values is not None and 0 < each.values.size <= _LONGEST_SHAPE:
            found.update((int(size), None) for size in each.values.ravel() if 1 <= size <= _LARGEST_HINT)
    return list(found)[:_MOST_HINTS]


def _follow(model: Model, examination: Examination, batch: int, size: int, *, allowance: float = 1) -> Account:
    """Follow the main graph for so many records and these free sizes."""
    account = Account(examination, allowance=allowance)
    try:
        Estimator(model, account, batch=batch, size=size).run()
    except StopEstimateError:
        pass
    except UnmodelledError as error:
        account.found.append((rules.UNMODELLED, str(error), 0))
    if account.complete:  # where the sizes do not fit the model, they fit its other branches even less
        account.found += account.doubts
    return account


def _free(model: Model) -> Iterator[bool]:
    """Whether a size of an input is left open, for each of them."""
    for declared in model.graph.inputs if model.graph else ():
        yield from (isinstance(size, str) or size <= 0 for size in declared.dims or ())
