"""A step that promises a smaller graph is held to it."""

from __future__ import annotations

from hauberk.artifact import OnnxArtifact
from hauberk.compress.core import Core
from hauberk.errors import ContractError
from hauberk.graph.operations import operations


def check_smaller(core: Core, result: OnnxArtifact) -> None:
    """See that file, parameters and operations have all gone down; the file without what only a reader needs.

    Args:
        core: What the step was given.
        result: What it made of it.

    Raises:
        ContractError: One of them has not; the message says which.
    """
    before, after = operations(core.model), operations(result.model)
    for what, was, now in (
        ("the file's bytes", len(core.finished(core.model).model), len(result.model)),
        ("parameters", before.parameters, after.parameters),
        ("multiply-accumulate operations", before.macs, after.macs),
    ):
        if now >= was:
            raise ContractError(f"{core.step}: {what} were {was} and are {now}; nothing was gained by it")
