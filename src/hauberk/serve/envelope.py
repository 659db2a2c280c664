"""What the listening process and its workers say to each other. Light, because the listening process imports it.

A question is the length of the request's JSON header (uint32, all ones: all of it) and the request body as it came. An
answer is the HTTP status (uint16), the length of the response's JSON header (likewise) and the response body.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

from hauberk.serve.protocol import ModelMetadata
from hauberk.trust import EncryptionKey, Passphrase, TrustPolicy

_QUESTION = struct.Struct("<I")
_ANSWER = struct.Struct("<HI")
_ALL = 0xFFFFFFFF


class Answer(NamedTuple):
    """What a worker answered.

    Attributes:
        status: 200; 400 where the request was no good; 500 where the model failed on good records.
        header_length: Bytes of the body's JSON header, `None` where all of it is JSON.
        body: The response body, ready to be sent.
    """

    status: int
    header_length: int | None
    body: bytes


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker is set up with. Holds a secret: it goes over the worker's connection and nowhere else.

    Attributes:
        descriptor: The open bundle file.
        name: What the file is called, for messages.
        key: An encryption key or a passphrase.
        is_passphrase: Which of the two.
        signers: Trusted public keys, PEM.
        threads: Threads for one request.
        most_records: Records in one request.
    """

    descriptor: int
    name: str
    key: bytes
    is_passphrase: bool
    signers: tuple[bytes, ...]
    threads: int
    most_records: int

    def __repr__(self) -> str:
        return f"Setup({self.name}, hidden)"


class Greeting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker says once its bundle is open and a first record was answered.

    Attributes:
        metadata: The model.
        digest: SHA-256 (hex) of the bundle's manifest, which names the digest of every member.
    """

    metadata: ModelMetadata
    digest: str


def make_setup(
    descriptor: int,
    name: str,
    key: EncryptionKey | Passphrase,
    trust: TrustPolicy,
    *,
    threads: int,
    most_records: int,
) -> Setup:
    """Everything that a worker needs to open a bundle."""
    return Setup(
        descriptor=descriptor,
        name=name,
        key=key.reveal(),
        is_passphrase=isinstance(key, Passphrase),
        signers=tuple(signer.pem for signer in trust.signers),
        threads=threads,
        most_records=most_records,
    )


def refusal(status: int, message: str) -> Answer:
    """An answer that says in one line what is wrong."""
    return Answer(status, None, msgspec.json.encode({"error": " ".join(message.split())}))


def pack_question(body: bytes, header_length: int | None) -> bytes:
    """A request for a worker."""
    return _QUESTION.pack(_ALL if header_length is None else header_length) + body


def unpack_question(question: bytes) -> tuple[bytes, int | None]:
    """The body and the length of its JSON header."""
    (header_length,) = _QUESTION.unpack_from(question)
    return question[_QUESTION.size :], None if header_length == _ALL else header_length


def pack_answer(answer: Answer) -> bytes:
    """A response for the listening process."""
    header_length = _ALL if answer.header_length is None else answer.header_length
    return _ANSWER.pack(answer.status, header_length) + answer.body


def unpack_answer(answer: bytes) -> Answer:
    """The response.

    Raises:
        struct.error: This is no answer.
    """
    status, header_length = _ANSWER.unpack_from(answer)
    return Answer(status, None if header_length == _ALL else header_length, answer[_ANSWER.size :])
