"""The one story: from a trained detector to a sealed bundle with evidence.

admit -> export and clean up -> make candidates -> measure and attack them -> choose -> look at the test split once ->
seal -> open again and compare. Every line below is one of these; the rooms do the work.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hauberk.bundle.manifest import is_detector_name
from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.evaluate.robustness.protocol import Budget
from hauberk.files import draft, require_writable, write_atomically
from hauberk.progress import SILENT, Progress
from hauberk.report import render
from hauberk.requirements import Requirement, parse_requirement
from hauberk.requirements import false_positive_rate as rate_of_metric
from hauberk.sealing import SealingKeys, open_and_compare, seal
from hauberk.search import Adversary, Findings, conclude, look_once, prepare, search
from hauberk.search.source import find_source, require_apart
from hauberk.train import PreprocessingKind
from hauberk.trust import EncryptionKey, Passphrase, SigningKey

DEFAULT_FALSE_POSITIVE_RATE = 0.01
DEFAULT_RADIUS = 0.05


@dataclass(frozen=True)
class Hardened:
    """What hardening left behind: the findings, the bundle and the report."""

    findings: Findings
    bundle: Path
    report: Path


def harden(
    model: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    report: str | Path | None = None,
    label: str | None = None,
    benign: str | None = None,
    drop: Collection[str] = (),
    card: str | Path | None = None,
    arch: str | None = None,
    preprocessing: PreprocessingKind = "none",
    requirements: Sequence[str] = (),
    false_positive_rate: float | None = None,
    radius: float = DEFAULT_RADIUS,
    budget: Budget | None = None,
    timing: float = 1.5,
    seed: int | None = None,
    name: str | None = None,
    encryption: EncryptionKey | Passphrase | None = None,
    signing: SigningKey | None = None,
    progress: Progress = SILENT,
) -> Hardened:
    """Make a small, fast, encrypted and signed bundle of a trained detector, with evidence.

    Args:
        model: A model file (`.safetensors`, `.pt`, `.onnx`) or a folder that `hauberk train` wrote.
        data: "spambase", "nsl-kdd", or a `.csv`, `.tsv`, `.parquet` or `.npz` file of labelled records.
        out: The bundle to write.
        report: The HTML report to write; beside the bundle by default.
        label: Label column; by default by its name, else the last.
        benign: The class that is no attack; by default by its name.
        drop: Columns to leave out.
        card: Model card; by default beside the model.
        arch: `FILE.py:CALLABLE`, your own code that builds the network, for a model without a card.
        preprocessing: What a model without a card expects its numbers to have gone through.
        requirements: `METRIC <= VALUE` or `METRIC >= VALUE` (see `hauberk.requirements`).
        false_positive_rate: Where the alarm threshold lies, a fraction in (0, 1); by default that of a
            `detection_rate@fpr=…` requirement, else 0.01.
        radius: How far an adversary can move a feature, L-infinity, in feature space.
        budget: How much the adversary may spend.
        timing: Seconds of timing for each candidate; more narrows the intervals of latencies.
        seed: Seed of the split and of all training; by default that of the model card, so that records which the
            detector was tested on stay unseen.
        name: Name of the detector; by default the stem of `out`.
        encryption: Key or passphrase; by default your own key, made where there is none.
        signing: Signing key; by default your own, likewise.
        progress: Who follows.

    Returns:
        The findings, and where bundle and report are. `findings.met` says whether every requirement holds; bundle and
        report are written in any case.

    Raises:
        InputError: An argument, the data or the model is not what it should be; nothing was written.
        ContractError: The bundle does not answer what was measured; nothing of it should be used.
    """
    started = time.perf_counter()
    plan = _plan(Path(out), report, name, requirements, false_positive_rate)
    source, seed = find_source(
        Path(model),
        card=Path(card) if card else None,
        arch=arch,
        preprocessing=preprocessing,
        seed=seed,
        records_only=True,
    )
    require_apart((plan.bundle, plan.report), source, (Path(data),))
    schema = source.card.schema if source.card else None
    splits = load_splits(data, label=label, benign=benign, drop=drop, schema=schema, seed=seed)
    adversary = Adversary(radius, budget or Budget())
    subject = prepare(
        source, splits, adversary, false_positive_rate=plan.rate, timing=timing, seed=seed, progress=progress
    )

    result = search(subject, plan.requirements, progress=progress)
    look = look_once(subject, result, splits, plan.requirements, progress=progress)
    seconds = time.perf_counter() - started
    findings = conclude(subject, result, look, splits, detector=plan.detector, seconds=seconds)

    rendered = render(findings).encode()
    keys = SealingKeys.complete(encryption, signing)
    with draft(plan.bundle) as unproven:
        seal(unproven, findings, look.deployable, subject.space.schema, rendered, keys)
        open_and_compare(unproven, keys, splits.test.coded, result.recommended.decision, look.margins)
    write_atomically(plan.report, rendered)
    return Hardened(findings, plan.bundle, plan.report)


@dataclass(frozen=True)
class _Plan:
    """What is wanted and where it goes, checked before any work.

    Attributes:
        bundle: The bundle to write.
        report: The report to write.
        detector: The detector's name.
        requirements: What must hold.
        rate: The false-positive rate that the alarm threshold is set for, a fraction in (0, 1).
    """

    bundle: Path
    report: Path
    detector: str
    requirements: tuple[Requirement, ...]
    rate: float


def _plan(
    out: Path, report: str | Path | None, name: str | None, requirements: Sequence[str], rate: float | None
) -> _Plan:
    bundle, page = _outputs(out, report)
    detector = _name(name or bundle.stem)
    wanted = tuple(parse_requirement(text) for text in requirements)
    return _Plan(bundle, page, detector, wanted, _threshold_rate(rate, wanted))


def _outputs(bundle: Path, report: str | Path | None) -> tuple[Path, Path]:
    """Where bundle and report go; both can be written, as far as one can tell beforehand."""
    page = Path(report) if report is not None else bundle.with_suffix(".report.html")
    if page.resolve() == bundle.resolve():
        raise InputError(f"{page}: bundle and report have the same name; give two")
    for path in (bundle, page):
        require_writable(path)
    return bundle, page


def _name(name: str) -> str:
    if not is_detector_name(name):
        raise InputError(
            f"detector name {name!r}: use up to 64 letters, digits, '.', '_' and '-', the first a letter or a digit;"
            " --name gives another than that of the bundle"
        )
    return name


def _threshold_rate(asked: float | None, requirements: Sequence[Requirement]) -> float:
    """The false-positive rate that the alarm threshold is set for."""
    if asked is None:
        named = [rate_of_metric(requirement.metric) for requirement in requirements]
        asked = next((rate for rate in named if rate is not None), DEFAULT_FALSE_POSITIVE_RATE)
    if not 0 < asked < 1:
        raise InputError(f"the false-positive rate is {100 * asked:g} %; it must lie between 0 and 100 %")
    return asked
