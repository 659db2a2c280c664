"""Distillation: a smaller network learns the detector's answers, not only the labels.

After Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531); hints, attention
and attacked records are in files of their own.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import Core, read_core
from hauberk.compress.distill.hints import Attention, Hints, Shown
from hauberk.compress.distill.robust import Robust, robust_lesson
from hauberk.compress.distill.student import Student, graph_of, make
from hauberk.compress.distill.teacher import GraphTeacher
from hauberk.compress.teaching import teachers_lesson
from hauberk.compress.tuning import Lesson, Tuning, records, tune
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.recipe import Context, Contract, Lossy, Step


class Distill(Step, frozen=True, kw_only=True, tag="distill"):
    """Train a student on a teacher's answers and put it in the graph's place.

    The teacher is `Context.teacher`, whatever it is, or else the graph itself. The seconds that the step's record shows
    are those of the training and the export.

    Attributes:
        student: Who learns.
        tuning: How long, how fast, and how much the teacher counts beside the labels.
        hints: Draw a tensor of the student to one of the teacher's, too; the teacher must be a graph.
        attention: Draw the student's attention to where the teacher's is; likewise.
        robust: Learn the teacher's answers on records that are attacked meanwhile.
        agreement: Least share of real records with the same decision as the graph before, in [0, 1]. Lower it where the
            teacher is another model, or where robustness is bought with agreement.
    """

    student: Student
    tuning: Tuning = Tuning(epochs=60)
    hints: Hints | None = None
    attention: Attention | None = None
    robust: Robust | None = None
    agreement: float = 0.9

    trains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.agreement <= 1:
            raise InputError(f"{self.name}: agreement is {self.agreement}; a number from 0 to 1 is needed")

    @property
    def contract(self) -> Contract:
        """Decisions agree on most real records; logits are the student's own."""
        return Lossy(agreement=self.agreement)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the student's graph; with fresh weights where `context.trained` is False.

        Raises:
            InputError: Not a core, no training or validation records, records that do not fit the core, a student that
                does not fit them, a teacher that cannot answer them, or a training that diverged.
        """
        core = read_core(artifact, self.name)
        student = make(self.student, core, context)
        if not context.trained:
            return graph_of(student, core, context)
        for part, kind in zip(records(context, self.name), ("training", "validation"), strict=True):
            core.check_features(part.features, kind)
        shows = [show for show in (self.hints, self.attention) if show is not None]
        lesson = self.lesson(core, context)
        if not shows:
            tune(student, context, self.tuning, step=self.name, lesson=lesson)
            return graph_of(student, core, context)
        teacher = _showing(core, context)
        twin = student if isinstance(student, Twin) else Twin(graph_of(student, core, context))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            taught = Shown(twin, teacher, shows, context.calibration, self.name)
        shown = lesson._replace(objective=taught.objective(lesson.objective))
        tune(taught, context, self.tuning, step=self.name, lesson=shown)
        return graph_of(taught.finish(), core, context)

    def lesson(self, core: Core, context: Context) -> Lesson:
        """What the student learns: the teacher's answers and the labels, and under which attack.

        Raises:
            InputError: No training or validation records, or a teacher that cannot answer them.
        """
        if self.robust is not None:
            return robust_lesson(core.artifact, context, self.tuning, self.robust, step=self.name)
        return teachers_lesson(core.artifact, context, self.tuning, step=self.name)


def _showing(core: Core, context: Context) -> OnnxArtifact:
    """The teacher's graph, to look into.

    Raises:
        InputError: The teacher is something else.
    """
    if context.teacher is None:
        return core.artifact
    if isinstance(context.teacher, GraphTeacher):
        return context.teacher.artifact
    raise InputError(
        f"{core.step}: hints and attention look into the teacher, which must be a graph and is a"
        f" {type(context.teacher).__name__}"
    )
