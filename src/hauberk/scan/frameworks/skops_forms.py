"""The form of each node of a skops schema: exactly the nodes inside it that skops writes there.

skops makes of a node whatever its children turn out to be. A dictionary calls the types of its keys, an estimator in an
array is asked by numpy for an address in memory, a tree takes the table that another node stands for. So every child
must be a node, written out, of the kind that belongs there; then what is written is what is loaded.

Sources: skops 0.16 `io/_general.py`, `io/_numpy.py`, `io/_sklearn.py`; scikit-learn 1.9 `isotonic.py`; numpy 2.4
`random/bit_generator.pyx`, `random/_mt19937.pyx`, `random/_philox.pyx`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from hauberk.scan.frameworks.skops_names import GENERATORS, ISOTONIC, KEY_TYPES, PREDICTOR
from hauberk.scan.pickles.generators import LENGTHS
from hauberk.scan.report import shown

Node = dict[str, Any]

_WRITTEN = "out"
_WRITABLE = frozenset({"NdArrayNode", "MaskedArrayNode", "TupleNode"})  # numpy takes nothing else for it
_CONSTANTS = frozenset({"JsonNode", "TypeNode", "FunctionNode"})
_LONGEST_VERSION = 64
_MOST_DIMENSIONS = 32
_HASHED_APART = (1 << 61) - 1  # numbers below have hashes of their own
_POOL = 4  # of numpy's `SeedSequence`
_LARGEST_SEED = (1 << 1024) - 1
_EVERYWHERE = frozenset(["__class__", "__module__", "__loader__", "__id__", "protocol", "_skops_version"])


class FormError(Exception):
    """A node that skops does not write so.

    Attributes:
        special: It sets what is asked or called while the file is loaded.
    """

    def __init__(self, what: str, *, special: bool = False) -> None:
        super().__init__(what)
        self.special = special


def check_form(node: Node, loader: str, full: str) -> None:
    """Hold the children of a node against what its loader makes of them.

    Args:
        node: Of the schema.
        loader: Its kind.
        full: The module and name of its class.

    Raises:
        FormError: They are others than skops writes.
    """
    if more := node.keys() - _EVERYWHERE - _KEYS[loader]:
        raise FormError(f"with {shown(min(more))}")
    if loader == "ObjectNode":
        _object(node, full)
    elif (check := _FORMS.get(loader)) is not None:
        check(node)


def plain_value(node: Any) -> bool | int | float | str | None:
    """What a `JsonNode` holds: one plain value.

    Raises:
        FormError: It is no such node, or holds more.
    """
    content = _kind(node, "JsonNode").get("content")
    try:
        value = json.loads(content) if isinstance(content, str) else ()
    except (ValueError, RecursionError):
        value = ()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise FormError("a plain value that is none")


def natural(node: Any, most: int = (1 << 63) - 1) -> int:
    """A `JsonNode` of a whole number from 0 on.

    Raises:
        FormError: It is another node, or beyond `most`.
    """
    value = plain_value(node)
    if type(value) is not int or not 0 <= value <= most:
        raise FormError(f"{shown(str(value))} in place of a whole number from 0 to {most}")
    return value


def attributes(node: Any) -> dict[str, Node]:
    """A dictionary of texts, as states are.

    Raises:
        FormError: It is another node, or a key is special: numpy asks for `__array_interface__`, Python for others.
    """
    found = _kind(node, "DictNode", "dict")
    _dictionary(found)
    if any(each["__class__"] != "str" for each in found["key_types"]["content"]):
        raise FormError("names that are no texts")
    content: dict[str, Node] = found["content"]
    _plain_names(content)
    return content


def _plain_names(names: Iterable[str]) -> None:
    for name in names:
        if name.startswith("__"):
            raise FormError(f"sets {shown(name)}", special=True)


def _kind(value: Any, loader: str, name: str = "") -> Node:
    """A node of one kind."""
    if not isinstance(value, dict) or value.get("__loader__") != loader or name not in ("", value.get("__class__")):
        raise FormError(f"no {name or loader} where skops writes one")
    return value


def _array(value: Any) -> Node:
    """An array of numbers in a member."""
    node = _kind(value, "NdArrayNode", "ndarray")
    if node.get("type") != "numpy":
        raise FormError("an array of objects where skops writes one of numbers")
    return node


def _items(node: Any) -> list[Node]:
    """What stands in a list, a set or a tuple."""
    content = node.get("content") if isinstance(node, dict) else None
    if not isinstance(content, list) or not all(isinstance(each, dict) and "__loader__" in each for each in content):
        raise FormError("a list of anything but nodes")
    return content


def _parts(node: Node, *names: str) -> list[Any]:
    content = node.get("content")
    if not isinstance(content, dict) or set(content) - {*names} or names[0] not in content:
        raise FormError("parts that skops does not write")
    return [content.get(name) for name in names]


def _dictionary(node: Node) -> None:
    """Keys are made by calling their types with texts."""
    content, types = node.get("content"), _items(_kind(node.get("key_types"), "ListNode", "list"))
    if not isinstance(content, dict) or len(content) != len(types):
        raise FormError("a dictionary without a type for each key")
    if not all(isinstance(each, dict) and "__loader__" in each for each in content.values()):
        raise FormError("a dictionary of anything but nodes")
    for key, kind in zip(content, types, strict=True):
        name = f"{kind.get('__module__')}.{kind.get('__class__')}"
        if kind["__loader__"] != "TypeNode" or name not in KEY_TYPES:
            raise FormError(f"keys made by {shown(name)}", special=True)
        if name not in {"builtins.str", "numpy.str_"}:
            _hashed_apart(key)
    if content.get(_WRITTEN, {}).get("__loader__") in _WRITABLE:
        raise FormError(f"{_WRITTEN}, which functions of numpy write into")
    if node.get("__class__") == "Bunch":
        _plain_names(content)


def _hashed_apart(value: Any) -> None:
    """Numbers far out share their hashes as their author likes, and take for ever to tell apart."""
    try:
        apart = abs(float(value)) < _HASHED_APART
    except (ValueError, OverflowError):
        apart = False
    if not apart:
        raise FormError("a key that is no number, or too large for one of a set")


def _set(node: Node) -> None:
    for each in _items(node):
        value = plain_value(each)
        if isinstance(value, int | float):
            _hashed_apart(value)


def _json_array(node: Node) -> None:
    """Lists in lists are dimensions to numpy, which asks what lies in them whether it is an array."""
    if node.get("type") == "numpy":
        return
    if node.get("type") != "json" or node.get("__class__") != "ndarray":
        raise FormError("an array of another kind")
    shape = [natural(each) for each in _items(_kind(node.get("shape"), "TupleNode"))]
    rows = _items(node)
    if not 1 <= len(shape) <= _MOST_DIMENSIONS or len(rows) != shape[0]:
        raise FormError("an array of objects of another shape")
    for size in shape[1:]:
        inner = [_items(_kind(each, "ListNode", "list")) for each in rows]
        if any(len(each) != size for each in inner):
            raise FormError("an array of objects of another shape")
        rows = [each for row in inner for each in row]
    if len(shape) > 1:
        for each in rows:
            if each["__loader__"] != "ObjectNode" or each.get("__module__") != "sklearn.tree._classes":
                plain_value(each)


def _default_dict(node: Node) -> None:
    main, factory = _parts(node, "main", "default_factory")
    attributes(main)
    if not isinstance(factory, dict) or factory.get("__loader__") != "TypeNode":
        plain_value(factory)


def _slice(node: Node) -> None:
    for each in _parts(node, "start", "stop", "step"):
        if each is not None and type(each) is not int:
            raise FormError("a slice of anything but numbers")


def _partial(node: Node) -> None:
    func, args, kwds, namespace = _parts(node, "func", "args", "kwds", "namespace")
    _kind(func, "FunctionNode")
    if any(each["__loader__"] not in _CONSTANTS for each in _items(_kind(args, "TupleNode"))):
        raise FormError("a partial call with arrays, which functions of numpy may write into")
    attributes(kwds)
    if not isinstance(namespace, dict) or namespace.get("__loader__") != "JsonNode":
        attributes(namespace)
    elif plain_value(namespace) is not None:
        raise FormError("attributes that are none")


def _masked(node: Node) -> None:
    for each in _parts(node, "data", "mask"):
        if _kind(each, "NdArrayNode").get("type") != "numpy":
            raise FormError("a masked array of objects")


def _random_state(node: Node) -> None:
    state = attributes(node.get("content"))
    if plain_value(state.get("bit_generator")) != "MT19937":
        raise FormError("bits of a random state that are others than numpy's")
    _positions(state)


def _generator(node: Node) -> None:
    bits, seeds = _parts(node, "bit_generator", "seed_seq")
    state = attributes(bits)
    if plain_value(state.get("bit_generator")) not in GENERATORS:
        raise FormError("bits of a random generator that is not numpy's", special=True)
    _positions(state)
    if seeds is None:  # protocol 1
        return
    seeded = attributes(seeds)
    natural(seeded.get("pool_size"), _POOL)
    for name in seeded.keys() - {"pool_size"}:
        if name not in {"entropy", "spawn_key", "n_children_spawned"}:
            raise FormError(f"a seed's {shown(name)}")
        _seed(seeded[name])


def _seed(node: Node) -> None:
    """Numbers; numpy turns texts into numbers, too, in a time that grows with the square of their length."""
    if node["__loader__"] in {"ListNode", "TupleNode"}:
        for each in _items(node):
            natural(each, _LARGEST_SEED)
    elif node["__loader__"] == "NdArrayNode" and node.get("__class__") != "ndarray":
        return  # a number of numpy's own
    elif node.get("content") != "null":
        natural(node, _LARGEST_SEED)


def _positions(state: dict[str, Node], levels: int = 1) -> None:
    """A generator's tables are read from positions that numpy believes."""
    for name, each in state.items():
        if name in LENGTHS:
            natural(each, LENGTHS[name])
        elif each["__loader__"] == "DictNode" and levels:
            _positions(attributes(each), levels - 1)
        elif each["__loader__"] == "NdArrayNode":
            _json_array(each)
        else:
            plain_value(each)


