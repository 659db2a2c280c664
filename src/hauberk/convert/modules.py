"""A torch module of the user's own, and graphs: what Hauberk reads itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.convert.admission import Admitted
from hauberk.convert.compare import Rule, Source
from hauberk.convert.converted import Converted
from hauberk.convert.opset import opset_of
from hauberk.errors import InputError
from hauberk.graph.check import check_model
from hauberk.graph.compare import Outputs
from hauberk.graph.export import export
from hauberk.graph.model import parse, signature_of
from hauberk.graph.trials import Feeds, session_runner
from hauberk.ingest import load_model
from hauberk.models import ModelCard
from hauberk.tensors import Signature


@contextmanager
def from_state_dict(admitted: Admitted, *, arch: str | None, card: Path | None) -> Iterator[Converted]:
    """Weights with the user's own architecture, or that of their card.

    Raises:
        InputError: Neither is known, the weights do not fit, or torch cannot export the module.
    """
    loaded = load_model(admitted.path, card=card, arch=arch)
    artifact = loaded.artifact
    if not isinstance(artifact, TorchArtifact) or artifact.origin != admitted.sha256:
        raise InputError(f"{admitted.path}: it changed while it was read; convert it again")
    notes: list[str] = []
    core = export(artifact, remark=notes.append)
    outputs = core.signature.outputs[0].shape[1]
    yield Converted(
        model=core.model,
        signature=core.signature,
        source=Source(
            _Answer(artifact, outputs), f"torch {_version(torch.__version__)}", rule_of(core.signature, "log-odds")
        ),
        card=loaded.card if isinstance(loaded.card, ModelCard) else None,
        notes=tuple(notes),
    )


class _Answer:
    """The module as something that is asked by input names; [N] becomes [N, 1], as it does in the graph."""

    def __init__(self, artifact: TorchArtifact, outputs: int | str) -> None:
        self._module = artifact.module
        self._outputs = outputs

    def __call__(self, feeds: Feeds) -> Outputs:
        (features,) = feeds.values()
        with torch.no_grad():
            logits = self._module(torch.from_numpy(np.array(features)))
        if self._outputs == 1 and logits.ndim == 1:
            logits = logits[:, None]
        return [logits.to(torch.float32).numpy()]


@contextmanager
def from_graph(file: Admitted) -> Iterator[Converted]:
    """An ONNX file, as it is; what changes is its opset.

    Raises:
        InputError: onnx or ONNX Runtime refuse it.
    """
    graph = graph_of(file.content(), file.sha256, str(file.path))
    yield Converted(
        model=graph.model,
        signature=graph.signature,
        source=Source(
            session_runner(graph.model, "optimised"),
            f"onnxruntime {_version(onnxruntime.__version__)}, the graph as it was",
            rule_of(graph.signature),
        ),
        notes=(f"the graph had opset {opset_of(parse(graph.model))}",),
    )


def graph_of(model: bytes, origin: str, where: str) -> OnnxArtifact:
    """An admitted graph, checked by onnx and by ONNX Runtime.

    Raises:
        InputError: Either of them refuses it, or its weights lie in another file.
    """
    proto = parse(model)
    if any(tensor.external_data for tensor in proto.graph.initializer):
        raise InputError(
            f"{where}: its weights lie in another file; put them into this one with"
            " onnx.save(onnx.load(PATH), NEW_PATH, save_as_external_data=False)"
        )
    try:
        check_model(model)
        return OnnxArtifact(model, signature_of(proto), origin)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def rule_of(signature: Signature, single: Rule | None = None) -> Rule | None:
    """How a graph's first output decides, as far as its shape tells; `single` is said of one column."""
    outputs = signature.outputs
    if len(outputs) == 1 and outputs[0].dtype == "float32" and len(outputs[0].shape) == 2:
        return single if outputs[0].shape[1] == 1 else "largest"
    return None


def _version(text: str) -> str:
    """A version without what a build adds to it."""
    return text.partition("+")[0]
