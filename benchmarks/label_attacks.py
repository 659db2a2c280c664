"""What attacks that know only answers leave standing, beside one that knows gradients and one that knows scores.

    python benchmarks/label_attacks.py [--records 300] [--queries 1000 5000] [--cache FOLDER]

TabularMLP 256-128-64 trained on NSL-KDD (in the folder that `HAUBERK_DATA` names), records of its test split, one
thread. Searches start from 2,000 records of the training file. Mimicry attacks the attack records alone, and imitates
100 benign records of the training file, under threat models in which that means something.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks import (
    PGD,
    Attack,
    Boundary,
    FeatureThreat,
    HopSkipJump,
    Mimicry,
    WhiteBox,
    load_threat,
)
from hauberk.data import BLOCK_WINDOWS, load_splits
from hauberk.schema import Decision, FeatureSpace
from hauberk.train.preprocessing import fit_preprocessing
from reference_detector import describe_machine
from subjects import WINDOW, Data, trained

RADIUS, POOL, IMITATED = 0.05, 2000, 100


@dataclass(frozen=True)
class Ring:
    """A model, the records that all attack, and what they may start from."""

    model: WhiteBox
    features: NDArray[np.float32]
    targets: NDArray[np.int64]
    pool: NDArray[np.float32]
    pool_targets: NDArray[np.int64]

    def attacks_alone(self) -> Ring:
        """The attack records."""
        kept = self.targets == 1
        return replace(self, features=self.features[kept], targets=self.targets[kept])

    def row(self, what: str, attack: Attack[Any], threat: FeatureThreat) -> str:
        """Run an attack; its line of the table."""
        started = time.perf_counter()
        found = attack.run(self.model, self.features, self.targets, threat=threat, seed=0)
        seconds = time.perf_counter() - started
        fallen = self.model.right(self.features, self.targets) & ~found.survived
        columns = (found.adversarial != self.features)[fallen].sum(axis=1)
        changed = f"{np.median(columns):.0f}" if len(columns) else "–"
        return (
            f"| {what} | {attack.name} | {100 * found.survived.mean():.1f} % | {found.queries.mean():,.0f} |"
            f" {changed} | {seconds:.1f} |"
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=300, help="test records to attack (default: 300)")
    parser.add_argument("--queries", type=int, nargs="+", default=[1000, 5000], help="most queries a record")
    parser.add_argument("--cache", type=Path, default=Path(".benchmarks"), help="where trained weights are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe_machine()}\n")
    module, data, _ = trained("tabular-mlp", 0, cache=options.cache)
    ring = _ring(WhiteBox(module.eval(), Decision()), data, options.records)
    attacks = ring.attacks_alone()
    for name, some in (("all", ring), ("attack records", attacks)):
        print(f"{len(some.targets)} records ({name}), {_percent(some)} right without an attack")
    print("\n| threat | attack | standing | queries a record | columns changed (median) | seconds |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for line in (*_searches(ring, options.queries), *_imitations(attacks)):
        print(line, flush=True)
    return 0


def _ring(model: WhiteBox, data: Data, records: int) -> Ring:
    generator = np.random.default_rng(0)
    chosen = generator.permutation(len(data.test.targets))[:records]
    pool = generator.permutation(len(data.training.targets))[:POOL]
    return Ring(
        model,
        data.test.features[chosen],
        data.test.targets[chosen],
        data.training.features[pool],
        data.training.targets[pool],
    )


def _percent(ring: Ring) -> str:
    return f"{100 * ring.model.right(ring.features, ring.targets).mean():.1f} %"


def _searches(ring: Ring, budgets: list[int]) -> Iterator[str]:
    """Every column may move; each search at each budget, and what gradients leave."""
    width = ring.features.shape[1]
    low, high = np.zeros(width, np.float32), np.ones(width, np.float32)
    ball = FeatureThreat(RADIUS, low, high, np.ones(width, dtype=np.bool_))
    known = {"pool": ring.pool, "pool_targets": ring.pool_targets}
    for what, threat in ((f"L-infinity {RADIUS:g}", ball), ("L2 0.3", replace(ball, radius=0.3, norm="l2"))):
        yield ring.row(what, PGD(steps=100, restarts=2), threat)
        for kind in (HopSkipJump, Boundary):
            for queries in budgets:
                yield ring.row(f"{what}, {queries:,} queries", kind(queries=queries, **known), threat)  # type: ignore[arg-type]


def _imitations(ring: Ring) -> Iterator[str]:
    """Mimicry of as many benign records as there are."""
    splits = load_splits("nsl-kdd", seed=0, block=BLOCK_WINDOWS * WINDOW)
    schema = splits.training.schema
    space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))
    benign = ring.pool[ring.pool_targets == 0][:IMITATED]
    known: dict[str, Any] = {"pool": benign, "starts": len(benign)}
    shipped = load_threat("nsl-kdd").threat(space)
    box = FeatureThreat.from_space(space, 0.0, norm="none")
    everything = replace(box, mutable=np.ones(space.width, dtype=np.bool_))
    for what, threat in (
        ("NSL-KDD as shipped", shipped),
        ("columns that the schema calls mutable", box),
        ("every column", everything),
        (f"every column, L-infinity {RADIUS:g}", replace(everything, norm="linf", radius=RADIUS)),
    ):
        yield ring.row(what, Mimicry(**known), threat)
        yield ring.row(f"{what}; nothing given back", Mimicry(early_stopping=True, **known), threat)
    starts = {"pool": ring.pool, "pool_targets": ring.pool_targets}
    for kind in (HopSkipJump, Boundary):
        yield ring.row("NSL-KDD as shipped", kind(**starts), shipped)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
