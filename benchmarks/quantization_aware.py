"""What quantization loses at 8, 4, 3 and 2 bits, and what training with the rounding wins back.

    python benchmarks/quantization_aware.py [--models NAME,…] [--seeds 0,1,2] [--cache FOLDER]

A residual CNN on scikit-learn's digits (1×32×32) and a Transformer encoder over windows of NSL-KDD, trained for real.
For each the core is quantized (`PTQ`: the same step with `Context.trained` false) and then trained (`QAT`), uint8
activations throughout; quality, agreement with float32 and the error of the logits are those of the deployed graph in
ONNX Runtime on the test split (NSL-KDD's holds attacks that training never saw; agreement on validation records is
beside it). One line of JSON a result goes to `FOLDER/quantization_aware.jsonl` as soon as it is
known; results that are there already are not computed again, unless sources, versions or parameters behind them have
changed: such rows stay in the file and count for nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from comparison import sources
from hauberk.compress import QuantizeAware
from hauberk.compress.tuning import Tuning, answers
from hauberk.graph.verify import decisions
from hauberk.recipe import Context
from reference_detector import describe_machine
from subjects import Subject, subject

MODELS = {
    "residual-cnn": (1100, Tuning(epochs=15, batch_size=64, learning_rate=1e-3)),
    "window-transformer": (4000, Tuning(epochs=12, batch_size=64, learning_rate=5e-4)),
}
"""Training records that are used, and how; at 8 bits with a tenth of the learning rate."""

_VALIDATION = 1500
"""Validation records that say which epoch was the best; agreement is judged on all of them."""

CASES = ((2, "uniform"), (3, "uniform"), (4, "uniform"), (8, "uniform"), (2, "k-means"), (3, "k-means"), (4, "k-means"))


def main() -> None:
    """Compute what is missing and print the table of what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--cache", type=Path, default=Path(".benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    log = options.cache / "quantization_aware.jsonl"
    for seed in map(int, options.seeds.split(",")):
        for name in options.models.split(","):
            _compute(name, seed, options.cache, log)
    print(f"{describe_machine()}\n")
    print(_table(_read(log)))


def _compute(name: str, seed: int, cache: Path, log: Path) -> None:
    done = {(row["model"], row["seed"], row["bits"], row["levels"]) for row in _read(log)}
    missing = [case for case in CASES if (name, seed, *case) not in done]
    if not missing:
        return
    found = subject(name, seed, cache=cache)
    assert found.context.training is not None and found.context.validation is not None  # noqa: PT018 - a subject's
    records, tuning = MODELS[name]
    context = replace(
        found.context,
        training=found.context.training.sample(records, seed),
        validation=found.context.validation.sample(_VALIDATION, seed),
        seed=seed,
    )
    known = found.context.validation.features
    wanted, wanted_known = answers(found.core, found.test.features), answers(found.core, known)
    for bits, levels in missing:
        rate = tuning.learning_rate / (10 if bits == 8 else 1)
        step = QuantizeAware(
            weight_bits=bits,  # type: ignore[arg-type]
            levels=levels,  # type: ignore[arg-type]
            tuning=msgspec.structs.replace(tuning, learning_rate=rate),
        )
        row: dict[str, Any] = {"model": name, "seed": seed, "bits": bits, "levels": levels, "key": _key()}
        row["float32"] = _quality(wanted, found, context)
        row["float32_bytes"] = len(found.core.model)
        for label, trained in (("ptq", False), ("qat", True)):
            started = time.perf_counter()
            artifact = step.apply(found.core, replace(context, trained=trained))
            row[f"{label}_seconds"] = round(time.perf_counter() - started, 1)
            logits = answers(artifact, found.test.features)
            row[label] = _quality(logits, found, context)
            row[f"{label}_agreement"] = float((decisions(logits, context) == decisions(wanted, context)).mean())
            row[f"{label}_error"] = float(np.sqrt(np.square(logits - wanted).mean() / np.square(wanted).mean()))
            logits = answers(artifact, known)
            agreed = decisions(logits, context) == decisions(wanted_known, context)
            row[f"{label}_known_agreement"] = float(agreed.mean())
            row["bytes"] = len(artifact.model)
        with log.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def _quality(logits: NDArray[np.float32], found: Subject, context: Context) -> float:
    """Accuracy on the test split."""
    return float((decisions(logits, context) == found.test.targets).mean())


def _key() -> str:
    """Digest of all that decides a row besides what the row names."""
    return hashlib.sha256(sources.of_measuring().encode() + Path(__file__).read_bytes()).hexdigest()


def _read(log: Path) -> list[dict[str, Any]]:
    """The rows of a file that this program would write again as they are."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    return [row for row in rows if row.get("key") == _key()]


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | weights | seeds | file | accuracy, % | agreement, % | agreement, validation, % | error, % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model in MODELS:
        for bits, levels in CASES:
            chosen = [row for row in rows if (row["model"], row["bits"], row["levels"]) == (model, bits, levels)]
            if not chosen:
                continue

            def mean(key: str, rows: list[dict[str, Any]] = chosen) -> str:
                return f"{100 * np.mean([row[key] for row in rows]):.1f}"

            size = np.mean([row["bytes"] / row["float32_bytes"] for row in chosen])
            lines.append(
                f"| {model} | {bits} bits, {levels} | {len(chosen)} | {size:.2f} |"
                f" {mean('float32')} → {mean('ptq')} → {mean('qat')} |"
                f" {mean('ptq_agreement')} → {mean('qat_agreement')} |"
                f" {mean('ptq_known_agreement')} → {mean('qat_known_agreement')} |"
                f" {mean('ptq_error')} → {mean('qat_error')} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
