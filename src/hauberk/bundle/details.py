"""What `schema.enc` holds: the record schema and the alarm threshold, both of which would help an evader."""

from __future__ import annotations

import msgspec

from hauberk.schema import RecordSchema


class Details(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The clear content of `schema.enc`, as JSON; `threshold` is a score."""

    schema: RecordSchema
    threshold: float
