"""skops archives in which a node is written otherwise than skops writes it, so that something else is loaded."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from corpus import UNKNOWN, UNSAFE, Case
from corpus.fitted_models import by_skops, categories, hostile
from corpus.frameworks_trees import estimator, mapping, node, plain, skops, tree
from corpus.messages import FIXTURES, zipped

SCHEMA = "schema.json"
_INTERFACE = "https://numpy.org/doc/stable/reference/arrays.interface.html"
_OUT = "https://numpy.org/doc/stable/reference/ufuncs.html#optional-keyword-arguments"
_TREES = "https://github.com/scikit-learn/scikit-learn/pull/34558"


def _saved(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _items(loader: str, *content: dict[str, Any], **more: Any) -> dict[str, Any]:
    name = {"ListNode": "list", "TupleNode": "tuple", "SetNode": "set"}[loader]
    return node(loader, name, content=list(content), **more)


def _array(file: str = "a.npy", name: str = "ndarray") -> dict[str, Any]:
    return node("NdArrayNode", name, "numpy", type="numpy", file=file)


def _objects(*rows: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    held = _items("TupleNode", *(plain(size) for size in shape))
    return node("NdArrayNode", "ndarray", "numpy", type="json", content=list(rows), shape=held)


def _keyed(kind: dict[str, Any], key: str) -> dict[str, Any]:
    return node("DictNode", "dict", content={key: plain(1)}, key_types=_items("ListNode", kind))


def _address() -> dict[str, Any]:
    """What numpy takes for an array at an address."""
    return mapping(
        data=_items("TupleNode", plain(0x41414141), plain(False)),
        shape=_items("TupleNode", plain(4)),
        typestr=plain("<f8"),
        version=plain(3),
    )


def _partial(function: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    return node(
        "PartialNode",
        "partial",
        "functools",
        content={
            "func": node("FunctionNode", function, "numpy"),
            "args": _items("TupleNode", *arguments),
            "kwds": mapping(),
            "namespace": mapping(),
        },
    )


def _pointing() -> dict[str, Any]:
    return estimator(__array_interface__=_address())


def _bunch() -> dict[str, Any]:
    found = mapping(__array_interface__=_address())
    return found | {"__class__": "Bunch", "__module__": "sklearn.utils._bunch"}


def _isotonic(**attributes: Any) -> dict[str, Any]:
    return node("ObjectNode", "IsotonicRegression", "sklearn.isotonic", content=mapping(**attributes))


def _masked(data: dict[str, Any]) -> dict[str, Any]:
    return node("MaskedArrayNode", "MaskedArray", "numpy.ma", content={"data": data, "mask": plain(False)})


def _random(pos: int) -> dict[str, Any]:
    state = mapping(key=_array(), pos=plain(pos))
    held = mapping(bit_generator=plain("MT19937"), state=state, has_gauss=plain(0), gauss=plain(0.0))
    return node("RandomStateNode", "RandomState", "numpy.random.mtrand", content=held)


def _seeded(pool: int, entropy: Any = 1) -> dict[str, Any]:
    numbers = mapping(state=plain(1), inc=plain(1))
    bits = mapping(bit_generator=plain("PCG64"), state=numbers, has_uint32=plain(0), uinteger=plain(0))
    seed = entropy if isinstance(entropy, dict) else plain(entropy)
    seeds = mapping(entropy=seed, spawn_key=_items("TupleNode"), pool_size=plain(pool), n_children_spawned=plain(0))
    return node("RandomGeneratorNode", "Generator", "numpy.random", content={"bit_generator": bits, "seed_seq": seeds})


def _in_one_another() -> dict[str, Any]:
    """Lists that stand in one another: 4 ** 6 elements to numpy; with more, skops itself never comes back."""
    inner = _items("ListNode", *[plain(0)] * 4, __id__=1)
    for number in range(2, 7):
        cached = node("CachedNode", "list", __id__=number - 1)
        inner = _items("ListNode", inner, *[cached] * 3, __id__=number)
    return inner


def _shared(number: int, file: str = "a.npy") -> dict[str, Any]:
    """An array that many nodes take by its number."""
    return _array(file) | {"__id__": number}


def _all_masked(file: str) -> dict[str, Any]:
    parts = {"data": _shared(1), "mask": _shared(2, file)}
    masked = node("MaskedArrayNode", "MaskedArray", "numpy.ma", content=parts)
    return _items("ListNode", *[masked] * 300)


_LARGE = {"a.npy": _saved(np.zeros(1 << 19)), "b.npy": _saved(np.zeros(1, bool))}
_STRUCTURES = {"a.npy": _saved(np.zeros(4, "V0,u1")), "b.npy": _saved(np.zeros(1, bool))}
_WIDE = {"a.npy": _saved(np.zeros((1000, 1))), "b.npy": _saved(np.zeros((1, 1000)))}
_TWO = (_array("a.npy"), _array("b.npy"))


def _spelled(change: Callable[[str], str | bytes]) -> Callable[[Path], Path]:
    """An archive with one hostile node, its schema written otherwise."""
    root = _keyed(node("FunctionNode", "system", "posix"), "true") | {"protocol": 2}
    return lambda folder: zipped(folder / "model.skops", {SCHEMA: change(json.dumps(root))})


def _in_keras(folder: Path) -> Path:
    """A sound archive of Keras with the schema of another model."""
    with zipfile.ZipFile(FIXTURES / "functional.keras") as archive:
        members: dict[str, bytes | str] = {name: archive.read(name) for name in archive.namelist()}
    return zipped(folder / "model.keras", {**members, SCHEMA: json.dumps(estimator() | {"protocol": 2})})


def _flags_as_text(folder: Path) -> Path:
    """Flags of columns that numpy makes a text of, whose size is 1 however long it is."""
    with zipfile.ZipFile(by_skops(categories)(folder)) as archive:
        members: dict[str, bytes | str] = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members[SCHEMA])
    bins = schema["content"]["content"]["_bin_mapper"]["content"]["content"]
    bins["is_categorical_"] |= {"__class__": "str_"}
    return zipped(folder / "model.skops", {**members, SCHEMA: json.dumps(schema)})


SKOPS_CASES = (
    Case("skops-in-keras", _in_keras, UNSAFE, "https://cwe.mitre.org/data/definitions/436.html"),
    *(
        Case(f"skops-schema-{name}", _spelled(change), UNSAFE)
        for name, change in (
            ("behind-space", lambda text: " " * 70_000 + text),
            ("behind-text", lambda text: '{"a": "' + "x" * 70_000 + '", ' + text[1:]),
            ("with-escapes", lambda text: text.replace("__", "\\u005f_")),
            ("in-utf-16", lambda text: text.encode("utf-16")),
            ("in-utf-32", lambda text: text.encode("utf-32")),
        )
    ),
    Case(
        "skops-function-with-another-name",
        skops(_keyed(node("FunctionNode", "system", "posix",
                          content={"module_path": "numpy", "function": "log1p"}), "true")),
        UNSAFE,
    ),
    Case("skops-keys-made-by-a-call", skops(_keyed(_partial("add", *_TWO), "x"), **_WIDE), UNSAFE),
    Case("skops-address-in-an-array", skops(_objects(_items("ListNode", _pointing()), shape=(1, 1))), UNSAFE,
         _INTERFACE),
    Case("skops-address-as-masked-array", skops(_masked(_pointing())), UNSAFE, _INTERFACE),
    Case("skops-address-in-a-bunch", skops(_masked(_bunch())), UNSAFE, _INTERFACE),
    Case(
        "skops-loss-that-is-a-function",
        skops(node("LossNode", "add", "numpy", content=mapping(),
                   __reduce__={"args": _items("TupleNode", *_TWO)}), **_WIDE),
        UNSAFE,
    ),
    Case("skops-loss-that-is-a-tree",
         skops(node("LossNode", "Tree", "sklearn.tree._tree", content=mapping(),
                    __reduce__={"args": _items("TupleNode", plain(1), _array(), plain(1))}), **_WIDE),
         UNSAFE),
    Case(
        "skops-isotonic-call",
        skops(_isotonic(X_thresholds_=_TWO[0], y_thresholds_=_TWO[1], _build_f=_partial("add")), **_WIDE),
        UNSAFE,
    ),
    Case("skops-isotonic-thresholds", skops(_isotonic(X_thresholds_=mapping(), y_thresholds_=mapping())), UNKNOWN),
    Case("skops-lists-in-one-another", skops(_objects(_in_one_another(), shape=(1, 4))), UNKNOWN),
    Case("skops-number-alone", skops(_items("ListNode", plain(1) | {"__id__": 7}, {"__id__": 7})), UNKNOWN),
    Case("skops-number-that-is-none", skops(plain(1) | {"__id__": [1]}), UNKNOWN),
    Case("skops-one-member-for-many", skops(_items("ListNode", *[_array()] * 400),
                                            **{"a.npy": _saved(np.zeros(1 << 16))}), UNKNOWN),
    Case("skops-member-that-is-no-array", skops(_array(), **{"a.npy": b"some words"}), UNKNOWN),
    Case("skops-array-as-bytes", skops(_array(name="void"), **_WIDE), UNSAFE),
    Case("skops-random-position", skops(_random(10**9), **{"a.npy": _saved(np.zeros(624, np.uint32))}), UNKNOWN),
    Case("skops-random-pool", skops(_seeded(1 << 31)), UNKNOWN),
    Case("skops-seed-of-text", skops(_seeded(4, _items("ListNode", plain("0x" + "f" * 99)))), UNKNOWN),
    Case("skops-seed-of-an-array", skops(_seeded(4, _array()), **_WIDE), UNKNOWN),
    Case("skops-one-array-in-many-masked", skops(_all_masked("b.npy"), **_LARGE), UNKNOWN),
    Case("skops-partial-call-of-an-array", skops(_partial("modf", _array()), **_WIDE), UNKNOWN, _OUT),
    Case("skops-array-to-write-into", skops(mapping(out=_array()), **_WIDE), UNKNOWN, _OUT),
    Case("skops-arrays-to-write-into", skops(mapping(out=_items("TupleNode", _array())), **_WIDE), UNKNOWN, _OUT),
    Case("skops-flags-as-text", _flags_as_text, UNKNOWN, _TREES),
    Case("skops-masked-structures", skops(node("MaskedArrayNode", "MaskedArray", "numpy.ma",
                                               content={"data": _array(), "mask": _array("b.npy")}), **_STRUCTURES),
         UNKNOWN),
    Case("skops-one-array-in-many-curves",
         skops(_items("ListNode", *[_isotonic(X_thresholds_=_shared(1), y_thresholds_=_shared(1))] * 50), **_LARGE),
         UNKNOWN),
    Case("skops-scalar-of-an-array", skops(_array(name="clongdouble"), **_LARGE), UNKNOWN),
    Case("skops-function-for-older-loaders",
         skops(node("FunctionNode", "log1p", "numpy", content={"module_path": "posix", "function": "system"})),
         UNKNOWN),
    Case("skops-more-keys", skops(plain(1) | {"file": "a.npy"}), UNKNOWN),
    Case("skops-array-number-that-is-a-list", skops(_array() | {"__id__": [1]}, **_WIDE), UNKNOWN),
    Case("skops-sparse", skops(node("SparseMatrixNode", "csr_matrix", "scipy.sparse._csr", type="scipy",
                                    file="a.npy"), **_WIDE), UNKNOWN),
    Case("skops-set-of-one-hash", skops(_items("SetNode", *(plain(number * ((1 << 61) - 1)) for number in range(9)))),
         UNKNOWN),
    Case("skops-value-that-is-a-list", skops(node("JsonNode", "str", content="[[[1]]]")), UNKNOWN),
    Case("skops-state-that-is-no-dictionary", skops(estimator() | {"content": _items("TupleNode")}), UNKNOWN),
    Case("skops-version-that-is-no-text", skops(estimator(_sklearn_version=estimator())), UNKNOWN),
    Case("skops-tree-fields-exchanged", tree((1, 2), exchanged=True), UNSAFE, _TREES),
    Case("skops-tree-two-parents", tree((1, 1)), UNSAFE, _TREES),
    Case("skops-tree-without-nodes", tree((1, 2), count=0), UNSAFE, _TREES),
    Case("skops-tree-depth", tree((1, 2), depth=0), UNSAFE, _TREES),
    Case("skops-tree-deeper-than-it-has-nodes", tree((1, 2), depth=1 << 62), UNSAFE, _TREES),
    Case("skops-tree-without-values", tree((1, 2), classes=0), UNSAFE, _TREES),
    Case("skops-tree-longer-than-its-values", tree((1, 2), outputs=2), UNSAFE, _TREES),
    *hostile(by_skops, "skops-"),
)  # fmt: skip
