"""From a file to a model that nothing was run of: copy, scan, read, fit, check.

The file is recognised by its content, never by its name. Its first bytes decide which scan must accept it before a
reader sees it; both see the same private, sealed copy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hauberk.artifact import Artifact, OnnxArtifact, StepRecord, TorchArtifact
from hauberk.errors import InputError, RefusedModelError
from hauberk.ingest.architecture import build_own
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.scan import examine_pickle, refusal_of_names, scan_archive, scan_onnx, scan_safetensors
from hauberk.ingest.scan.onnx import MAX_ONNX_BYTES
from hauberk.ingest.scan.pickle import MAX_PICKLE_BYTES
from hauberk.ingest.signature import onnx_signature, torch_signature
from hauberk.ingest.weights import fit, read_checkpoint, read_safetensors
from hauberk.models import CARD_FILE, WEIGHTS_FILE, ImageCard, ModelCard, build, read_any_card

_LEGACY_PICKLES = 5  # what torch before 1.6 wrote behind one another

Format = Literal["safetensors", "pytorch", "onnx"]


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
        path: A `.safetensors`, PyTorch (`.pt`, `.pth`) or ONNX file, or a folder that `hauberk train` wrote.
        card: The model card; by default the file of the same name that ends in `.json`, where there is one.
        arch: `FILE.py:CALLABLE`, the user's own code, which builds the module that the weights belong to. Without it
            the card's architecture is built.
        inputs: D, the number of feature columns that the data has; the model must take that many, one record at a
            time. Without it, models of windows and of images are taken as well.

    Raises:
        RefusedModelError: The file holds or asks for more than a model, is damaged, or is not the one that its card
            names.
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
        kind = recognise(copy)
        parameters: dict[str, object] = {"file": path.name, "format": kind}
        artifact: Artifact
        if kind == "onnx":
            artifact = _onnx(copy, known, inputs)
            if arch:
                raise InputError(f"{path}: an ONNX model brings its own graph; leave --arch away")
        else:
            state = _scanned_state(copy, kind)
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


def recognise(copy: PrivateCopy) -> Format:
    """Which format a file has, by its content; its name only serves to explain a damaged ONNX file.

    Raises:
        RefusedModelError: None that is read. Where it is a pickle, the message names what it asks for.
    """
    head = copy.head(16)
    if head.startswith(b"PK\x03\x04"):
        return "pytorch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= copy.size - 8:
        return "safetensors"
    if head[:1] == b"\x08":  # field 1 of ModelProto, the IR version, which exporters write first
        return "onnx"
    refusal = _pickle_refusal(copy)
    if refusal is None and copy.source.suffix == ".onnx":
        return "onnx"
    raise refusal or RefusedModelError(
        f"{copy.source}: not a model that Hauberk reads: neither safetensors nor a PyTorch state dict nor ONNX"
    )


def _pickle_refusal(copy: PrivateCopy) -> RefusedModelError | None:
    """Why a file that begins with a pickle is refused; `None` for one that does not."""
    if copy.size > 262 and copy.read(257, 5) == b"ustar":
        return RefusedModelError(f"{copy.source}: refused: the tar format of torch before 0.4; save the weights again")
    data = copy.head(MAX_PICKLE_BYTES)
    begins_as_pickle = data[:1] == b"\x80"
    names: list[str] = []
    for _ in range(_LEGACY_PICKLES):
        found = examine_pickle(data)
        if found.end is None and not begins_as_pickle:
            break
        names += found.refused_names
        if found.end is None:
            break
        begins_as_pickle, data = True, data[found.end :]
    if names:
        return refusal_of_names(names, str(copy.source))
    if not begins_as_pickle:
        return None
    return RefusedModelError(
        f"{copy.source}: refused: a bare pickle, or the format of torch before 1.6;"
        " save the weights again with torch.save(model.state_dict(), PATH), or as safetensors"
    )


def _scanned_state(copy: PrivateCopy, kind: Format) -> dict[str, Tensor]:
    if kind == "safetensors":
        scan_safetensors(copy)
        return read_safetensors(copy)
    scan_archive(copy)
    return read_checkpoint(copy)


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
    where = str(copy.source)
    if copy.size > MAX_ONNX_BYTES:
        raise RefusedModelError(f"{where}: refused: {copy.size} bytes; an ONNX file ends at 2 GiB")
    model = copy.read(0, copy.size)
    proto = scan_onnx(model, where)
    return OnnxArtifact(model, onnx_signature(proto, known, inputs, where), copy.sha256)


def find_card(path: Path, card: Path | None = None) -> Path | None:
    """Where a model's card is: the given one, that of a folder, or the file beside the model; `None` without one."""
    if card is not None:
        return card
    if path.is_dir():
        return path / CARD_FILE
    beside = path.with_suffix(".json")
    return beside if beside.is_file() else None
