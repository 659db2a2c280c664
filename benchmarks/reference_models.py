"""How good the reference detectors are: every one trained with several seeds, and looked at on the test split.

    python benchmarks/reference_models.py [--seeds 3] [--cache FOLDER] [NAME …]

The threshold for 1 % false positives is set on validation records, as `hauberk harden` sets it; NSL-KDD's Test+ holds
attacks and traffic that training never showed, so that the rate there is another one, and is printed too. Figures are
the median over the seeds, with the lowest and the highest. Without `--cache` everything is trained anew.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hauberk.evaluate.intervals import roc_curve_area
from hauberk.evaluate.quality import choose_threshold
from hauberk.schema import Decision
from reference_detector import describe_machine
from subjects import NAMES, trained

_RATE = 0.01
_CHUNK = 2048
_HEAD = ("model", "parameters", "training, s", "accuracy, %", "detected, % (FPR 1 %)", "FPR on test, %", "AUROC")


def main() -> None:
    """Train, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    print(f"| {' | '.join(_HEAD)} |\n|{' --- |' * len(_HEAD)}", flush=True)
    with tempfile.TemporaryDirectory() as fresh:
        for name in options.names or [name for name in NAMES if name != "resnet18"]:
            runs = [_run(name, seed, options.cache or Path(fresh)) for seed in range(options.seeds)]
            parameters = f"{runs[0].pop(0):,.0f}"
            for run in runs[1:]:
                run.pop(0)
            columns = [_spread(list(values)) for values in zip(*runs, strict=True)]
            print(f"| {name} | {parameters} | {' | '.join(columns)} |", flush=True)


def _run(name: str, seed: int, cache: Path) -> list[float]:
    """One row: parameters, seconds, accuracy, detection rate, false-positive rate, AUROC (NaN where there is none)."""
    module, data, seconds = trained(name, seed, cache=cache)
    size = float(sum(parameter.numel() for parameter in module.parameters()))
    logits = _logits(module, data.test.features)
    targets = data.test.targets
    if logits.shape[1] > 2:
        accuracy = 100 * float((logits.argmax(axis=1) == targets).mean())
        return [size, seconds, accuracy, np.nan, np.nan, np.nan]
    decision = Decision(outputs=logits.shape[1])
    known = decision.margin(_logits(module, data.validation.features))
    margins = decision.margin(logits)
    alarms = margins >= np.float32(choose_threshold(known, data.validation.targets, _RATE))
    accuracy = 100 * float(((margins >= 0) == targets).mean())
    detected, false = (100 * float(alarms[targets == target].mean()) for target in (1, 0))
    return [size, seconds, accuracy, detected, false, float(roc_curve_area(margins, targets).area)]


def _logits(module: nn.Module, features: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.concatenate([module(chunk).numpy() for chunk in torch.split(torch.tensor(features), _CHUNK)])


def _spread(values: list[float]) -> str:
    """Median, lowest and highest."""
    if np.isnan(values).any():
        return "–"
    digits = 4 if max(values) <= 1 else 1
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} – {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
