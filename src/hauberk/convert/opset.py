"""A graph at another opset: converted by onnx, compared before and after by the harness that judges every change."""

from __future__ import annotations

import onnx
from onnx import helper, version_converter

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError, one_line
from hauberk.graph.check import check_model
from hauberk.graph.harness import GraphVerifier, show
from hauberk.graph.model import IR_VERSION, parse, signature_of
from hauberk.graph.samples import Samples
from hauberk.recipe import Close, Context

OLDEST, NEWEST = 7, 26
"""Opsets that are written: the oldest that ONNX Runtime still runs, and the newest that our version of it knows."""

CONTRACT = Close()


def require_opset(opset: int) -> None:
    """Refuse an opset that cannot be written.

    Raises:
        InputError: It is too old or too new.
    """
    if not OLDEST <= opset <= NEWEST:
        raise InputError(f"--opset: {opset} is not written here; give {OLDEST} to {NEWEST}")


def opset_of(proto: onnx.ModelProto) -> int:
    """The opset of the standard domain.

    Raises:
        InputError: The model names none.
    """
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    raise InputError("ONNX model: it names no opset of the standard domain")


def at_opset(artifact: OnnxArtifact, opset: int, samples: Samples, context: Context, where: str) -> OnnxArtifact:
    """The same graph at another opset, verified.

    Args:
        artifact: An admitted graph.
        opset: Of the standard domain, wanted.
        samples: Real inputs, and ranges.
        context: Only its seed is read.
        where: How messages call the file.

    Returns:
        `artifact` itself where it has that opset already.

    Raises:
        InputError: onnx does not convert it, or what it makes of it computes something else.
    """
    proto = parse(artifact.model)
    found = opset_of(proto)
    if found == opset:
        return artifact
    try:
        converted = version_converter.convert_version(proto, opset)
    except Exception as error:  # the converter's errors have no common base
        raise InputError(f"{where}: opset {found} cannot be converted to {opset}: {one_line(error)}") from error
    converted.ir_version = written_version(converted)
    model = converted.SerializeToString()
    check_model(model)
    result = OnnxArtifact(model, signature_of(converted), artifact.origin, artifact.history)
    verdict = GraphVerifier(samples)(artifact, result, CONTRACT, context)
    if not verdict.holds:
        raise InputError(
            f"{where}: converting opset {found} to {opset} changes what the graph computes: {verdict.reason}"
            f" (contract {show(CONTRACT)}); nothing was written"
        )
    return result


def written_version(proto: onnx.ModelProto) -> int:
    """The IR version to write: the usual one, or the least that the opsets ask for."""
    return max(IR_VERSION, int(helper.find_min_ir_version_for(list(proto.opset_import))))
