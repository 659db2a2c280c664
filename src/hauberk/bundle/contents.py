"""What goes into a bundle, before anything is encrypted or signed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hauberk.bundle.container import is_member_name
from hauberk.bundle.manifest import is_detector_name
from hauberk.errors import InputError
from hauberk.schema import RecordSchema
from hauberk.tensors import Signature


@dataclass(frozen=True)
class BundleContents:
    """A detector, ready to be sealed.

    Attributes:
        name: Up to 64 letters, digits, `.`, `_`, `-`, the first a letter or digit.
        model: The merged ONNX graph, serialised, weights inline.
        schema: The records that it takes.
        signature: Its inputs and outputs.
        threshold: The score from which on a record raises an alert; travels encrypted.
        public: An in-toto Statement v1 that anyone may read, the SHA-256 of `model` among its subjects; it is signed
            when the bundle is written.
        evidence: Further evidence by file name, for holders of the key. `statements.json`, where it is there, must
            come from `hauberk.trust.sign_statement` with the key that signs the bundle, and speak of `model` too.

    Raises:
        InputError: A name is not admitted, the model is empty, or the threshold is not a number.
    """

    name: str
    model: bytes = field(repr=False)
    schema: RecordSchema
    signature: Signature
    threshold: float
    public: Mapping[str, Any] = field(repr=False)
    evidence: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not is_detector_name(self.name):
            raise InputError(
                f"detector name {self.name!r}: use up to 64 letters, digits, '.', '_' and '-',"
                " the first a letter or a digit"
            )
        if not self.model:
            raise InputError("model: it is empty")
        if not math.isfinite(self.threshold):
            raise InputError(f"threshold: expected a finite score, got {self.threshold}")
        for name in self.evidence:
            if not is_member_name(name):
                raise InputError(f"evidence file {name!r}: use letters, digits, '.', '_' and '-'")
