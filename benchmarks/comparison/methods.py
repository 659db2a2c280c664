"""What is compared: our recipes, the graph as it is, and the peers, each made once and kept.

A model is kept as soon as it is made, and is made anew only where the detector, the recipe, the records or the sources
behind them have changed: a run that was interrupted goes on where it stopped. What failed by the clock is not kept.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import msgspec
import numpy as np

import hauberk
from comparison import sources
from comparison.results import OPENVINO, OPENVINO_BF16, OPTIMISED, ORT, PLAIN, Made
from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.distill import Distill, GraphTeacher
from hauberk.compress.recipes import CATALOGUE, named_recipe
from hauberk.errors import HauberkError, LimitError
from hauberk.files import write_atomically
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.recipe import Context, Recipe
from peers.environments import PEERS, Peer, ask
from subjects import Subject

_MOST_TRAINING = 6_000
"""Records that a recipe may train on: enough for these networks, and minutes instead of an hour for all of them."""
_MOST_PEER_RECORDS = 300
"""Calibration records for peers: the default subset of NNCF."""
_PEER_SECONDS = 300.0
_PATIENCE = 0.02
"""Seconds after which a recipe whose time is up is looked at again, where other people's code was running."""
_LIBRARY = str(Path(hauberk.__file__).parent)
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_EVERY_ENGINE = (ORT, OPENVINO, OPENVINO_BF16)


