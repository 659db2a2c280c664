"""From findings to a sealed bundle that carries its evidence, opened again and compared with what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact
from hauberk.bundle import BundleContents, write_bundle
from hauberk.errors import ContractError
from hauberk.protect import DataSource, bill_of_materials, full_statement, public_statement
from hauberk.runtime import open as open_bundle
from hauberk.schema import Coded, Decision, RecordSchema, sigmoid
from hauberk.search import Findings
from hauberk.search.measuring import BATCH
from hauberk.trust import EncryptionKey, Passphrase, SigningKey, TrustPolicy, default_keys, sign_statement

_TOLERANCE = 1e-3
"""On scores: the whole graph rounds in other places than its parts, and scaling may magnify that."""


@dataclass(frozen=True)
class SealingKeys:
    """What a bundle is encrypted and signed with."""

    encryption: EncryptionKey | Passphrase
    signing: SigningKey

    @classmethod
    def complete(cls, encryption: EncryptionKey | Passphrase | None, signing: SigningKey | None) -> SealingKeys:
        """Fill in the default keys, made where there are none.

        Raises:
            InputError: The folder of the default keys is unusable.
        """
        if encryption is not None and signing is not None:
            return cls(encryption, signing)
        defaults = default_keys()
        return cls(encryption or defaults.encryption, signing or defaults.signing)


def seal(
    path: Path, findings: Findings, deployable: OnnxArtifact, schema: RecordSchema, report: bytes, keys: SealingKeys
) -> None:
    """Write the bundle: the merged graph with its evidence, encrypted and signed.

    Raises:
        InputError: The file cannot be written.
    """
    subjects = (("model.onnx", deployable.digest),)
    contents = BundleContents(
        name=findings.detector,
        model=deployable.model,
        schema=schema,
        signature=deployable.signature,
        threshold=findings.threshold.score,
        public=public_statement(
            subjects,
            created=findings.created,
            machine=findings.machine,
            history=findings.history,
            outcomes=findings.outcomes,
            met=findings.met,
        ),
        evidence={
            "statements.json": sign_statement(_full_statement(subjects, findings), keys.signing),
            "measurements.json": _json(findings),
            "report.html": report,
            "bom.json": _json(_bill(findings, deployable)),
        },
    )
    write_bundle(path, contents, encryption=keys.encryption, signing=keys.signing)


def _full_statement(subjects: tuple[tuple[str, str], ...], findings: Findings) -> dict[str, Any]:
    return full_statement(
        subjects,
        created=findings.created,
        machine=findings.machine,
        origin=findings.origin,
        data=_data(findings),
        history=findings.history,
        measurements={**findings.candidate(findings.recommended).measurements, **findings.test},
        outcomes=findings.outcomes,
    )


def _bill(findings: Findings, deployable: OnnxArtifact) -> dict[str, Any]:
    return bill_of_materials(
        findings.detector,
        digest=deployable.digest,
        created=findings.created,
        origin=findings.origin,
        signature=deployable.signature,
        data=_data(findings),
        measurements=findings.test,
        threat=findings.threat,
    )


def _data(findings: Findings) -> DataSource:
    data = findings.data
    records = {"training": data.training, "validation": data.validation, "test": data.test}
    return DataSource(name=data.name, digest=data.digest, records=records)


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


def open_and_compare(
    path: Path, keys: SealingKeys, records: Coded, decision: Decision, margins: NDArray[np.float32]
) -> None:
    """Open the bundle as production does, and check that it answers what was measured.

    Args:
        path: The bundle.
        keys: What it was sealed with.
        records: The test records.
        decision: How margins become scores and labels.
        margins: Float32 [N], the log-odds that the test figures rest on.

    Raises:
        ContractError: It answers something else.
    """
    policy = TrustPolicy((keys.signing.public_key,))
    with open_bundle(path, key=keys.encryption, trust=policy) as detector:
        parts = [slice(first, first + BATCH) for first in range(0, len(margins), BATCH)]
        answers = [detector.predict(Coded(records.numeric[part], records.codes[part])) for part in parts]
    scores = np.concatenate([answer.scores for answer in answers])
    alerts = np.concatenate([answer.labels for answer in answers]) == 1
    expected = sigmoid(margins)
    differing = ~(np.abs(scores - expected) <= _TOLERANCE)  # a score that is no number differs, too
    # Rounding may move a record across the threshold, but only one that lies on it.
    differing |= (alerts != (margins >= np.float32(decision.threshold))) & (
        np.abs(expected - decision.score_threshold) > _TOLERANCE
    )
    if differing.any():
        raise ContractError(
            f"the sealed detector answers {differing.sum()} of {len(margins)} test records differently than what was"
            f" measured, first record {differing.argmax()}; no bundle was written, please report this"
        )
