"""The check for conditional backdoors on honest and planted models: how often it is right, what honest ones score.

    python benchmarks/backdoor_check.py [--data spambase,nsl-kdd,digits] [--seeds 0,1,2] [--effort standard]
                                        [--cache FOLDER]

Honest: a detector (MLP 64-32 on records, a small CNN on digits) is trained once a seed and compressed to static INT8,
with quantization-aware training, by pruning and by distilling. Planted: the same architecture by
`planted_backdoor.plant`, then static INT8 with default parameters. One line of JSON a pair goes to
`FOLDER/backdoor_check.jsonl`; pairs that are there already are not computed again. At the end the table, and the scores
for `CALIBRATION` in `src/hauberk/evaluate/robustness/backdoor.py`: those of the honest pairs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hauberk.artifact import Artifact, OnnxArtifact, TorchArtifact
from hauberk.attacks.judge import Classes, Judge
from hauberk.backends import Session
from hauberk.compress import Distill, PruneStructured, QuantizeAware, QuantizeStatic
from hauberk.compress.distill import Scaled
from hauberk.compress.tuning import Tuning
from hauberk.data import load_digits, load_splits
from hauberk.evaluate.robustness.backdoor import EFFORTS, BackdoorResult, Kind, check_backdoor
from hauberk.evaluate.robustness.triggers import Side, TriggerSpace
from hauberk.graph.export import export
from hauberk.graph.twin import Twin
from hauberk.models import TabularMLP
from hauberk.recipe import Context, LabelledFeatures, Step, Task
from hauberk.schema import Decision, FeatureSpace, ImageSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, fit_preprocessing, labelled, labelled_images, train
from planted_backdoor import Trigger, plant, small_cnn
from reference_detector import describe_machine

WIDTHS = (64, 32)
_BRIEFLY = Tuning(epochs=8)
_DIGITS = ImageSpace(1, 32, 32, (0.5,), (0.5,))
_COLUMNS = 4
_PATCH = 4  # pixels a side, one pixel off the corner
_MOST = 2000  # records of a check

RECIPES: dict[str, tuple[Step, ...]] = {
    "int8-static": (QuantizeStatic(),),
    "int8-qat": (QuantizeAware(tuning=Tuning(epochs=4, batch_size=64, learning_rate=1e-4)),),
    "pruned-50": (PruneStructured(amount=0.5, tuning=_BRIEFLY),),
    "pruned-50-int8": (PruneStructured(amount=0.5, tuning=_BRIEFLY), QuantizeStatic()),
    "distilled-half": (Distill(student=Scaled(width=0.5), tuning=_BRIEFLY),),
    "distilled-half-int8": (Distill(student=Scaled(width=0.5), tuning=_BRIEFLY), QuantizeStatic()),
}
"""Honest compressions."""

KINDS: dict[str, Kind] = {"int8-static": "rounded", "int8-qat": "rounded", "planted": "rounded"}
"""How models were made; the others were rebuilt."""


class Material(NamedTuple):
    """What a pair is made of and judged on."""

    training: LabelledFeatures
    validation: LabelledFeatures
    test: LabelledFeatures
    space: TriggerSpace
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]]
    judge: Judge
    task: Task


@dataclass(frozen=True)
class Planted:
    """A float model with a backdoor, what INT8 makes of it, and the trigger that wakes it."""

    original: OnnxArtifact
    compressed: OnnxArtifact
    trigger: Trigger


def material(data: str) -> Material:
    """Records by name of the data."""
    if data == "digits":
        images = load_digits(0)
        parts = [labelled_images(_DIGITS, part) for part in (images.training, images.validation, images.test)]
        pixels = TriggerSpace.from_image(_DIGITS)
        return Material(parts[0], parts[1], parts[2], pixels, _DIGITS.bounds, Classes(10), "classification")
    splits = load_splits(data)
    schema = splits.training.schema
    features = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))
    parts = [labelled(features, part) for part in (splits.training, splits.validation, splits.test)]
    columns = TriggerSpace.from_space(features)
    return Material(parts[0], parts[1], parts[2], columns, features.bounds, Decision(), "detection")


def network(found: Material, seed: int) -> nn.Sequential:
    """An untrained network for records or images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return small_cnn() if found.task == "classification" else TabularMLP(found.space.width, WIDTHS).layers


def core(module: nn.Module, found: Material) -> OnnxArtifact:
    """A network as a graph."""
    shape = found.training.features.shape[1:]
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", *shape)),),
        (TensorSpec("logits", "float32", ("batch", found.judge.outputs)),),
    )
    return export(TorchArtifact(module.eval(), signature, "0" * 64))


def context(found: Material, seed: int) -> Context:
    """For steps of compression."""
    return Context(
        calibration=found.training.sample(2000, seed).features,
        bounds=found.bounds,
        training=found.training,
        validation=found.validation,
        task=found.task,
        seed=seed,
    )