def _reduced(node: Node) -> None:
    for each in _items(_kind(node.get("content"), "TupleNode")):
        if each["__loader__"] not in {"JsonNode", "BytesNode", "ConstructorFromReduceNode"}:
            raise FormError("an argument of another kind than dates have")


def _object(node: Node, full: str) -> None:
    """Attributes by name; what takes its state in another way is judged by its name."""
    content = node.get("content")
    if content is None:
        return
    if isinstance(content, dict) and content.get("__loader__") == "JsonNode" and plain_value(content) is None:
        return
    state = attributes(content)
    if "_sklearn_version" in state:  # put into a warning, however large
        text = plain_value(state["_sklearn_version"])
        if not isinstance(text, str) or len(text) > _LONGEST_VERSION:
            raise FormError("a version that is no text")
    if full == PREDICTOR:
        _array(state.get("nodes"))
    elif full == ISOTONIC:
        _isotonic(state)


def _isotonic(state: dict[str, Node]) -> None:
    """It makes a function of two arrays as soon as it has its state."""
    if "_build_f" in state:
        raise FormError("sets _build_f, which is called next", special=True)
    for name in ("X_thresholds_", "y_thresholds_"):
        if name in state:
            _array(state[name])


def _constructor(node: Node) -> list[Node]:
    reduced = node.get("__reduce__")
    return _items(_kind(reduced.get("args") if isinstance(reduced, dict) else None, "TupleNode"))


