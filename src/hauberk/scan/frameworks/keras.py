"""Models of Keras 3 in its own archive: a configuration, weights, and what preprocessing layers keep beside them."""

from __future__ import annotations

import contextlib

from hauberk.scan.archives.kinds import ZipKind
from hauberk.scan.archives.zip import Zip
from hauberk.scan.content import BytesContent, Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.frameworks import json_text, keras_config
from hauberk.scan.report import Outcome, Rule, Severity, shown

WEIGHTS = Rule(
    "keras-weights",
    "weights that are not what their name says",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Keras hands `model.weights.h5` to the HDF5 library and `model.weights.npz` to numpy; this is neither.",
    "https://keras.io/guides/serialization_and_saving/",
)
NO_WEIGHTS = Rule(
    "keras-no-weights",
    "a model without weights",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Keras refuses an archive without weights, and other readers make of it what they like.",
    "https://keras.io/guides/serialization_and_saving/",
)
CONFIG, METADATA = "config.json", "metadata.json"
_WEIGHTS = {"model.weights.h5": {"hdf5", "keras-h5"}, "model.weights.npz": {"npz", "zip"}}
_CONFIG_PEEKED = 1 << 22
_IN_MEMORY = 256 << 20
_CHECKED = 64 << 20


def recognise(archive: Zip) -> bool:
    """Keras looks for `config.json` and for weights, by these names."""
    member = archive.members.get(CONFIG)
    if member is None:
        return False
    if _WEIGHTS.keys() & archive.members.keys():
        return True
    if not member.readable or member.size > _CONFIG_PEEKED:
        return False
    quiet = Examination()  # whatever is wrong with it is found when it is examined
    with contextlib.suppress(StopScan):
        return keras_config.looks_like_config(json_text.parse(archive.content(CONFIG), quiet))
    return False


def examine(archive: Zip, examination: Examination) -> None:
    """Follow the configuration and the weights, and whatever else lies there for what it is."""
    with contextlib.suppress(StopScan):
        value = json_text.parse(archive.content(CONFIG), examination, place=CONFIG)
        held = sum(archive.members[name].size for name in _WEIGHTS.keys() & archive.members.keys())
        keras_config.examine_config(value, examination, CONFIG, held=held)
    if not _WEIGHTS.keys() & archive.members.keys():
        examination.find(NO_WEIGHTS, "neither model.weights.h5 nor model.weights.npz")
    for name, member in archive.members.items():
        examination.check_time()
        if not member.readable:
            continue
        if name != CONFIG and member.size:
            kind = examination.examine(_seekable(archive, name, examination), shown(name))
            if name in _WEIGHTS and kind not in _WEIGHTS[name]:
                examination.find(WEIGHTS, kind or "of no known format", at=name)
        if member.size <= _CHECKED or not name.startswith("model.weights."):  # large ones are numbers but for headers
            with contextlib.suppress(StopScan):
                archive.check(name)


def _seekable(archive: Zip, name: str, examination: Examination) -> Content:
    """HDF5 is read back and forth, which a compressed member allows only from memory."""
    content, member = archive.content(name), archive.members[name]
    if member.method == 0 or member.size > _IN_MEMORY:
        return content
    examination.unpack(0)
    return BytesContent(content.read(0, content.size))


ZIP_KINDS = (ZipKind("keras", recognise, examine, (WEIGHTS, NO_WEIGHTS, *json_text.RULES, *keras_config.RULES)),)
