"""What is compared: our recipes, the graph as it is, and the peers, each made once and kept."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from comparison.results import OPENVINO, OPENVINO_BF16, OPTIMISED, ORT, PLAIN, Made
from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.recipes import CATALOGUE, named_recipe
from hauberk.errors import HauberkError, LimitError
from hauberk.files import write_atomically
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.recipe import Context, LabelledFeatures, Recipe
from peers.environments import PEERS, Peer, ask
from subjects import Subject

_MOST_TRAINING = 6_000
"""Records that a recipe may train on: enough for these networks, and minutes instead of an hour for all of them."""
_MOST_PEER_RECORDS = 300
"""Calibration records for peers: the default subset of NNCF."""
_PEER_SECONDS = 300.0
_NOT_FOR_SPEED = frozenset({"distilled-robust"})
"""Recipes whose aim is another than to be small and fast, and whose training takes the longest."""
_EVERY_ENGINE = (ORT, OPENVINO, OPENVINO_BF16)


class Workshop:
    """A folder in which the models of one detector are made, and found again by a later run.

    Args:
        folder: Where files are kept.
        subject: The detector.
        peers: Where the peers' environments lie.
        limit: Seconds that one recipe may take.
        trains: Whether recipes that train are worth trying at this size.
        fresh: Make everything anew. Files are found again by model, recipe and data; not by the code that made them.
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
        self._context = _shortened(subject.context)

    def references(self) -> Iterator[Made]:
        """The float32 graph as the exporter leaves it, and after the default passes."""
        plain = Export().apply(self._subject.module, self._context)
        yield self._kept("optimised", OPTIMISED, self._subject.core.model, _EVERY_ENGINE)
        yield self._kept("plain", PLAIN, plain.model, (ORT,))

    def ours(self, names: Iterable[str]) -> Iterator[Made]:
        """One model a recipe of the catalogue that applies to this detector."""
        for name in names:
            try:
                recipe = named_recipe(name, self._subject.core)
            except HauberkError as error:
                yield Made(name, "ours", "", (), "", note=f"does not apply: {error}")
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
        data = self._context.training.features.shape if self._context.training else ()
        key = _digest(self._subject.core.model, recipe.to_json(), str(data).encode())
        known = self._known(recipe.name, key)
        if known is not None:
            return known
        started = time.perf_counter()
        try:
            with _at_most(self._limit):
                artifact = self._applied(recipe)
        except HauberkError as error:
            return self._record(Made(recipe.name, "ours", "", (), key, note=str(error)))
        seconds = time.perf_counter() - started
        done = artifact.history[len(self._subject.core.history) :]
        undone = [
            f"{record.step} undone: {record.verdict.reason}" for record in done if record.verdict and not record.kept
        ]
        undone += [note for record in done if record.kept for note in record.notes[:1]]
        kept = tuple(record.step for record in done if record.kept)
        if not kept or not isinstance(artifact, OnnxArtifact):
            return self._record(Made(recipe.name, "ours", "", (), key, note="; ".join(undone), seconds=seconds))
        file = self.folder / f"{recipe.name}.onnx"
        write_atomically(file, artifact.model)
        made = Made(recipe.name, "ours", file.name, _EVERY_ENGINE, key, kept, "; ".join(undone), seconds)
        return self._record(made)

    def _applied(self, recipe: Recipe) -> Artifact:
        """What a recipe makes of the detector; steps that another recipe began with are not repeated."""
        artifact: Artifact = self._subject.core
        for step in recipe.steps:
            key = _digest(artifact.digest.encode(), msgspec.json.encode(step))
            if key not in self._steps:
                self._steps[key] = Recipe(recipe.name, (step,)).apply(artifact, self._context, verify)
            artifact = self._steps[key]
        return artifact

    def _peer(self, peer: Peer, plain: Path, calibration: Path) -> Made:
        key = _digest(plain.read_bytes(), calibration.read_bytes(), repr(peer).encode())
        known = self._known(peer.name, key)
        if known is not None:
            return known
        openvino = peer.engine == "openvino"
        file = self.folder / f"peer-{PEERS.index(peer)}{'.xml' if openvino else '.onnx'}"
        outcome = ask(peer, plain, calibration, file, folder=self._peers, seconds=_PEER_SECONDS)
        engines = (OPENVINO, OPENVINO_BF16) if openvino else (ORT,)
        name = "" if outcome.file is None else outcome.file.name
        return self._record(Made(peer.name, "peer", name, engines, key, note=outcome.note, seconds=outcome.seconds))

    def _known(self, method: str, key: str) -> Made | None:
        """What an earlier run made, unless anything that decides it has changed since."""
        note = self.folder / f"{_stem(method)}.made.json"
        if self._fresh or not note.is_file():
            return None
        made = msgspec.json.decode(note.read_bytes(), type=Made)
        return made if made.key == key and (not made.file or (self.folder / made.file).is_file()) else None

    def _record(self, made: Made) -> Made:
        write_atomically(self.folder / f"{_stem(made.method)}.made.json", msgspec.json.encode(made))
        return made


def recipe_names(*, quick: bool) -> Sequence[str]:
    """The recipes of the catalogue that aim at size and speed; only those that train nothing where it must be quick."""
    if not quick:
        return tuple(name for name in CATALOGUE if name not in _NOT_FOR_SPEED)
    quick_ones = ("int8-dynamic", "int8-static", "float16")
    return tuple(name for name in CATALOGUE if name in quick_ones)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Stop what runs inside once its time is up.

    Raises:
        LimitError: It is.
    """

    def stop(*_: object) -> None:
        raise LimitError(f"it took more than the {seconds:g} s that one recipe has here")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _shortened(context: Context) -> Context:
    """The same context with as many training records as a recipe may have, drawn at random."""
    training = context.training
    if training is None or len(training) <= _MOST_TRAINING:
        return context
    rows = np.sort(np.random.default_rng(context.seed).permutation(len(training))[:_MOST_TRAINING])
    return replace(context, training=LabelledFeatures(training.features[rows], training.targets[rows]))


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(json.dumps([hashlib.sha256(part).hexdigest() for part in parts]).encode()).hexdigest()


def _stem(method: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in method)
