"""From a file to a model that nothing was run of: copy, scan, read, fit, check.

The file is recognised by its content, never by its name. Only what the scan calls safe is read; scan and reader see the
same private, sealed copy, and both run in processes of their own, under limits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from hauberk.artifact import Artifact, OnnxArtifact, StepRecord, TorchArtifact
from hauberk.errors import InputError, RefusedModelError
from hauberk.ingest.admission import admit
from hauberk.ingest.architecture import build_own
from hauberk.ingest.graphs import read_onnx
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.signature import onnx_signature, torch_signature
from hauberk.ingest.weights import fit, read_checkpoint, read_safetensors
from hauberk.models import CARD_FILE, WEIGHTS_FILE, ImageCard, ModelCard, build, read_any_card

_XGBOOST = b'{"learner":'


@dataclass(frozen=True)
class LoadedModel:
    """A model that was admitted.

    Attributes:
        artifact: The model; its history begins with the admission.
        card: Its model card, `None` where it has none.
    """

    artifact: TorchArtifact | OnnxArtifact
    card: ModelCard | ImageCard | None


def load_model(
    path: Path, *, card: Path | None = None, arch: str | None = None, inputs: int | None = None
) -> LoadedModel:
    """Load a model without running anything that its file brings.

    Args:
        path: A safetensors file, a PyTorch state dict (zip or the older stream format) or an ONNX file, by content; or
            a folder that `hauberk train` wrote.
        card: The model card; by default the file of the same name that ends in `.json`, where there is one.
        arch: `FILE.py:CALLABLE`, the user's own code, which builds the module that the weights belong to. Without it
            the card's architecture is built.
        inputs: D, the number of feature columns that the data has; the model must take that many, one record at a
            time. Without it, models of windows and of images are taken as well.

    Raises:
        RefusedModelError: The scan does not call the file safe, reading it failed or took too much, or it is not the
            one that its card names.
        InputError: A file is missing, neither card nor architecture is known, the weights do not fit the architecture,
            or the model does not take `inputs` columns.
    """
    started = time.perf_counter()
    card = find_card(path, card)
    if path.is_dir():
        path /= WEIGHTS_FILE
    known = read_any_card(card) if card else None
    _require_single_records(known, inputs, path)
    with PrivateCopy(path) as copy:
        if known and known.weights_sha256 != copy.sha256:
            raise RefusedModelError(
                f"{path}: refused: its SHA-256 begins with {copy.sha256[:12]}, the model card {card} names"
                f" {known.weights_sha256[:12]!r}; these two do not belong together"
            )
        admission = admit(copy)
        kind = admission.format
        parameters: dict[str, object] = {"file": path.name, "format": kind}
        artifact: Artifact
        if kind == "onnx":
            if admission.outside:
                raise RefusedModelError(
                    f"{path}: refused: its weights lie in {admission.outside} other file(s), and only what is in this"
                    " one is loaded; put them into it with onnx.save(onnx.load(PATH), NEW_PATH,"
                    " save_as_external_data=False)"
                )
            artifact = _onnx(copy, known, inputs)
            if arch:
                raise InputError(f"{path}: an ONNX model brings its own graph; leave --arch away")
        else:
            state = read_safetensors(copy) if kind == "safetensors" else read_checkpoint(copy)
            module, parameters["architecture"] = _architecture(arch, known, path)
            fit(module, state, str(path))
            artifact = TorchArtifact(module, torch_signature(module, known, inputs, str(path)), copy.sha256)
    record = StepRecord(
        step="admit",
        parameters=parameters,
        contract=None,
        before=artifact.origin,
        after=artifact.digest,
        kept=True,
        verdict=None,
        seconds=time.perf_counter() - started,
    )
    return LoadedModel(artifact.with_record(record), known)


def _require_single_records(card: ModelCard | ImageCard | None, inputs: int | None, path: Path) -> None:
    """Where the data has columns, a model of windows or of images is not what was meant."""
    if inputs is None or card is None:
        return
    reads = "images" if isinstance(card, ImageCard) else f"windows of {card.window} records" if card.window else ""
    if reads:
        raise InputError(f"{path}: reads {reads}; a detector of single records is needed here")


def _architecture(
    arch: str | None, known: ModelCard | ImageCard | None, path: Path
) -> tuple[nn.Module, dict[str, object]]:
    """The module that weights belong to, and a description of it for the record."""
    if arch:
        own = build_own(arch)
        return own.module, {"file": own.file, "callable": own.callable, "sha256": own.sha256}
    if known is None:
        raise InputError(
            f"{path}: weights alone do not say what they belong to; give a model card ({path.with_suffix('.json').name}"
            " beside the file, or --card) or --arch FILE.py:CALLABLE"
        )
    with torch.device("meta"):  # nothing is allocated before the file proves to have the weights
        module = build(known.architecture, known.parameters)
    return module, {"name": known.architecture, "parameters": known.parameters}


def _onnx(copy: PrivateCopy, known: ModelCard | ImageCard | None, inputs: int | None) -> OnnxArtifact:
    model, where = read_onnx(copy), str(copy.source)
    return OnnxArtifact(model, onnx_signature(onnx.ModelProto.FromString(model), known, inputs, where), copy.sha256)


def find_card(path: Path, card: Path | None = None) -> Path | None:
    """Where a model's card is: the given one, that of a folder, or the file beside the model; `None` without one."""
    if card is not None:
        return card
    if path.is_dir():
        return path / CARD_FILE
    beside = path.with_suffix(".json")
    return beside if beside.is_file() and not _holds_trees(beside) else None


def _holds_trees(path: Path) -> bool:
    """Whether this is an XGBoost model, beside the graph that was made of it, and no card."""
    with path.open("rb") as file:
        return file.read(len(_XGBOOST)) == _XGBOOST
