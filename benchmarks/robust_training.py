"""Robust training on NSL-KDD: what is chosen on held-out kinds of attack, what it comes to on Test+, and what it costs.

    python benchmarks/robust_training.py choose [--log FILE]     # on the training file alone
    python benchmarks/robust_training.py final [--log FILE] [--seeds 5]
    python benchmarks/robust_training.py compressed [--log FILE] [--seeds 5]

An MLP 256-128-64 on all columns of NSL-KDD (log1p, then min-max scaling; vocabulary and ranges from the training
records), against L-infinity 0.05 over every column, one-hot ones as plain numbers.

Test+ holds attacks that the training file does not have. `choose` therefore judges settings by attacks that they were
not trained on: the kinds of attack are dealt out into three parts by their frequency; each part is left out of a
training in turn, and attacked afterwards. Every kind counts alike there, and so do benign records, attacks of known
kinds and attacks of unknown ones (a half, a quarter and a quarter).

`final` trains the standard network, the plain one by PGD-5, and the chosen ones, over seeds of split and training, and
attacks them on a sample of Test+: projected gradient descent on the margin (40 steps, 2 restarts) and Square (500
queries), the worst of all per record. `compressed` does the same with what became of the chosen network: each step
learns under attack where it trains, and the twin of the graph is attacked. Every run is a line of the log; what the log
has is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.attacks import PGD, FeatureThreat, Square, WhiteBox
from hauberk.compress import Distill, PruneStructured, QuantizeAware, QuantizeStatic
from hauberk.compress.distill import Scaled
from hauberk.compress.tuning import Robust, Tuning
from hauberk.data import Splits, load_splits
from hauberk.graph.export import export
from hauberk.graph.twin import Twin
from hauberk.graph.verify import verify
from hauberk.measurement import wilson
from hauberk.models import fresh
from hauberk.recipe import Context, LabelledFeatures, Recipe, Step
from hauberk.schema import Decision, FeatureSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, fit_preprocessing, labelled, train, weights_by_kind
from hauberk.train.robust import RobustOptions, every_column, train_robust
from reference_detector import describe_machine

RADIUS = 0.05
WIDTHS = [256, 128, 64]
RECORDS = 2000  # of Test+, stratified by class
HELD_OUT = 3  # parts into which the kinds of attack are dealt
FEWEST = 5  # records of a kind below which it has no figure of its own


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One way to train.

    Attributes:
        options: Of the loop; the seed is that of the run.
        robust: The attack; `None` trains on the records as they are.
        balance: How far rare kinds of attack weigh more, 0 to 1.
        attacks: How much more attack records weigh than benign ones in sum.
    """

    options: TrainingOptions
    robust: RobustOptions | None = None
    balance: float = 0.0
    attacks: float = 1.0


def _setting(
    robust: RobustOptions | None, *, epochs: int, averaging: float = 0.0, balance: float = 0.0, attacks: float = 1.0
) -> Setting:
    options = TrainingOptions(
        epochs=epochs,
        batch_size=256,
        learning_rate=2e-3,
        schedule="cosine",
        patience=epochs,
        averaging=averaging,
    )
    return Setting(options=options, robust=robust, balance=balance, attacks=attacks)


class Data(NamedTuple):
    """The splits of one seed in feature space."""

    splits: Splits
    space: FeatureSpace
    training: LabelledFeatures
    validation: LabelledFeatures
    test: LabelledFeatures
    threat: FeatureThreat


def load(seed: int) -> Data:
    """The data as every run sees it."""
    splits = load_splits("nsl-kdd", seed=seed)
    schema = splits.training.schema
    space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))
    training, validation, test = (labelled(space, part) for part in (splits.training, splits.validation, splits.test))
    return Data(splits, space, training, validation, test, every_column(space, RADIUS))


def fit(
    setting: Setting, seed: int, training: LabelledFeatures, kinds: NDArray[np.int64], data: Data
) -> tuple[nn.Module, float]:
    """A network, and the processor seconds that it took: other programs on the machine do not count."""
    module = fresh("tabular-mlp", {"inputs": data.space.width, "widths": WIDTHS, "outputs": 2}, seed)
    options = msgspec.structs.replace(setting.options, seed=seed)
    started = time.process_time()
    if setting.robust is None:
        train(module, training, data.validation, options)
    else:
        weights = weights_by_kind(kinds, training.targets, setting.balance)
        weights[training.targets == 1] *= setting.attacks
        train_robust(module, training, data.validation, options, setting.robust, data.threat, weights=weights)
    return module, time.process_time() - started


