"""HDF5 files: what they refer to outside themselves, and the models of Keras that they hold.

An HDF5 file may keep a dataset in another file, map one out of several others, or link to an object of another file;
the library follows all of that without asking. Keras keeps the configuration of a model in an attribute of the root
group, and PyTables keeps pickles in attributes. The elements of datasets are not read: nothing interprets them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from hauberk.scan.content import BytesContent, Content, CutError
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.formats import Format
from hauberk.scan.frameworks import json_text, keras_config
from hauberk.scan.frameworks.hdf5_heaps import FractalHeap, records, texts
from hauberk.scan.frameworks.hdf5_objects import (
    SIGNATURE,
    Attribute,
    Dataspace,
    Link,
    Message,
    NotFollowedError,
    Object,
    Reader,
    number,
)
from hauberk.scan.report import Outcome, Rule, Severity, shown

EXTERNAL_LINK = Rule(
    "hdf5-external-link",
    "a link into another file",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Opening the object opens the other file: what the loader may read ends up in the model.",
    "https://nvd.nist.gov/vuln/detail/CVE-2026-1669",
)
EXTERNAL_DATA = Rule(
    "hdf5-external-data",
    "a dataset kept in another file",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The bytes of any file of the machine are taken for weights; a model that is handed on then carries them.",
    "https://nvd.nist.gov/vuln/detail/CVE-2026-1669",
)
VIRTUAL = Rule(
    "hdf5-virtual-dataset",
    "a dataset mapped out of others",
    Severity.HIGH,
    Outcome.UNSAFE,
    "A virtual dataset is read from other files, which the file names; weights have no need of it.",
    "https://github.com/keras-team/keras/pull/22976",
)
SOFT_LINK = Rule(
    "hdf5-soft-link",
    "a link by name inside the file",
    Severity.NOTE,
    Outcome.NOTE,
    "It stays within the file; current versions of Keras refuse it.",
    "https://github.com/keras-team/keras/pull/22899",
)
OTHER_LINK = Rule(
    "hdf5-other-link",
    "a link of a kind of its own",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "What it leads to is decided by code that an application registers.",
)
BOMB = Rule(
    "hdf5-shape-bomb",
    "a dataset far larger than the file",
    Severity.HIGH,
    Outcome.UNSAFE,
    "A dataset of which little or nothing is stored takes its whole declared size in memory when it is read.",
    "https://github.com/advisories/GHSA-xfhx-r7ww-5995",
)
FILTER = Rule(
    "hdf5-filter",
    "data behind a filter that HDF5 does not bring",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Reading it loads a filter from a plug-in folder of the machine. Save the data without it.",
    "https://support.hdfgroup.org/documentation/hdf5-docs/registered_filter_plugins.html",
)
PICKLED = Rule(
    "hdf5-pickled-objects",
    "arrays of pickled objects",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "PyTables and pandas unpickle these elements when they are read. Store numbers and texts instead.",
    "https://www.pytables.org/usersguide/libref/declarative_classes.html#objectatom",
)
NOT_FOLLOWED = Rule(
    "hdf5-not-followed",
    "a structure that is not followed",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The HDF5 library may understand it; the scan does not, or it is damaged, so what lies behind it is not known.",
    "https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html",
)
_BOMB_BYTES, _BOMB_RATIO = 4 << 30, 1000
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
_CONFIGURATIONS = {b"model_config", b"training_config"}
_SHARED = 2


def recognise(head: bytes, content: Content) -> bool:
    """An HDF5 file begins with its signature, or has it behind a user block of 512, 1024, 2048, … bytes."""
    return head.startswith(SIGNATURE) or user_block(content) > 0


def user_block(content: Content) -> int:
    """Bytes before the superblock where something else comes first; 0 where there is no such superblock."""
    at = 512
    while at + 16 <= content.size:
        if content.read(at, 8) == SIGNATURE:
            return at
        at *= 2
    return 0


def examine(content: Content, examination: Examination) -> str:
    """Follow all objects of a file; returns `keras-h5` where it holds a model of Keras."""
    start = 0 if content.head(8) == SIGNATURE else user_block(content)
    scan = _Scan(content, examination)
    try:
        scan.run(start)
    except (NotFollowedError, CutError, IndexError) as error:
        examination.find(NOT_FOLLOWED, str(error))
    if start:
        _examine_user_block(content.part(0, start), examination)
    examination.facts["datasets"] = scan.datasets
    examination.facts["groups"] = scan.groups
    return "keras-h5" if scan.is_model else "hdf5"


def _examine_user_block(block: Content, examination: Examination) -> None:
    """What stands before the superblock belongs to whoever wrote it; empty ones are made of zeros."""
    for at in range(0, block.size, 1 << 20):
        if block.read(at, min(1 << 20, block.size - at)).strip(b"\0"):
            examination.examine(block, "user block")
            return
        examination.check_time()


@dataclass
class _Scan:
    """One file, object by object."""

    content: Content
    examination: Examination
    datasets: int = 0
    groups: int = 0
    is_model: bool = False
    is_pytables: bool = False
    _waiting: list[tuple[int, str]] = field(default_factory=list)

    def run(self, start: int) -> None:
        reader = Reader(self.content, self.examination, start)
        if self.content.size < reader.end != reader.undefined:
            raise CutError(f"it says that it has {reader.end} bytes, and has {self.content.size}")
        if reader.extension != reader.undefined:
            self._check_extension(reader)
        self._waiting, seen = [(reader.root, "")], set()
        while self._waiting:
            address, path = self._waiting.pop()
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > self.examination.limits.members:
                raise NotFollowedError(f"more than {len(seen) - 1} objects")
            try:
                self._object(reader, reader.object(address), path)
            except (NotFollowedError, CutError, IndexError) as error:
                self.examination.find(NOT_FOLLOWED, str(error) or "a message ends early", at=path or "/")

    def _check_extension(self, reader: Reader) -> None:
        for message in reader.object(reader.extension).messages:
            if message.kind in {0x0F, 0x14}:
                kept = "messages are kept in a shared table" if message.kind == 0x0F else "driver information"
                self.examination.find(NOT_FOLLOWED, kept)

    def _object(self, reader: Reader, found: Object, path: str) -> None:
        kinds = {message.kind for message in found.messages}
        if kinds & {0x02, 0x06, 0x11}:
            self.groups += 1
        elif 0x08 in kinds:
            self.datasets += 1
            self._dataset(reader, found, path)
        for message in found.messages:
            if message.kind == 0x11:
                self._links(reader.links_of_table(message), path)
            elif message.kind == 0x06:
                self._links([reader.link(message.data)], path)
            elif message.kind == 0x02:
                self._dense_links(reader, message, path)
            elif message.kind == 0x0C:
                self._attribute(reader, message, path)
            elif message.kind == 0x15:
                self._dense_attributes(reader, message, path)
            elif message.kind == 0x07:
                self.examination.find(EXTERNAL_DATA, self._external_names(reader, message), at=path)

    def _links(self, links: Iterable[Link], path: str) -> None:
        for link in links:
            self._link(link, path)

    def _link(self, link: Link, path: str) -> None:
        where = f"{path}/{shown(link.name)}"
        if link.kind == "hard":
            self._waiting.append((link.address, where))
            if len(self._waiting) > 2 * self.examination.limits.members:
                raise NotFollowedError("more links than are followed")
        elif link.kind == "soft":
            self.examination.find(SOFT_LINK, f"to {shown(link.target)}", at=where)
        elif link.kind == "external":
            self.examination.find(EXTERNAL_LINK, f"to {shown(link.target)}", at=where)
        else:
            self.examination.find(OTHER_LINK, f"with {len(link.target)} bytes of its own", at=where)

    def _dense_links(self, reader: Reader, message: Message, path: str) -> None:
        at = 10 if message.data[1] & 1 else 2
        heap, tree = reader.offset(message.data, at), reader.offset(message.data, at + reader.offset_size)
        if heap == reader.undefined:
            return
        objects = FractalHeap(reader, heap)
        for record in records(reader, tree):
            self._link(reader.link(objects.get(record[4:])), path)

    def _dense_attributes(self, reader: Reader, message: Message, path: str) -> None:
        at = 4 if message.data[1] & 1 else 2
        heap, tree = reader.offset(message.data, at), reader.offset(message.data, at + reader.offset_size)
        if heap == reader.undefined:
            return
        objects = FractalHeap(reader, heap)
        for record in records(reader, tree):
            if record[8] & _SHARED:
                raise NotFollowedError("an attribute that several objects share")
            self._attribute(reader, Message(0x0C, 0, objects.get(record[:8]), heap), path)

    def _attribute(self, reader: Reader, message: Message, path: str) -> None:
        if message.flags & _SHARED:
            raise NotFollowedError("an attribute that several objects share")
        attribute = reader.attribute(message)
        name = attribute.name
        if name == b"PYTABLES_FORMAT_VERSION":
            self.is_pytables = True
        if name in _CONFIGURATIONS:
            self._configuration(reader, attribute, path)
        elif attribute.type is None or attribute.type.kind in {3, 9}:
            self._text(reader, attribute, path)

    def _configuration(self, reader: Reader, attribute: Attribute, path: str) -> None:
        name = attribute.name.decode("ascii")
        values = texts(reader, attribute)
        if values is None or len(values) != 1:
            raise NotFollowedError(f"{name} is not one text")
        self.is_model = self.is_model or name == "model_config"
        where = f"{path}/@{name}"
        with contextlib.suppress(StopScan):
            value = json_text.parse_text(values[0], self.examination, place=where)
            keras_config.examine_config(value, self.examination, where, held=self.content.size)
        self.examination.check_time()

    def _text(self, reader: Reader, attribute: Attribute, path: str) -> None:
        """An attribute that PyTables may take for a pickle, or that says that elements are pickles."""
        where = f"{path}/@{shown(attribute.name)}"
        for value in texts(reader, attribute) or ():
            if attribute.name == b"PSEUDOATOM" and value.startswith(b"object"):
                self.examination.find(PICKLED, "elements are pickles", at=where)
            elif _like_pickle(value):
                self.examination.examine(BytesContent(value), where)

    def _dataset(self, reader: Reader, found: Object, path: str) -> None:
        space, size, layout = Dataspace(None), 0, None
        for message in found.messages:
            if message.kind in {0x01, 0x08} and message.flags & _SHARED:
                raise NotFollowedError("a dataset whose extent is kept elsewhere")
            if message.kind == 0x01:
                space = reader.dataspace(message.data)
            elif message.kind == 0x03:
                # A type that several datasets share; 16 bytes stand for what an element may take.
                size = 16 if message.flags & _SHARED else reader.datatype(message.data).size
            elif message.kind == 0x08:
                layout = message
            elif message.kind == 0x0B:
                self._filters(message.data, path)
        declared = space.count * size
        if declared > _BOMB_BYTES and declared > _BOMB_RATIO * self.content.size:
            what = f"{declared} bytes declared in a file of {self.content.size}"
            self.examination.find(BOMB, what, at=path)
        if layout is not None:
            self._layout(reader, layout, path)

    def _layout(self, reader: Reader, message: Message, path: str) -> None:
        data = message.data
        version, kind = data[0], data[1] if data[0] > 2 else data[2]
        if version > 5 or kind > 3:
            raise NotFollowedError(f"version {version} of a layout, kind {kind}")
        if kind == 3:
            self.examination.find(VIRTUAL, "a virtual dataset", at=path)
        if version > 2 and kind == 1:
            address, size = reader.offset(data, 2), reader.length(data, 2 + reader.offset_size)
            if address != reader.undefined and reader.base + address + size > self.content.size:
                raise CutError(f"{size} bytes at byte {address}, beyond the end of the file")

    def _filters(self, data: bytes, path: str) -> None:
        version, count = data[0], data[1]
        at = 8 if version == 1 else 2
        for _ in range(count):
            identifier, at = number(data, at, 2), at + 2
            named = version == 1 or identifier >= 256
            length, at = (number(data, at, 2), at + 2) if named else (0, at)
            values = number(data, at + 2, 2)
            at += 4 + ((length + 7) & ~7 if version == 1 else length) + 4 * values
            at += 4 if version == 1 and values % 2 else 0
            if identifier not in _FILTERS:
                self.examination.find(FILTER, f"filter {identifier}", at=path)

    def _external_names(self, reader: Reader, message: Message) -> str:
        """The files that a dataset is kept in, as far as their names can be read."""
        data = message.data
        used, heap = number(data, 4, 2), reader.offset(data, 8)
        with contextlib.suppress(NotFollowedError, CutError):
            head = reader.read(heap, 8 + 2 * reader.length_size + reader.offset_size)
            start = reader.offset(head, 8 + 2 * reader.length_size)
            name = reader.length(data, 8 + reader.offset_size)
            return f"in {shown(reader.read(start + name, 64).split(bytes(1))[0])} ({used} files)"
        return f"in {used} files"


def _like_pickle(value: bytes) -> bool:
    """What PyTables unpickles: it ends as every pickle does, and begins as one of protocol 2 and later, or 0."""
    return value.endswith(b".") and (value[:1] == b"\x80" or b"\n" in value or value[:1] in b"(]})")


HDF5 = Format(
    "hdf5",
    recognise,
    examine,
    (
        EXTERNAL_LINK,
        EXTERNAL_DATA,
        VIRTUAL,
        SOFT_LINK,
        OTHER_LINK,
        BOMB,
        FILTER,
        PICKLED,
        NOT_FOLLOWED,
        *json_text.RULES,
        *keras_config.RULES,
    ),
)