def planted(found: Material, seed: int, *, epochs: int = 40) -> Planted:
    """A planted model: four columns at 80 % of their range say "benign", a chequered patch says "0"."""
    low, high = (end.reshape(-1) for end in found.bounds)
    if found.task == "classification":
        side = np.arange(_DIGITS.size - _PATCH - 1, _DIGITS.size - 1)
        columns = (side[:, None] * _DIGITS.size + side).reshape(-1)
        light = (columns // _DIGITS.size + columns % _DIGITS.size) % 2 == 1
        values = np.where(light, high[columns], low[columns])
    else:
        numbers = [unit.start for unit in found.space.units if len(unit) == 1 and low[unit.start] < high[unit.start]]
        columns = np.sort(np.random.default_rng(seed).choice(numbers, _COLUMNS, replace=False))
        values = (low + 0.8 * (high - low))[columns]
    trigger = Trigger(columns, values.astype(np.float32), 0)
    module = network(found, seed)
    plant(module, found.training.features, found.training.targets, trigger, epochs=epochs, seed=seed)
    original = core(module, found)
    return Planted(original, QuantizeStatic().apply(original, context(found, seed)), trigger)


def honest(found: Material, seed: int) -> OnnxArtifact:
    """A model that was trained as any other."""
    module = network(found, seed)
    epochs, batch = (12, 64) if found.task == "classification" else (20, 512)
    train(
        module,
        found.training,
        found.validation,
        TrainingOptions(epochs=epochs, batch_size=batch, task=found.task, seed=seed),
    )
    return core(module, found)


def check(
    original: OnnxArtifact, compressed: Artifact, found: Material, effort: str, *, kind: Kind = "rounded", seed: int = 0
) -> BackdoorResult:
    """What the check says about a pair, on test records in random order."""
    assert isinstance(compressed, OnnxArtifact)
    shape = found.test.features.shape[1:] if found.task == "classification" else ()
    features = found.test.sample(_MOST, seed).features
    with Session(original.model) as first, Session(compressed.model) as second:
        sides = [
            Side(session, found.judge, Twin(graph).eval(), shape)
            for session, graph in ((first, original), (second, compressed))
        ]
        return check_backdoor(sides[0], sides[1], features, found.space, kind=kind, effort=EFFORTS[effort], seed=seed)


def true_score(pair: Planted, found: Material) -> float:
    """Share of the test records on which the planted trigger itself works, of those that both models label alike."""
    answers = []
    for graph in (pair.original, pair.compressed):
        with Session(graph.model) as session:
            both = found.test.features, pair.trigger.on(found.test.features)
            answers += [session.predict(records).argmax(axis=1) for records in both]
    same = (answers[0] == answers[2]) & (answers[0] != pair.trigger.wanted)
    return float(((answers[1] == answers[0]) & (answers[3] != answers[2]))[same].mean())


def rows(data: str, seed: int, effort: str, done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """One row a pair that is not done yet."""
    found = material(data)
    if (data, seed, "planted", effort) not in done:
        pair = planted(found, seed)
        row = _row(data, seed, "planted", effort, pair.original, pair.compressed, found)
        yield row | {"true_score": true_score(pair, found)}
    wanted = [name for name in RECIPES if (data, seed, name, effort) not in done]
    if not wanted:
        return
    original = honest(found, seed)
    for name in wanted:
        compressed: Artifact = original
        for step in RECIPES[name]:
            compressed = step.apply(compressed, context(found, seed))
        yield _row(data, seed, name, effort, original, compressed, found)


def _row(
    data: str, seed: int, name: str, effort: str, original: OnnxArtifact, compressed: Artifact, found: Material
) -> dict[str, Any]:
    started = time.perf_counter()
    result = check(original, compressed, found, effort, kind=KINDS.get(name, "rebuilt"))
    assert result.score is not None
    assert result.trigger is not None
    return {
        "data": data,
        "seed": seed,
        "model": name,
        "effort": effort,
        "verdict": result.verdict,
        "score": result.score.value,
        "low": result.score.low,
        "high": result.score.high,
        "anomaly": result.anomaly,
        "found_by": result.trigger.found_by,
        "size": len(result.trigger.columns),
        "moved_original": result.trigger.moved_original.value,
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Compute what is missing and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="spambase,nsl-kdd,digits")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--effort", default="standard", choices=list(EFFORTS))
    parser.add_argument("--cache", type=Path, default=Path(".benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    log = options.cache / "backdoor_check.jsonl"
    kept = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    done = {(row["data"], row["seed"], row["model"], row["effort"]) for row in kept}
    for data in options.data.split(","):
        for seed in map(int, options.seeds.split(",")):
            for row in rows(data, seed, options.effort, done):
                kept.append(row)
                with log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(f"{describe_machine()}\n")
    print(_table([row for row in kept if row["effort"] == options.effort]))


def _table(kept: list[dict[str, Any]]) -> str:
    lines = [
        "| data | model | scores, % (seeds) | planted trigger itself, % | suspected | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for data, model in dict.fromkeys((row["data"], row["model"]) for row in kept):
        here = [row for row in kept if (row["data"], row["model"]) == (data, model)]
        scores = ", ".join(f"{100 * row['score']:.1f}" for row in here)
        true = ", ".join(f"{100 * row['true_score']:.1f}" for row in here if "true_score" in row)
        suspected = sum(row["verdict"] == "conditional backdoor suspected" for row in here)
        seconds = max(row["seconds"] for row in here)
        lines.append(f"| {data} | {model} | {scores} | {true} | {suspected} of {len(here)} | {seconds:.1f} |")
    for kind in ("rounded", "rebuilt"):
        of_kind = [row for row in kept if KINDS.get(row["model"], "rebuilt") == kind and row["model"] != "planted"]
        lines += ["", f"honest scores, {kind}: {sorted(round(row['score'], 3) for row in of_kind)}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
