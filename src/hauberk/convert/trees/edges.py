"""Where trees turn: records at their thresholds and beside them, and records with missing values.

Two implementations of the same trees differ there first: by `<` or `<=`, by a threshold that was rounded, by where a
missing value goes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from hauberk.graph.model import attributes
from hauberk.graph.samples import REACH, Samples
from hauberk.graph.trials import Trial

Splits = Mapping[int, NDArray[np.float32]]

_BATCH = 1024
_MOST_SPLITS = 20_000
"""Thresholds that are tried; of more, as many evenly spaced ones of each feature."""
_MISSING = 256


def edges(splits: Splits, width: int, given: Samples, seed: int, name: str = "features") -> list[Trial]:
    """Records with one feature at a threshold or at the float32 next to it, and records with missing values.

    Args:
        splits: The thresholds of every feature, ascending.
        width: D.
        given: Real records to start from, where there are any; else they lie among the thresholds.
        seed: Of what is drawn.
        name: Of the model's input.
    """
    random = np.random.default_rng(seed)
    base = _base(splits, width, given, random, name)
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
    at_edges = np.concatenate(rows) if rows else base[:1]
    at_thresholds = [
        Trial(f"thresholds-{index}", index * _BATCH, {name: np.ascontiguousarray(at_edges[start : start + _BATCH])})
        for index, start in enumerate(range(0, len(at_edges), _BATCH))
    ]
    return [*at_thresholds, _missing(base, random, name)]


def missing(width: int, given: Samples, seed: int, name: str = "features") -> Trial:
    """Records with missing values, for what has no thresholds that could be read from it.

    Args:
        width: D.
        given: Real records to start from, where there are any; else they are drawn, half of them near 0.
        seed: Of what is drawn.
        name: Of the model's input.
    """
    random = np.random.default_rng(seed)
    if given.calls:
        base = _base({}, width, given, random, name)
    else:
        base = random.normal(size=(_MISSING, width)).astype(np.float32)
        base[::2] = random.uniform(-REACH, REACH, size=base[::2].shape)
    return _missing(base, random, name)


def _missing(base: NDArray[np.float32], random: np.random.Generator, name: str) -> Trial:
    """256 of these records, of each another share missing, of the first everything."""
    records = base[random.integers(len(base), size=_MISSING)]
    records[random.random(records.shape) < random.random((_MISSING, 1))] = np.nan
    records[0] = np.nan
    return Trial("missing-0", 0, {name: records.astype(np.float32)})


def splits_of_graph(proto: onnx.ModelProto) -> Splits:
    """The thresholds of a graph's trees that look at its own input; empty where it has none such."""
    (source, *others) = (value.name for value in proto.graph.input)
    found: dict[int, list[float]] = {}
    for node in proto.graph.node:
        if node.op_type.startswith("TreeEnsemble") and node.input[0] == source and not others:
            told = attributes(node)
            modes, features, values = (told.get(f"nodes_{each}", []) for each in ("modes", "featureids", "values"))
            for mode, feature, value in zip(modes, features, values, strict=True):
                if mode != b"LEAF":
                    found.setdefault(int(feature), []).append(value)
    return {feature: np.unique(np.array(values, dtype=np.float32)) for feature, values in sorted(found.items())}


def _base(splits: Splits, width: int, given: Samples, random: np.random.Generator, name: str) -> NDArray[np.float32]:
    """Records to start from: real ones, or ones that lie among the thresholds of every feature."""
    if given.calls:
        return np.concatenate([call[name] for call in given.calls]).astype(np.float32)
    base = np.zeros((256, width), dtype=np.float32)
    for feature, values in splits.items():
        finite = values[np.isfinite(values)]
        if finite.size:
            spread = max(float(finite[-1]) - float(finite[0]), abs(float(finite[0])), 1e-6)
            low, high = float(finite[0]) - spread / 4, float(finite[-1]) + spread / 4
            with np.errstate(over="ignore"):
                base[:, feature] = np.clip(random.uniform(low, high, size=len(base)), -3e38, 3e38)
    return base
