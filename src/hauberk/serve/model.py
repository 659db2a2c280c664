"""The inside of a model's worker process: open the bundle once, then decode, predict, encode.

This is the only part of the server that imports the runtime or looks into a request body.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import hauberk
from hauberk.backends import SessionOptions
from hauberk.errors import HauberkError, InputError, LimitError, SchemaError
from hauberk.runtime import Detector
from hauberk.schema.coding import Coded
from hauberk.serve.envelope import Answer, Greeting, Setup, pack_answer, refusal, unpack_question
from hauberk.serve.protocol import Codec, ModelMetadata, Request, describe
from hauberk.trust import EncryptionKey, Passphrase, PublicKey, TrustPolicy

VERSION = "1"
"""The version under which a model is served: a server has one bundle of a name."""

_PLATFORM = "onnx_onnxv1"
_logger = logging.getLogger(__name__)


def open_model(setup: bytes) -> ServedModel:
    """The worker's target: open the bundle that `setup` (a `Setup`, msgpack) describes.

    Raises:
        HauberkError: The bundle is refused, or it cannot answer a first record.
    """
    wanted = msgspec.msgpack.decode(setup, type=Setup)
    # The descriptor, not the path: a worker that is started later serves the very same file.
    path = Path(f"/proc/self/fd/{wanted.descriptor}")
    try:
        detector = hauberk.open(
            path,
            key=Passphrase(wanted.key) if wanted.is_passphrase else EncryptionKey(wanted.key),
            trust=TrustPolicy(tuple(PublicKey.from_pem(signer) for signer in wanted.signers)),
            # Time and memory are limited from outside, where nothing escapes them.
            options=SessionOptions(intra_op_threads=wanted.threads, time_limit=None),
        )
        return ServedModel(detector, most_records=wanted.most_records)
    except HauberkError as error:
        raise type(error)(str(error).replace(str(path), wanted.name)) from error


class ServedModel:
    """A detector behind the protocol; a `hauberk.sandbox.child.Handler`.

    Args:
        detector: Open.
        most_records: Records that one request may hold.

    Raises:
        HauberkError: The detector does not answer a record of zeros.
    """

    def __init__(self, detector: Detector, *, most_records: int) -> None:
        manifest = detector.manifest
        metadata = ModelMetadata(
            name=detector.name,
            versions=(VERSION,),
            platform=_PLATFORM,
            inputs=tuple(describe(spec) for spec in manifest.inputs),
            outputs=tuple(describe(spec) for spec in manifest.outputs),
        )
        digest = hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
        self._detector = detector
        self._codec = Codec(metadata, most_records=most_records)
        self._widths = len(detector.schema.numbers), len(detector.schema.categoricals)
        self._record = msgspec.json.Decoder(dict[str, Any])
        numbers, categories = self._widths
        detector.predict(Coded(np.zeros((1, numbers), np.float32), np.zeros((1, categories), np.int64)))
        self.greeting = msgspec.json.encode(Greeting(metadata, digest))

    def answer(self, question: bytes) -> bytes:
        """Answer one request.

        Raises:
            LimitError: The model wanted more than it may have.
        """
        return pack_answer(self._answer(*unpack_question(question)))

    def _answer(self, body: bytes, header_length: int | None) -> Answer:
        try:
            request = self._codec.decode(body, header_length)
            records = self._records(request)
        except InputError as error:
            return refusal(400, str(error))
        try:
            prediction = self._detector.predict(records)
        except LimitError:
            raise
        except SchemaError as error:
            return refusal(400, str(error))
        except HauberkError as error:
            # What the runtime says may name nodes of a model that is kept secret: for the operator only.
            _logger.warning("the model failed on records that fit its schema: %s", error)
            return refusal(500, "the model failed on these records")
        results: dict[str, NDArray[Any]] = {"scores": prediction.scores, "labels": prediction.labels}
        response, length = self._codec.encode(request, results)
        return Answer(200, length, response)

    def _records(self, request: Request) -> Coded | list[dict[str, Any]]:
        if request.records is not None:
            return [self._parsed(text, number) for number, text in enumerate(request.records)]
        count = len(next(iter(request.tensors.values())))
        numbers, categories = self._widths
        return Coded(
            request.tensors.get("numeric", np.empty((count, numbers), np.float32)),
            request.tensors.get("codes", np.empty((count, categories), np.int64)),
        )

    def _parsed(self, text: bytes, number: int) -> dict[str, Any]:
        try:
            return self._record.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise InputError(f"record {number} is not a JSON object of column names and values") from None
