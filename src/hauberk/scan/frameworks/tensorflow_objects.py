"""What a SavedModel keeps beside its graph: objects, and which of them its functions are given when they are called.

The loader of TensorFlow 2 calls functions that no node of the graph calls, some of them while it loads, and hands them
objects of this list: a table, an asset, but also a constant of the graph.
Definitions: `saved_object_graph.proto` and `struct.proto` of
https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core/protobuf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hauberk.protobuf import VARINT, walk
from hauberk.scan.content import CutError
from hauberk.scan.frameworks.tensorflow_graph import REPEATED, GraphReader

_USER, _ASSET, _FUNCTION, _BARE, _CONSTANT, _RESOURCE, _CAPTURED = 4, 5, 6, 8, 9, 10, 12
_KINDS = frozenset(range(4, _CAPTURED + 1)) - {11}
_SPECIFIED = {_FUNCTION: 2, _BARE: 4}
_CHILDREN, _SAVED_BY, _DEPENDENCIES = 1, 11, 15
_DICTIONARY, _NAMED, _BOUNDED, _TENSORS = 53, 54, 35, (55, 56)
_NESTED = {34: 2, 51: 1, 52: 1, _DICTIONARY: 1, _NAMED: 2}
"""Values that hold values, and in which field: types, lists, tuples, dictionaries, named tuples."""
_PAIRS = (_DICTIONARY, _NAMED)
_DEEPEST = 64
_OF_RESOURCE = "_create_resource _initialize _destroy_resource _resource_handle _resource_type _destruction_context"
_OF_ALL = (
    "_add_trackable_child _add_variable_with_custom_getter _checkpoint_adapter _checkpoint_dependencies"
    " _copy_trackable_to_cpu _deferred_dependencies _delete_tracking _deserialization_dependencies"
    " _deserialize_from_proto _export_to_saved_model_graph _gather_saveables_for_checkpoint"
    " _handle_deferred_dependencies _lookup_dependency _maybe_initialize_trackable _name_based_attribute_restore"
    " _name_based_restores _no_dependency _object_identifier _preload_simple_restoration _restore_from_tensors"
    " _serialize_to_proto _serialize_to_tensors _setattr_tracking _track_trackable _trackable_children"
    " _unconditional_checkpoint_dependencies _unconditional_dependency_names _update_uid"
)
_EARLY = frozenset(name.encode() for name in f"{_OF_RESOURCE} {_OF_ALL}".split(" "))
"""Attributes of objects that the loader makes, by which it calls them; a child of the name takes their place.

