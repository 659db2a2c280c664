"""An open bundle as something that features can be shown to: its own graph answers, whole records come in.

A bundle holds one merged graph of preprocessing, core and decision, and takes records. Attacks move features. Each
point is therefore made a record again: numbers are scaled back, whole numbers rounded, and of a one-hot group the
largest column names the category. That is what an adversary could send; what it answers is the deployed artefact's.
"""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hauberk.bundle.manifest import MANIFEST
from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.evaluate.robustness.protocol import Defender
from hauberk.progress import SILENT, Progress
from hauberk.runtime import Detector
from hauberk.schema import BooleanFeature, Coded, Decision, FeatureSpace, NumericFeature, RecordSchema
from hauberk.search.material import DataSource, gather
from hauberk.search.prepare import ModelSource, calibration_records, require_same_meaning, unseen_by
from hauberk.search.scene import BASELINE, Contestant, Scene, contestant_of
from hauberk.train import fit_preprocessing, labelled

_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST_SCORE, _LARGEST_SCORE = 1e-38, 1 - 2.0**-25
"""Scores beyond are 0 and 1 in float32, and log-odds of them infinite."""
_NO_TWIN = (
    "a bundle's graph takes records and gives scores, not features and logits, so that no gradients are taken of it"
)


class OpenDetector:
    """A detector as a predictor of the log-odds of attack.

    Args:
        detector: Open, and kept open by the caller.
        space: The feature space that attacks move in, of the detector's own schema.
    """

    def __init__(self, detector: Detector, space: FeatureSpace) -> None:
        self._detector = detector
        self._space = space
        self._whole = np.array([not isinstance(feature, NumericFeature) for feature in space.schema.numbers], np.bool_)
        self._truth = np.array([isinstance(feature, BooleanFeature) for feature in space.schema.numbers], np.bool_)

    @property
    def decision(self) -> Decision:
        """What makes the detector's own label of the log-odds."""
        return Decision(outputs=1, threshold=float(_log_odds(np.array([self._detector.threshold]))[0]))

    def records(self, features: NDArray[np.float32]) -> Coded:
        """Coded records of features float32 [N, D]: the nearest that the schema admits."""
        count = len(self._space.schema.numbers)
        scalings = self._space.preprocessing.scalings
        offset, scale = (np.array([getattr(each, name) for each in scalings]) for name in ("offset", "scale"))
        logged = np.array([each.logarithm for each in scalings], dtype=np.bool_)
        scaled = features[:, :count].astype(np.float64) * scale + offset
        with np.errstate(over="ignore"):
            numeric = np.where(logged, np.sign(scaled) * np.expm1(np.abs(scaled)), scaled)
        numeric = np.clip(numeric, -_LARGEST, _LARGEST)
        numeric = np.where(self._whole, np.rint(numeric), numeric)
        numeric = np.where(self._truth, np.clip(numeric, 0, 1), numeric)
        groups = [features[:, group.start : group.stop].argmax(axis=1) for group in self._space.groups]
        codes = np.stack(groups, axis=1) if groups else np.empty((len(features), 0), dtype=np.int64)
        return Coded(np.ascontiguousarray(numeric, dtype=np.float32), np.ascontiguousarray(codes, dtype=np.int64))

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds of attack, float32 [N, 1], of features float32 [N, D], on the side of the detector's own label."""
        scores, labels = self._detector.predict(self.records(batch))
        margins = _log_odds(scores).astype(np.float32)
        threshold = np.float32(self.decision.threshold)
        # Scores are rounded where log-odds are not: what the detector says decides.
        margins = np.where(labels == 1, np.maximum(margins, threshold), margins)
        below = np.nextafter(threshold, np.float32(-np.inf))
        margins = np.where(labels == 0, np.minimum(margins, below), margins)
        return np.asarray(margins, dtype=np.float32)[:, None]


def _log_odds(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    inside = np.clip(scores.astype(np.float64), _SMALLEST_SCORE, _LARGEST_SCORE)
    found: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return found


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle, by its name or by the manifest in it; whether it is sound is seen on opening."""
    if path.suffix == ".hbk":
        return True
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return MANIFEST in archive.namelist()


def scene_of_bundle(
    source: ModelSource,
    detector: Detector,
    data: DataSource,
    *,
    baseline: ModelSource | None,
    seed: int,
    stack: ExitStack,
    progress: Progress = SILENT,
) -> Scene:
    """What an evaluation of an open bundle starts from.

    Args:
        source: The bundle; its card is that of the model that the bundle was made of, and names the feature space in
            which an adversary moves. Without a card its preprocessing does, fitted to the training records.
        detector: Opened from it.
        data: The records.
        baseline: The model that it was made of: attacks on it are transferred.
        seed: Of the split.
        stack: Closes the baseline's session.
        progress: Who follows.

    Raises:
        InputError: Nothing says in which space an adversary moves, or bundle, card, baseline and data do not fit.
    """
    path, card = source.path, source.card
    splits = load_splits(
        data.source, label=data.label, benign=data.benign, drop=data.drop, schema=detector.schema, seed=seed
    )
    require_same_meaning(card, splits.training.label)
    space = _space(source, splits.training.schema, splits.training.coded.numeric)
    test = labelled(space, splits.test)
    open_detector = OpenDetector(detector, space)
    remarks = [_NO_TWIN]
    rival = None
    if baseline is not None:
        material = gather(baseline, data, seed=seed, progress=progress)
        if material.space is None or not np.array_equal(material.test.features, test.features):
            raise InputError(
                f"{baseline.path}: the baseline does not read the features of the bundle's card; give the model that"
                " the bundle was made of"
            )
        found = contestant_of(baseline, material, stack, remarks)
        rival = replace(found, name=BASELINE)
    origin = hashlib.sha256(path.read_bytes()).hexdigest()
    return Scene(
        kind="bundle",
        contestant=Contestant(
            detector.name,
            origin,
            Defender(open_detector, open_detector.decision),
            labels=lambda coded: detector.predict(coded)[1],
        ),
        baseline=rival,
        test=test,
        training=calibration_records(labelled(space, splits.training), seed),
        bounds=space.bounds,
        mutable=space.mutable,
        shape=(),
        space=space,
        unseen=unseen_by(card, splits),
        remarks=tuple(remarks),
        splits=splits,
    )


def _space(source: ModelSource, schema: RecordSchema, numeric: NDArray[np.float32]) -> FeatureSpace:
    """The space in which an adversary of the bundle moves."""
    if source.card is not None:
        if source.card.schema.features != schema.features:
            raise InputError(
                f"{source.path}: the bundle reads other columns than the model of the card; give the card of its own"
            )
        return FeatureSpace(schema, source.card.preprocessing)
    if source.preprocessing == "none":
        raise InputError(
            f"{source.path}: a bundle does not say in which space an adversary's radius is measured; give the model"
            " that it was made of (--baseline), its card (--card), or --preprocessing minmax, log-minmax or standard"
        )
    return FeatureSpace(schema, fit_preprocessing(schema, numeric, source.preprocessing))
