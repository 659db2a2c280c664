"""numpy and joblib: the names, each with what it may be used for.

Sources: numpy 2.4; joblib 1.6 `numpy_pickle.py`; what they write was observed for protocols 0 to 5.
"""

from __future__ import annotations

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import (
    ARRAYS,
    Array,
    check_dimensions,
    elements,
    from_buffer,
    reconstruct,
    reconstruct_masked,
    scalar,
    set_array,
    set_masked,
)
from hauberk.scan.pickles.dtypes import make_dtype, set_dtype, used_dtype
from hauberk.scan.pickles.entries import (
    Call,
    Context,
    Entry,
    Inline,
    Objection,
    check_attributes,
    is_name,
    make_empty,
    sizes,
)
from hauberk.scan.pickles.generators import (
    BIT_GENERATORS,
    CONSTRUCTOR,
    SEEDS,
    make_bit_generator,
    make_generator,
    make_seeds,
    set_generator,
    set_seeds,
)
from hauberk.scan.pickles.values import Made

_GROUP = "numpy and joblib"

_WRAPPED = frozenset({"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"})


def _wrapped(made: Made, state: object, _: Context) -> Inline | None:
    """What joblib writes in place of an array, which lies behind it in the stream."""
    if made.ready:
        raise Objection("sets the state of an array twice", rules.BUILD)
    given = check_attributes(state)
    if not _WRAPPED >= given.keys() >= _WRAPPED - {"numpy_array_alignment_bytes"}:
        raise Objection("attributes that joblib does not write: one may be a method", rules.BUILD)
    if type(given["allow_mmap"]) is not bool:
        raise Objection("no truth value where one is needed", rules.BUILD)
    order = given["order"]
    if not is_name(given["subclass"], *ARRAYS) or type(order) is not str or order not in {"C", "F"}:
        raise Objection("an array of a class that is not allowed", rules.BUILD)
    dtype, shape = used_dtype(given["dtype"]), sizes(given["shape"])
    check_dimensions(given["subclass"], shape)
    size = elements(dtype, shape) * dtype.itemsize
    padding = given.get("numpy_array_alignment_bytes")
    if not (padding is None or type(padding) is int):
        raise Objection("an alignment that is no number", rules.BUILD)
    if dtype.objects and given["allow_mmap"]:
        raise Objection("objects that may be mapped from the file", rules.MEMORY)
    array = Made(_JOBLIB_ARRAY, Array(dtype, shape))
    array.ready = True
    return Inline(array, 0 if dtype.objects else size, padded=padding is not None, objects=dtype.objects)


_JOBLIB_ARRAY = Entry("joblib array", _GROUP, data="array")


def _entry(name: str, call: Call | None = None, **more: object) -> Entry:
    return Entry(name, _GROUP, call, **more)  # type: ignore[arg-type]


ENTRIES: tuple[Entry, ...] = (
    *(
        entry
        for core in ("numpy._core", "numpy.core")
        for entry in (
            _entry(f"{core}.multiarray._reconstruct", reconstruct, build=set_array, data="array"),
            _entry(f"{core}.numeric._frombuffer", from_buffer, data="array"),
            _entry(f"{core}.multiarray.scalar", scalar),
        )
    ),
    _entry("numpy.ma.core._mareconstruct", reconstruct_masked, build=set_masked),
    _entry("numpy.dtype", make_dtype, build=set_dtype),
    *(_entry(name) for name in (*ARRAYS, "numpy.ma.MaskedArray")),
    *(
        _entry(f"numpy.{kind}")
        for kind in (
            "float16", "float32", "float64", "int8", "int16", "int32", "int64",
            "uint8", "uint16", "uint32", "uint64", "bool_", "bool", "str_", "object_", "record", "number",
        )
    ),
    _entry("numpy.random._pickle.__randomstate_ctor", make_generator, build=set_generator),
    _entry("numpy.random._pickle.__generator_ctor", make_generator, build=set_generator),
    _entry(CONSTRUCTOR, make_bit_generator, build=set_generator),
    *(_entry(name) for name in BIT_GENERATORS.values()),
    _entry(SEEDS),
    _entry("numpy.random.bit_generator.__pyx_unpickle_SeedSequence", make_seeds, build=set_seeds),
    _entry("joblib.numpy_pickle.NumpyArrayWrapper", new=make_empty, build=_wrapped),
)  # fmt: skip
