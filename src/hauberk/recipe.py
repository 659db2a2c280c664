"""Steps with contracts, and recipes that verify every one of them.

A step is a small frozen struct: its fields are its parameters, so that a recipe is JSON and can be repeated. Applying
a recipe compares before and after **every** step; a step that breaks its contract is undone and recorded as such.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import Artifact, OnnxArtifact, Predictor, StepRecord, Verdict
from hauberk.errors import InputError
from hauberk.progress import SILENT, Progress


class Exact(msgspec.Struct, frozen=True, tag="exact", tag_field="contract"):
    """Bit for bit the same outputs, for every input."""


class Close(msgspec.Struct, frozen=True, tag="close", tag_field="contract"):
    """`|after - before| <= atol + rtol * |before|` over the range that schema or calibration admits."""

    rtol: float = 1e-4
    atol: float = 1e-5


class Lossy(msgspec.Struct, frozen=True, tag="lossy", tag_field="contract"):
    """The decision agrees on at least `agreement` of real records, and logits differ by at most `rms` there.

    Attributes:
        agreement: Least fraction of real records with the same decision, in [0, 1].
        rms: Largest root-mean-square difference of logits over real records, as a fraction of the root mean square of
            the step's input logits; `None` where logits are free to change (a distilled student).
    """

    agreement: float
    rms: float | None = None


Contract = Exact | Close | Lossy

Task = Literal["detection", "classification"]
"""What logits are for: "detection" tells attack (1) from benign (0) by the sign of the margin; "classification" names
one of K classes by the largest logit."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Records in feature space with their targets.

    Attributes:
        features: Float32 [N, *shape]: records [N, D], windows [N, T, D], images [N, C, H, W].
        targets: Int64 [N]; 0 benign and 1 attack, or the class 0..K-1 where the task is classification.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.features.shape[0])

    def sample(self, most: int, seed: int) -> LabelledFeatures:
        """At most so many of these records, drawn without replacement, in the order in which they stood.

        Args:
            most: Not more records than this; all of them where there are no more.
            seed: Decides which.
        """
        if len(self) <= most:
            return self
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:most])
        return LabelledFeatures(self.features[rows], self.targets[rows])


def _unheard(remark: str) -> None:
    """Where a step is applied outside a recipe, and nothing is recorded."""


