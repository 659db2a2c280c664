"""What a search found, as plain data: the report shows it and the evidence carries it; nothing computes from it."""

from __future__ import annotations

from typing import Literal

import msgspec

from hauberk.artifact import StepRecord
from hauberk.compress.quantize.sensitivity import TradeOff
from hauberk.evaluate.quality import ClassFigures
from hauberk.evaluate.robustness.figures import AttackFigures
from hauberk.measurement import Machine, Measurement
from hauberk.requirements import Outcome

Status = Literal["baseline", "recommended", "accepted", "refused"]


class CandidateFindings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One candidate: what it is, what was measured on validation data, and why it was accepted or refused.

    Attributes:
        name: Unique short name ("float32", "int8-static", "distilled-64-32", …).
        summary: What it is, in one sentence.
        recipe: The recipe as data, enough to repeat it.
        status: "accepted" means that it meets every requirement but another one is better.
        reasons: At least one sentence; for a refused candidate each sentence names figure and bound.
        measurements: By metric name. A candidate refused early lacks those that were not worth taking.
        history: The provenance of its core graph.
    """

    name: str
    summary: str
    recipe: dict[str, object]
    status: Status
    reasons: tuple[str, ...]
    measurements: dict[str, Measurement]
    history: tuple[StepRecord, ...]


class DataFindings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data that figures were taken on: sizes in records, the digest of the source (SHA-256, hex).

    `unseen` says whether the model card shows that the detector was not trained on the test records: the same data,
    split with the same seed. Where it is False, figures may be too good.
    """

    name: str
    digest: str
    training: int
    validation: int
    test: int
    seed: int
    unseen: bool


class ThresholdFindings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the alarm threshold lies and why; rates are fractions."""

    score: float
    margin: float
    target_false_positive_rate: float
    rule: str


class Findings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a hardening run found.

    Attributes:
        detector: Name of the detector.
        created: UTC time, ISO 8601.
        machine: Where the figures were taken.
        data: The data set and its splits.
        threat: The threat model of the robust accuracies, in one sentence.
        threshold: The recommended candidate's alarm threshold.
        verdict: One sentence: what is recommended and whether it meets the requirements.
        met: Whether every requirement holds on the test split.
        outcomes: Each requirement, judged on the test split where it is about quality.
        recommended: Name of the recommended candidate (the baseline where nothing beats it).
        candidates: All candidates, the baseline first.
        test: Measurements of the recommended candidate on the test split, by metric name.
        test_baseline: The same of the baseline.
        classes: Per-class figures of the recommended candidate on the test split.
        attacks: What each attack achieved, by candidate name.
        origin: SHA-256 of the file that the model came from, hex.
        history: The provenance of the recommended candidate, admission to merged graph.
        seconds: Wall-clock time of the run.
        trade_off: The float32 graph with all layers in 8 bits, then with more and more of the most sensitive ones left
            in float32; empty where 8 bits did not come into question.
    """

    detector: str
    created: str
    machine: Machine
    data: DataFindings
    threat: str
    threshold: ThresholdFindings
    verdict: str
    met: bool
    outcomes: tuple[Outcome, ...]
    recommended: str
    candidates: tuple[CandidateFindings, ...]
    test: dict[str, Measurement]
    test_baseline: dict[str, Measurement]
    classes: tuple[ClassFigures, ...]
    attacks: dict[str, tuple[AttackFigures, ...]]
    origin: str
    history: tuple[StepRecord, ...]
    seconds: float
    trade_off: tuple[TradeOff, ...] = ()

    def candidate(self, name: str) -> CandidateFindings:
        """The candidate of that name.

        Raises:
            KeyError: There is none.
        """
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(name)
