"""One file, two formats: what a second reader would find in a content that a first one was recognised by.

Three kinds of readers do not mind what a file begins with: those of zip archives, which look at the end, unpicklers,
which run whatever instructions the first bytes happen to be, and those who take any text for YAML or a template.
"""

from __future__ import annotations

import struct
from typing import Any

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
HDF5_INSIDE = "an HDF5 file begins there, as the library finds it"

ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08PK\x03\x04", b"PK00PK\x03\x04")
"""What zip archives begin with, split and single ones."""
_END = struct.Struct("<4s4H2LH")
_SIGNATURE, _ENTRY, _LARGE = b"PK\x05\x06", b"PK\x01\x02", b"PK\x06\x07"
_ENTRY_SIZE = 46
_SEARCHED = 1 << 17
"""Bytes at the end in which an end record is looked for. A comment ends after 64 KiB, but miniz looks further."""
_FLATBUFFERS = {b"PTMF": "a program of TorchScript", b"ET12": "a program of ExecuTorch", b"TFL3": "a TFLite model"}
"""What four bytes behind the first four make of a file for its reader, whatever stands in front of them."""
_CONTAINERS = frozenset({"tar", "torch-legacy-tar"})  # their members lie in them as they are, and are examined
_HDF5 = frozenset({"hdf5", "keras-h5"})
_BEFORE_GRAPHS = frozenset({"tar", "torch-legacy-tar", "safetensors", "gguf"})  # nobody asked whether they are ONNX
_TEXTS = frozenset(
    {"text", "json", "json-lines", "keras-config", "xgboost-json", "jupyter-notebook", "mxnet-json", "catboost-json"}
)  # their own readers look for templates
_UNPICKLED = frozenset({"pickle", "joblib", "pytorch-stream", "pickle-embedded"})  # examined as what they are


def examine_overlays(content: Content, examination: Examination) -> None:
    """Find what other readers would find in what was recognised: archives, programs, hostile pickles, texts.

    Args:
        content: What was recognised. Zip archives are examined by their own reader; these and tar archives, whose
            members may be such files, look for them themselves.
        examination: Reported to.

    Raises:
        StopScan: Time is up.
    """
    head = content.head(8)
    if head.startswith(ZIP_BEGINNINGS):
        return
    if examination.format not in _CONTAINERS | _HDF5 and (start := _hdf5_start(content)):
        examination.find(POLYGLOT, HDF5_INSIDE, at=start)
    if examination.format != "tflite" and (kind := _FLATBUFFERS.get(head[4:])):
        examination.find(POLYGLOT, f"begins as {kind}")
    if examination.format not in _CONTAINERS and (place := archive_end(content)) is not None:
        _examine_end(content, examination, place)
    if examination.format in _BEFORE_GRAPHS and _reads_as_onnx(content):
        examination.find(POLYGLOT, "reads as an ONNX model, too: protobuf skips what it does not know")
    if examination.verdict is not Verdict.UNSAFE and examination.format not in _UNPICKLED:
        _examine_beginning(content, examination)
    if examination.verdict is not Verdict.UNSAFE and examination.format not in _TEXTS:
        from hauberk.scan.inert.text import examine_as_text  # noqa: PLC0415 - formats know overlays

        examine_as_text(content, examination)


def _examine_end(content: Content, examination: Examination, place: int) -> None:
    """An archive at the end; models of TensorFlow Lite may have one, for the files that their metadata name."""
    if examination.format != "tflite":
        examination.find(POLYGLOT, "ends as a zip archive", at=place)
        return
    from hauberk.scan.archives.attached import PLAIN, examine_attached  # noqa: PLC0415 - formats know overlays

    if (kind := examine_attached(content, examination)) != PLAIN:
        examination.find(POLYGLOT, f"ends as an archive of the format {kind}", at=place)


def _reads_as_onnx(content: Content) -> bool:
    from hauberk.scan.graphs.recognition import recognise_binary  # noqa: PLC0415 - formats know overlays

    return recognise_binary(content.head(64), content)


def _hdf5_start(content: Content) -> int:
    """Where the HDF5 library, which looks at byte 512, 1024, 2048, …, finds a file behind another; 0 for nowhere."""
    from hauberk.scan.frameworks.hdf5 import user_block  # noqa: PLC0415 - formats know overlays

    return user_block(content)


def archive_end(content: Content) -> int | None:
    """Where the end record of a zip archive lies that any reader would take; what stands behind it does not matter."""
    tail = content.tail(_SEARCHED)
    start = content.size - len(tail)
    place = tail.rfind(_SIGNATURE)
    while place >= 0:
        if place + _END.size <= len(tail) and _ends_archive(content, tail, place, start + place):
            return start + place
        place = tail.rfind(_SIGNATURE, 0, place)
    return None


def _ends_archive(content: Content, tail: bytes, place: int, at: int) -> bool:
    """Whether any reader would believe an end record."""
    fields: tuple[Any, ...] = _END.unpack_from(tail, place)
    _, disk, first, here, count, size, _, comment = fields
    if place + _END.size + comment == len(tail):
        return True
    if 0 < size <= at and content.read(at - size, 4) == _ENTRY:
        return True
    if place >= 20 and tail[place - 20 : place - 16] == _LARGE:  # size and place stand in another record
        return True
    # Some readers go where the record points to and ask no more of it than this.
    return bool(disk == first <= 1 and here == count > 0 and count * _ENTRY_SIZE <= size < content.size)


def _examine_beginning(content: Content, examination: Examination) -> None:
    """Follow the content as a pickle. Almost everything else ends at the first or second instruction."""
    from hauberk.scan.pickles import torch_storage  # noqa: PLC0415 - formats know overlays, and pickles formats
    from hauberk.scan.pickles.bare import Listener  # noqa: PLC0415
    from hauberk.scan.pickles.machine import Machine  # noqa: PLC0415

    for joblib in (False, True):  # who knows arrays in the stream goes on behind them, where others break off
        listener = Listener(examination)
        machine = Machine(content, listener, persistent=torch_storage, joblib=joblib)
        machine.run()
        # A text may begin with what looks like the import of a name; only what goes on to call something is a pickle.
        if listener.dangerous and (machine.calls or machine.end is not None):
            examination.find(PICKLE, shown(listener.dangerous))
            return