@dataclass(frozen=True)
class Context:
    """What steps may use besides the artifact.

    Attributes:
        calibration: Float32 [N, *shape], training records for calibrating and for verifying.
        bounds: Float32 [*shape] twice, the range of each feature that the schema admits.
        training: Records to train on; `None` where there are none.
        validation: Records to stop training by.
        benign: Index of the benign logit.
        threshold: On the margin; where it lies decides which records count as alarms when decisions are compared.
        task: What the logits are for.
        teacher: Who teaches in steps that learn from a teacher's answers; `None` for the graph that a step was given.
        mutable: Bool [*shape], the features that an adversary can move; `None` for all of them.
        seed: Seed of everything random in a step.
        threads: Threads that a step may use.
        trained: False asks for the step's result with untrained weights of the final shape, for timing only.
        progress: Who follows.
        remark: Takes a sentence on what became of a step that its parameters do not tell; it comes first in the notes
            of the step's record.
    """

    calibration: NDArray[np.float32]
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]]
    training: LabelledFeatures | None = None
    validation: LabelledFeatures | None = None
    benign: int = 0
    threshold: float = 0.0
    task: Task = "detection"
    teacher: Predictor | None = None
    mutable: NDArray[np.bool_] | None = None
    seed: int = 0
    threads: int = 1
    trained: bool = True
    progress: Progress = field(default=SILENT)
    remark: Callable[[str], None] = field(default=_unheard)


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="step"):
    """One transformation of a model. Subclasses set `tag="name-of-step"` and their parameters as fields."""

    trains: ClassVar[bool] = False
    """Whether the step spends training time; such steps honour `Context.trained`."""

    @property
    def name(self) -> str:
        """The tag of the step, its name in recipes and reports."""
        return str(self.__struct_config__.tag)

    @property
    @abstractmethod
    def contract(self) -> Contract:
        """How far outputs may move."""

    @abstractmethod
    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the transformed artifact, without touching `artifact` and without adding to its history."""

    def notes(self, artifact: Artifact) -> tuple[str, ...]:  # noqa: ARG002 - most steps have nothing to say
        """What a reader of the record should know: what the step leaves as it was in `artifact`, and warnings."""
        return ()


UNCHANGED = Verdict(holds=True, compared=0, agreement=1.0, max_difference=0.0, worst_input="")
"""The verdict on a graph that is the same byte for byte: nothing to compare."""


class Verifier(Protocol):
    """Compares an artifact before and after a step; `graph/verify.py` has the one that is used."""

    def __call__(self, before: Artifact, after: Artifact, contract: Contract, context: Context) -> Verdict:
        """Say whether `contract` holds between `before` and `after`."""


class Recipe(msgspec.Struct, frozen=True):
    """A named sequence of steps.

    Attributes:
        name: Short and unique among the candidates of a search.
        steps: In the order in which they are applied.
        summary: What the result is, in one sentence for the report.
    """

    name: str
    steps: tuple[Step, ...] = ()
    summary: str = ""

    @property
    def trains(self) -> bool:
        """Whether any step spends training time."""
        return any(step.trains for step in self.steps)

    def apply(self, artifact: Artifact, context: Context, verify: Verifier) -> Artifact:
        """Apply the steps in order, verifying each and undoing those that break their contract.

        Where `context.trained` is False the result is for timing only: nothing is verified, because untrained weights
        agree with nothing.

        Returns:
            The last artifact whose steps all hold, with one `StepRecord` a step in its history, undone ones included.
        """
        for step in self.steps:
            started = time.perf_counter()
            remarks: list[str] = []
            result = step.apply(artifact, replace(context, remark=remarks.append))
            seconds = time.perf_counter() - started
            verdict = self._verdict(step, artifact, result, context, verify)
            kept = verdict is None or verdict.holds
            record = StepRecord(
                step=step.name,
                parameters=msgspec.to_builtins(step),
                contract=msgspec.to_builtins(step.contract),
                before=artifact.digest,
                after=result.digest if kept else artifact.digest,
                kept=kept,
                verdict=verdict,
                seconds=seconds,
                notes=(*remarks, *step.notes(artifact)),
            )
            artifact = (result if kept else artifact).with_record(record)
        return artifact

    @staticmethod
    def _verdict(step: Step, before: Artifact, after: Artifact, context: Context, verify: Verifier) -> Verdict | None:
        """What verification finds; nothing is run where a pass found nothing to do."""
        if not context.trained:
            return None
        graphs = isinstance(before, OnnxArtifact) and isinstance(after, OnnxArtifact)
        if graphs and (before.digest, before.signature) == (after.digest, after.signature):
            return UNCHANGED
        return verify(before, after, step.contract, context)

    def to_json(self) -> bytes:
        """The recipe as JSON, enough to repeat it."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(text: bytes, steps: Iterable[type[Step]]) -> Recipe:
        """Read a recipe; `steps` are the kinds of step that it may hold.

        Raises:
            InputError: The text is not JSON, or names an unknown step or parameter.
        """
        kinds = {str(kind.__struct_config__.tag): kind for kind in steps}
        try:
            raw = msgspec.json.decode(text, type=_RawRecipe)
            steps_read = tuple(_step(entry, kinds) for entry in raw.steps)
            return Recipe(name=raw.name, steps=steps_read, summary=raw.summary)
        except msgspec.MsgspecError as error:
            raise InputError(f"recipe: {error}") from error


class _RawRecipe(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    steps: list[dict[str, object]]
    summary: str = ""


def _step(entry: dict[str, object], kinds: dict[str, type[Step]]) -> Step:
    name = entry.get("step")
    if not isinstance(name, str) or name not in kinds:
        raise InputError(f"recipe: unknown step {name!r}; known steps: {', '.join(sorted(kinds))}")
    try:
        return msgspec.convert(entry, type=kinds[name])
    except msgspec.ValidationError as error:
        parameters = ", ".join(field.encode_name for field in msgspec.structs.fields(kinds[name]))
        raise InputError(f"recipe: step {name!r}: {error}; its parameters are {parameters or 'none'}") from error
