"""Who teaches: adapters that make a `Predictor` of what people have.

A teacher answers features float32 [N, *shape] with logits float32 [N, K] in the order of the student's logits (one of a
single logit, the log-odds of attack, or of another number of attack classes is compared by its margin). It need not be
a network, nor differentiable. Hand it to every step of a recipe as `Context.teacher`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact, Predictor
from hauberk.compress.tuning import answers
from hauberk.errors import InputError

Floats = NDArray[np.float32]

_CHUNK = 1024  # records in one run of a module


@dataclass(frozen=True)
class GraphTeacher:
    """A graph, whatever it was trained with: the logits of a core."""

    artifact: OnnxArtifact

    def predict(self, batch: Floats) -> Floats:
        """Logits float32 [N, K] of features float32 [N, *shape]."""
        return answers(self.artifact, batch)


@dataclass(frozen=True)
class ModuleTeacher:
    """A torch module on the CPU, which is put into evaluation mode to answer."""

    module: torch.nn.Module

    def predict(self, batch: Floats) -> Floats:
        """Logits float32 [N, K] of features float32 [N, *shape]."""
        self.module.eval()
        with torch.inference_mode():
            chunks = [self.module(chunk) for chunk in torch.split(torch.tensor(batch), _CHUNK)]
        logits: Floats = torch.cat(chunks).float().numpy()
        return logits


class Classifier(Protocol):
    """What scikit-learn, XGBoost, LightGBM and CatBoost call a classifier."""

    def predict_proba(self, X: Any, /) -> Any:
        """Probabilities [N, K] of records [N, D]."""


@dataclass(frozen=True)
class ProbabilityTeacher:
    """A classifier that answers probabilities: gradient-boosted trees, a forest, a pipeline.

    Attributes:
        classifier: Fitted on features; windows and images reach it flattened.
        columns: The classifier's columns in the order of the student's logits; `None` where they are that already (in
            scikit-learn's order 0 comes before 1, so benign before attack).
        floor: Least probability, in (0, 1): what a tree has never seen is unlikely and not impossible.
    """

    classifier: Classifier
    columns: tuple[int, ...] | None = None
    floor: float = 1e-4

    def predict(self, batch: Floats) -> Floats:
        """Logits float32 [N, K], logarithms of probabilities, of features float32 [N, *shape].

        Raises:
            InputError: The classifier answers something other than probabilities [N, K].
        """
        probabilities = np.asarray(self.classifier.predict_proba(batch.reshape(len(batch), -1)), dtype=np.float64)
        if probabilities.ndim != 2 or len(probabilities) != len(batch) or not _are_probabilities(probabilities):
            raise InputError(
                f"teacher: {type(self.classifier).__name__} answers {list(probabilities.shape)} for {len(batch)}"
                " records; probabilities [N, K] that sum to 1 are needed"
            )
        if self.columns is not None:
            probabilities = probabilities[:, list(self.columns)]
        return _logits(probabilities, self.floor)


@dataclass(frozen=True)
class Ensemble:
    """Several teachers; their probabilities are averaged (Hinton, Vinyals and Dean 2015, section 1).

    Attributes:
        members: At least one; all of them answer the same number of logits.
        weights: One a member; all alike where `None`.
        floor: Least probability, in (0, 1).
    """

    members: Sequence[Predictor]
    weights: tuple[float, ...] | None = None
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if not self.members:
            raise InputError("teacher: an ensemble needs at least one member")
        given = self.weights
        if given is not None and (len(given) != len(self.members) or min(given) < 0 or sum(given) <= 0):
            raise InputError(f"teacher: {len(self.members)} members need as many weights of at least 0, got {given}")

    def predict(self, batch: Floats) -> Floats:
        """Logits float32 [N, K], logarithms of mean probabilities, of features float32 [N, *shape]; K is at least 2.

        Raises:
            InputError: The members answer different numbers of logits.
        """
        answered = [_probabilities(member.predict(batch)) for member in self.members]
        shapes = {probabilities.shape for probabilities in answered}
        if len(shapes) != 1:
            shown = ", ".join(str(list(shape)) for shape in sorted(shapes))
            raise InputError(f"teacher: members of the ensemble answer {shown}; the same shape is needed")
        return _logits(np.average(np.stack(answered), axis=0, weights=self.weights), self.floor)


def _are_probabilities(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3))


def _probabilities(logits: Floats) -> NDArray[np.float64]:
    """Softmax in float64; a single logit is the log-odds of the second of two classes."""
    values = logits.astype(np.float64)
    if values.shape[1] == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def _logits(probabilities: NDArray[np.float64], floor: float) -> Floats:
    bounded = np.maximum(probabilities, floor)
    logits: Floats = np.log(bounded / bounded.sum(axis=1, keepdims=True)).astype(np.float32)
    return logits
