"""One file, two formats: what a second reader would find in a content that a first one was recognised by.

Two kinds of readers do not mind what a file begins with: those of zip archives, which look at the end, and unpicklers,
which run whatever instructions the first bytes happen to be.
"""

from __future__ import annotations

import struct

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.report import Outcome, Rule, Severity, Verdict, shown

POLYGLOT = Rule(
    "scan-polyglot",
    "two formats in one file",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Readers that look at the end of a file find an archive in it, others something else: what one of them checks is"
    " not what another one loads.",
    "https://cwe.mitre.org/data/definitions/436.html",
)
PICKLE = Rule(
    "scan-polyglot-pickle",
    "a hostile pickle that begins as another format",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "An unpickler that is handed this file calls what must not be called. torch.load tries to unpickle whatever is no"
    " zip archive.",
    "https://cwe.mitre.org/data/definitions/502.html",
)
RULES = (POLYGLOT, PICKLE)

ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08PK\x03\x04", b"PK00PK\x03\x04")
"""What zip archives begin with, split and single ones."""
_END = struct.Struct("<4s8xLLH")
_SIGNATURE, _ENTRY, _LARGE = b"PK\x05\x06", b"PK\x01\x02", b"PK\x06\x07"
_LONGEST_COMMENT = 0xFFFF
_CONTAINERS = frozenset({"tar", "torch-legacy-tar"})  # their members lie in them as they are, and are examined
_HDF5 = frozenset({"hdf5", "keras-h5"})
_BEFORE_GRAPHS = frozenset({"tar", "torch-legacy-tar", "safetensors", "gguf"})  # nobody asked whether they are ONNX
_UNPICKLED = frozenset({"pickle", "joblib", "pytorch-stream", "pickle-embedded"})  # examined as what they are


def examine_overlays(content: Content, examination: Examination) -> None:
    """Find a zip archive at the end, or a hostile pickle at the beginning, of what is something else.

    Args:
        content: What was recognised; zip archives in all their forms are examined by their own reader.
        examination: Reported to.

    Raises:
        StopScan: Time is up.
    """
    if content.head(8).startswith(ZIP_BEGINNINGS):
        return
    if examination.format not in _CONTAINERS and (place := _archive_end(content)) is not None:
        examination.find(POLYGLOT, "ends as a zip archive", at=place)
    if examination.format not in _CONTAINERS | _HDF5 and (place := _hdf5_start(content)):
        examination.find(POLYGLOT, "an HDF5 file begins there, as the library finds it", at=place)
    if examination.format in _BEFORE_GRAPHS and _reads_as_onnx(content):
        examination.find(POLYGLOT, "reads as an ONNX model, too: protobuf skips what it does not know")
    if examination.verdict is not Verdict.UNSAFE and examination.format not in _UNPICKLED:
        _examine_beginning(content, examination)


def _reads_as_onnx(content: Content) -> bool:
    from hauberk.scan.graphs.recognition import recognise_binary  # noqa: PLC0415 - formats know overlays

    return recognise_binary(content.head(64), content)


def _hdf5_start(content: Content) -> int:
    """Where the HDF5 library, which looks at byte 512, 1024, 2048, …, finds a file behind another; 0 for nowhere."""
    from hauberk.scan.frameworks.hdf5 import user_block  # noqa: PLC0415 - formats know overlays

    return user_block(content)


def _archive_end(content: Content) -> int | None:
    """Where the end record of a zip archive lies that any reader would take; what stands behind it does not matter."""
    tail = content.tail(_END.size + _LONGEST_COMMENT)
    start = content.size - len(tail)
    place = tail.rfind(_SIGNATURE)
    while place >= 0:
        if place + _END.size <= len(tail):
            _, size, _, comment = _END.unpack_from(tail, place)
            exact = place + _END.size + comment == len(tail)
            if exact or (0 < size <= start + place and content.read(start + place - size, 4) == _ENTRY):
                return start + place
            if place >= 20 and tail[place - 20 : place - 16] == _LARGE:  # size and place stand in another record
                return start + place
        place = tail.rfind(_SIGNATURE, 0, place)
    return None


class _Listener:
    """Hears what following a pickle would find."""

    def __init__(self, examination: Examination) -> None:
        self._examination = examination
        self.dangerous = ""

    def find(self, rule: Rule, what: str, *, at: int | str | None = None) -> None:  # noqa: ARG002 - as an examination
        """Keep the first finding that makes a file unsafe."""
        if rule.outcome is Outcome.UNSAFE and not self.dangerous:
            self.dangerous = what

    def check_time(self) -> None:
        """Stop when the scan's time is up."""
        self._examination.check_time()


def _examine_beginning(content: Content, examination: Examination) -> None:
    """Follow the content as a pickle. Almost everything else ends at the first or second instruction."""
    from hauberk.scan.pickles import torch_storage  # noqa: PLC0415 - formats know overlays, and pickles formats
    from hauberk.scan.pickles.machine import Machine  # noqa: PLC0415

    for joblib in (False, True):  # who knows arrays in the stream goes on behind them, where others break off
        listener = _Listener(examination)
        machine = Machine(content, listener, persistent=torch_storage, joblib=joblib)
        machine.run()
        # A text may begin with what looks like the import of a name; only what goes on to call something is a pickle.
        if listener.dangerous and (machine.calls or machine.end is not None):
            examination.find(PICKLE, shown(listener.dangerous))
            return
