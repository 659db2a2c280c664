"""What an evaluation starts from: who is evaluated, beside what baseline, on which records, in which space.

Records of any shape become rows here, as attacks want them.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact, Predictor
from hauberk.attacks import Classes, Judge
from hauberk.backends import Session
from hauberk.data import Splits
from hauberk.errors import InputError
from hauberk.evaluate.drift import Labelling
from hauberk.evaluate.robustness.protocol import Defender
from hauberk.graph.model import record_shape
from hauberk.models import read_card
from hauberk.progress import SILENT, Progress
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision, FeatureSpace
from hauberk.search.material import DataSource, Material, gather
from hauberk.search.measuring import twin
from hauberk.search.prepare import ModelSource
from hauberk.search.source import find_source
from hauberk.train import PreprocessingKind

BASELINE = "baseline"


@dataclass(frozen=True)
class Contestant:
    """What is evaluated, or what it is compared with.

    Attributes:
        name: For reports.
        origin: SHA-256 of its file, hex.
        defender: On records as rows [N, D].
        core: Its graph from features to logits; `None` where nobody has it, as of a bundle.
        labels: From coded records to its labels, where it takes records as they are; otherwise features are made.
    """

    name: str
    origin: str
    defender: Defender
    core: OnnxArtifact | None = None
    labels: Labelling | None = None


@dataclass(frozen=True)
class Scene:
    """What an evaluation starts from: who, on which records, in which space.

    Attributes:
        kind: "model" or "bundle".
        contestant: Who is evaluated.
        baseline: What it is compared with.
        test: Records as rows [N, D].
        training: Float32 [M, D], other records, without labels: what a substitute learns from.
        bounds: Float32 [D] twice, the range of each feature.
        mutable: Bool [D].
        shape: Shape of one record; () for a row of a table.
        space: How a record becomes features, where that is known.
        unseen: Whether nothing was trained on the records, by the card.
        remarks: What a reader must know.
        splits: The records as they were before they became features, where they are single ones of a known schema.
    """

    kind: str
    contestant: Contestant
    baseline: Contestant | None
    test: LabelledFeatures
    training: NDArray[np.float32]
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]]
    mutable: NDArray[np.bool_]
    shape: tuple[int, ...]
    space: FeatureSpace | None
    unseen: bool
    remarks: tuple[str, ...]
    splits: Splits | None = None


def find_pair(
    model: Path,
    baseline: Path | None,
    *,
    card: Path | None,
    arch: str | None,
    preprocessing: PreprocessingKind,
    seed: int | None,
    bundle: bool,
) -> tuple[ModelSource, ModelSource | None, int]:
    """The model, its baseline, and the seed of everything.

    A model without a card of its own (a compressed graph, a bundle) is read by the card of its baseline.

    Args:
        model: A model file, a folder that `hauberk train` wrote, or a bundle.
        baseline: The float model that it was made of.
        card: The model's card; by default the one beside it. Of a bundle, that of the model that it was made of.
        arch: `FILE.py:CALLABLE`, for the model.
        preprocessing: What a model without any card expects its numbers to have gone through.
        seed: By default that of the card, so that records which the model was tested on stay unseen, else 0.
        bundle: Whether the model is a bundle: then nothing beside it is its card.

    Raises:
        InputError: A card cannot be read.
    """
    rival = None
    if baseline is not None:
        rival, baselines_seed = find_source(baseline, preprocessing=preprocessing, seed=seed)
    if bundle:
        known = None if card is None else read_card(card)
        source, found = ModelSource(model, known, card, None, preprocessing), 0
        if known is not None and known.training is not None:
            found = known.training.split_seed
    else:
        source, found = find_source(model, card=card, arch=arch, preprocessing=preprocessing, seed=seed)
    if source.card is None and source.card_path is None and rival is not None:
        source, found = replace(source, card=rival.card), baselines_seed
    return source, rival, found if seed is None else seed


def scene_of_model(
    source: ModelSource,
    data: DataSource,
    *,
    baseline: ModelSource | None,
    seed: int,
    stack: ExitStack,
    progress: Progress = SILENT,
) -> Scene:
    """Admit a model, and a baseline, and open sessions of their graphs.

    Args:
        source: The model.
        data: The records.
        baseline: The float model that it was made of.
        seed: Of the split.
        stack: Closes the sessions.
        progress: Who follows.

    Raises:
        RefusedModelError: A model file holds more than a model.
        InputError: Model, baseline and data do not fit each other.
    """
    material = gather(source, data, seed=seed, progress=progress)
    remarks: list[str] = []
    contestant = contestant_of(source, material, stack, remarks)
    rival = None
    if baseline is not None:
        other = gather(baseline, data, seed=seed, progress=progress)
        same = material.test.features.shape == other.test.features.shape
        if not same or not np.array_equal(material.test.features, other.test.features):
            raise InputError(
                f"{baseline.path}: the baseline reads other features of the same records than {source.path}; give the"
                " model that it was made of, and the card or the preprocessing of both"
            )
        found = contestant_of(baseline, other, stack, remarks)
        rival = replace(found, name=BASELINE)
    shape = record_shape(material.core.signature, str(source.path))
    mutable = material.context.mutable
    low, high = (each.reshape(-1).astype(np.float32) for each in material.context.bounds)
    return Scene(
        kind="model",
        contestant=contestant,
        baseline=rival,
        test=LabelledFeatures(material.test.features.reshape(len(material.test), -1), material.test.targets),
        training=material.context.calibration.reshape(len(material.context.calibration), -1),
        bounds=(low, high),
        mutable=np.ones(low.size, dtype=np.bool_) if mutable is None else mutable.reshape(-1),
        shape=shape if len(shape) > 1 else (),
        space=material.space,
        unseen=material.unseen,
        remarks=tuple(remarks),
        splits=material.splits,
    )


def contestant_of(source: ModelSource, material: Material, stack: ExitStack, remarks: list[str]) -> Contestant:
    """A session of a model's graph, and its twin where the graph has one; where not, a remark says why."""
    core, context = material.core, material.context
    shape = record_shape(core.signature, str(source.path))
    outputs = core.signature.outputs[0].shape[1]
    if not isinstance(outputs, int):
        raise InputError(f"{source.path}: the number of outputs is not fixed; export the model with logits [batch, K]")
    judge: Judge = (
        Decision(outputs, context.benign, context.threshold) if context.task == "detection" else Classes(outputs)
    )
    name = source.path.name or str(source.path)
    session = stack.enter_context(Session(core.model))
    predictor: Predictor = session if len(shape) == 1 else Rows(session, shape)
    module = _twin(core, material.test.features[:1], shape, name, remarks)
    return Contestant(name, core.origin, Defender(predictor, judge, module), core)


def _twin(
    core: OnnxArtifact, example: NDArray[np.float32], shape: tuple[int, ...], name: str, remarks: list[str]
) -> torch.nn.Module | None:
    try:
        module = twin(core, example)
    except InputError as error:
        remarks.append(f"{name}: no gradients are taken of it: {error}")
        return None
    return module if len(shape) == 1 else RowModule(module, shape)


class Rows:
    """A predictor of records [N, *shape] that takes rows [N, D]."""

    def __init__(self, predictor: Predictor, shape: tuple[int, ...]) -> None:
        self._predictor = predictor
        self._shape = shape

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [N, K] of rows float32 [N, D]."""
        return self._predictor.predict(np.ascontiguousarray(batch).reshape(-1, *self._shape))


class RowModule(torch.nn.Module):
    """The same for a module."""

    def __init__(self, module: torch.nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module = module
        self._shape = shape

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits [N, K] of rows [N, D]."""
        logits: torch.Tensor = self.module(rows.reshape(-1, *self._shape))
        return logits
