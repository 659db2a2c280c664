"""TensorFlow: SavedModels, frozen graphs, and the small files beside them.

A graph of TensorFlow is a program: some of its operations read and write any file, load code or speak to other
machines. Operations are held against a list of those that only compute (`tensorflow_ops.txt`). Every SavedModel saves
and restores its variables and may read tables, so these are followed to the name of the file that they would open.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

from hauberk import protobuf
from hauberk.errors import RefusedModelError
from hauberk.protobuf import BYTES, VARINT
from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.formats import Format
from hauberk.scan.frameworks import json_text, keras_config
from hauberk.scan.frameworks.tensorflow_graph import REPEATED, GraphReader, Node, Scope
from hauberk.scan.frameworks.tensorflow_names import Names, Surroundings, leads_outside
from hauberk.scan.frameworks.tensorflow_objects import read_objects
from hauberk.scan.frameworks.tensorflow_rules import (
    ASSET,
    AT_ONCE,
    BOMB,
    DAMAGED,
    DANGEROUS,
    FILE_NAME,
    FILE_UNCLEAR,
    RULES,
    UNKNOWN_OPERATION,
)
from hauberk.scan.graphs.wire import Stretch
from hauberk.scan.report import shown

_DANGEROUS = re.compile(
    r"ReadFile|WriteFile|(Experimental)?MatchingFiles(Dataset)?|PyFunc(Stateless)?|EagerPyFunc|RecordInput"
    r"|(TextLine|FixedLengthRecord|TFRecord|WholeFile|LMDB)Reader(V2)?|.*Snapshot.*|(Save|Load)Dataset(V2)?"
    r"|(Experimental)?(TFRecord|TextLine|FixedLengthRecord|CSV|LMDB|Sql)Dataset(V2)?|(Experimental)?DatasetToTFRecord"
    r"|DataServiceDataset(V\d)?|RegisterDataset(V2)?|CacheDataset(V2)?|DumpTensor|DistributedSave|DTensorRestoreV2"
    r"|Debug(Identity|NanCount|NumericSummary)(V\d)?|ImmutableConst|LoadAndRemapMatrix|GenerateVocabRemapping"
    r"|RemoteCall|Rpc\w+|CreateSummary\w+|SummaryWriter|ImportEvent|FileSystemSetConfiguration|_?Xla\w*HostCompute\w*"
    r"|Abort|Skipgram|DatasetFromGraph|Copy(Host)?|WorkerHeartbeat|CalibrationStatisticsSaver|StatsAggregatorSetSummaryWriter|_?(Host)?(Send|Recv)"
)
# Operations that open files by a name that is one of their inputs, and which inputs these are.
_FILES = dict.fromkeys(("SaveV2", "RestoreV2", "Save", "SaveSlices", "Restore", "RestoreSlice"), (0,)) | {
    "MergeV2Checkpoints": (0, 1),
    "InitializeTableFromTextFile": (1,),
    "InitializeTableFromTextFileV2": (1,),
}
_EARLY = re.compile(
    r"NoOp|Const|Identity(N)?|Placeholder\w*|\w*HashTable\w*|InitializeTable\w*|LookupTable\w+|VarHandleOp"
    r"|VarIsInitializedOp|AssignVariableOp|ReadVariableOp|Assign|Variable(V2)?|IsVariableInitialized"
    r"|(Stateful)?PartitionedCall|Restore\w*|BoostedTrees(Create|Deserialize)Ensemble|BoostedTrees\w+(HandleOp|ResourceDeserialize)"
    r"|Cast|Reshape|ExpandDims|Squeeze|Pack|Concat(V2)?|Shape|StridedSlice|StringJoin|ShardedFilename|Add(V2)?|Sub|Mul"
    r"|Select(V2)?|StaticRegex\w+|Size"
)
"""Operations that make tables and variables, and fill them; none of them takes much more than it is given."""
_WRITERS = frozenset({"SaveV2", "Save", "SaveSlices", "MergeV2Checkpoints"})
_FILE_TEXTS = {"vocab_file", "data_filename", "shared_file", "memory_region_name"}
_OP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.>]*")
_INITIAL = frozenset({"__saved_model_init_op", "__saved_model_train_op"})
_ASSETS = "saved_model_assets"
_MAIN = frozenset({"saved_model_main_op", "legacy_init_op", "table_initializer"})
_LOCAL_VARIABLES = "local_variables"
"""Collections of nodes, and of variables, that loaders initialise by, the last two where nothing else says how."""


@cache
def allowed_operations() -> frozenset[str]:
    """Operations that compute on what they are given."""
    text = resources.files("hauberk.scan.frameworks").joinpath("tensorflow_ops.txt").read_text("utf-8")
    return frozenset(name for line in text.splitlines() if not line.startswith("#") for name in line.split())


def is_dangerous(operation: str) -> bool:
    """Whether an operation opens files, runs code or speaks to others."""
    return bool(_DANGEROUS.fullmatch(operation)) or operation in _FILES


def _opens(key: str, text: bytes) -> bool:
    """Whether a text attribute names a file or an address; constants and patterns are mere text."""
    if key in {"value", "pattern", "rewrite"}:
        return False
    if key == "descriptor_source":
        return text != b"local://" and not text.startswith(b"bytes://")
    return key in _FILE_TEXTS or b"://" in text


def _fields(message: Any, most: int = 1 << 16) -> list[tuple[int, int, Any]] | None:
    """Fields of a message, as many as are needed to recognise it; `None` where it is no message."""
    found = []
    try:
        for number, wire, value, _ in protobuf.walk(message):
            found.append((number, wire, value))
            if len(found) >= most:
                break
    except (RefusedModelError, CutError):
        return None
    return found


def _is_graph(message: Any) -> bool:
    """Nodes with a name and an operation, and nothing that a graph does not have."""
    fields = _fields(message)
    if not fields or any(number > 5 or (wire == VARINT) != (number == 3) for number, wire, _ in fields):
        return False
    nodes = [value for number, _, value in fields if number == 1][:3]
    return bool(nodes) and all(_is_node(node) for node in nodes)


def _is_node(message: Any) -> bool:
    fields = _fields(message, 64)
    texts = {number: value for number, wire, value in fields or () if wire == BYTES and len(value) < 1 << 12}
    operation = texts.get(2)
    return operation is not None and 1 in texts and bool(_OP_NAME.fullmatch(str(bytes(operation[:]), "latin-1")))


def _is_meta_graph(message: Any) -> bool:
    fields = _fields(message)
    if not fields or any(number > 7 or wire != BYTES for number, wire, _ in fields):
        return False
    return any(number == 2 and (not len(value) or _is_graph(value)) for number, _, value in fields)


def recognise_saved_model(head: bytes, content: Content) -> bool:
    """A version and meta graphs, each with a graph."""
    if head[:1] not in {b"\x08", b"\x12"}:
        return False
    fields = _fields(Stretch(content, 0, content.size), 64)
    if not fields or any((number, wire) not in {(1, VARINT), (2, BYTES)} for number, wire, _ in fields):
        return False
    graphs = [value for number, _, value in fields if number == 2]
    return bool(graphs) and all(_is_meta_graph(graph) for graph in graphs)


def recognise_graph(head: bytes, content: Content) -> bool:
    """A frozen graph: nodes and nothing else."""
    return head[:1] in {b"\n", b"\x12", b"\x22"} and _is_graph(Stretch(content, 0, content.size))


def examine_saved_model(content: Content, examination: Examination) -> None:
    """Follow all graphs, assets and metadata of layers."""
    scan = _Scan(examination)
    with scan.reading():
        fields = scan.reader.walk(Stretch(content, 0, content.size), "saved model", frozenset({1, 2}), frozenset({2}))
        for number, value in fields:
            if number == 2:
                graph = _Scan(examination)  # what one graph calls a function another may not
                with graph.reading():
                    graph.meta_graph(value)
                graph.judge()
    scan.judge()


def examine_graph(content: Content, examination: Examination) -> None:
    """Follow a frozen graph."""
    scan = _Scan(examination)
    with scan.reading():
        scan.reader.graph(Stretch(content, 0, content.size))
    scan.judge()


class _Scan:
    """One graph, with what a meta graph says about it."""

    def __init__(self, examination: Examination) -> None:
        self._examination = examination
        self.reader = GraphReader(examination)
        self._around = Surroundings()
        self._keys: set[tuple[str, str]] = set()
        self._older_assets: set[str] = set()

    @contextlib.contextmanager
    def reading(self) -> Any:
        """What is broken ends the reading; what was read is judged."""
        try:
            yield
        except (RefusedModelError, CutError, TypeError) as error:
            self._examination.find(DAMAGED, shown(str(error)))

    def meta_graph(self, message: Any) -> None:
        """A `MetaGraphDef`."""
        readers = {3: self._saver, 4: self._collection, 5: self._signature}
        self._around.checkpoints = set()
        for number, value in self.reader.walk(message, "meta graph", frozenset(range(1, 8)), frozenset({4, 5, 6})):
            if number == 2:
                self.reader.graph(value)
            elif number in readers:
                readers[number](value)
            elif number == 6:
                self._around.assets |= self._asset(value)
            elif number == 7:
                self._around.objects = read_objects(self.reader, value)
                for text in self._around.objects.metadata:
                    examine_metadata(text, self._examination)
        self._around.assets = self._around.assets or self._older_assets  # where both are there, loaders take the first

    def _saver(self, message: Any) -> None:
        fields = [*self.reader.walk(message, "saver", frozenset(range(1, 9)))]
        self._around.checkpoints = {self._node_name(value) for number, value in fields if number == 1}
        restored = {self._node_name(value) for number, value in fields if number == 3}
        self._around.first |= restored
        self._around.outputs |= restored  # assets are not handed in here

    def _node_name(self, value: Any) -> str:
        """The node of a tensor."""
        return self.reader.name(value).partition(":")[0].lstrip("^")

    def _entry(self, message: Any, what: str) -> tuple[str, list[Any]]:
        """Key and value of an entry of a map, in whichever order they stand there."""
        fields = [*self.reader.walk(message, what, frozenset({1, 2}))]
        key = "".join(self.reader.name(value) for number, value in fields if number == 1)
        if (what, key) in self._keys:
            self.reader.strange.add(f"a {what} that is listed twice")
        self._keys.add((what, key))
        return key, [value for number, value in fields if number == 2]

    def _collection(self, message: Any) -> None:
        key, values = self._entry(message, "collection")
        for value in values if key in {*_MAIN, _LOCAL_VARIABLES, _ASSETS} else ():
            for part, inner in self.reader.walk(value, "values", frozenset(range(1, 6))):
                if part == 1 and key in _MAIN:
                    for _, name in self.reader.walk(inner, "names", frozenset({1}), REPEATED):
                        self._around.first.add(self._node_name(name))
                elif part == 2 and key == _LOCAL_VARIABLES:
                    for _, variable in self.reader.walk(inner, "variables", frozenset({1}), REPEATED):
                        self._around.first.update(self._initializer(variable))
                elif part == 5 and key == _ASSETS:
                    self._assets(inner)

    def _initializer(self, variable: Any) -> Iterator[str]:
        """The node that sets a variable (`VariableDef`)."""
        for part, name in self.reader.walk(variable, "variable", frozenset(range(1, 10))):
            if part == 2:
                yield self._node_name(name)

    def _signature(self, message: Any) -> None:
        """A way to run the model: tensors that are filled, and tensors that are asked for."""
        key, values = self._entry(message, "signature")
        asked = self._around.first if key in _INITIAL else self._around.outputs
        for value in values:
            for part, entry in self.reader.walk(value, "signature", frozenset({1, 2, 3, 4}), frozenset({1, 2, 4})):
                if part in {1, 2}:
                    (self._around.inputs if part == 1 else asked).update(self._tensors(entry))

    def _tensors(self, entry: Any) -> Iterator[str]:
        """Nodes of a tensor of a signature, by its name there."""
        for number, value in self.reader.walk(entry, "named tensor", frozenset({1, 2})):
            if number == 2:
                for part, inner in self.reader.walk(value, "tensor name", frozenset(range(1, 7))):
                    if part == 1:
                        yield self._node_name(inner)
                    elif part in {4, 5}:  # one of several parts
                        for _, piece in self.reader.walk(inner, "tensor in parts", REPEATED, REPEATED):
                            if not isinstance(piece, int):
                                yield self._node_name(piece)

    def _assets(self, message: Any) -> None:
        """Assets as older versions keep them, each in a message with the name of its type."""
        for _, value in self.reader.walk(message, "assets", frozenset({1}), REPEATED):
            for part, inner in self.reader.walk(value, "asset with a type", frozenset({1, 2})):
                if part == 2:
                    self._older_assets |= self._asset(inner)

    def _asset(self, message: Any) -> set[str]:
        """The nodes that an asset stands in for; its name is looked at."""
        nodes: set[str] = set()
        for number, value in self.reader.walk(message, "asset", frozenset({1, 2})):
            if number == 2:
                name = self.reader.text(value)
                if leads_outside(name):
                    self._examination.find(ASSET, shown(name))
            else:
                for part, inner in self.reader.walk(value, "tensor name", frozenset(range(1, 6))):
                    if part == 1:
                        nodes.add(self._node_name(inner))
        return nodes

    def judge(self) -> None:
        """All nodes of all scopes."""
        scopes = self.reader.scopes
        functions = {scope.name for scope in scopes if scope.name}
        if len(functions) != sum(1 for scope in scopes if scope.name):
            self.reader.strange.add("two functions of one name")
        names = Names(scopes, self._around, self._examination)
        count = 0
        for what in sorted(self.reader.strange)[:5]:
            self._examination.find(DAMAGED, what)
        for scope in scopes:
            place = f"function {shown(scope.name)}" if scope.name else "graph"
            for name in scope.repeated[:3]:
                self._examination.find(DAMAGED, f"two nodes called {shown(name)}", at=place)
            for node in scope.nodes.values():
                count += 1
                if count % 512 == 0:
                    self._examination.check_time()
                self._node(scope, node, names, functions, f"{place}, node {shown(node.name)}")
        if circle := names.circle():
            self._examination.find(AT_ONCE, f"functions that call themselves: {shown(', '.join(circle[:3]))}")
        self._sizes()
        for key, number in (("nodes", count), ("functions", len(functions))):
            known = self._examination.facts.get(key, 0)
            self._examination.facts[key] = number + (known if isinstance(known, int) else 0)

    def _node(self, scope: Scope, node: Node, names: Names, functions: set[str], at: str) -> None:
        for op in sorted(node.ops) or [""]:
            if _DANGEROUS.fullmatch(op):
                self._examination.find(DANGEROUS, shown(op), at=at)
            elif op in _FILES:
                for named in _FILES[op]:
                    self._file(names, scope, node, op, at, named=named)
            elif op not in allowed_operations() and op not in functions:
                self._examination.find(UNKNOWN_OPERATION, shown(op) or "no operation", at=at)
            elif (scope.name, node.name) in names.first and op not in functions and not _EARLY.fullmatch(op):
                self._examination.find(AT_ONCE, shown(op), at=at)
        for key, texts in node.texts.items():
            if any(text and _opens(key, text) for text in texts):
                self._examination.find(DANGEROUS, shown(f"{node.op} with {key} {texts[0]!r}"), at=at)

    def _sizes(self) -> None:
        """Constants of which one stored value stands for many."""
        declared, stored = self.reader.declared, self.reader.stored
        if declared > self._examination.limits.model_memory:
            self._examination.find(BOMB, f"{float(declared):.1e} bytes of constants in {stored}")

    def _file(self, names: Names, scope: Scope, node: Node, op: str, at: str, *, named: int) -> None:
        """A node that opens the file whose name is its input `named`: the name must come from the loader."""
        if named >= len(node.inputs):
            self._examination.find(DANGEROUS, f"{op} without the name of a file", at=at)
            return
        if op in _WRITERS and (scope.name, node.name) in names.first:
            self._examination.find(FILE_NAME, f"{op} while the model is loaded", at=at)
        for certain, what in names.faults(scope, node.inputs[named], op):
            self._examination.find(FILE_NAME if certain else FILE_UNCLEAR, shown(f"{op} of {what}"), at=at)


def examine_metadata(text: bytes, examination: Examination) -> None:
    """The metadata of a layer of Keras in a SavedModel."""
    if text.lstrip()[:1] == b"{":
        with contextlib.suppress(StopScan):
            keras_config.examine_config(json_text.parse_text(text, examination), examination, "metadata")
        examination.check_time()


def recognise_metadata(head: bytes, content: Content) -> bool:
    """`keras_metadata.pb`: nodes with identifiers of Keras."""
    if head[:1] != b"\n":
        return False
    fields = _fields(Stretch(content, 0, content.size), 64)
    if not fields or any((number, wire) != (1, BYTES) for number, wire, _ in fields):
        return False
    inner = _fields(fields[0][2], 16)
    texts = [
        bytes(value[0 : min(len(value), 64)]) for number, wire, value in inner or () if (number, wire) == (4, BYTES)
    ]
    return bool(texts) and texts[0].startswith(b"_tf_keras")


def examine_keras_metadata(content: Content, examination: Examination) -> None:
    """Configurations of all layers."""
    scan = _Scan(examination)
    with scan.reading():
        for _, node in scan.reader.walk(Stretch(content, 0, content.size), "metadata", frozenset({1}), REPEATED):
            for number, value in scan.reader.walk(node, "node", frozenset(range(1, 6))):
                if number == 5:
                    examine_metadata(scan.reader.text(value), examination)


def recognise_fingerprint(_: bytes, content: Content) -> bool:
    """`fingerprint.pb`: a few checksums."""
    if not 20 <= content.size <= 200:
        return False
    fields = _fields(Stretch(content, 0, content.size), 16)
    wires = {(number, wire) for number, wire, _ in fields or ()}
    return {(1, VARINT), (2, VARINT)} <= wires <= {(n, VARINT) for n in range(1, 6)} | {(6, BYTES), (7, BYTES)}


def examine_fingerprint(_: Content, examination: Examination) -> None:
    """Numbers, which nobody interprets."""
    examination.facts["fingerprint"] = "present"


FORMATS = (
    Format(
        "tensorflow-saved-model", recognise_saved_model, examine_saved_model, (*RULES, *keras_config.RULES), b"\x08\x12"
    ),
    Format(
        "tensorflow-keras-metadata", recognise_metadata, examine_keras_metadata, (*RULES, *keras_config.RULES), b"\n"
    ),
    Format("tensorflow-fingerprint", recognise_fingerprint, examine_fingerprint, ()),
    Format("tensorflow-graph", recognise_graph, examine_graph, RULES, b"\n\x12\x22"),
)
