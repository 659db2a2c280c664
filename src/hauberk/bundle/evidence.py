"""Evidence must speak of the model that it travels with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hauberk.errors import BundleError


def require_subject(statement: Mapping[str, Any], model: bytes, *, what: str) -> None:
    """Check that one of a statement's subjects is the model, by its SHA-256.

    Raises:
        BundleError: None is; the message begins with `what`.
    """
    digest = hashlib.sha256(model).hexdigest()
    subjects = statement.get("subject")
    for subject in subjects if isinstance(subjects, list) else ():
        digests = subject.get("digest") if isinstance(subject, dict) else None
        if isinstance(digests, dict) and digests.get("sha256") == digest:
            return
    raise BundleError(f"{what}: it speaks of another model; one of its subjects must have the SHA-256 {digest}")
