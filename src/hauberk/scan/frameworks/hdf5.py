"""HDF5 files: what they refer to outside themselves, and the models of Keras that they hold.

An HDF5 file may keep a dataset in another file, map one out of several others, or link to an object of another file;
the library follows all of that without asking. Keras keeps the configuration of a model in an attribute of the root
group, and PyTables keeps pickles in attributes. The elements of datasets are not read: nothing interprets them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from hauberk.scan.content import BytesContent, Content, CutError
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.formats import Format
from hauberk.scan.frameworks import hdf5_storage, json_text, keras_config
from hauberk.scan.frameworks.hdf5_groups import Link, dense_attributes, dense_links, link, links_of_table
from hauberk.scan.frameworks.hdf5_heaps import texts
from hauberk.scan.frameworks.hdf5_objects import SHARED, SIGNATURE, Attribute, Kind, Message, Object, Reader
from hauberk.scan.frameworks.hdf5_values import NotFollowedError, is_text, number
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
    "data behind a filter that is not followed",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Reading it loads the filter from a plug-in folder of the machine, or runs one that trusts figures of the file."
    " Save the data without it.",
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
_CONFIGURATIONS = {b"model_config", b"training_config"}
_DATASET = {Kind.DATASPACE, Kind.DATATYPE, Kind.LAYOUT}
_GROUP = {Kind.LINK_INFO, Kind.SYMBOL_TABLE}
_OF_GROUPS = {*_GROUP, Kind.LINK, Kind.GROUP_INFO}


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
    declared: int = 0
    groups: int = 0
    is_model: bool = False
    is_pytables: bool = False
    _waiting: list[tuple[int, str]] = field(default_factory=list)

    def run(self, start: int) -> None:
        reader = Reader(self.content, self.examination, start)
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
            if message.kind == Kind.SHARED_TABLE:
                self.examination.find(NOT_FOLLOWED, "messages are kept in a shared table")
            elif message.kind == Kind.DRIVER:
                self.examination.find(NOT_FOLLOWED, "driver information")

    def _object(self, reader: Reader, found: Object, path: str) -> None:
        self._kind(reader, found, path)
        names: set[bytes] = set()
        for message in found.messages:
            if message.kind == Kind.SYMBOL_TABLE:
                self._links(links_of_table(reader, message), path)
            elif message.kind == Kind.LINK:
                self._links([link(reader, message.data)], path)
            elif message.kind == Kind.LINK_INFO:
                self._links(dense_links(reader, message), path)
            elif message.kind == Kind.ATTRIBUTE:
                self._attribute(reader, message, path, names)
            elif message.kind == Kind.ATTRIBUTE_INFO:
                for each in dense_attributes(reader, message):
                    self._attribute(reader, each, path, names)
            elif message.kind == Kind.EXTERNAL_FILES:
                self.examination.find(EXTERNAL_DATA, self._external_names(reader, message), at=path)

    def _kind(self, reader: Reader, found: Object, path: str) -> None:
        """An object is a group, a dataset or a type, and nothing of two of them."""
        kinds = {message.kind for message in found.messages}
        kept = reader.cached.get(found.address)
        tables = [message for message in found.messages if message.kind == Kind.SYMBOL_TABLE]
        if kept and any(_noted(reader, table) != kept for table in tables):
            raise NotFollowedError("a group that is noted with another tree beside a link to it")
        if len(kinds & _GROUP) == 1 and not kinds & _DATASET:
            if kinds >= {Kind.LINK, Kind.SYMBOL_TABLE}:
                raise NotFollowedError("a group that keeps its links in two ways")
            self.groups += 1
        elif kinds >= _DATASET and not kinds & _OF_GROUPS:
            self.datasets += 1
            self._dataset(reader, found, path)
        elif kinds & _DATASET == {Kind.DATATYPE} and not kinds & _OF_GROUPS:
            self._messages_of_type(reader, found)
        else:
            raise NotFollowedError(f"an object with messages {sorted(kinds)}")

    def _messages_of_type(self, reader: Reader, found: Object) -> None:
        for message in found.messages:
            if message.kind == Kind.DATATYPE:
                reader.datatype(message.data, shared=bool(message.flags & SHARED))

    def _links(self, links: Iterable[Link], path: str) -> None:
        for each in links:
            self._link(each, path)

    def _link(self, found: Link, path: str) -> None:
        where = f"{path}/{shown(found.name)}"
        if not is_text(found.name):
            raise NotFollowedError(f"a name that is no text: {where}")
        if found.kind == "hard":
            self._waiting.append((found.address, where))
            if len(self._waiting) > 2 * self.examination.limits.members:
                raise NotFollowedError("more links than are followed")
        elif found.kind == "soft":
            self.examination.find(SOFT_LINK, f"to {shown(found.target)}", at=where)
        elif found.kind == "external":
            self.examination.find(EXTERNAL_LINK, f"to {shown(found.target)}", at=where)
        else:
            self.examination.find(OTHER_LINK, f"with {len(found.target)} bytes of its own", at=where)

    def _attribute(self, reader: Reader, message: Message, path: str, names: set[bytes]) -> None:
        attribute = reader.attribute(message)
        name = attribute.name
        if name in names or not is_text(name):
            raise NotFollowedError(f"two attributes called {shown(name)}, or one whose name is no text")
        names.add(name)
        if name == b"PYTABLES_FORMAT_VERSION":
            self.is_pytables = True
        if name in _CONFIGURATIONS:
            self._configuration(reader, attribute, path)
        else:
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
        by_kind = {message.kind: message for message in found.messages}
        extent, kind, stored = by_kind[Kind.DATASPACE], by_kind[Kind.DATATYPE], by_kind[Kind.LAYOUT]
        space, element = reader.dataspace(extent.data), reader.datatype(kind.data, shared=bool(kind.flags & SHARED))
        steps = list(hdf5_storage.filters(by_kind[Kind.FILTERS].data)) if Kind.FILTERS in by_kind else []
        for step in steps:
            if len(step.values) < hdf5_storage.KNOWN_FILTERS.get(step.identifier, len(step.values) + 1):
                self.examination.find(FILTER, f"filter {step.identifier}", at=path)
        kept = hdf5_storage.layout(reader, stored.data)
        if kept.kind == hdf5_storage.VIRTUAL:
            self.examination.find(VIRTUAL, "a virtual dataset", at=path)
        declared = max(space.count * element.size, math.prod(kept.chunk))
        self.declared += declared
        if self.declared > _BOMB_BYTES and self.declared > _BOMB_RATIO * self.content.size:
            what = f"{self.declared} bytes declared in a file of {self.content.size}"
            self.examination.find(BOMB, what, at=path)
            self.declared = 0
        for each in (Kind.OLD_FILL_VALUE, Kind.FILL_VALUE):
            if each in by_kind:
                hdf5_storage.check_fill_value(reader, by_kind[each].data, element, old=each == Kind.OLD_FILL_VALUE)
        hdf5_storage.check(reader, kept, space, element, steps)

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


def _noted(reader: Reader, message: Message) -> tuple[int, int]:
    """Where a group says that its tree and its heap of names lie."""
    return reader.offset(message.data, 0), reader.offset(message.data, reader.offset_size)


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
