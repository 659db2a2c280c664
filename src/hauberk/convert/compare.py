"""Does the result answer what the source answers, asked in its own framework?

Both see the same inputs: real records where there are any, zeros, the ends of every range, numbers between, whole
numbers and halves, several sizes of a batch, special values of float32, and what the source's own kind calls for (the
thresholds of trees and their neighbours, missing values). An output may differ by

    1e-5 + 1e-4 * |value| + 1e-6 * (largest value of the family)

where the last part is 16 units in the last place of a float32 sum of that size: two frameworks add up in another order,
and what cancels in such a sum leaves an error of its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hauberk.convert.findings import Comparison, Difference, FamilyFigures
from hauberk.errors import InputError, LimitError
from hauberk.graph.compare import Outputs, breaches, distance, is_number
from hauberk.graph.trials import Feeds, Trial, session_runner
from hauberk.progress import SILENT, Progress
from hauberk.recipe import Close

CONTRACT = Close()
_OF_THE_LARGEST = 1e-6
WORDS = "1e-5 + 1e-4 of the value + 1e-6 of the largest value of its family"

Rule = Literal["log-odds", "largest"]
"""How outputs decide: the sign of one, or the largest of several."""

_SHOWN_RECORDS = 5
_SHOWN_NUMBERS = 64


@dataclass(frozen=True)
class Source:
    """A model in its own framework.

    Attributes:
        answer: Its outputs for some inputs, in the order of the result's outputs. Raises whatever it raises.
        framework: Its name and version.
        rule: How its first output decides; `None` where it does not.
        extremes: Whether extremes are judged: where nothing is summed that could overflow, they are.
        view: What is compared of outputs, where that is not the outputs themselves: of logarithms of probabilities, the
            probabilities.
    """

    answer: Callable[[Feeds], Outputs]
    framework: str
    rule: Rule | None = None
    extremes: bool = False
    view: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    def takes(self, values: Feeds) -> bool:
        """Whether it answers these inputs at all."""
        try:
            self.answer(values)
        except LimitError:
            raise
        except Exception:  # noqa: BLE001 - frameworks raise anything on inputs that they do not take
            return False
        return True


@dataclass
class _Family:
    """What was seen of one family so far."""

    before: list[Outputs] = field(default_factory=list)
    after: list[Outputs] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    skipped: int = 0


def compare(source: Source, model: bytes, trials: Sequence[Trial], *, progress: Progress = SILENT) -> Comparison:
    """Ask both about every trial.

    Args:
        source: The model in its own framework.
        model: The result, admitted, serialised.
        trials: Inputs; the number behind a family's name (`real-3`) is left out.
        progress: Who follows.

    Raises:
        InputError: The result does not load, or fails, or answers in other shapes, where the source answers; or the
            source answers none of the inputs; or either answers one input in two ways.
        LimitError: The source took more than its limits allow.
    """
    run = session_runner(model, "optimised")
    families: dict[str, _Family] = {}
    failure = ""
    steady = False
    with progress.task("comparing", total=len(trials)) as task:
        for trial in trials:
            family = families.setdefault(_name(trial.family), _Family())
            task.advance()
            try:
                before = source.answer(trial.feeds)
            except LimitError:
                raise
            except Exception as error:  # noqa: BLE001 - frameworks raise anything on odd inputs
                family.skipped += 1
                failure = failure or " ".join(str(error).split())[:200]
                continue
            after = run(trial.feeds)
            _require_alike(before, after, trial)
            if not steady:
                _require_repeatable(before, source.answer(trial.feeds), "the source")
                _require_repeatable(after, run(trial.feeds), "the result")
                steady = any(array.size for array in before)
            family.before.append(before)
            family.after.append(after)
            family.trials.append(trial)
    if not any(array.size for family in families.values() for answer in family.before for array in answer):
        raise InputError(f"the source answers none of the inputs that were tried: {failure or 'its answers are empty'}")
    return _judged(source, families)


def _judged(source: Source, families: dict[str, _Family]) -> Comparison:
    figures, differing = [], []
    equal = counted = 0
    for name, family in families.items():
        judged = source.extremes or not name.startswith("extreme")
        found, examples, same, labelled = _figures(name, family, source, judged=judged)
        figures.append(found)
        differing += examples
        if judged:
            equal, counted = equal + same, counted + labelled
    counting = [each for each in figures if each.judged]
    return Comparison(
        framework=source.framework,
        contract=WORDS,
        families=tuple(figures),
        largest=max((each.largest for each in counting), default=0.0),
        labels=equal / counted if counted else None,
        holds=not any(each.outside for each in counting),
        differing=tuple(differing[:_SHOWN_RECORDS]),
    )


def _figures(
    name: str, family: _Family, source: Source, *, judged: bool
) -> tuple[FamilyFigures, list[Difference], int, int]:
    """The figures of a family, the first records outside the contract, equal labels, and labels at all."""
    view = source.view or _itself
    scale = max((_largest(view(array)) for answer in family.before for array in answer), default=0.0)
    records = outside = same = labelled = 0
    largest = 0.0
    examples: list[Difference] = []
    for trial, before, after in zip(family.trials, family.before, family.after, strict=True):
        rows = len(before[0]) if before and before[0].ndim else 1
        broken = np.zeros(rows, dtype=np.bool_)
        for raw_old, raw_new in zip(before, after, strict=True):
            if not raw_old.size:
                continue
            old, new = view(raw_old), view(raw_new)
            largest = max(largest, float(distance(old, new).max()))
            allowance = np.full(old.shape, _OF_THE_LARGEST * scale)
            wrong = breaches(old, new, CONTRACT, allowance if is_number(old) else None)
            broken |= wrong.reshape(rows, -1).any(axis=1) if _by_record(old, rows) else bool(wrong.any())
        records += rows
        outside += int(broken.sum())
        examples += [_example(trial, int(row), before, after) for row in np.flatnonzero(broken)[:_SHOWN_RECORDS]]
        if source.rule is not None and before[0].size:
            alike = _labels(before[0], source.rule) == _labels(after[0], source.rule)
            same, labelled = same + int(alike.sum()), labelled + len(alike)
    share = same / labelled if labelled else None
    figures = FamilyFigures(name, records, family.skipped, largest, outside, share, judged)
    return figures, examples, same, labelled


def _itself(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _labels(outputs: NDArray[np.generic], rule: Rule) -> NDArray[np.generic]:
    """What outputs [N, K] decide, [N]."""
    values = outputs.reshape(len(outputs), -1).astype(np.float64)
    return values[:, 0] >= 0 if rule == "log-odds" else values.argmax(axis=1)


def _largest(array: NDArray[np.generic]) -> float:
    if not (is_number(array) and array.size):
        return 0.0
    sizes = np.abs(array.astype(np.float64))
    return float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def _by_record(array: NDArray[np.generic], rows: int) -> bool:
    return array.ndim > 0 and len(array) == rows


def _example(trial: Trial, row: int, before: Outputs, after: Outputs) -> Difference:
    def shown(array: NDArray[np.generic]) -> tuple[str, ...]:
        record = array[row] if array.ndim and len(array) > row else array
        return tuple(
            f"{value:.9g}" if is_number(array) else str(value) for value in record.reshape(-1)[:_SHOWN_NUMBERS]
        )

    return Difference(
        where=f"{trial.family}[{trial.first + row}]",
        source=tuple(text for array in before for text in shown(array)),
        result=tuple(text for array in after for text in shown(array)),
        inputs={name: shown(array) for name, array in trial.feeds.items()},
    )


def _require_alike(before: Outputs, after: Outputs, trial: Trial) -> None:
    """Both answer with the same number of arrays of the same shapes."""
    shapes = [[array.shape for array in answer] for answer in (before, after)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"the result answers {trial.where} in shapes {[list(shape) for shape in shapes[1]]}, the source in"
            f" {[list(shape) for shape in shapes[0]]}"
        )


def _require_repeatable(first: Outputs, second: Outputs, who: str) -> None:
    """See that asking twice gives one answer: with noise in them, two models cannot be told apart."""
    for old, new in zip(first, second, strict=True):
        if old.shape != new.shape or breaches(old, new, CONTRACT, None).any():
            raise InputError(
                f"{who} answers one input in two ways: it draws random numbers (dropout or noise that is on);"
                " save the model in evaluation mode"
            )


def _name(family: str) -> str:
    """A family without the number of its call."""
    name, _, number = family.rpartition("-")
    return name if name and number.isdigit() else family
