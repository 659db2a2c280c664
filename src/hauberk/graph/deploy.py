"""The graph that is timed, signed and served: three parts merged, then optimised across their seams.

Preprocessing and decision cost more nodes than a small core has layers. Seen as one graph, the scaling of the numbers
belongs to the first layer's weights, the one-hot columns are a look-up of its rows, and the margin of two logits is one
column of the last layer. Every pass is held to the contract of merging (`hauberk.graph.merge.CONTRACT`) against the
three parts run one after the other; one that breaks it is undone and recorded as such.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import Artifact, OnnxArtifact, StepRecord, Verdict
from hauberk.errors import ContractError
from hauberk.graph.merge import CONTRACT, merge, verify_merged
from hauberk.graph.model import onnx_only
from hauberk.graph.passes import PassRecipe
from hauberk.graph.passes.fold_affine_into_next import FoldAffineIntoNext
from hauberk.graph.passes.fold_affine_into_previous import FoldAffineIntoPrevious
from hauberk.graph.passes.fuse_linear import FuseLinear
from hauberk.graph.passes.mat_mul_add_to_gemm import MatMulAddToGemm
from hauberk.graph.passes.one_hot_to_gather import OneHotToGather
from hauberk.graph.passes.replace_division import ReplaceDivision
from hauberk.graph.passes.share_initializers import ShareInitializers
from hauberk.graph.passes.strip_metadata import StripMetadata
from hauberk.recipe import Context, Contract, Step

SEAM_PASSES: tuple[Step, ...] = (
    MatMulAddToGemm(),
    FoldAffineIntoPrevious(),
    FoldAffineIntoNext(),
    FuseLinear(),
    OneHotToGather(),
    ReplaceDivision(),
    ShareInitializers(),
    StripMetadata(),
)
"""What can find something at the seams, in order."""

_STRAY_CODES = (-1, 1 << 20, np.iinfo(np.int64).min, np.iinfo(np.int64).max)
"""Codes that stand for no category, tried beside the real records: they must light no column, and crash nothing."""

Records = Mapping[str, NDArray[np.generic]]


def deploy(
    preprocessing: OnnxArtifact,
    core: OnnxArtifact,
    decision: OnnxArtifact,
    records: Records,
    *,
    parameters: Mapping[str, object] | None = None,
    passes: tuple[Step, ...] = SEAM_PASSES,
) -> OnnxArtifact:
    """Merge three parts and optimise the whole.

    Args:
        preprocessing: First part.
        core: Second part.
        decision: Third part.
        records: What the merged graph takes, by the name of its inputs, N >= 1 records each.
        parameters: What the record of the merge says besides its verdict.
        passes: What is tried, in order.

    Returns:
        The merged graph, with the core's history, the merge, and every pass that changed something, kept or undone.

    Raises:
        InputError: The parts do not fit.
        ContractError: The merged graph answers something else than its parts, before any pass.
    """
    parts = (preprocessing, core, decision)
    tried = _with_stray_codes(records)
    started = time.perf_counter()
    merged = merge(*parts)
    seconds = time.perf_counter() - started
    verdict = verify_merged(merged, *parts, tried)
    if not verdict.holds:
        raise ContractError(f"merge: {verdict.reason}")
    merged = merged.with_record(
        StepRecord(
            step="merge",
            parameters=dict(parameters or {}),
            contract=msgspec.to_builtins(CONTRACT),
            before=core.digest,
            after=merged.digest,
            kept=True,
            verdict=verdict,
            seconds=seconds,
        )
    )
    return _optimised(merged, parts, passes, tried)


def _optimised(
    merged: OnnxArtifact,
    parts: tuple[OnnxArtifact, OnnxArtifact, OnnxArtifact],
    passes: tuple[Step, ...],
    records: Records,
) -> OnnxArtifact:
    """The graph after every pass that did no harm; all are held to the contract of merging, whatever they promise."""

    def verify(before: Artifact, after: Artifact, contract: Contract, context: Context) -> Verdict:  # noqa: ARG001
        return verify_merged(onnx_only(after, "deploy"), *parts, records)

    nothing = np.zeros((0, 1), dtype=np.float32)
    context = Context(calibration=nothing, bounds=(nothing[:0], nothing[:0]))
    result = onnx_only(PassRecipe("deployed", passes).apply(merged, context, verify), "deploy")
    told, contract = len(merged.history), msgspec.to_builtins(CONTRACT)
    held = (msgspec.structs.replace(record, contract=contract) for record in result.history[told:])
    return replace(result, history=(*merged.history, *held))


def _with_stray_codes(records: Records) -> dict[str, NDArray[np.generic]]:
    """The records, and a few more that hold codes of no category."""
    strays = {name: value for name, value in records.items() if value.dtype == np.int64 and value.ndim > 1}
    if not strays:
        return dict(records)
    count = len(_STRAY_CODES)
    rows = np.arange(count) % len(next(iter(records.values())))
    added = {name: value[rows].copy() for name, value in records.items()}
    for value in (added[name] for name in strays):
        value[:] = np.array(_STRAY_CODES, dtype=np.int64).reshape(-1, *[1] * (value.ndim - 1))
    return {name: np.concatenate([value, added[name]]) for name, value in records.items()}