From `tensorflow.python.trackable` of TensorFlow 2.21 (`dir` of its `AutoTrackable` and `RestoredResource`).
"""
_PART_OF_FUNCTION = re.compile(rb"(?:trace|capture)_\d+")
_OBJECT_REPEATED = frozenset({_CHILDREN, 3, _SAVED_BY, _DEPENDENCIES})


@dataclass
class Objects:
    """Objects of a SavedModel.

    Attributes:
        kinds: Of each object in its order: the number of the field that says what it is, 0 where none does.
        constants: Names of the nodes that objects stand for, by the number of the object.
        bound: Which objects each function is handed as its last arguments, by the name of the function.
        metadata: What layers of Keras keep.
        named: Names of the functions that an object calls, by the number of the object.
        early: Numbers of objects that the loader calls itself: they make tables, fill them and take them away, save
            and restore.
        children: Names of what belongs to an object, by its number.
    """

    kinds: list[int] = field(default_factory=list)
    constants: dict[int, str] = field(default_factory=dict)
    bound: dict[str, list[int]] = field(default_factory=dict)
    metadata: list[bytes] = field(default_factory=list)
    named: dict[int, list[str]] = field(default_factory=dict)
    early: set[int] = field(default_factory=set)
    children: dict[int, set[bytes]] = field(default_factory=dict)

    def first(self) -> set[str]:
        """Names of the functions that run while the model is loaded, or as soon as it is let go."""
        return {name for number in self.early for name in self.named.get(number, ())}

    def is_asset(self, number: int) -> bool:
        """Whether an object is a file of the folder of assets."""
        return 0 <= number < len(self.kinds) and self.kinds[number] == _ASSET


def read_objects(reader: GraphReader, message: Any) -> Objects:
    """Follow a `SavedObjectGraph`.

    Raises:
        CutError: It is nested too deeply.
        RefusedModelError: It is cut short.
    """
    objects = Objects()
    for number, value in reader.walk(message, "list of objects", frozenset({1, 2}), REPEATED):
        if number == 1:
            _object(reader, value, objects)
        else:
            _function(reader, value, objects)
    reader.strange.update(_oddities(objects))
    return objects


def _oddities(objects: Objects) -> Iterator[str]:
    """What no SavedModel of TensorFlow has, and what would make the loader call more than is read here."""
    count, kinds = len(objects.kinds), objects.kinds
    if any(number >= count or kinds[number] not in _SPECIFIED for number in objects.early):
        yield "something else in place of a function that the loader calls"
    for number, names in objects.children.items():
        if kinds[number] in _SPECIFIED and not all(map(_PART_OF_FUNCTION.fullmatch, names)):
            yield "a function with attributes"
        elif kinds[number] not in {*_SPECIFIED, _USER, _RESOURCE}:
            yield "a value with attributes"


def _object(reader: GraphReader, message: Any, objects: Objects) -> None:
    number = len(objects.kinds)
    objects.kinds.append(0)
    for part, value in reader.walk(message, "object", frozenset(range(1, 16)), _OBJECT_REPEATED):
        if part in {_CHILDREN, _DEPENDENCIES}:
            name, child = _child(reader, value)
            objects.children.setdefault(number, set()).add(name)
            objects.early |= {child} if name in _EARLY else set()
        elif part == _SAVED_BY:
            objects.early.update(_saved_by(reader, value))
        elif part in _KINDS:
            if objects.kinds[number]:
                reader.strange.add("an object of two kinds")
            objects.kinds[number] = part
            _kind(reader, value, number, objects)


def _kind(reader: GraphReader, message: Any, number: int, objects: Objects) -> None:
    """What an object is."""
    kind = objects.kinds[number]
    if kind == _USER:
        objects.metadata += [reader.text(text) for text in _parts(reader, message, {1, 2, 3}, 3)]
    elif kind == _CONSTANT:
        objects.constants.update((number, reader.name(text)) for text in _parts(reader, message, {1}, 1))
    elif kind in _SPECIFIED:
        objects.named[number] = [reader.name(name) for name in _parts(reader, message, {1, 2, 3, 4}, 1)]
        for specification in _parts(reader, message, {1, 2, 3, 4}, _SPECIFIED[kind]):
            for wanted in (1, 5):
                for inner in _parts(reader, specification, {1, 2, 5, 6}, wanted):
                    _structure(reader, inner, 0)


def _child(reader: GraphReader, message: Any) -> tuple[bytes, int]:
    """Name and number of an object that belongs to another."""
    number, name = 0, b""
    for part, value in reader.walk(message, "child", frozenset({1, 2})):
        if part == 1 and isinstance(value, int):
            number = value
        elif part == 2:
            name = reader.text(value)
    return name, number


def _saved_by(reader: GraphReader, message: Any) -> Iterator[int]:
    """Numbers of the functions that save and restore a part of an object (`SaveableObject`, by name)."""
    for pair in _parts(reader, message, {1, 2}, 2):
        fields = reader.walk(pair, "way to save", frozenset({2, 3}))
        numbers = {part: value for part, value in fields if isinstance(value, int)}
        yield from (numbers.get(part, 0) for part in (2, 3))


def _parts(reader: GraphReader, message: Any, known: set[int], wanted: int) -> Iterator[Any]:
    """Fields of one number."""
    fields = reader.walk(message, "part of an object", frozenset(known), REPEATED)
    return (value for number, value in fields if number == wanted)


def _function(reader: GraphReader, message: Any, objects: Objects) -> None:
    name, bound = "", []
    for part, value in reader.walk(message, "function by name", frozenset({1, 2})):
        if part == 1:
            name = reader.name(value)
            continue
        for piece, inner in reader.walk(value, "function", frozenset({2, 3, 4}), frozenset({2})):
            if piece == 2:
                bound += [inner] if isinstance(inner, int) else _packed(reader.text(inner))
            else:
                _structure(reader, inner, 0)
    if name in objects.bound:
        reader.strange.add("a function that is listed twice")
    objects.bound[name] = bound


def _packed(data: bytes) -> list[int]:
    """Numbers that stand one behind another."""
    message = b"".join(b"\x08" + each for each in _numbers(data))
    return [value for _, wire, value, _ in walk(memoryview(message)) if wire == VARINT]


def _numbers(data: bytes) -> list[bytes]:
    found, start = [], 0
    for at, byte in enumerate(data):
        if byte < 0x80:
            found.append(data[start : at + 1])
            start = at + 1
    if start != len(data):
        raise CutError("a list of numbers that is cut short")
    return found


def _structure(reader: GraphReader, message: Any, depth: int) -> None:
    """A nested value; the loader makes the constants in it."""
    if depth > _DEEPEST:
        raise CutError("values nested too deeply")
    for part, value in reader.walk(message, "nested value", REPEATED, REPEATED):
        if part in _TENSORS:
            reader.tensor(value)
        elif part == _BOUNDED:
            for bound in (4, 5):
                for inner in _parts(reader, value, {1, 2, 3, 4, 5}, bound):
                    reader.tensor(inner)
        elif part in _NESTED:
            for inner in _values(reader, value, part):
                _structure(reader, inner, depth + 1)


def _values(reader: GraphReader, message: Any, kind: int) -> Iterator[Any]:
    """What a list, a dictionary or the like holds."""
    for inner in _parts(reader, message, {1, 2, 3, 4}, _NESTED[kind]):
        if kind in _PAIRS:
            yield from _parts(reader, inner, {1, 2}, 2)
        else:
            yield inner
