"""Does ResNet-50 as a teacher help ResNet-18? Students taught by it, beside the same students on labels alone.

    python benchmarks/resnet_teacher.py [--quick] [--size 64] [--seeds 3] [--output FOLDER]

scikit-learn's digits are written as a folder of PNG files a class and read back like anybody's images. The teacher is
trained on them, then every student twice with the same seed, records and schedule: once on the teacher's answers
(divergence and squared error of the logits, `alpha` 0.7 together) beside the labels, once on labels alone; either stops
by what it minimises. All are judged on the test images as they would be deployed: one graph that resizes, crops,
normalises and names a class. The interval of the verdict is over test images, for these seeds. What an earlier run made
is kept in `--output`, by all that decides it (sources and versions included), and is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from comparison import sources
from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.compress import Distill
from hauberk.compress.distill import GraphTeacher, Network
from hauberk.compress.tuning import Tuning
from hauberk.data import load_digits, load_image_folder
from hauberk.data.images import ImageSplits
from hauberk.errors import ContractError
from hauberk.files import write_atomically
from hauberk.graph.classification import classification_graph
from hauberk.graph.export import export
from hauberk.graph.image_preprocess import image_preprocessing_graph
from hauberk.graph.merge import merge, verify_merged
from hauberk.graph.model import run, session
from hauberk.graph.operations import operations
from hauberk.ingest import load_model
from hauberk.models import CARD_FILE, ImageCard
from hauberk.recipe import Context
from hauberk.train import TrainingOptions, labelled_images, save_detector, train_image_model
from reference_detector import describe_machine

_RESAMPLES = 10_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides the figures.

    Attributes:
        size: S, height and width that the networks read; the shorter side is resized to 9/8 of it before the crop.
        teacher_epochs: The most epochs of the teacher.
        epochs: The most epochs of a student.
        patience: Epochs without a lower validation loss after which training stops.
        alpha: Weight of the teacher's answers against the labels, for the students that are taught.
        seeds: Students of each kind.
        images: The most images of each class; all 180 or so where it is 0.
        teacher: Architecture of the teacher.
        student: Architecture of the students.
    """

    size: int = 64
    teacher_epochs: int = 20
    epochs: int = 20
    patience: int = 6
    alpha: float = 0.7
    seeds: int = 3
    images: int = 0
    teacher: str = "resnet50"
    student: str = "resnet18"

    @property
    def key(self) -> str:
        """A name for the folder of what the plan makes with these sources, however many students it asks for."""
        plan = msgspec.json.encode(msgspec.structs.replace(self, seeds=0))
        decided_by = plan + sources.of_measuring().encode() + Path(__file__).read_bytes()
        return hashlib.sha256(decided_by).hexdigest()[:16]


class Judged(msgspec.Struct, frozen=True):
    """A network on the test images.

    Attributes:
        name: "teacher", "taught" or "labels alone".
        seed: Of its weights and its batches.
        seconds: That making it took, of this process's own work.
        parameters: How many numbers its graph holds.
        answers: The class that it names, of each test image.
    """

    name: str
    seed: int
    seconds: float
    parameters: int
    answers: list[int]


