"""Randomised smoothing: certified L2 radii for any model that answers, at the price of many answers (on demand).

Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019 (arXiv:1902.02918).
The smoothed detector answers what the model answers most often to copies of a record with Gaussian noise. If the most
frequent answer has a probability of at least p > 1/2, no move shorter than `sigma * inverse normal(p)` changes it. p
is bounded from below by counting (`binomial`), so that each certificate may be wrong with a small, chosen chance. Where
the bound does not exceed 1/2, the smoothed detector abstains.

What is certified is the **smoothed** detector. It is another detector than the one that is deployed, slower by the
number of copies, and often less accurate; its certificate says nothing about a single answer of the model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import Predictor
from hauberk.attacks.judge import Classes, Judge, check_targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError
from hauberk.evaluate.quality import rate_measurement
from hauberk.evaluate.robustness.certify.binomial import lowest_probability
from hauberk.evaluate.robustness.certify.figures import Smoothed
from hauberk.recipe import LabelledFeatures

ABSTAINED = -1
"""The answer where no majority could be shown."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How to smooth.

    Attributes:
        sigma: Standard deviation of the noise on each mutable column, in units of the feature space; above 0.
        selected: Noisy copies from which the answer is chosen, at least 1.
        samples: Further copies by which it is counted how often that answer comes, at least 1.
        risk: Chance that one certificate is wrong, in (0, 1).
        batch_size: Copies that the model is given at once. It changes the speed, and nothing else.

    Raises:
        InputError: A value out of its range.
    """

    sigma: float
    selected: int = 100
    samples: int = 1000
    risk: float = 0.001
    batch_size: int = 4096

    def __post_init__(self) -> None:
        if not 0 < self.sigma < np.inf:
            raise InputError(f"smoothing: sigma must be a finite number above 0, not {self.sigma}")
        if not 0 < self.risk < 1:
            raise InputError(f"smoothing: the risk must lie in (0, 1), not {self.risk}")
        for name in ("selected", "samples", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"smoothing: {name} must be at least 1, not {getattr(self, name)}")

    def radius(self, successes: int) -> float:
        """The certified L2 radius after so many of `samples` copies got the answer; 0 where no majority is shown."""
        probability = lowest_probability(successes, self.samples, self.risk)
        return self.sigma * NormalDist().inv_cdf(probability) if probability > 0.5 else 0.0


@dataclass(frozen=True)
class SmoothedResult:
    """What smoothing found.

    Attributes:
        figures: As plain data.
        answers: Int64 [N], labels or classes; `ABSTAINED` where no majority could be shown.
        radii: Float64 [N], how far the answer holds, right or wrong; 0 where the detector abstains.
        certified: Bool [N], where the answer is right and holds within the threat model's radius.
    """

    figures: Smoothed
    answers: NDArray[np.int64]
    radii: NDArray[np.float64]
    certified: NDArray[np.bool_]


def smooth(
    predictor: Predictor,
    judge: Judge,
    records: LabelledFeatures,
    threat: FeatureThreat,
    smoothing: Smoothing,
    *,
    seed: int = 0,
) -> SmoothedResult:
    """Certify the smoothed detector on some records.

    Args:
        predictor: Features float32 [M, *shape] to logits float32 [M, K].
        judge: What makes an answer of them; no wanted class.
        records: Features float32 [N, *shape], with the answers that are right.
        threat: Under the L2 norm, without categories that move. Its box is left out: the certificate holds outside
            it, too.
        smoothing: How to smooth.
        seed: Of the noise. The noise of a record depends on the seed and on its place, not on the other records.

    Raises:
        InputError: The norm is not L2, a category may move, a class is wanted, or records and threat do not fit.
    """
    _check(judge, records, threat)
    begin = time.perf_counter()
    mutable = threat.mutable.reshape(records.features.shape[1:])
    kinds = judge.outputs if isinstance(judge, Classes) else 2
    answers = np.full(len(records), ABSTAINED, dtype=np.int64)
    radii = np.zeros(len(records))
    for record, features in enumerate(records.features):
        generator = np.random.default_rng([seed, record])
        noisy = _Noisy(predictor, judge, features, mutable, smoothing, generator)
        likely = int(np.argmax(noisy.counts(smoothing.selected, kinds)))
        radii[record] = smoothing.radius(int(noisy.counts(smoothing.samples, kinds)[likely]))
        if radii[record] > 0:
            answers[record] = likely
    right = answers == records.targets
    certified = right & (radii > threat.radius)
    figures = Smoothed(
        sigma=smoothing.sigma,
        samples=smoothing.samples,
        confidence=1.0 - smoothing.risk,
        radius=threat.radius,
        accuracy=rate_measurement("smoothed_accuracy", right, None, seed=seed),
        certified_accuracy=rate_measurement("certified_accuracy", certified, None, seed=seed, note=_NOTE),
        abstained=rate_measurement("abstained", answers == ABSTAINED, None, seed=seed),
        seconds=time.perf_counter() - begin,
    )
    return SmoothedResult(figures, answers, radii, certified)


_NOTE = "of the smoothed detector, which is not the one that is deployed"


@dataclass(frozen=True)
class _Noisy:
    """A record with noise on its mutable columns."""

    predictor: Predictor
    judge: Judge
    features: NDArray[np.float32]
    mutable: NDArray[np.bool_]
    smoothing: Smoothing
    generator: np.random.Generator

    def counts(self, copies: int, kinds: int) -> NDArray[np.int64]:
        """How often each answer comes, int64 [kinds]; an answer that is not a number counts for none."""
        found = np.zeros(kinds, dtype=np.int64)
        for start in range(0, copies, self.smoothing.batch_size):
            size = min(self.smoothing.batch_size, copies - start)
            noise = self.generator.standard_normal((size, *self.features.shape), dtype=np.float32)
            moved = self.features + np.float32(self.smoothing.sigma) * noise
            found += self._answers(np.where(self.mutable, moved, self.features), kinds)
        return found

    def _answers(self, points: NDArray[np.float32], kinds: int) -> NDArray[np.int64]:
        logits = self.predictor.predict(points)
        if isinstance(self.judge, Classes):
            named = logits.argmax(axis=1)[~np.isnan(logits).any(axis=1)]
        else:
            named = (self.judge.margin(logits) >= np.float32(self.judge.threshold)).astype(np.int64)
        return np.bincount(named, minlength=kinds)


def _check(judge: Judge, records: LabelledFeatures, threat: FeatureThreat) -> None:
    if threat.norm != "l2":
        raise InputError(f"smoothing: certifies L2 radii; the norm of the threat model is {threat.norm!r}, not 'l2'")
    if threat.groups:
        raise InputError("smoothing: categories move in this threat model, which the L2 radius does not count")
    if isinstance(judge, Classes) and judge.wanted is not None:
        raise InputError("smoothing: certifies the answer itself; leave the wanted class away")
    check_targets(judge, records.targets)
    if len(records.targets) != len(records):
        raise InputError(f"smoothing: there are {len(records.targets)} targets for {len(records)} records")
    width = int(np.prod(records.features.shape[1:]))
    if records.features.dtype != np.float32 or width != threat.width:
        raise InputError(
            f"smoothing: features must be float32 records of {threat.width} numbers,"
            f" not {records.features.dtype} {list(records.features.shape)}"
        )
