"""Graphs of TensorFlow and TensorFlow Lite, and GGUF files, that do what they should not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNKNOWN, UNSAFE, Case
from corpus.messages import FIXTURES, field, written

OUT = "https://cwe.mitre.org/data/definitions/787.html"
NVD = "https://nvd.nist.gov/vuln/detail/"
TENSORFLOW = "https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md"


def text_attribute(key: str, value: bytes) -> bytes:
    """An attribute that is a text."""
    return field(5, field(1, key) + field(2, field(2, value)))


def filled_in(key: str, name: str) -> bytes:
    """An attribute that whoever calls the function fills in."""
    return field(5, field(1, key) + field(2, field(9, name)))


def function_attribute(key: str, name: str) -> bytes:
    """An attribute that names a function."""
    return field(5, field(1, key) + field(2, field(10, field(1, name))))


def node(name: str, op: str, *inputs: str, more: bytes = b"") -> bytes:
    """A `NodeDef`."""
    return field(1, name) + field(2, op) + b"".join(field(3, each) for each in inputs) + more


def constant(name: str, text: str) -> bytes:
    """A constant text."""
    return node(name, "Const", more=field(5, field(1, "value") + field(2, field(8, field(1, 7) + field(8, text)))))


def graph(*nodes: bytes, functions: tuple[bytes, ...] = ()) -> bytes:
    """A `GraphDef` with its library."""
    library = field(2, b"".join(field(1, each) for each in functions)) if functions else b""
    return b"".join(field(1, each) for each in nodes) + library


def function(name: str, arguments: tuple[str, ...], *nodes: bytes) -> bytes:
    """A `FunctionDef`."""
    signature = field(1, name) + b"".join(field(2, field(1, each)) for each in arguments)
    return field(1, signature) + b"".join(field(3, each) for each in nodes)


def saved_model(*nodes: bytes, functions: tuple[bytes, ...] = (), more: bytes = b"") -> Callable[[Path], Path]:
    """Writes a `saved_model.pb`."""
    meta = field(1, field(4, "serve")) + field(2, graph(*nodes, functions=functions)) + more
    return lambda folder: written(folder / "saved_model.pb", field(1, 1) + field(2, meta))


def keras_layer(metadata: str) -> bytes:
    """A layer of Keras in the tree of objects."""
    return field(7, field(1, field(4, field(1, "_tf_keras_layer") + field(3, metadata))))


LAMBDA = '{"class_name": "Lambda", "config": {"function": ["4wEAAAA", null, null], "function_type": "lambda"}}'
INPUT = node("x", "Placeholder")


def _nested(folder: Path) -> Path:
    """A dangerous operation in a function that a function calls."""
    inner = function("inner", ("a",), node("w", "WriteFile", "a", "a"))
    outer = function("outer", ("a",), node("c", "PartitionedCall", "a", more=function_attribute("f", "inner")))
    call = node("y", "StatefulPartitionedCall", "x", more=function_attribute("f", "outer"))
    return saved_model(INPUT, call, functions=(inner, outer))(folder)


def _filled_in(folder: Path) -> Path:
    """A file that an operation reads, named by the call of the function that it stands in."""
    sampler = node("s", "FixedUnigramCandidateSampler", "a", more=filled_in("vocab_file", "which"))
    call = node("y", "sample", "x", more=text_attribute("which", b"/etc/passwd"))
    return saved_model(INPUT, call, functions=(function("sample", ("a",), sampler),))(folder)


def _saver_by_call(folder: Path) -> Path:
    """A saver in a function, as every SavedModel has one, called with a name that the graph makes up."""
    saver = function("save", ("prefix",), node("s", "SaveV2", "prefix", "prefix", "prefix"))
    call = node("y", "StatefulPartitionedCall", "n", more=function_attribute("f", "save"))
    return saved_model(INPUT, constant("n", "/srv/flag"), call, functions=(saver,))(folder)


def _bomb() -> bytes:
    shape = field(2, field(2, field(1, 1 << 40)))
    return node(
        "b", "Const", more=field(5, field(1, "value") + field(2, field(8, field(1, 1) + shape + field(5, b"\0\0\0\0"))))
    )


def _asset() -> bytes:
    return field(6, field(1, field(1, "x:0")) + field(2, "../../../../etc/passwd"))


def tflite(fill: Callable[[Any], None] | None = None, **options: Any) -> Callable[[Path], Path]:
    """Writes a small model of TensorFlow Lite: one operator that squares, as many subgraphs as wanted."""

    def make(folder: Path) -> Path:
        import flatbuffers

        builder = flatbuffers.Builder(0)
        model = TfLite(builder, **options).build()
        builder.Finish(model, b"TFL3")
        return written(folder / "model.tflite", bytes(builder.Output()))

    return make


class TfLite:
    """Tables from the inside out, as flatbuffers are written."""

    def __init__(
        self,
        builder: Any,
        *,
        shape: tuple[int, ...] = (2,),
        buffer: int = 1,
        inputs: tuple[int, ...] = (0,),
        opcode: int = 0,
        custom: str = "",
        code: int = 92,
        result: tuple[int, ...] | None = None,
        constants: tuple[tuple[int, ...], ...] = (),
        calls: tuple[int, int] | None = None,
        subgraphs: int = 1,
        data: bytes = bytes(8),
        options: bytes = b"",
        elsewhere: tuple[int, int] | None = None,
        kind: int = 0,
        table: int = 0,
    ) -> None:
        self.builder = builder
        for name, value in list(locals().items()):
            if name not in {"self", "builder"}:
                setattr(self, name, value)

    def _table(self, *fields: tuple[int, str, int]) -> int:
        self.builder.StartObject(13)
        for slot, kind, value in fields:
            getattr(self.builder, f"Prepend{kind}Slot")(slot, value, 0)
        return int(self.builder.EndObject())

    def _tables(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def _numbers(self, numbers: tuple[int, ...]) -> int:
        self.builder.StartVector(4, len(numbers), 4)
        for value in reversed(numbers):
            self.builder.PrependInt32(value)
        return int(self.builder.EndVector())

    def build(self) -> int:
        builder: Any = self.builder
        me: Any = self
        name = builder.CreateString(me.custom) if me.custom else 0
        codes = [(0, "Int8", min(me.code, 127)), (3, "Int32", me.code)]
        code = self._table(*codes, *([(1, "UOffsetTRelative", name)] if name else []))
        data = builder.CreateByteVector(me.data)
        outside = [(1, "Uint64", me.elsewhere[0]), (2, "Uint64", me.elsewhere[1])] if me.elsewhere else []
        kept = [builder.CreateByteVector(struct.pack(f"<{len(each)}i", *each)) for each in me.constants]
        buffers = [self._table(), self._table((0, "UOffsetTRelative", data), *outside)]
        buffers += [self._table((0, "UOffsetTRelative", each)) for each in kept]
        graphs = [self._subgraph() for _ in range(me.subgraphs)]
        parts = {1: self._tables([code]), 2: self._tables(graphs), 4: self._tables(buffers)}
        return self._table((0, "Uint32", 3), *((slot, "UOffsetTRelative", part) for slot, part in parts.items()))

    def _subgraph(self) -> int:
        me: Any = self
        result = me.shape if me.result is None else me.result
        tensors = [self._tensor(me.shape, me.buffer, me.kind), self._tensor(result, 0, me.kind)]
        tensors += [self._tensor((len(each),), index + 2, 2) for index, each in enumerate(me.constants)]
        called = self._table((0, "Int32", me.calls[0]), (1, "Int32", me.calls[1])) if me.calls else 0
        options = me.builder.CreateByteVector(me.options) if me.options else 0
        inputs, outputs = self._numbers(me.inputs), self._numbers((1,))
        fields = [(0, "Uint32", me.opcode), (1, "UOffsetTRelative", inputs), (2, "UOffsetTRelative", outputs)]
        called = called or (self._table() if me.table else 0)
        fields += [(3, "Uint8", me.table or 92), (4, "UOffsetTRelative", called)] if called else []
        fields += [(5, "UOffsetTRelative", options)] if options else []
        operator = self._table(*fields)
        parts = {0: self._tables(tensors), 1: self._numbers((0,)), 2: self._numbers((1,)), 3: self._tables([operator])}
        return self._table(*((slot, "UOffsetTRelative", part) for slot, part in parts.items()))

    def _tensor(self, shape: tuple[int, ...], buffer: int, kind: int = 0) -> int:
        dims = self._numbers(shape)
        return self._table((0, "UOffsetTRelative", dims), (1, "Int8", kind), (2, "Uint32", buffer))


def text(value: str | bytes) -> bytes:
    """A text of GGUF."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def setting(key: str, value: str) -> bytes:
    """A setting of GGUF that is a text."""
    return text(key) + struct.pack("<I", 8) + text(value)


