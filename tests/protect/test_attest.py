"""Statements as in-toto's own library reads them, what they keep back, and provenance with gaps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from msgspec.structs import replace

from hauberk.errors import ContractError, InputError
from hauberk.protect import (
    FULL_PREDICATE,
    PUBLIC_PREDICATE,
    FullPredicate,
    PublicPredicate,
    full_statement,
    public_statement,
    require_chain,
    require_contracts,
)
from hauberk.trust import SigningKey, TrustPolicy, sign_statement
from hauberk.trust.dsse import verify_statement

CREATED = "2026-11-21T08:20:00+00:00"


@dataclass
class Statements:
    public: dict[str, Any]
    full: dict[str, Any]


@pytest.fixture
def statements(subjects, origin, machine, data, history, measurements, outcomes) -> Statements:
    return Statements(
        public_statement(subjects, created=CREATED, machine=machine, history=history, outcomes=outcomes, met=False),
        full_statement(
            subjects,
            created=CREATED,
            machine=machine,
            origin=origin,
            data=data,
            history=history,
            measurements=measurements,
            outcomes=outcomes,
        ),
    )


@pytest.mark.parametrize(("which", "predicate"), [("public", PUBLIC_PREDICATE), ("full", FULL_PREDICATE)])
def test_in_toto_reads_it(which, predicate, statements, subjects):
    text = json.dumps(getattr(statements, which))
    parsed = json_format.Parse(text, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    assert parsed.predicate_type == predicate
    assert [(subject.name, subject.digest["sha256"]) for subject in parsed.subject] == list(subjects)


@pytest.mark.parametrize("which", ["public", "full"])
def test_it_can_be_signed_and_verified(which, statements):
    statement = getattr(statements, which)
    key = SigningKey.generate()
    verified = verify_statement(sign_statement(statement, key), TrustPolicy((key.public_key,)))
    assert verified == json.loads(json.dumps(statement))


def test_full_statement_holds_every_step_and_figure(statements, history, measurements, outcomes, origin, data):
    predicate = msgspec.convert(json.loads(json.dumps(statements.full["predicate"])), FullPredicate)
    assert (predicate.steps, predicate.measurements, predicate.requirements) == (history, measurements, outcomes)
    assert (predicate.origin, predicate.data, predicate.created) == (origin, data, CREATED)


def test_public_statement_says_what_may_be_checked(statements):
    predicate = msgspec.convert(json.loads(json.dumps(statements.public["predicate"])), PublicPredicate)
    assert [(kept.requirement, kept.holds) for kept in predicate.requirements] == [
        ("latency.p99 <= 50us", True),
        ("robust_accuracy >= 90%", False),
    ]
    assert predicate.met is False
    assert predicate.versions["onnxruntime"] == "1.31.1"
    assert "hauberk" in predicate.versions
    assert (predicate.admission.verdict, predicate.admission.format) == ("admitted", "safetensors")


def test_public_statement_keeps_back_what_helps_a_thief_or_an_evader(statements, history, origin, subjects):
    text = json.dumps(statements.public)
    deployed = subjects[0][1]
    digests = {origin, *(r.before for r in history), *(r.after for r in history)} - {deployed}
    kept_back = [*digests, *(r.step for r in history[1:]), "weak-class", "31.8", "32", "secret-name", "Some Processor"]
    assert [secret for secret in kept_back if secret in text.replace(deployed, "")] == []


def test_without_admission_nothing_is_said_of_it(subjects, machine, history):
    statement = public_statement(subjects, created=CREATED, machine=machine, history=history[1:], outcomes=(), met=True)
    assert statement["predicate"]["admission"] is None


@pytest.mark.parametrize("subjects", [(), (("model.onnx", "abc"),), (("model.onnx", "G" * 64),)])
def test_subjects_that_name_nothing_are_refused(subjects, machine, history):
    with pytest.raises(InputError, match="statement: "):
        public_statement(subjects, created=CREATED, machine=machine, history=history, outcomes=(), met=True)


def test_an_unbroken_chain_passes(history, origin, subjects):
    require_chain(history, origin=origin, result=subjects[0][1])


@pytest.mark.parametrize("missing", range(5))
def test_a_missing_step_breaks_the_chain_unless_it_was_undone(missing, history, origin, subjects):
    shortened = history[:missing] + history[missing + 1 :]
    if not history[missing].kept:
        require_chain(shortened, origin=origin, result=subjects[0][1])
        return
    with pytest.raises(ContractError, match="record what was done in between"):
        require_chain(shortened, origin=origin, result=subjects[0][1])


def test_an_undone_step_that_changed_the_model_is_refused(history, origin):
    undone = replace(history[2], after="f" * 64)
    with pytest.raises(ContractError, match=r"step 3 \(distill\) was undone and changed the model"):
        require_chain((*history[:2], undone), origin=origin, result="f" * 64)


def test_a_step_kept_against_its_verdict_is_refused(history):
    kept = replace(history[2], kept=True)
    with pytest.raises(ContractError, match=r"step 1 \(distill\) was kept though the decision agrees on 70 %"):
        require_contracts((kept,))


def test_a_promise_that_was_never_verified_is_refused(history):
    """Untrained weights, made only to be timed, carry such records and must never be deployed."""
    with pytest.raises(ContractError, match="never verified"):
        require_contracts((replace(history[1], verdict=None),))


def test_no_statement_is_made_about_broken_provenance(subjects, origin, machine, data, history, measurements):
    with pytest.raises(ContractError):
        full_statement(
            subjects,
            created=CREATED,
            machine=machine,
            origin=origin,
            data=data,
            history=history[:-1],
            measurements=measurements,
            outcomes=(),
        )
