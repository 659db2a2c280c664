"""What certification found, as plain data: reports show it and evidence carries it."""

from __future__ import annotations

from typing import Literal

import msgspec

from hauberk.measurement import Measurement

Method = Literal["ibp", "crown"]
"""Interval bounds alone, or linear bounds (see `hauberk.evaluate.robustness.certify.certificate`)."""


class Certified(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many records a bound proves right wherever the threat model lets them go.

    Attributes:
        method: How the bound was computed: "ibp" or "crown".
        norm: Of the threat model.
        radius: Of the threat model.
        certified_accuracy: Share of records whose answer is right and cannot be changed, with its interval. It is a
            lower bound of the true robust accuracy, as what attacks leave is an upper one.
        seconds: Wall-clock time of all bounds.
    """

    method: Method
    norm: Literal["linf", "l2", "none"]
    radius: float
    certified_accuracy: Measurement
    seconds: float


class Smoothed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is certified of a detector that answers by the majority of noisy copies of a record.

    Attributes:
        sigma: Standard deviation of the noise, in units of the feature space.
        samples: Noisy copies that were counted for each record.
        confidence: Of every certificate on its own: the chance that it is wrong is at most 1 less this.
        radius: Of the threat model, L2.
        accuracy: Share of records that the majority answers right and for certain, with its interval.
        certified_accuracy: Share of records of which that holds within the radius.
        abstained: Share of records of which no majority could be shown.
        seconds: Wall-clock time.
    """

    sigma: float
    samples: int
    confidence: float
    radius: float
    accuracy: Measurement
    certified_accuracy: Measurement
    abstained: Measurement
    seconds: float
