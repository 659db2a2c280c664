"""From a model file and splits of data to what a search starts from: admitted, exported, cleaned up, verified."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hauberk.artifact import OnnxArtifact, StepRecord, TorchArtifact
from hauberk.attacks import FeatureThreat
from hauberk.backends import Session
from hauberk.data import Splits
from hauberk.errors import ContractError, InputError
from hauberk.evaluate.robustness.protocol import Budget
from hauberk.graph.model import has_no_gradient
from hauberk.graph.normalise import normalise
from hauberk.graph.passes import optimise
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.ingest import load_model
from hauberk.models import ModelCard, TrainingRecord
from hauberk.progress import SILENT, Progress
from hauberk.recipe import Context, LabelledFeatures, Recipe
from hauberk.schema import Decision, FeatureSpace, Label
from hauberk.search.candidate import Subject
from hauberk.search.measuring import twin
from hauberk.train import PreprocessingKind, fit_preprocessing, labelled
from hauberk.train.substitute import train_substitute

_CALIBRATION_RECORDS = 2000
"""More changes neither calibration nor what verification finds, and both take longer."""
_CALIBRATION_VALUES = 1 << 24
"""Numbers in them: 111 images of 3×224×224."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        path: The model file, or a folder that `hauberk train` wrote.
        card: Its model card, `None` where it has none.
        card_path: Where the card was found.
        arch: `FILE.py:CALLABLE`, the user's own code that builds the network.
        preprocessing: What a model without a card expects its numbers to have gone through.
    """

    path: Path
    card: ModelCard | None
    card_path: Path | None
    arch: str | None
    preprocessing: PreprocessingKind


@dataclass(frozen=True)
class Adversary:
    """Whom the candidates have to stand: how far records can be moved (L-infinity), and at what expense."""

    radius: float
    budget: Budget

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise InputError(f"the adversary's radius is {self.radius}; it must be a finite number of at least 0")


def prepare(
    source: ModelSource,
    splits: Splits,
    adversary: Adversary,
    *,
    false_positive_rate: float,
    timing: float,
    seed: int,
    progress: Progress = SILENT,
) -> Subject:
    """Admit a model, make a clean graph of it, and verify every step on the way.

    Raises:
        RefusedModelError: The model file holds more than a model.
        InputError: The model does not fit the data.
        ContractError: The exported graph does not answer what the module answers.
    """
    card = source.card
    require_same_meaning(card, splits.training.label)
    if card is not None and card.window is not None:
        raise InputError(
            f"{source.path}: reads windows of {card.window} records; a bundle answers single records, so harden takes"
            " models of those only ('hauberk compress' takes this one)"
        )
    schema = splits.training.schema
    kind, numeric = source.preprocessing, splits.training.coded.numeric
    space = FeatureSpace(schema, card.preprocessing if card else fit_preprocessing(schema, numeric, kind))
    threat = FeatureThreat.from_space(space, adversary.radius)
    training = labelled(space, splits.training)
    validation = labelled(space, splits.validation)
    context = Context(
        calibration=calibration_records(training, seed),
        bounds=space.bounds,
        training=training,
        validation=validation,
        benign=card.decision.benign if card else 0,
        mutable=space.mutable,
        seed=seed,
        progress=progress,
    )
    with progress.task("admitting and exporting"):
        loaded = load_model(source.path, card=source.card_path, arch=source.arch, inputs=space.width)
        core = clean_core(loaded.artifact, context)
    decision = card.decision if card else Decision(outputs=_outputs(core))
    substitute, remarks = _substitute(core, decision, context, adversary, progress)
    return Subject(
        core=core,
        space=space,
        decision=decision,
        context=context,
        validation=validation,
        examples=splits.validation.coded,
        false_positive_rate=false_positive_rate,
        threat=threat,
        budget=adversary.budget,
        timing=timing,
        unseen=unseen_by(card, splits),
        seed=seed,
        substitute=substitute,
        remarks=remarks,
    )


def _substitute(
    core: OnnxArtifact, decision: Decision, context: Context, adversary: Adversary, progress: Progress
) -> tuple[nn.Module | None, tuple[str, ...]]:
    """Where a graph has no gradient (trees), a network that learned its answers, and what a reader must know of it.

    Raises:
        InputError: The graph should have a twin and has none, or nothing is left to attack it with. What cannot be
            attacked is refused before hours of work, not after.
    """
    if not has_no_gradient(core):
        twin(core, context.calibration[:1])
        return None, ()
    if not adversary.budget.queries:
        raise InputError("a model of trees has no gradient and the budget is 0 queries: no attack could run")
    with Session(core.model) as session:
        learned = train_substitute(
            session,
            context.calibration,
            decision,
            bounds=context.bounds,
            radius=adversary.radius,
            seed=context.seed,
            progress=progress,
        )
    remark = (
        "its graph has no gradient: attacks ask it for scores and labels, and follow the gradients of a substitute that"
        f" gives {100 * learned.nearby.value:.1f} % of its labels where attacks go"
    )
    return learned.module.eval(), (remark,)


def require_same_meaning(card: ModelCard | None, label: Label) -> None:
    """Refuse data whose benign class is an attack to the detector: every figure would be upside down."""
    trained = card.schema.label if card else None
    if trained is not None and trained.benign != label.benign and trained.benign in label.classes:
        raise InputError(
            f"the detector was trained with {trained.benign!r} as the benign class, not {label.benign!r};"
            " leave --benign away, or train another detector"
        )


def unseen_by(card: ModelCard | None, splits: Splits) -> bool:
    """Whether the card shows that the detector was trained on other records than those of the test split.

    The split is by label, so that another label column splits the same records in another way.
    """
    if card is None or card.schema.label != splits.test.label:
        return False
    return same_split(card.training, splits.digest, splits.seed, splits.block)


def same_split(training: TrainingRecord | None, digest: str, seed: int, block: int = 1) -> bool:
    """Whether a model was trained on these data, split like this; False where nobody recorded it."""
    if training is None:
        return False
    return (training.data_digest, training.split_seed, training.split_block) == (digest, seed, block)


def calibration_records(training: LabelledFeatures, seed: int) -> NDArray[np.float32]:
    """Some of the training records, float32 [M, *shape], in their order."""
    most = min(_CALIBRATION_RECORDS, _CALIBRATION_VALUES // max(1, training.features[0].size))
    rows = np.random.default_rng(seed).permutation(len(training))[: max(1, most)]
    return training.features[np.sort(rows)]


def clean_core(artifact: TorchArtifact | OnnxArtifact, context: Context) -> OnnxArtifact:
    """The optimised float32 core graph of an admitted model: the baseline of everything.

    Raises:
        InputError: The model is no detector's core.
        ContractError: The exported graph does not answer what the module answers.
    """
    graph = _exported(artifact, context) if isinstance(artifact, TorchArtifact) else artifact
    core = optimise().apply(_normalised(graph), context, verify)
    if not isinstance(core, OnnxArtifact):
        raise ContractError("optimising a graph made something else of it")
    return core


def _normalised(artifact: OnnxArtifact) -> OnnxArtifact:
    """The user's graph under our names and opset, compared by `normalise` itself, and without a softmax at its end.

    An exported module has names and opset already, but may end in a softmax or sigmoid like any other graph.
    """
    started = time.perf_counter()
    graph = normalise(artifact)
    if graph.model == artifact.model:
        return artifact
    return graph.with_record(
        StepRecord(
            step="normalise",
            parameters={},
            contract=None,
            before=artifact.digest,
            after=graph.digest,
            kept=True,
            verdict=None,
            seconds=time.perf_counter() - started,
        )
    )


def _exported(artifact: TorchArtifact, context: Context) -> OnnxArtifact:
    exported = Recipe("export", (Export(),)).apply(artifact, context, verify)
    if isinstance(exported, OnnxArtifact):
        return exported
    verdict = exported.history[-1].verdict
    reason = verdict.reason if verdict else "it was undone"
    raise ContractError(f"export: the graph does not answer what the module answers: {reason}")


def _outputs(core: OnnxArtifact) -> int:
    outputs = core.signature.outputs[0].shape[1]
    if not isinstance(outputs, int):
        raise InputError("the model's number of outputs is not fixed; export it with logits [batch, K]")
    return outputs
