"""Pickles in what carries them: numpy's and joblib's files, torch's old format, streams of several, junk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import zlib
from pathlib import Path

from corpus import NEVER_SAFE, UNSAFE, Case
from corpus.pickle_bytes import SHELL, Raw, Written, built, call, made, name, pickled, short, text, value, writes
from corpus.pickle_structures import dtype, storage, tensor

_NUMPY = "https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html"
_JOBLIB = "https://joblib.readthedocs.io/en/stable/persistence.html"
_PATHS = "https://arxiv.org/abs/2508.19774"
_STREAM = "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/serialization.py"
_CONFUSED = "https://cwe.mitre.org/data/definitions/436.html"
_BUFFERS = "https://nvd.nist.gov/vuln/detail/CVE-2026-24747"
_EXTENSION = "CVE-2025-1889"
_MAGIC = 0x1950A86A20F9469CFC6C

EVIL = pickled(call("os:system", SHELL), 2)
_GOOD = pickle.dumps({"weights": [1.0, 2.0]}, 2)


def npy(description: str, shape: tuple[int, ...] | str, data: bytes, version: int = 1) -> bytes:
    """A file of numpy; `description` stands in the header as it is, and so does a shape that is a text."""
    header = f"{{'descr': {description}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def npz(members: dict[str, bytes], *, compressed: bool = False) -> bytes:
    """An archive of arrays; the times in it are always the same."""
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for member, data in members.items():
            info = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            archive.writestr(info, data)
    return out.getvalue()


def wrapper(kind: Raw, shape: tuple[int, ...], padding: bytes | None = b"\x01\xff", **more: object) -> Raw:
    """joblib's stand-in for an array, with the padding that follows it."""
    state = {
        "subclass": name("numpy:ndarray"), "shape": shape, "order": "C", "dtype": kind, "allow_mmap": False,
        "numpy_array_alignment_bytes": None if padding is None else 16, **more,
    }  # fmt: skip
    return Raw(built(made("joblib.numpy_pickle:NumpyArrayWrapper"), state) + (padding or b""))