def _loss(node: Node) -> None:
    for each in _constructor(node):
        if not isinstance(value := plain_value(each), int | float) or not math.isfinite(value):
            raise FormError("a loss of anything but numbers")
    content = node.get("content")
    if not isinstance(content, dict) or (content.get("__loader__"), content.get("content")) not in _NO_STATE:
        raise FormError("a loss with a state")


def _tree(node: Node) -> None:
    match _constructor(node):
        case [features, classes, outputs]:
            natural(features)
            _array(classes)
            natural(outputs, 1 << 31)
        case _:
            raise FormError("a tree of other figures")
    state = attributes(node.get("content"))
    if state.keys() != {"max_depth", "node_count", "nodes", "values"}:
        raise FormError("a tree of other parts")
    natural(state["max_depth"])
    natural(state["node_count"])
    _array(state["nodes"])
    _array(state["values"])


def _dtype(node: Node) -> None:
    _array(node.get("content"))


def _plain(node: Node) -> None:
    plain_value(node)


def _list(node: Node) -> None:
    _items(node)


_NO_STATE: tuple[tuple[str, object], ...] = (("DictNode", {}), ("TupleNode", []))
_OF_CONTENT = (
    "DefaultDictNode", "ListNode", "TupleNode", "SetNode", "SliceNode", "PartialNode", "MaskedArrayNode", "DTypeNode",
    "ObjectNode", "RandomStateNode", "RandomGeneratorNode", "ConstructorFromReduceNode", "FunctionNode",
)  # fmt: skip
_KEYS: dict[str, frozenset[str]] = {
    "JsonNode": frozenset(["content", "is_json"]),
    "DictNode": frozenset(["content", "key_types"]),
    "BytesNode": frozenset(["file"]),
    "BytearrayNode": frozenset(["file"]),
    "TypeNode": frozenset(),
    "NdArrayNode": frozenset(["type", "file", "content", "shape"]),
    "LossNode": frozenset(["content", "__reduce__"]),
    "TreeNode": frozenset(["content", "__reduce__"]),
    **dict.fromkeys(_OF_CONTENT, frozenset(["content"])),
}
"""What each kind of node holds beside its name: what no loader reads of one version, another one may."""
_FORMS: dict[str, Callable[[Node], None]] = {
    "JsonNode": _plain,
    "DictNode": _dictionary,
    "DefaultDictNode": _default_dict,
    "ListNode": _list,
    "TupleNode": _list,
    "SetNode": _set,
    "SliceNode": _slice,
    "PartialNode": _partial,
    "NdArrayNode": _json_array,
    "MaskedArrayNode": _masked,
    "DTypeNode": _dtype,
    "RandomStateNode": _random_state,
    "RandomGeneratorNode": _generator,
    "ConstructorFromReduceNode": _reduced,
    "LossNode": _loss,
    "TreeNode": _tree,
}