@dataclass(frozen=True)
class Outcome:
    """What came of a plan: the teacher, and students in pairs of the same seed."""

    truth: NDArray[np.int64]
    teacher: Judged
    pairs: tuple[tuple[Judged, Judged], ...]

    def accuracy(self, judged: Judged) -> float:
        """A fraction of the test images."""
        return float((np.array(judged.answers) == self.truth).mean())

    def agreement(self, judged: Judged) -> float:
        """With the teacher, likewise."""
        return float((np.array(judged.answers) == np.array(self.teacher.answers)).mean())

    def gain(self) -> tuple[float, float, float]:
        """What teaching adds to accuracy, the mean over seeds, with its 95 % interval (bootstrap over test images)."""
        right = np.array([[np.array(judged.answers) == self.truth for judged in pair] for pair in self.pairs])
        of_each_image = (right[:, 0].astype(float) - right[:, 1]).mean(axis=0)
        drawn = np.random.default_rng(0).choice(of_each_image, (_RESAMPLES, len(of_each_image))).mean(axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return float(of_each_image.mean()), float(low), float(high)

    def verdict(self) -> str:
        """Whether the teacher helped, in a sentence."""
        gain, low, high = self.gain()
        figure = f"{100 * gain:+.2f} points of accuracy ({100 * low:+.2f} to {100 * high:+.2f})"
        if low > 0:
            return f"the teacher helped: {figure}"
        if high < 0:
            return f"the teacher did harm: {figure}"
        return f"the teacher made no difference that these images could show: {figure}"


def main() -> int:
    """Make what is lacking, print the table and the verdict."""
    options = _options()
    torch.set_num_threads(1)
    plan = Plan(size=32, teacher_epochs=4, epochs=3, seeds=1) if options.quick else _plan(options)
    print(f"{describe_machine()}\n{msgspec.json.encode(plan).decode()}\n")
    print(table(compare(plan, options.output)))
    return 0


def compare(plan: Plan, folder: Path) -> Outcome:
    """Train the teacher and the students, or load those that are there, and judge them on the test images."""
    folder /= plan.key
    splits = images(plan, folder / "images")
    core, card, seconds = teacher(plan, splits, folder / "teacher")
    training, validation = (labelled_images(card.image, part) for part in (splits.training, splits.validation))

    def student(seed: int, name: str, alpha: float) -> Judged:
        file = folder / f"{name.replace(' ', '-')}-{seed}.json"
        if not file.is_file():
            context = Context(
                calibration=training.features,
                bounds=card.image.bounds,
                training=training,
                validation=validation,
                task="classification",
                teacher=GraphTeacher(core),
                seed=seed,
            )
            tuning = Tuning(epochs=plan.epochs, patience=plan.patience, alpha=alpha, batch_size=32)
            step = Distill(student=Network(plan.student, {"size": plan.size}), tuning=tuning)
            started = time.process_time()
            made = step.apply(core, context)
            write_atomically(
                file, msgspec.json.encode(_judged(name, seed, time.process_time() - started, made, card, splits))
            )
            print(f"  {name}, seed {seed}: {time.process_time() - started:.0f} s", file=sys.stderr, flush=True)
        return msgspec.json.decode(file.read_bytes(), type=Judged)

    pairs = [(student(seed, "taught", plan.alpha), student(seed, "labels alone", 0.0)) for seed in range(plan.seeds)]
    return Outcome(splits.test.labels, _judged("teacher", 0, seconds, core, card, splits), tuple(pairs))


def images(plan: Plan, folder: Path) -> ImageSplits:
    """The digits as a folder of PNG files a class, read back in colour and split."""
    digits = load_digits()
    if not folder.is_dir():
        unfinished = folder.with_name("images.unfinished")
        parts = (digits.training, digits.validation, digits.test)
        pixels, labels = (
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )
        for label, name in enumerate(digits.training.classes):
            (unfinished / name).mkdir(parents=True, exist_ok=True)
            for number, image in enumerate(pixels[labels == label][: plan.images or None]):
                Image.fromarray(image[..., 0]).save(unfinished / name / f"{number:04}.png")
        unfinished.rename(folder)
    return load_image_folder(folder)


def teacher(plan: Plan, splits: ImageSplits, folder: Path) -> tuple[OnnxArtifact, ImageCard, float]:
    """ResNet-50 as `hauberk train` leaves it: its graph, its card, and the seconds that training took."""
    if not (folder / CARD_FILE).is_file():
        options = TrainingOptions(epochs=plan.teacher_epochs, patience=plan.patience, batch_size=32)
        resize = plan.size * 9 // 8
        started = time.process_time()
        trained = train_image_model(splits, architecture=plan.teacher, size=plan.size, resize=resize, options=options)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "seconds.json", msgspec.json.encode(time.process_time() - started))
        save_detector(trained, folder)
        print(f"  teacher: {time.process_time() - started:.0f} s", file=sys.stderr, flush=True)
    loaded = load_model(folder)
    if not (isinstance(loaded.artifact, TorchArtifact) and isinstance(loaded.card, ImageCard)):
        raise ContractError(f"{folder}: holds something other than the teacher")
    return export(loaded.artifact), loaded.card, msgspec.json.decode((folder / "seconds.json").read_bytes(), type=float)


def table(outcome: Outcome) -> str:
    """The figures as a Markdown table, and the verdict below."""
    rows = ["| | seed | accuracy, % | agrees with the teacher, % | training, s |", "| --- | --- | --- | --- | --- |"]
    for name, judged in (
        ("teacher", (outcome.teacher,)),
        ("student, taught", [taught for taught, _ in outcome.pairs]),
        ("student, labels alone", [alone for _, alone in outcome.pairs]),
    ):
        rows += [_row(name, str(each.seed), [each], outcome) for each in judged]
        if len(judged) > 1:
            rows.append(_row(name, "mean", judged, outcome))
    sizes = outcome.teacher.parameters, outcome.pairs[0][0].parameters
    return "\n".join(
        [*rows, "", f"{len(outcome.truth)} test images; parameters {sizes[0]:,} and {sizes[1]:,}", outcome.verdict()]
    )


def _row(name: str, seed: str, judged: Sequence[Judged], outcome: Outcome) -> str:
    accuracy = 100 * np.mean([outcome.accuracy(each) for each in judged])
    agreement = 100 * np.mean([outcome.agreement(each) for each in judged])
    seconds = np.mean([each.seconds for each in judged])
    shown = "–" if judged[0] is outcome.teacher else f"{agreement:.2f}"
    return f"| {name} | {seed} | {accuracy:.2f} | {shown} | {seconds:.0f} |"


def _judged(name: str, seed: int, seconds: float, core: OnnxArtifact, card: ImageCard, splits: ImageSplits) -> Judged:
    """The network as it is deployed, on the pixels of the test images."""
    parts = image_preprocessing_graph(card.image), core, classification_graph(len(card.classes))
    deployed = merge(*parts)
    verdict = verify_merged(deployed, *parts, {"images": splits.test.images[:16]})
    if not verdict.holds:
        raise ContractError(f"{name}: the deployable graph does not answer what its parts answer: {verdict.reason}")
    loaded = session(deployed.model)
    names = [spec.name for spec in deployed.signature.outputs]
    chunks = np.array_split(splits.test.images, max(1, len(splits.test) // 64))
    found = [run(loaded, {"images": chunk})[names.index("labels")] for chunk in chunks]
    return Judged(name, seed, seconds, operations(core.model).parameters, np.concatenate(found).tolist())


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(size=options.size, teacher_epochs=options.teacher_epochs, epochs=options.epochs, seeds=options.seeds)


def _options() -> argparse.Namespace:
    usual = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="32×32 pixels, one student of each kind, few epochs")
    parser.add_argument("--size", type=int, default=usual.size, help=f"of the images (default: {usual.size})")
    parser.add_argument("--seeds", type=int, default=usual.seeds, help=f"students of each kind ({usual.seeds})")
    parser.add_argument("--epochs", type=int, default=usual.epochs, help=f"the most of a student ({usual.epochs})")
    parser.add_argument(
        "--teacher-epochs", type=int, default=usual.teacher_epochs, help=f"of the teacher ({usual.teacher_epochs})"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/resnet-teacher"), help="where networks and answers are kept"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