def tensor(name: str, dims: tuple[int, ...], offset: int = 0, kind: int = 0) -> bytes:
    """Where a tensor of GGUF lies."""
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gguf(
    *settings: bytes, tensors: tuple[bytes, ...] = (), counts: tuple[int, int] | None = None, data: int = 0
) -> Callable[[Path], Path]:
    """Writes a GGUF file."""

    def make(folder: Path) -> Path:
        head = b"GGUF" + struct.pack("<IQQ", 3, *(counts or (len(tensors), len(settings))))
        head += b"".join(settings) + b"".join(tensors)
        return written(folder / "model.gguf", head + bytes(-len(head) % 32 + data))

    return make


def template(code: str) -> Callable[[Path], Path]:
    """A GGUF file with a chat template."""
    return gguf(setting("tokenizer.chat_template", code))


def _array_bomb() -> bytes:
    return text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 1 << 61)


def _nested_arrays() -> bytes:
    return text("x") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 40


def _checkpoint(before: bytes, after: bytes) -> Callable[[Path], Path]:
    """The index of a checkpoint, changed."""

    def make(folder: Path) -> Path:
        data = (FIXTURES / "saved_model" / "variables.index").read_bytes()
        assert before in data
        return written(folder / "variables.index", data.replace(before, after, 1))

    return make