def stream(
    thing: bytes, keys: list[str] | bytes = b"", rest: bytes = b"", machine: bytes | None = None, magic: int = _MAGIC
) -> bytes:
    """A checkpoint in torch's format without zip."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    listed = keys if isinstance(keys, bytes) and keys else pickle.dumps(list(keys), 2)
    parts = (pickle.dumps(magic, 2), pickle.dumps(1001, 2), machine or pickle.dumps(facts, 2), thing, listed, rest)
    return b"".join(parts)


_STATE = pickled(Raw(b"}" + text("w") + tensor(Raw(storage(4)[:-2] + b"NtQ"), (4,), (1,)) + b"s"), 2)
_VIEWED = pickled(tensor(Raw(storage(4)[:-2] + text("v") + b"J\x08\0\0\0J\x08\0\0\0\x87tQ"), (1,), (1,)), 2)
_FLOATS = struct.pack("<q", 4) + bytes(16)
_HEAVY = 1 << 34
_JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(range(256)) * 4 + b"\xff\xd9"
_ONE = pickled(Raw(wrapper(dtype("f8"), (2,)) + bytes(16)))
_NOT_PADDED = Raw(wrapper(dtype("i1"), (len(EVIL) - 2,), None) + EVIL[2:])

_CODE = Raw(b"0" + call("os:system", SHELL))
_EXCHANGED = Raw(
    wrapper(dtype("i1"), (len(_CODE),), b"", read=name("sklearn.model_selection._search:GridSearchCV")) + _CODE
)

# What stands in the memo depends on who reads: an array of objects is a pickle of its own for joblib only.
_NAMED = Raw(text("os") + b"\x940" + text("system") + b"\x940" + text(SHELL) + b"\x940")
_LOOKED_UP = b"h\x00h\x01\x93h\x02\x85R"
_OTHERS = Raw(text("collections") + b"\x940" + text("OrderedDict") + b"\x940]\x940" + _LOOKED_UP)
_SHADOWED = Raw(_NAMED + _LOOKED_UP)
# One unpickler for several pickles keeps its memo: MEMOIZE counts on, and an index means what it meant before.
_KEPT = Raw(text("collections") + b"\x94" + text("OrderedDict") + b"\x94]\x94" + _LOOKED_UP)
_IN_THE_FIRST = Raw(pickle.dumps(_MAGIC, 2)[:-1] + wrapper(dtype("i1"), (5,), None))


def _hidden(code: bytes) -> bytes:
    """Joblib steps over the five bytes in front, others take them for the head of a text, which is dropped."""
    return _IN_THE_FIRST + b"X" + struct.pack("<I", len(code)) + code + b"00."


def _viewed(place: str, offset: int, length: int) -> Raw:
    return Raw(storage(4)[:-2] + text(place) + value(offset) + value(length) + b"\x87tQ")


def _folder(files: dict[str, bytes]) -> Written:
    def write(folder: Path) -> Path:
        inner = folder / "model"
        inner.mkdir()
        for file, data in files.items():
            (inner / file).write_bytes(data)
        return inner

    return write


FILES: dict[str, tuple[str, bytes, frozenset[str], str]] = {
    "npy-of-objects": ("a.npy", npy("'|O'", (1,), EVIL), UNSAFE, _NUMPY),
    "npy-of-objects-in-a-field": ("a.npy", npy("[('a', '<f8'), ('b', '|O')]", (1,), EVIL), UNSAFE, _NUMPY),
    "npy-of-objects-version-2": ("a.npy", npy("'|O'", (1,), EVIL, 2), UNSAFE, _NUMPY),
    "npy-of-objects-version-3": ("a.npy", npy("'|O'", (1,), EVIL, 3), UNSAFE, _NUMPY),
    "npy-that-is-a-pickle": ("a.npy", EVIL, UNSAFE, _NUMPY),
    "npy-behind-an-array": ("a.npy", npy("'<f8'", (1,), bytes(8)) + npy("'|O'", (1,), EVIL), UNSAFE, _NUMPY),
    "npy-with-a-pickle-behind": ("a.npy", npy("'<f8'", (1,), bytes(8)) + EVIL, UNSAFE, _NUMPY),
    "npy-header-with-a-call": ("a.npy", npy("__import__('os').system('touch flag')", (1,), b""), NEVER_SAFE, _NUMPY),
    "npy-header-nested": ("a.npy", npy("(" * 1000 + ")" * 1000, (1,), b""), NEVER_SAFE, _NUMPY),
    "npy-of-exabytes": ("a.npy", npy("'<f8'", (1 << 40, 1 << 20), bytes(8)), UNSAFE, _NUMPY),
    "npy-with-a-size-below-zero": ("a.npy", npy("'<f8'", (-1,), bytes(8)), NEVER_SAFE, _NUMPY),
    "npy-cut": ("a.npy", npy("'<f8'", (4,), bytes(8)), NEVER_SAFE, _NUMPY),
    "npy-of-an-unknown-version": ("a.npy", npy("'|O'", (1,), EVIL, 9), NEVER_SAFE, _NUMPY),
    "npz-of-objects": ("a.npz", npz({"w.npy": npy("'|O'", (1,), EVIL)}), UNSAFE, _NUMPY),
    "npz-of-objects-compressed": ("a.npz", npz({"w.npy": npy("'|O'", (1,), EVIL)}, compressed=True), UNSAFE, _NUMPY),
    "npz-with-a-pickle": ("a.npz", npz({"w.npy": npy("'<f8'", (1,), bytes(8)), "b": EVIL}), UNSAFE, _NUMPY),
    "npz-with-a-pickle-by-name": ("a.npz", npz({"w.npy": EVIL}), UNSAFE, _NUMPY),
    "joblib-behind-an-array": (
        "a.joblib", pickled(Raw(wrapper(dtype("f8"), (2,)) + bytes(16) + call("os:system", SHELL))), UNSAFE, _JOBLIB,
    ),
    "joblib-array-of-objects": ("a.joblib", pickled(Raw(wrapper(dtype("O8"), (1,), b"") + EVIL)), UNSAFE, _JOBLIB),
    "joblib-instructions-as-an-array": ("a.joblib", pickled(_NOT_PADDED), UNSAFE, _CONFUSED),
    "joblib-instructions-as-a-padding": (
        "a.joblib", pickled(Raw(wrapper(dtype("i1"), (0,), b"cos\nsystem\n" + text(SHELL) + b"\x85R." + b"\0" * 99))),
        UNSAFE, _CONFUSED,
    ),
    "joblib-array-longer-than-the-file": ("a.joblib", pickled(wrapper(dtype("f8"), (_HEAVY,))), NEVER_SAFE, _JOBLIB),
    "joblib-objects-that-may-be-mapped": (
        "a.joblib", pickled(Raw(wrapper(dtype("O8"), (1,), b"", allow_mmap=True) + _GOOD)), UNSAFE, _JOBLIB,
    ),
    "joblib-array-of-another-class": (
        "a.joblib", pickled(wrapper(dtype("f8"), (0,), subclass=name("os:system"))), UNSAFE, _JOBLIB,
    ),
    "joblib-array-whose-reader-is-exchanged": (
        "a.joblib", pickled(Raw(b"(" + wrapper(dtype("i1"), (4,)) + b"abcd" + _EXCHANGED + b"t")), UNSAFE, _JOBLIB,
    ),
    "joblib-array-of-objects-by-another-memo": (
        "a.joblib", pickled(Raw(_NAMED + wrapper(dtype("O8"), (1,), b"") + pickled(_OTHERS))), UNSAFE, _CONFUSED,
    ),
    "joblib-array-of-objects-that-ends-a-pickle": (
        "a.joblib", pickled(Raw(_OTHERS + b"0" + wrapper(dtype("O8"), (1,), b"") + pickled(b"]Na") + _SHADOWED)),
        UNSAFE, _CONFUSED,
    ),
    "joblib-old-wrapper-names-a-file": (
        "a.joblib",
        pickled(built(made("joblib.numpy_pickle:NDArrayWrapper"), {"filename": "../../secret.npy", "subclass": None})),
        UNSAFE, _JOBLIB,
    ),
    "joblib-zlib": ("a.joblib", zlib.compress(EVIL), UNSAFE, _JOBLIB),
    "joblib-gzip": ("a.joblib.gz", gzip.compress(EVIL, mtime=0), UNSAFE, _JOBLIB),
    "joblib-bz2": ("a.joblib.bz2", bz2.compress(EVIL), UNSAFE, _JOBLIB),
    "joblib-xz": ("a.joblib.xz", lzma.compress(EVIL), UNSAFE, _JOBLIB),
    "joblib-lzma": ("a.joblib.lzma", lzma.compress(EVIL, lzma.FORMAT_ALONE), UNSAFE, _JOBLIB),
    "second-pickle": ("a.pkl", _GOOD + EVIL, UNSAFE, _PATHS),
    "second-pickle-of-text": ("a.pkl", _GOOD + b"cos\nsystem\n(S'" + SHELL.encode() + b"'\ntR.", UNSAFE, _PATHS),
    "hundredth-pickle": ("a.pkl", _GOOD * 99 + EVIL, UNSAFE, _PATHS),
    "pickle-behind-a-joblib-array": ("a.pkl", _ONE + EVIL, UNSAFE, _PATHS),
    "pickle-behind-junk-without-its-protocol": (
        "a.bin",
        b"\0" * 100 + b"junk" + short("os") + b"\x94" + short("system") + b"\x94\x93" + text(SHELL) + b"\x85R.",
        UNSAFE, _PATHS,
    ),
    "pickle-behind-junk-and-an-array": (
        "a.bin", b"\0" * 100 + b"junk" + pickled(Raw(wrapper(dtype("i1"), (4,)) + b"abcd" + call("os:system", SHELL))),
        UNSAFE, _PATHS,
    ),
    "torch-stream-keys-of-two-types": (
        "a.pt", stream(pickled(Raw(tensor(Raw(storage(4)[:-2] + b"NtQ"), (4,), (1,))
            + tensor(Raw(storage(4, key=0)[:-2] + b"NtQ"), (4,), (1,)) + b"\x86"), 2), ["0"], _FLOATS),
        NEVER_SAFE, _BUFFERS,
    ),
    "pickle-behind-junk": ("a.bin", b"\0" * 100 + b"junk" + EVIL, UNSAFE, _PATHS),
    "pickle-of-text-behind-junk": ("a.bin", b"\xfe\xed" * 50 + b"cos\nsystem\n(S'x'\ntR.", UNSAFE, _PATHS),
    "pickle-behind-a-broken-one": ("a.pkl", b"\x80\x04\x8c\xff" + EVIL, UNSAFE, _PATHS),
    "pickle-behind-a-good-one-and-junk": ("a.pkl", _GOOD + b"\0" * 64 + EVIL, UNSAFE, _PATHS),
    "junk-behind-a-pickle": ("a.pkl", _GOOD + b"\xf0\xf1\xf2", NEVER_SAFE, _PATHS),
    "any-extension": ("model.safetensors", EVIL, UNSAFE, _EXTENSION),
    "text-extension": ("readme.txt", b"cos\nsystem\n(S'" + SHELL.encode() + b"'\ntR.", UNSAFE, _EXTENSION),
    "torch-stream-object": ("a.pt", stream(EVIL), UNSAFE, _STREAM),
    "torch-stream-machine": ("a.pt", stream(_GOOD, machine=EVIL), UNSAFE, _STREAM),
    "torch-stream-keys": ("a.pt", stream(_GOOD, EVIL), UNSAFE, _STREAM),
    "torch-stream-behind-the-storages": ("a.pt", stream(_STATE, ["0"], _FLOATS + EVIL), UNSAFE, _STREAM),
    "torch-stream-storage-shorter": (
        "a.pt", stream(_STATE, ["0"], struct.pack("<q", 2) + bytes(8)), UNSAFE, _BUFFERS,
    ),
    "torch-stream-storage-negative": ("a.pt", stream(_STATE, ["0"], struct.pack("<q", -1)), UNSAFE, _BUFFERS),
    "torch-stream-cut": ("a.pt", stream(_STATE, ["0"], _FLOATS[:-1]), NEVER_SAFE, _STREAM),
    "torch-stream-storage-that-nobody-uses": ("a.pt", stream(_STATE, ["0", "1"], _FLOATS * 2), UNSAFE, _BUFFERS),
    "torch-stream-storage-twice": ("a.pt", stream(_STATE, ["0", "0"], _FLOATS * 2), UNSAFE, _BUFFERS),
    "torch-stream-tensor-beyond-its-view": (
        "a.pt", stream(pickled(tensor(_viewed("v", 0, 1), (4,), (1,)), 2), ["0"], _FLOATS), UNSAFE, _BUFFERS,
    ),
    "torch-stream-view-of-two-sizes": (
        "a.pt",
        stream(
            pickled(Raw(tensor(_viewed("v", 0, 1), (1,), (1,)) + tensor(_viewed("v", 0, 4), (4,), (1,)) + b"\x86"), 2),
            ["0"], _FLOATS,
        ), UNSAFE, _BUFFERS,
    ),
    "torch-stream-view-named-like-a-storage": (
        "a.pt", stream(pickled(tensor(_viewed("0", 0, 1), (1,), (1,)), 2), ["0"], _FLOATS), UNSAFE, _BUFFERS,
    ),
    "torch-stream-that-joblib-reads": (
        "a.pt", _hidden(call("os:system", SHELL)) + stream(_STATE, ["0"], _FLOATS)[len(pickle.dumps(_MAGIC, 2)):],
        UNSAFE, _CONFUSED,
    ),
    "pickles-for-one-unpickler": (
        "a.pkl", pickled(Raw(text("os") + b"\x94" + text("system") + b"\x94" + text(SHELL) + b"\x94")) + pickled(_KEPT),
        UNSAFE, _CONFUSED,
    ),
    "pickles-for-one-unpickler-and-an-unknown-package": (
        "a.pkl",
        pickled(Raw(text("detectors") + b"\x94" + text("train") + b"\x94" + text(SHELL) + b"\x94")) + pickled(_KEPT),
        NEVER_SAFE, _CONFUSED,
    ),
    "joblib-array-of-objects-by-another-memo-of-an-unknown-package": (
        "a.joblib",
        pickled(Raw(text("detectors") + b"\x940" + text("train") + b"\x940" + text(SHELL) + b"\x940"
                    + wrapper(dtype("O8"), (1,), b"") + pickled(_OTHERS))), NEVER_SAFE, _CONFUSED,
    ),
    "joblib-array-of-objects-that-is-none": (
        "a.joblib", pickled(Raw(wrapper(dtype("O8"), (1,), b"") + pickled(name("builtins:set")))), UNSAFE, _JOBLIB,
    ),
    "npy-of-objects-that-is-none": ("a.npy", npy("'|O'", (1,), pickled(name("builtins:set"))), UNSAFE, _NUMPY),
    "npy-of-empty-texts": ("a.npy", npy("'|S0'", (1 << 50,), b""), UNSAFE, _NUMPY),
    "npy-with-a-size-of-python-2-in-version-3": ("a.npy", npy("'<f8'", "(1L,)", bytes(8), 3), NEVER_SAFE, _NUMPY),
    "npy-with-a-size-that-begins-with-nought": ("a.npy", npy("'<f8'", "(01,)", bytes(8)), NEVER_SAFE, _NUMPY),
    "npy-with-a-size-in-other-digits": ("a.npy", npy("'<f8'", "(\u0661,)", bytes(8), 3), NEVER_SAFE, _NUMPY),
    "npy-with-fields-of-one-name": (
        "a.npy", npy("[('a', '<f4'), ('a', '<f4')]", (1,), bytes(8)), NEVER_SAFE, _NUMPY,
    ),
    "torch-stream-view-outside": ("a.pt", stream(_VIEWED, ["0"], _FLOATS), NEVER_SAFE, _BUFFERS),
    "picture-with-a-pickle-behind": ("a.jpg", _JPEG + EVIL, NEVER_SAFE, _CONFUSED),
}  # fmt: skip

CASES: tuple[Case, ...] = (
    *(Case(key, writes(data, file), expected, reference) for key, (file, data, expected, reference) in FILES.items()),
    Case(
        "pickle-between-honest-files",
        _folder({"config.json": b"{}", "weights.npy": npy("'<f8'", (1,), bytes(8)), "tokens.model": EVIL}),
        UNSAFE,
        _EXTENSION,
    ),
)
