"""The schema as a file, `schema.json`: written for people to read and edit, read back with every mistake named."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hauberk.errors import SchemaError
from hauberk.files import read_bounded, write_atomically
from hauberk.schema.record import RecordSchema

LARGEST_FILE = 64 * 1024 * 1024
"""Bytes; a schema is kilobytes, so anything larger is some other file."""


def read_schema(path: Path) -> RecordSchema:
    """Read a schema that `write_schema` or a person wrote.

    Raises:
        InputError: The file cannot be read or is far too large to be a schema.
        SchemaError: It is not JSON, has an unknown or ill-typed field (the message gives its place), or contradicts
            itself.
    """
    return decode_schema(read_bounded(path, LARGEST_FILE), str(path))


def decode_schema(text: bytes, where: str = "schema") -> RecordSchema:
    """Decode the JSON of a schema; `where` begins the message of every error.

    Raises:
        SchemaError: As for `read_schema`.
    """
    try:
        return msgspec.json.decode(text, type=RecordSchema)
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SchemaError(f"{where}: not a record schema: {error}") from error


def write_schema(schema: RecordSchema, path: Path) -> None:
    """Write a schema as indented JSON, all or nothing.

    Raises:
        InputError: The file cannot be written.
    """
    write_atomically(path, encode_schema(schema))


def encode_schema(schema: RecordSchema) -> bytes:
    """The indented JSON of a schema, the same bytes for equal schemas, with a line break at the end."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"