GRAPH_CASES = (
    Case("checkpoint-size", _checkpoint(bytes.fromhex("2020280835"), bytes.fromhex("2020287f35")), UNSAFE),
    Case(
        "checkpoint-offset",
        _checkpoint(bytes.fromhex("2028083529"), bytes.fromhex("a028083529")),
        frozenset({"unsafe", "unknown"}),
    ),
    Case(
        "checkpoint-compressed",
        _checkpoint(bytes.fromhex("01000000008e53fb42"), bytes.fromhex("01000000018e53fb42")),
        UNKNOWN,
    ),
    *(
        Case(f"tensorflow-{op.lower()}", saved_model(INPUT, node("y", op, "x", "x")), UNSAFE, TENSORFLOW)
        for op in ("ReadFile", "WriteFile", "PyFunc", "MatchingFiles", "TFRecordReaderV2", "ImmutableConst", "Abort")
    ),
    Case(
        "tensorflow-descriptor-file",
        saved_model(INPUT, node("d", "DecodeProtoV2", "x", more=text_attribute("descriptor_source", b"/etc/passwd"))),
        UNSAFE,
        TENSORFLOW,
    ),
    Case("tensorflow-graph-in-a-text", saved_model(constant("n", "graph"), node("d", "DatasetFromGraph", "n")), UNSAFE),
    Case(
        "tensorflow-debug-address",
        saved_model(
            INPUT, node("d", "CopyHost", "x", more=text_attribute("debug_ops_spec", b"DebugIdentity;grpc://x;0"))
        ),
        UNSAFE,
    ),
    Case("tensorflow-nested-function", _nested, UNSAFE, TENSORFLOW),
    Case("tensorflow-real-write", lambda folder: FIXTURES / "saved_model_writes_file.pb", UNSAFE, TENSORFLOW),
    Case(
        "tensorflow-save-elsewhere",
        saved_model(constant("n", "/srv/flag"), node("s", "SaveV2", "n", "n", "n")),
        UNSAFE,
        TENSORFLOW,
    ),
    Case("tensorflow-save-elsewhere-by-call", _saver_by_call, UNSAFE, TENSORFLOW),
    Case(
        "tensorflow-print-to-file",
        saved_model(INPUT, node("p", "PrintV2", "x", more=text_attribute("output_stream", b"file:///srv/flag"))),
        UNSAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-table-from-file",
        saved_model(
            node("t", "HashTableV2"), constant("n", "/etc/passwd"), node("i", "InitializeTableFromTextFileV2", "t", "n")
        ),
        UNSAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-asset-outside",
        saved_model(INPUT, more=_asset()),
        UNSAFE,
        "https://cwe.mitre.org/data/definitions/22.html",
    ),
    Case("tensorflow-constant-bomb", saved_model(_bomb()), UNSAFE, "https://cwe.mitre.org/data/definitions/789.html"),
    Case("tensorflow-custom-operation", saved_model(INPUT, node("y", "MyOwnOp", "x")), UNKNOWN, TENSORFLOW),
    Case("tensorflow-two-nodes", saved_model(INPUT, INPUT), UNKNOWN),
    Case(
        "tensorflow-operation-twice", saved_model(INPUT, node("y", "Identity", "x", more=field(2, "ReadFile"))), UNSAFE
    ),
    Case(
        "tensorflow-frozen",
        lambda folder: written(folder / "g.pb", graph(INPUT, node("y", "ReadFile", "x"))),
        UNSAFE,
        TENSORFLOW,
    ),
    Case("tensorflow-keras-lambda", saved_model(INPUT, more=keras_layer(LAMBDA)), UNSAFE, NVD + "CVE-2024-3660"),
    Case(
        "tensorflow-metadata-lambda",
        lambda folder: written(
            folder / "keras_metadata.pb",
            field(1, field(2, 1) + field(3, "root") + field(4, "_tf_keras_layer") + field(5, LAMBDA)),
        ),
        UNSAFE,
        NVD + "CVE-2024-3660",
    ),
    Case(
        "tensorflow-as-text",
        lambda folder: written(
            folder / "m.pbtxt",
            'saved_model_schema_version: 1\nmeta_graphs {\n  graph_def { node { name: "x" op: "ReadFile" } }\n}\n',
        ),
        UNKNOWN,
    ),
    Case("tensorflow-file-filled-in", _filled_in, UNKNOWN),
    Case("tflite-negative-tensor", tflite(inputs=(-2,)), UNSAFE, NVD + "CVE-2020-15211"),
    Case("tflite-tensor-beyond", tflite(inputs=(9,)), UNSAFE, NVD + "CVE-2020-15211"),
    Case("tflite-buffer-beyond", tflite(buffer=7), UNSAFE),
    Case("tflite-opcode-beyond", tflite(opcode=7), UNSAFE),
    Case("tflite-short-buffer", tflite(shape=(1 << 10,)), UNSAFE),
    Case("tflite-negative-shape", tflite(shape=(-5,)), UNSAFE),
    Case("tflite-shape-bomb", tflite(shape=(1 << 30, 1 << 30), buffer=0), UNSAFE),
    Case("tflite-recursion", tflite(code=118, calls=(0, 0)), UNSAFE, NVD + "CVE-2021-29591"),
    Case("tflite-recursion-of-two", tflite(code=119, calls=(0, 1), subgraphs=2), UNSAFE, NVD + "CVE-2021-29591"),
    Case("tflite-call-beyond", tflite(code=118, calls=(5, 5)), UNSAFE),
    Case(
        "tflite-flex-read",
        tflite(code=32, custom="FlexReadFile"),
        UNSAFE,
        "https://www.tensorflow.org/lite/guide/ops_select",
    ),
    Case("tflite-flex-hidden", tflite(code=32, custom="FlexAdd", options=b"\x08ReadFile\0"), UNSAFE),
    Case("tflite-flex", tflite(code=32, custom="FlexErf"), UNKNOWN),
    Case("tflite-custom", tflite(code=32, custom="MyOwnOp"), UNKNOWN),
    Case("tflite-data-beyond", tflite(elsewhere=(1 << 40, 8)), UNSAFE),
    Case(
        "tflite-slice-beyond", tflite(code=65, inputs=(0, 2, 3), constants=((1,), (1000,)), result=(1,)), UNKNOWN, OUT
    ),
    Case("tflite-input-left-out", tflite(inputs=(-1,)), UNSAFE, OUT),
    Case("tflite-read-before-written", tflite(inputs=(1,)), UNSAFE, OUT),
    Case("tflite-more-than-there-is-room-for", tflite(result=(1,)), UNKNOWN, OUT),
    Case(
        "tflite-reshaped-to-another-shape",
        tflite(code=22, inputs=(0, 2), constants=((1, 2),), shape=(2,), result=(2, 1)),
        UNKNOWN,
        OUT,
    ),
    Case(
        "tflite-texts",
        tflite(code=22, inputs=(0, 2), constants=((1,),), shape=(1,), kind=5, data=struct.pack("<3i", 1, 12, 1 << 20)),
        UNKNOWN,
        "https://cwe.mitre.org/data/definitions/125.html",
    ),
    Case("tflite-options-of-another-operator", tflite(table=5), UNKNOWN, OUT),
    Case("tflite-no-scale", tflite(code=0, inputs=(0, 0), kind=9, data=bytes(2)), UNKNOWN),
    Case("tflite-division", tflite(code=42, inputs=(0, 0), kind=2, data=struct.pack("<2i", -1 << 31, -1)), UNKNOWN),
    Case("tflite-many-dimensions", tflite(shape=(1,) * 9, data=bytes(4)), UNKNOWN),
    Case("tflite-much-memory", tflite(shape=((1 << 29) + 8,), buffer=0), UNKNOWN),
    Case("tflite-no-subgraph", tflite(subgraphs=0), UNKNOWN),
    Case("tflite-loop", lambda folder: written(folder / "m.tflite", (FIXTURES / "while.tflite").read_bytes()), UNKNOWN),
    Case(
        "tflite-cut",
        lambda folder: written(folder / "m.tflite", (FIXTURES / "dense.tflite").read_bytes()[:500]),
        UNKNOWN,
    ),
    Case("gguf-many-settings", gguf(counts=(0, 1 << 62)), UNSAFE, NVD + "CVE-2024-23605"),
    Case("gguf-many-tensors", gguf(counts=(1 << 62, 0)), UNSAFE, NVD + "CVE-2024-21836"),
    Case("gguf-long-text", gguf(struct.pack("<Q", 1 << 63)), UNSAFE, NVD + "CVE-2024-23496"),
    Case("gguf-long-array", gguf(_array_bomb()), UNSAFE, NVD + "CVE-2024-21825"),
    Case("gguf-nested-arrays", gguf(_nested_arrays()), UNSAFE),
    Case("gguf-many-dimensions", gguf(tensors=(tensor("x", (1,) * 9),), data=64), UNSAFE, NVD + "CVE-2024-21802"),
    Case(
        "gguf-overflowing-shape",
        gguf(tensors=(tensor("x", (1 << 40, 1 << 40)),), data=64),
        UNSAFE,
        NVD + "CVE-2024-21802",
    ),
    Case("gguf-overlap", gguf(tensors=(tensor("x", (8,)), tensor("y", (8,))), data=64), UNSAFE),
    Case("gguf-beyond", gguf(tensors=(tensor("x", (8,), 1 << 20),), data=64), UNSAFE),
    Case("gguf-two-settings", gguf(setting("a", "1"), setting("a", "2")), UNSAFE),
    Case("gguf-two-tensors", gguf(tensors=(tensor("x", (8,)), tensor("x", (8,), 32)), data=64), UNSAFE),
    Case("gguf-alignment", gguf(text("general.alignment") + struct.pack("<II", 4, 0)), UNSAFE),
    Case("gguf-alignment-of-another-type", gguf(text("general.alignment") + struct.pack("<IQ", 10, 32)), UNKNOWN),
    Case("gguf-unknown-type", gguf(tensors=(tensor("x", (8,), kind=99),), data=64), UNKNOWN),
    Case("gguf-version", lambda folder: written(folder / "m.gguf", b"GGUF" + struct.pack("<IQQ", 9, 0, 0)), UNKNOWN),
    Case(
        "gguf-cut",
        lambda folder: written(folder / "m.gguf", (FIXTURES / "tiny.gguf").read_bytes()[:200]),
        frozenset({"unsafe", "unknown"}),
    ),
    *(
        Case(f"gguf-template-{name}", template(code), UNSAFE, NVD + "CVE-2024-34359")
        for name, code in (
            ("globals", "{{ cycler.__init__.__globals__.os.popen('true').read() }}"),
            ("subclasses", "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}"),
            ("subscript", "{{ ''['__cl' 'ass__'] }}"),
            ("attribute-filter", "{{ '' | attr('\\x5f\\x5fclass\\x5f\\x5f') }}"),
            ("self", "{{ self._TemplateReference__context }}"),
            ("lipsum", "{{ lipsum['__globals__'] }}"),
            ("statement", "{% set x = namespace.__init__ %}"),
            ("open-ended", "{{ cycler.__init__"),
            ("joined", "{{ cycler[('_'~'_in')~('it_'~'_')] }}"),
            ("behind-quoted-end", "{{ '}}' ~ cycler[('_'~'_in') ~ x] }}"),
            ("in-quoted-comment", "{{ '{#' ~ cycler.__init__ ~ '#}' }}"),
            ("behind-raw", "{% raw %}{{ ' {% endraw %}{{ cycler['_''_init__'] }}"),
            ("mapped", "{{ [x] | map(attribute='_'~'_class_'~'_') | list }}"),
            ("mapped-attribute-filter", "{{ [x] | map('attr', y) | list }}"),
            ("repeated", "{{ x['_' * 2 ~ 'class'] }}"),
            ("joined-list", "{{ x[['_', '_class'] | join] }}"),
            ("frame", "{{ (x | map('upper'))['gi_frame']['f_builtins']['print']('x') }}"),
            ("every-second-letter", "{{ ''['x_x_xcxlxaxsxsx_x_'[1::2]] }}"),
        )
    ),
    *(
        Case(f"gguf-template-{name}", template(code), UNKNOWN, NVD + "CVE-2024-34359")
        for name, code in (
            ("formatted", "{{ x['%c' | format(95)] }}"),
            ("by-name", "{% set u = '%c' | format(95) %}{% set d = u ~ u %}{{ x[d] }}"),
            ("by-loop", "{% for k in ['%c' | format(95)] %}{{ x[k] }}{% endfor %}"),
            ("by-macro", "{% macro f(k) %}{{ x[k] }}{% endmacro %}{{ f('%c' | format(95)) }}"),
            ("by-output", "{% set k %}{{ '%c' | format(95) }}{% endset %}{{ x[k] }}"),
            ("by-namespace", "{% set ns = namespace(k='') %}{% set ns.k = '%c' % 95 %}{{ x[ns.k] }}"),
            ("by-list", "{% set l = [] %}{% if l.append('%c' % 95) %}{% endif %}{{ x[l[0]] }}"),
            ("unreadable", "{{ x[ }}"),
            ("by-step", "{% set k = 'x_x_xcxlxaxsxsx_x_'[1::2] %}{{ ''[k] }}"),
            ("by-step-of-element", "{% set s = ('x_x_xcx',) %}{% set k = s[0][1::2] %}{{ ''[k] }}"),
            ("turned", "{% set k = 'emarf_ig' | reverse %}{{ x[k] }}"),
            ("added-names", "{% set u = 'x_'[1] %}{% set c = 'class' %}{% set k = u+u+c+u+u %}{{ ''[k] }}"),
            (
                "added-letters",
                "{% set ns = namespace(k='') %}{% for c in 'x_x' %}{% set ns.k = ns.k + c %}{% endfor %}{{ x[ns.k] }}",
            ),
            ("name-in-other-letters", "{% set \uff4b = 'x_'[1] * 2 ~ 'class' %}{{ ''[k] }}"),
            ("loop-that-calls-itself", "{% for c in x recursive %}{{ ''[c] }}{{ loop(['x_x_x'[1::2]]) }}{% endfor %}"),
            ("more-arguments", "{% macro f() %}{{ ''[varargs[0]] }}{% endmacro %}{{ f('x_x_x'[1::2]) }}"),
            ("macro-by-another-name", "{% macro f(k) %}{{ ''[k] }}{% endmacro %}{% set g = f %}{{ g('x_x'[1::2]) }}"),
            (
                "namespace-by-another-name",
                "{% set ns = namespace() %}{% for a in [ns] %}{% set a.k = 'x_x'[1::2] %}{% endfor %}{{ ''[ns.k] }}",
            ),
            (
                "list-by-another-name",
                "{% set l = [] %}{% set m = l %}{% set q = m.append('x_x'[1::2]) %}{{ ''[l[0]] }}",
            ),
            ("element-before", "{% for c in ['x_x_x'[1::2], 'b'] %}{{ ''[loop.previtem] }}{% endfor %}"),
            (
                "element-before-by-subscript",
                "{% for c in ['x_x_x'[1::2], 'b'] %}{{ ''[loop['previtem']] }}{% endfor %}",
            ),
            ("macro-called-get", "{% macro get() %}__init__{% endmacro %}{% set n = get() %}{{ cycler[n] }}"),
            ("block-called-get", "{% block get %}__init__{% endblock %}{% set n = self.get() %}{{ cycler[n] }}"),
            ("special-tokens", "{{ cycler[bos_token][eos_token[0:11]][eos_token[11:]]('true') }}"),
            ("token-by-a-free-name", "{% for k in [] %}{% endfor %}{{ cycler[k] }}"),
            ("token-by-one-branch", "{% if messages %}{% set k = 1 %}{% endif %}{{ cycler[k] }}"),
            ("asked-by-message", "{{ cycler[messages[0].a][messages[0].b] }}"),
            ("loop-of-its-own", "{% set loop = namespace(index='x_x'[1::2]) %}{{ cycler[loop.index] }}"),
            ("range-of-its-own", "{% macro range() %}__init__{% endmacro %}{{ cycler[range()] }}"),
            ("call-of-what-is-looked-up", "{{ messages[0]['run']('true') }}"),
            ("sum-by-name", "{{ messages | sum('%c' % 95) }}"),
            ("text-to-a-width", "{{ '%09999999d' | format(1) }}{{ '%09999999d' % 1 }}"),
            ("many-rounds", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
            ("large-number", "{% set n = 99999999 %}{% for a in range(n) %}{% endfor %}"),
            ("deep-loops", "{% for a in messages %}" * 7 + "{% endfor %}" * 7),
            ("joined-to-itself", "{% set a = 'aa' %}{% set a = a ~ a %}"),
            ("power", "{{ 9 ** 9 ** 9 }}"),
            ("repeated-text", "{{ 'x' * 99999999 }}"),
            ("rounded", "{{ 1.5 | round(99999999, 'floor') }}"),
            ("filled-in", "{% set a = 'x' %}{{ (a ~ '{0.x}').format(x) }}"),
        )
    ),
    Case("gguf-template-include", template("{% include '/etc/passwd' %}"), UNKNOWN),
)
