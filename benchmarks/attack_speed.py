"""Records a second under PGD: ours against the Adversarial Robustness Toolbox's, on one model, in one process.

    python benchmarks/attack_speed.py [--rounds 7] [--threads 1] [--cache FOLDER] [--json]

TabularMLP 256-128-64 trained on NSL-KDD (in the folder that `HAUBERK_DATA` names), records of its test split,
L-infinity 0.05, 20 steps from the record itself, batches of 512. Our steps shrink from the radius to a twentieth of it
unless it says otherwise, ART's are all an eighth of it; a record that stands in a corner takes no more of ours. Runs
are interleaved, each round in another order; ratios are of the same round, and the table gives their median and range.
ART descends the cross-entropy, whose sign is that of our margin: the share of records that stand says whether both
attacks are the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks import APGD, PGD, Attack, FeatureThreat, WhiteBox
from hauberk.measurement import this_machine
from hauberk.schema import Decision
from reference_detector import describe_machine
from subjects import trained

RADIUS, STEPS, BATCH, RECORDS = 0.05, 20, 512, 4096
STEP = 2.5 * RADIUS / STEPS
TARGETS = {"PGD, all steps": 2.0, "PGD, early stopping": 5.0}
"""How many times ART's records a second there should at least be."""

ART = "ART ProjectedGradientDescent"


@dataclass(frozen=True)
class Ring:
    """A model, and the records that all attack: float32 [N, D] within [0, 1], targets int64 [N]."""

    model: WhiteBox
    features: NDArray[np.float32]
    targets: NDArray[np.int64]

    def ours(self, attack: Attack[WhiteBox]) -> Callable[[], NDArray[np.float32]]:
        """A run of one of our attacks."""
        width = self.features.shape[1]
        threat = FeatureThreat(
            RADIUS, np.zeros(width, np.float32), np.ones(width, np.float32), np.ones(width, dtype=np.bool_)
        )
        return lambda: attack.run(self.model, self.features, self.targets, threat=threat).adversarial

    def art(self) -> Callable[[], NDArray[np.float32]]:
        """A run of ART's attack."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from art.attacks.evasion import ProjectedGradientDescent
            from art.estimators.classification import PyTorchClassifier

            classifier = PyTorchClassifier(
                model=self.model.module,
                loss=torch.nn.CrossEntropyLoss(),
                input_shape=(self.features.shape[1],),
                nb_classes=2,
                clip_values=(0.0, 1.0),
                device_type="cpu",
            )
        attack = ProjectedGradientDescent(
            classifier, norm=np.inf, eps=RADIUS, eps_step=STEP, max_iter=STEPS, batch_size=BATCH, verbose=False
        )
        return lambda: attack.generate(self.features, self.targets)

    def standing(self, points: NDArray[np.float32]) -> float:
        """Share of records that are answered right."""
        return float(self.model.right(np.ascontiguousarray(points), self.targets).mean())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each attack runs (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--cache", type=Path, default=Path(".benchmarks"), help="where trained weights are kept")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    ring = _ring(options.cache)
    pgd = PGD(steps=STEPS, batch_size=BATCH)
    runs = {
        ART: ring.art(),
        "PGD, all steps": ring.ours(replace(pgd, early_stopping=False)),
        "PGD, early stopping": ring.ours(pgd),
        "PGD, all steps, as long as ART's": ring.ours(replace(pgd, step_size=STEP, early_stopping=False)),
        "PGD, early stopping, steps as long as ART's": ring.ours(replace(pgd, step_size=STEP)),
        "PGD, all steps, momentum": ring.ours(replace(pgd, early_stopping=False, momentum=1.0)),
        "APGD, early stopping": ring.ours(APGD(steps=STEPS, batch_size=BATCH)),
    }
    seconds, standing = _measure(ring, runs, options.rounds)
    if options.json:
        document = {"machine": this_machine(), "seconds": seconds, "standing": standing}
        print(json.dumps(document, indent=2, default=str))
        return 0
    print(f"{machine}\n")
    print(f"TabularMLP 256-128-64 on NSL-KDD, {len(ring.targets)} records of Test+, L-infinity {RADIUS:g},")
    print(f"{STEPS} steps, batches of {BATCH}, {options.threads} thread(s), {options.rounds} rounds;")
    print(f"{100 * ring.standing(ring.features):.1f} % right without an attack\n")
    print(_table(seconds, standing, len(ring.targets)))
    return 0


def _ring(cache: Path) -> Ring:
    module, data, _ = trained("tabular-mlp", 0, cache=cache)
    chosen = np.random.default_rng(0).permutation(len(data.test.targets))[:RECORDS]
    # ART clips to [0, 1] whatever the record; so that both attack the same points, the records do so first.
    features = np.clip(data.test.features[chosen], 0.0, 1.0).astype(np.float32)
    return Ring(WhiteBox(module.eval(), Decision()), features, data.test.targets[chosen].astype(np.int64))


def _measure(
    ring: Ring, runs: dict[str, Callable[[], NDArray[np.float32]]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each run by round, and the share of records that stand."""
    standing = {name: ring.standing(run()) for name, run in runs.items()}  # warms up, too
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds, standing


def _table(seconds: dict[str, list[float]], standing: dict[str, float], records: int) -> str:
    lines = [
        "| attack | records a second | times ART (range) | target | records that stand |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, times in seconds.items():
        ratios = np.array(seconds[ART]) / np.array(times)
        times_art = f"{np.median(ratios):.1f} ({ratios.min():.1f} … {ratios.max():.1f})"
        target = f"{TARGETS[name]:g}" if name in TARGETS else "–"
        rate = records / float(np.median(times))
        lines.append(f"| {name} | {rate:,.0f} | {times_art} | {target} | {100 * standing[name]:.1f} % |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