class Workshop:
    """A folder in which the models of one detector are made, and found again by a later run.

    Args:
        folder: Where files are kept.
        subject: The detector.
        peers: Where the peers' environments lie.
        limit: Seconds that one recipe may take.
        trains: Whether recipes that train are worth trying at this size.
        fresh: Make everything anew.
    """

    def __init__(self, folder: Path, subject: Subject, peers: Path, *, limit: float, trains: bool, fresh: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._subject = subject
        self._peers = peers
        self._limit = limit
        self._trains = trains
        self._steps: dict[str, Artifact] = {}
        self._fresh = fresh
        training = subject.context.training
        assert training is not None
        # Who teaches is the detector, as for a user: not what an earlier step of the recipe left of it.
        self._context = replace(
            subject.context,
            training=training.sample(_MOST_TRAINING, subject.context.seed),
            teacher=GraphTeacher(subject.core),
        )
        self._material = _digest(sources.of_making().encode(), subject.core.model, *_arrays(self._context))

    def references(self) -> Iterator[Made]:
        """The float32 graph as the exporter leaves it, and after the default passes."""
        plain = Export().apply(self._subject.module, self._context)
        yield self._kept("optimised", OPTIMISED, self._subject.core.model, _EVERY_ENGINE)
        yield self._kept("plain", PLAIN, plain.model, (ORT,))

    def ours(self, *, quick: bool) -> Iterator[Made]:
        """One model a recipe of the catalogue that aims at size and speed; quick: of those that train nothing."""
        for name in CATALOGUE:
            try:
                recipe = named_recipe(name, self._subject.core)
            except HauberkError as error:
                yield Made(name, "ours", "", (), "", note=f"does not apply: {error}")
                continue
            if _aims_elsewhere(recipe) or (quick and recipe.trains):
                continue
            if recipe.trains and not self._trains:
                yield Made(name, "ours", "", (), "", note="not tried: training at this size takes hours here")
                continue
            yield self._recipe(recipe)

    def peers(self) -> Iterator[Made]:
        """One model a peer, made from the graph as the exporter leaves it."""
        rows = np.linspace(0, len(self._context.calibration) - 1, _MOST_PEER_RECORDS).astype(int)
        records = self._context.calibration[np.unique(rows)]
        calibration = self.folder / "calibration.npy"
        np.save(calibration, records)
        plain = self.folder / "plain.onnx"
        for peer in PEERS:
            yield self._peer(peer, plain, calibration)

    def _kept(self, stem: str, method: str, model: bytes, engines: tuple[str, ...]) -> Made:
        file = self.folder / f"{stem}.onnx"
        write_atomically(file, model)
        return Made(method, "reference", file.name, engines, hashlib.sha256(model).hexdigest())

    def _recipe(self, recipe: Recipe) -> Made:
        key = _digest(self._material.encode(), recipe.to_json())
        known = self._known(recipe.name, key)
        if known is not None:
            return known
        started = time.perf_counter()
        alarm = _Alarm()
        try:
            with _at_most(self._limit, alarm):
                artifact = self._applied(recipe, alarm)
        except Exception as error:
            if not alarm.rang and not isinstance(error, HauberkError):
                raise
            note, settled = (alarm.said, False) if alarm.rang else (str(error), True)
            return self._record(Made(recipe.name, "ours", "", (), key, note=note, settled=settled))
        seconds = time.perf_counter() - started
        done = artifact.history[len(self._subject.core.history) :]
        notes = [
            f"{record.step} undone: {record.verdict.reason}" for record in done if record.verdict and not record.kept
        ]
        notes += [note for record in done if record.kept for note in record.notes[:1]]
        kept, undone = (
            tuple(record.parameters for record in done if record.kept is wanted) for wanted in (True, False)
        )
        made = Made(recipe.name, "ours", "", (), key, kept, undone, "; ".join(notes), seconds)
        if kept and isinstance(artifact, OnnxArtifact):
            file = self.folder / f"{recipe.name}.onnx"
            write_atomically(file, artifact.model)
            made = msgspec.structs.replace(made, file=file.name, engines=_EVERY_ENGINE)
        return self._record(made)

    def _applied(self, recipe: Recipe, alarm: _Alarm) -> Artifact:
        """What a recipe makes of the detector; steps that another recipe began with are not repeated.

        Raises:
            LimitError: Time ran out, whatever the step made of that: what it returned is not what it makes.
        """
        artifact: Artifact = self._subject.core
        for step in recipe.steps:
            key = _digest(artifact.digest.encode(), msgspec.json.encode(step))
            if key not in self._steps:
                made = Recipe(recipe.name, (step,)).apply(artifact, self._context, verify)
                if alarm.rang:
                    raise LimitError(alarm.said)
                self._steps[key] = made
            artifact = self._steps[key]
        return artifact

    def _peer(self, peer: Peer, plain: Path, calibration: Path) -> Made:
        key = _digest(plain.read_bytes(), calibration.read_bytes(), peer.digest.encode())
        known = self._known(peer.name, key)
        if known is not None:
            return known
        openvino = peer.engine == "openvino"
        file = self.folder / f"{_stem(peer.name)}{'.xml' if openvino else '.onnx'}"
        outcome = ask(peer, plain, calibration, file, folder=self._peers, seconds=_PEER_SECONDS)
        made = Made(
            peer.name,
            "peer",
            "" if outcome.file is None else outcome.file.name,
            (OPENVINO, OPENVINO_BF16) if openvino else (ORT,),
            key,
            note=outcome.note,
            seconds=outcome.seconds,
            settled=outcome.settled,
        )
        return self._record(made)

    def _known(self, method: str, key: str) -> Made | None:
        """What an earlier run made, unless anything that decides it has changed since."""
        note = self.folder / f"{_stem(method)}.made.json"
        if self._fresh or not note.is_file():
            return None
        try:
            made = msgspec.json.decode(note.read_bytes(), type=Made)
        except msgspec.ValidationError:  # written by an older form of this program
            return None
        return made if made.key == key and (not made.file or (self.folder / made.file).is_file()) else None

    def _record(self, made: Made) -> Made:
        if made.settled:
            write_atomically(self.folder / f"{_stem(made.method)}.made.json", msgspec.json.encode(made))
        return made


def _aims_elsewhere(recipe: Recipe) -> bool:
    """Whether a recipe is for something else than size and speed: robust students take the longest to train."""
    tunings = (getattr(step, "tuning", None) for step in recipe.steps)
    if any(tuning is not None and tuning.robust is not None for tuning in tunings):
        return True
    return any(isinstance(step, Distill) and step.robust is not None for step in recipe.steps)


@dataclass
class _Alarm:
    """Whether a recipe's time ran out, however its code took it: some report every failure of theirs in their words."""

    rang: bool = False
    said: str = ""


@contextmanager
def _at_most(seconds: float, alarm: _Alarm) -> Iterator[None]:
    """Stop what runs inside once its time is up and the code that runs is ours.

    Other people's code is waited for: an exception out of nowhere, in a function that native code has called, can end
    the whole process.

    Raises:
        LimitError: It is.
    """

    def stop(_: int, frame: FrameType | None) -> None:
        alarm.rang, alarm.said = True, f"it took more than the {seconds:g} s that one recipe has here"
        if frame is not None and _ours(frame.f_code.co_filename):
            raise LimitError(alarm.said)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        # An alarm that another thread was chosen to take may come late, and by default ends the process.
        signal.signal(signal.SIGALRM, signal.SIG_IGN if before in {signal.SIG_DFL, None} else before)


def _ours(file: str) -> bool:
    """Whether a source file is neither Python's nor of an installed package, but for this library itself."""
    return file.startswith(_LIBRARY) or not file.startswith((*_INSTALLED, "<"))


def _arrays(context: Context) -> Iterator[bytes]:
    """Every record that a step may see."""
    yield context.calibration.tobytes()
    for split in (context.training, context.validation):
        if split is not None:
            yield split.features.tobytes()
            yield split.targets.tobytes()


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(json.dumps([hashlib.sha256(part).hexdigest() for part in parts]).encode()).hexdigest()


def _stem(method: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in method)
