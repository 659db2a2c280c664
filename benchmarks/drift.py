"""A float detector and its compressed copies under drift, and on attacks that no training record showed.

    python benchmarks/drift.py [--data nsl-kdd|spambase] [--epochs 40] [--seed 0]

An MLP 256-128-64 is trained as `hauberk train` does it, compressed to static INT8 and by pruning half of its units, and
measured on the test split at a threshold of 0 on the margin. Two tables: accuracy under each disturbance, and detection
by class, unseen attacks first.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

import torch

from hauberk.artifact import Artifact, OnnxArtifact, TorchArtifact
from hauberk.backends import Session
from hauberk.compress import PruneStructured, QuantizeStatic
from hauberk.compress.tuning import Tuning
from hauberk.data import load_splits
from hauberk.evaluate.drift import DetectionByClass, DriftResult, detection_by_class, labelling, measure_drift
from hauberk.graph.export import export
from hauberk.measurement import Measurement
from hauberk.recipe import Context, Step
from hauberk.schema import FeatureSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, labelled, train_detector
from reference_detector import describe_machine

RECIPES: dict[str, tuple[Step, ...]] = {
    "float32": (),
    "int8-static": (QuantizeStatic(),),
    "pruned-50": (PruneStructured(amount=0.5, tuning=Tuning(epochs=15)),),
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="nsl-kdd")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    splits = load_splits(options.data, seed=options.seed)
    trained = train_detector(splits, options=TrainingOptions(epochs=options.epochs, patience=6, seed=options.seed))
    space = FeatureSpace(trained.card.schema, trained.card.preprocessing)
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", space.width)),), (TensorSpec("logits", "float32", ("batch", 2)),)
    )
    core = export(TorchArtifact(trained.module, signature, splits.digest))
    training, validation = labelled(space, splits.training), labelled(space, splits.validation)
    context = Context(
        calibration=training.sample(2000, options.seed).features,
        bounds=space.bounds,
        training=training,
        validation=validation,
        seed=options.seed,
    )
    with ExitStack() as stack:
        models = {}
        for name, steps in RECIPES.items():
            graph: Artifact = core
            for step in steps:
                graph = step.apply(graph, context)
            assert isinstance(graph, OnnxArtifact)
            session = stack.enter_context(Session(graph.model))
            models[name] = labelling(session, trained.card.decision, space)
        test, baseline = splits.test, "float32"
        started = time.perf_counter()
        drift = measure_drift(
            models, space, test.coded, test.targets, baseline=baseline, usual=splits.training.coded, seed=options.seed
        )
        spent = time.perf_counter() - started
        by_class = detection_by_class(
            models, test.coded, test.labels, test.label, seen=splits.training.labels, baseline=baseline
        )
    print(f"{describe_machine()}\n\n{options.data}: {drift.records} records, {spent:.1f} s\n")
    print(f"{_drift_table(drift)}\n\n{_class_table(by_class)}")


def _drift_table(result: DriftResult) -> str:
    names = list(dict.fromkeys(row.model for row in result.figures))
    lines = ["| disturbance | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for first in range(0, len(result.figures), len(names)):
        rows = result.figures[first : first + len(names)]
        strength = f" {rows[0].strength:g}" if rows[0].strength else ""
        cells = [
            f"{_share(row.accuracy)}; {100 * row.detection_rate.value:.1f} / {100 * row.false_positive_rate.value:.1f}"
            for row in rows
        ]
        lines.append(f"| {rows[0].disturbance}{strength} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _class_table(result: DetectionByClass) -> str:
    names = list(result.together[0].alerts)
    lines = ["| class | seen | records | " + " | ".join(names) + " |", "|---|---|---|" + "---|" * len(names)]
    for row in (*result.together, *result.classes):
        cells = " | ".join(_share(row.alerts[name]) for name in names)
        lines.append(f"| {row.name} | {'yes' if row.seen else 'no'} | {row.records} | {cells} |")
    return "\n".join(lines)


def _share(rate: Measurement) -> str:
    return f"{100 * rate.value:.1f} ({100 * (rate.low or 0):.1f} to {100 * (rate.high or 0):.1f})"


if __name__ == "__main__":
    main()