def withstands(
    module: nn.Module, records: LabelledFeatures, threat: FeatureThreat, *, steps: int, restarts: int, queries: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each record is answered right as it is, and under every attack."""
    model = WhiteBox(module, Decision())
    arguments = (records.features, records.targets)
    clean = model.right(*arguments)
    survived = clean & PGD(steps=steps, restarts=restarts).run(model, *arguments, threat=threat).survived
    if queries:
        survived &= Square(queries=queries).run(model, *arguments, threat=threat).survived
    return clean, survived


_PGD = RobustOptions(steps=5)
SETTINGS: dict[str, Setting] = {
    "standard": _setting(None, epochs=10),
    "pgd-5": _setting(_PGD, epochs=10),
    "pgd-5 averaged": _setting(_PGD, epochs=10, averaging=0.995),
    "pgd-5 long": _setting(_PGD, epochs=30),
    "pgd-5 balanced": _setting(_PGD, epochs=10, averaging=0.995, balance=0.5),
    "pgd-5 balanced, attacks twice": _setting(_PGD, epochs=10, averaging=0.995, balance=0.5, attacks=2.0),
    "pgd-5 balanced, radius 1.2": _setting(RobustOptions(steps=5, radius=1.2), epochs=10, averaging=0.995, balance=0.5),
    "trades balanced": _setting(RobustOptions(method="trades", beta=2.0), epochs=10, averaging=0.995, balance=0.5),
    "pgd-10 balanced": _setting(RobustOptions(steps=10), epochs=10, averaging=0.995, balance=0.5),
    "fast balanced": _setting(RobustOptions(method="fast", start="random"), epochs=10, averaging=0.995, balance=0.5),
}
"""What is tried, all of it stopped by attacked validation records."""

CHOSEN = "pgd-10 balanced"
FINAL = ("standard", "pgd-5", CHOSEN, "fast balanced")


def choose(name: str, seed: int, data: Data) -> dict[str, object]:
    """One setting on attacks that it has not been trained on: shares in [0, 1], and processor seconds."""
    classes = data.splits.training.label.classes
    kinds, others = data.splits.training.labels, data.splits.validation.labels
    by_kind: dict[str, tuple[float, float]] = {}
    ordinary: list[tuple[float, float]] = []
    seconds = 0.0
    for held in deal(kinds, data.training.targets):
        out, beside = np.isin(kinds, held), np.isin(others, held)
        kept = LabelledFeatures(data.training.features[~out], data.training.targets[~out])
        narrowed = data._replace(validation=_take(data.validation, ~beside))
        module, spent = fit(SETTINGS[name], seed, kept, kinds[~out], narrowed)
        seconds += spent
        unknown = _join(_take(data.training, out), _take(data.validation, beside))
        of_unknown = np.concatenate([kinds[out], others[beside]])
        rows = np.sort(np.random.default_rng(0).permutation(len(unknown))[:2500])
        clean, robust = withstands(module, _take(unknown, rows), data.threat, steps=20, restarts=1, queries=0)
        for kind in held:
            of_kind = of_unknown[rows] == kind
            if of_kind.sum() >= FEWEST:
                by_kind[classes[kind]] = (float(clean[of_kind].mean()), float(robust[of_kind].mean()))
        known = narrowed.validation
        clean, robust = withstands(module, known, data.threat, steps=20, restarts=1, queries=0)
        ordinary += [
            (float(clean[known.targets == target].mean()), float(robust[known.targets == target].mean()))
            for target in (0, 1)
        ]
    figures = [
        np.mean(ordinary[0::2], axis=0),
        np.mean(ordinary[1::2], axis=0),
        np.mean(list(by_kind.values()), axis=0),
    ]
    clean, robust = (0.5 * figures[0][i] + 0.25 * figures[1][i] + 0.25 * figures[2][i] for i in (0, 1))
    return {
        "stage": "choose",
        "setting": name,
        "seed": seed,
        "clean": clean,
        "robust": robust,
        "benign": figures[0][1],
        "known": figures[1][1],
        "unknown": figures[2][1],
        "by_kind": {kind: each[1] for kind, each in by_kind.items()},
        "seconds": seconds,
    }


def deal(kinds: NDArray[np.int64], targets: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The kinds of attack in parts, dealt out from the most frequent to the rarest."""
    names, counts = np.unique(kinds[targets == 1], return_counts=True)
    ordered = names[np.argsort(-counts, kind="stable")]
    return [ordered[first::HELD_OUT] for first in range(HELD_OUT)]


def final(name: str, seed: int, data: Data) -> dict[str, object]:
    """One setting on a sample of Test+ under every attack: shares in [0, 1], and processor seconds."""
    module, seconds = fit(SETTINGS[name], seed, data.training, data.splits.training.labels, data)
    sample = stratified(data.test, RECORDS)
    clean, robust = withstands(module, sample, data.threat, steps=40, restarts=2, queries=500)
    share = wilson(int(robust.sum()), len(robust))
    return {
        "stage": "final",
        "setting": name,
        "seed": seed,
        "clean": float(clean.mean()),
        "robust": share.value,
        "low": share.low,
        "high": share.high,
        "whole": float(WhiteBox(module, Decision()).right(data.test.features, data.test.targets).mean()),
        "seconds": seconds,
    }


_UNDER_ATTACK = Robust(radius=RADIUS, steps=5)
STEPS: dict[str, tuple[Step, ...]] = {
    "int8 static": (QuantizeStatic(),),
    "int8 aware, under attack": (
        QuantizeAware(tuning=Tuning(epochs=4, batch_size=128, learning_rate=1e-4, robust=_UNDER_ATTACK)),
    ),
    "half pruned, under attack": (
        PruneStructured(amount=0.5, tuning=Tuning(epochs=8, learning_rate=2e-3, robust=_UNDER_ATTACK)),
    ),
    "distilled to half, under attack": (
        Distill(student=Scaled(width=0.5), tuning=Tuning(epochs=12, learning_rate=2e-3, robust=_UNDER_ATTACK)),
    ),
}
"""What is made of the chosen network."""


def compressed(name: str, seed: int, data: Data) -> list[dict[str, object]]:
    """The chosen network and what every recipe makes of it, on the same sample under the same attacks."""
    module, _ = fit(SETTINGS[name], seed, data.training, data.splits.training.labels, data)
    shapes = (TensorSpec("features", "float32", ("batch", data.space.width)),)
    signature = Signature(shapes, (TensorSpec("logits", "float32", ("batch", 2)),))
    core = export(TorchArtifact(module, signature, data.splits.digest))
    context = Context(
        data.training.sample(2000, seed).features, data.space.bounds, data.training, data.validation, seed=seed
    )
    sample = stratified(data.test, RECORDS)
    rows: list[dict[str, object]] = []
    for label, steps in {"float32": (), **STEPS}.items():
        started = time.process_time()
        made = Recipe(label, steps).apply(core, context, verify)
        seconds = time.process_time() - started
        kept = all(record.kept for record in made.history[len(core.history) :])
        assert isinstance(made, OnnxArtifact)
        twin = Twin(made).eval()
        clean, robust = withstands(twin, sample, data.threat, steps=40, restarts=2, queries=500)
        found = {"clean": float(clean.mean()), "robust": float(robust.mean()), "seconds": seconds, "kept": kept}
        rows.append({"stage": "compressed", "setting": label, "seed": seed, **found})
    return rows


def stratified(records: LabelledFeatures, most: int) -> LabelledFeatures:
    """So many records with the classes' own shares, the same ones for every model."""
    generator, rows = np.random.default_rng(0), []
    for target in (0, 1):
        of_class = np.flatnonzero(records.targets == target)
        rows.append(generator.permutation(of_class)[: round(most * len(of_class) / len(records))])
    return _take(records, np.sort(np.concatenate(rows)))


def _take(records: LabelledFeatures, rows: NDArray[np.bool_] | NDArray[np.int64]) -> LabelledFeatures:
    return LabelledFeatures(records.features[rows], records.targets[rows])


def _join(first: LabelledFeatures, second: LabelledFeatures) -> LabelledFeatures:
    return LabelledFeatures(
        np.concatenate([first.features, second.features]), np.concatenate([first.targets, second.targets])
    )


def show(rows: list[dict[str, object]], stage: str) -> str:
    """A table of what the log has: means over seeds, and the lowest and the highest."""
    names = {
        "choose": ("clean", "robust", "benign", "known", "unknown"),
        "final": ("clean", "robust", "whole"),
        "compressed": ("clean", "robust"),
    }[stage]
    lines = [" | ".join(("setting", "seeds", *names, "seconds")), " | ".join("---" for _ in range(len(names) + 3))]
    for setting in (*SETTINGS, "float32", *STEPS):
        found = [row for row in rows if row["stage"] == stage and row["setting"] == setting]
        if found:
            cells = [_cell([float(str(row[name])) for row in found]) for name in names]
            seconds = np.mean([float(str(row["seconds"])) for row in found])
            undone = sum(row.get("kept") is False for row in found)
            label = (
                f"{setting} (undone in {undone} of {len(found)}: the figure is that of float32)" if undone else setting
            )
            lines.append(" | ".join((label, str(len(found)), *cells, f"{seconds:.1f}")))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(values: list[float]) -> str:
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def main() -> int:
    """Run what the log lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("choose", "final", "compressed"))
    parser.add_argument("--log", type=Path, default=Path("build/robust-training.jsonl"))
    parser.add_argument("--seeds", type=int, default=None, help="(default: 1 to choose, else 5)")
    parser.add_argument("--settings", help="names with semicolons (default: all, those of the end, the chosen one)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe_machine()}\n")
    usual = {"choose": tuple(SETTINGS)[1:], "final": FINAL, "compressed": (CHOSEN,)}
    names = options.settings.split(";") if options.settings else usual[options.stage]
    for seed in range(options.seeds or (1 if options.stage == "choose" else 5)):
        data = load(seed)
        done = {(row["stage"], row["setting"], row["seed"]) for row in _read(options.log)}
        for name in names:
            if options.stage == "compressed":
                known = ("compressed", "float32", seed) in done
                _note(options.log, [] if known else compressed(name, seed, data))
            elif (options.stage, name, seed) not in done:
                run = choose if options.stage == "choose" else final
                _note(options.log, [run(name, seed, data)])
    print(show(_read(options.log), options.stage))
    return 0


def _note(log: Path, rows: list[dict[str, object]]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    for row in rows:
        print(json.dumps(row), file=sys.stderr, flush=True)


def _read(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


if __name__ == "__main__":
    sys.exit(main())
