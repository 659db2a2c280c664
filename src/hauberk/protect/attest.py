"""In-toto statements about a hardened detector: one that anyone may read, one for holders of the key.

Both are Statements v1 of the in-toto attestation framework (github.com/in-toto/attestation, `spec/v1/statement.md`)
with predicate types of our own, described in docs/reference/evidence.md. The structs below are the predicates: what is
not a field here is not said. Signing them is the business of `hauberk.trust`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

import hauberk
from hauberk.artifact import StepRecord
from hauberk.errors import ContractError, InputError
from hauberk.measurement import Machine, Measurement
from hauberk.requirements import Outcome
from hauberk.trust.dsse import STATEMENT_TYPE

PUBLIC_PREDICATE = "https://hauberk.dev/attestation/public/v1"
FULL_PREDICATE = "https://hauberk.dev/attestation/full/v1"

ADMISSION = "admit"
"""Name of the step that looked at the model file before anything else did."""

_HEXADECIMAL = frozenset("0123456789abcdef")


class DataSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data that a detector was trained and judged on.

    Attributes:
        name: What it is called.
        digest: SHA-256 of the source, hex.
        records: How many records each split has, by name of the split.
    """

    name: str
    digest: str
    records: dict[str, int]


class Admission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What looking at the model file showed: it held tensors or a graph in this format and nothing that could run."""

    verdict: str
    format: str


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether one requirement holds, without the figures that it was judged by."""

    requirement: str
    holds: bool


class PublicPredicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What anyone may check. Nothing here tells how the detector is built, how it was made or where it is weak.

    Attributes:
        created: UTC time, ISO 8601.
        versions: Versions of Hauberk and of the libraries that decide results.
        admission: How the model file was admitted; `None` where no file was.
        contracts: True: every step that was kept was compared with its input and kept its contract.
        met: Whether the requirements are met.
        requirements: Each of them.
    """

    created: str
    versions: dict[str, str]
    admission: Admission | None
    contracts: bool
    met: bool
    requirements: tuple[Kept, ...]


class FullPredicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that was done and measured; travels encrypted.

    Attributes:
        created: UTC time, ISO 8601.
        hauberk: Version of Hauberk.
        machine: Where the figures were taken.
        origin: SHA-256 of the model file that it began with, hex.
        data: What it was trained and judged on.
        steps: Every step with digests before and after, contract and verdict, undone ones included. Digests form an
            unbroken chain from `origin` to the subject.
        measurements: By metric name.
        requirements: Each with the figures that it was judged by.
    """

    created: str
    hauberk: str
    machine: Machine
    origin: str
    data: DataSource
    steps: tuple[StepRecord, ...]
    measurements: dict[str, Measurement]
    requirements: tuple[Outcome, ...]


def public_statement(
    subjects: Sequence[tuple[str, str]],
    *,
    created: str,
    machine: Machine,
    history: Sequence[StepRecord],
    outcomes: Iterable[Outcome],
    met: bool,
) -> dict[str, Any]:
    """The statement that anyone may read.

    Args:
        subjects: Name and SHA-256 (hex) of what it speaks of.
        created: UTC time, ISO 8601.
        machine: Only its library versions are told.
        history: The provenance of the deployed graph; only the verdict on the model file is told.
        outcomes: The requirements, judged; their reasons are left out.
        met: Whether the requirements are met.

    Raises:
        InputError: No subject, or a digest that is no SHA-256.
        ContractError: A step that broke its contract was kept.
    """
    described = _subjects(subjects)
    require_contracts(history)
    predicate = PublicPredicate(
        created=created,
        versions={"hauberk": hauberk.__version__, **machine.versions},
        admission=_admission(history),
        contracts=True,
        met=met,
        requirements=tuple(Kept(outcome.requirement, outcome.holds) for outcome in outcomes),
    )
    return _statement(described, PUBLIC_PREDICATE, predicate)


def full_statement(
    subjects: Sequence[tuple[str, str]],
    *,
    created: str,
    machine: Machine,
    origin: str,
    data: DataSource,
    history: Sequence[StepRecord],
    measurements: Mapping[str, Measurement],
    outcomes: Iterable[Outcome],
) -> dict[str, Any]:
    """The statement with every step and every figure, for holders of the key.

    Args:
        subjects: Name and SHA-256 (hex) of what it speaks of; the first is the deployed graph.
        created: UTC time, ISO 8601.
        machine: Where the figures were taken.
        origin: SHA-256 of the model file, hex.
        data: What the detector was trained and judged on.
        history: The provenance of the deployed graph, from admission on.
        measurements: By metric name.
        outcomes: The requirements, judged.

    Raises:
        InputError: No subject, or a digest that is no SHA-256.
        ContractError: The steps do not lead from `origin` to the first subject without a gap, or one that broke its
            contract was kept.
    """
    described = _subjects(subjects)
    require_contracts(history)
    require_chain(history, origin=origin, result=subjects[0][1])
    predicate = FullPredicate(
        created=created,
        hauberk=hauberk.__version__,
        machine=machine,
        origin=origin,
        data=data,
        steps=tuple(history),
        measurements=dict(measurements),
        requirements=tuple(outcomes),
    )
    return _statement(described, FULL_PREDICATE, predicate)


def require_chain(history: Sequence[StepRecord], *, origin: str, result: str) -> None:
    """Check that each step began with what the one before it left.

    Args:
        history: The steps, in order.
        origin: SHA-256 that the first one must begin with, hex.
        result: SHA-256 that the last one must end with, hex.

    Raises:
        ContractError: There is a gap, or an undone step left something else than it began with.
    """
    digest = origin
    for number, record in enumerate(history, start=1):
        if record.before != digest:
            raise ContractError(
                f"provenance: step {number} ({record.step}) began with {record.before[:12]}, but the model was"
                f" {digest[:12]} before it; record what was done in between"
            )
        if not record.kept and record.after != record.before:
            raise ContractError(
                f"provenance: step {number} ({record.step}) was undone and changed the model all the same"
            )
        digest = record.after
    if digest != result:
        raise ContractError(
            f"provenance: the last step left {digest[:12]}, the deployed model is {result[:12]};"
            " record what was done in between"
        )


def require_contracts(history: Sequence[StepRecord]) -> None:
    """Check that no step was kept against its own verdict, or, promising something, without a verdict.

    Raises:
        ContractError: One was.
    """
    for number, record in enumerate(history, start=1):
        if record.kept and record.verdict is not None and not record.verdict.holds:
            raise ContractError(f"provenance: step {number} ({record.step}) was kept though {record.verdict.reason}")
        if record.kept and record.verdict is None and record.contract is not None:
            raise ContractError(f"provenance: step {number} ({record.step}) has a contract that was never verified")


def _admission(history: Sequence[StepRecord]) -> Admission | None:
    for record in history:
        if record.step == ADMISSION:
            return Admission("admitted", str(record.parameters.get("format", "unknown")))
    return None


def _statement(
    subjects: list[dict[str, object]], predicate_type: str, predicate: PublicPredicate | FullPredicate
) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": predicate_type,
        "predicate": msgspec.to_builtins(predicate),
    }


def _subjects(subjects: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    if not subjects:
        raise InputError("statement: it has no subject; name at least the deployed graph and its SHA-256")
    for name, digest in subjects:
        if len(digest) != 64 or not set(digest) <= _HEXADECIMAL:
            raise InputError(f"statement: the digest of {name!r} is {digest!r}; 64 hexadecimal digits are needed")
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects]
