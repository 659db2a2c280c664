"""A tree model's file becomes a graph, and its library is asked whether the graph is right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from hauberk.convert.compare import Rule, Source
from hauberk.convert.converted import Converted
from hauberk.convert.isolated import Isolated, require
from hauberk.convert.messages import Setup
from hauberk.convert.trees.ensemble import Ensemble, Meaning, split_values
from hauberk.convert.trees.graph import tree_graph
from hauberk.convert.trees.lightgbm import read_lightgbm
from hauberk.convert.trees.xgboost import read_xgboost
from hauberk.graph.model import parse, signature_of
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Trial

_READERS = {"xgboost": read_xgboost, "lightgbm": read_lightgbm}
_RULES: dict[Meaning, Rule | None] = {
    "log-odds": "log-odds",
    "class logits": "largest",
    "value": None,
    "logarithm": None,
}
_BATCH = 1024
_MOST_SPLITS = 20_000
"""Thresholds that are tried; of more, as many evenly spaced ones of each feature."""


@contextmanager
def from_trees(content: bytes, kind: str, where: str, opset: int) -> Iterator[Converted]:
    """Convert an admitted model of boosted trees.

    Args:
        content: The file.
        kind: "xgboost" or "lightgbm".
        where: How messages call it.
        opset: Of the standard domain of the graph.

    Raises:
        MissingExtraError: The library that the graph is compared with is not installed.
        RefusedModelError: The file is damaged.
        InputError: It is a model of a kind that is not converted.
    """
    require(kind, "trees", f"{where}: comparing the trees with their own library")
    ensemble = _READERS[kind](content, where)
    model = tree_graph(ensemble, opset)
    margins = ensemble.meaning in ("log-odds", "class logits")
    setup = Setup(kind, content, options={"margins": "yes" if margins else "no"})
    with Isolated(setup, where) as library:
        yield Converted(
            model=model,
            signature=signature_of(parse(model)),
            source=Source(library.answer, library.greeting.version, _RULES[ensemble.meaning], extremes=True),
            of_its_kind=lambda given, seed: _edges(ensemble, given, seed),
            notes=(_told(ensemble), *ensemble.notes),
        )


def _told(ensemble: Ensemble) -> str:
    meanings: dict[Meaning, str] = {
        "log-odds": "the output is the log-odds of the second class",
        "class logits": "outputs are one logit a class",
        "value": "the output is the prediction, which decides nothing by itself",
        "logarithm": "the output is the prediction, which decides nothing by itself",
    }
    return (
        f"{len(ensemble.trees)} trees of {ensemble.library}, {ensemble.nodes} nodes, as one TreeEnsembleRegressor;"
        f" {meanings[ensemble.meaning]}"
    )


def _edges(ensemble: Ensemble, given: Samples, seed: int) -> list[Trial]:
    """Records with one feature at a threshold or at the float32 next to it, and records with missing values."""
    random = np.random.default_rng(seed)
    splits = split_values(ensemble)
    base = _base(ensemble, given, splits, random)
    share = min(1.0, _MOST_SPLITS / max(1, sum(map(len, splits.values()))))
    rows = []
    for feature, values in splits.items():
        most = max(1, int(len(values) * share))
        chosen = values[np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(np.int64)]
        around = np.concatenate([np.nextafter(chosen, np.float32(end)) for end in (-np.inf, np.inf)])
        tried = np.concatenate([chosen, around])
        tried = tried[np.isfinite(tried)]
        records = base[random.integers(len(base), size=len(tried))]
        records[:, feature] = tried
        rows.append(records)
    edges = np.concatenate(rows) if rows else base[:1]
    missing = base[random.integers(len(base), size=256)]
    missing[random.random(missing.shape) < random.random((256, 1))] = np.nan
    missing[0] = np.nan
    families = {"thresholds": edges, "missing": missing.astype(np.float32)}
    return [
        Trial(f"{name}-{index}", index * _BATCH, {"features": np.ascontiguousarray(records[start : start + _BATCH])})
        for name, records in families.items()
        for index, start in enumerate(range(0, len(records), _BATCH))
    ]


def _base(
    ensemble: Ensemble, given: Samples, splits: dict[int, NDArray[np.float32]], random: np.random.Generator
) -> NDArray[np.float32]:
    """Records to start from: real ones, or ones that lie among the thresholds of every feature."""
    if given.calls:
        return np.concatenate([call["features"] for call in given.calls]).astype(np.float32)
    base = np.zeros((256, ensemble.features), dtype=np.float32)
    for feature, values in splits.items():
        finite = values[np.isfinite(values)]
        if finite.size:
            spread = max(float(finite[-1]) - float(finite[0]), abs(float(finite[0])), 1e-6)
            low, high = float(finite[0]) - spread / 4, float(finite[-1]) + spread / 4
            with np.errstate(over="ignore"):
                base[:, feature] = np.clip(random.uniform(low, high, size=len(base)), -3e38, 3e38)
    return base
