"""torch: what rebuilds tensors, and what is passed to it.

All that torch's own restricted unpickler (`weights_only=True`) allows, and less of it: functions are called with
storages and numbers of the right kind only, a tensor lies inside its storage, and neither hooks nor special attributes
are set. Storage classes, dtypes and schemes are passed around, never called.

Sources: torch 2.13 `_weights_only_unpickler.py`, `_utils.py`, `_tensor.py`, `storage.py`, `serialization.py`.
"""

from __future__ import annotations

import math

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import Array
from hauberk.scan.pickles.entries import (
    Call,
    Context,
    Entry,
    Objection,
    check_attributes,
    is_made,
    is_name,
    make_empty,
    sizes,
    whole,
)
from hauberk.scan.pickles.values import EXTERNAL, Made, Mapping, Name, Storage, described, is_text
from hauberk.scan.report import shown

_GROUP = "torch"

_STORAGES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexDouble": 16, "ComplexFloat": 8, "QInt32": 4, "QInt8": 1, "QUInt8": 1, "QUInt4x2": 1, "QUInt2x4": 1,
}  # fmt: skip
_ON_GPU = tuple(kind for kind in _STORAGES if not kind.startswith("Q"))
_TENSORS = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_SPARSE = tuple(kind for kind in _TENSORS if kind != "Bool")
_DTYPES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex128": 16, "complex64": 8, "complex32": 4,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "float4_e2m1fn_x2": 1, "qint32": 4, "qint8": 1, "quint8": 1, "quint4x2": 1, "quint2x4": 1,
    "bits16": 2, "bits8": 1, "bits4x2": 1, "bits2x4": 1, "bits1x8": 1,
    **{f"{sign}int{width}": 1 for sign in ("", "u") for width in range(1, 8)},
}  # fmt: skip
_SCHEMES = tuple(
    f"per_{what}_{how}" for what, how in (
        ("tensor", "affine"), ("tensor", "symmetric"), ("channel", "affine"), ("channel", "symmetric"),
        ("channel", "affine_float_qparams"),
    )
)  # fmt: skip

_TENSOR = 512  # bytes of one, whatever it holds
_WORDS = ("storage", b"storage")  # the latter in files of Python 2
_UNTYPED = ("torch.storage.UntypedStorage", "torch.storage.TypedStorage")
_SUBCLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_REBUILDERS = frozenset({"torch tensor"})


def torch_storage(identifier: object) -> Storage | None:
    """What torch's persistent ids stand for: a storage, by its key and its number of elements.

    Args:
        identifier: `("storage", class, key, location, elements)`, with a sixth part in the format without zip.

    Returns:
        The storage; `None` where the identifier is anything else.
    """
    if type(identifier) is not tuple or len(identifier) not in {5, 6}:
        return None
    word, kind, key, place, count, *view = identifier
    if word not in _WORDS or type(kind) is not Name or type(count) is not int or count < 0:
        return None
    entry = kind.entry
    if entry is None or type(entry.data) is not int or type(key) is not str or not is_text(place):
        return None
    match view:
        case [] | [None]:
            return Storage(key, entry.data, count, entry.name)
        case [(str() as part, int(offset), int(length))] if min(offset, length) >= 0 and offset + length <= count:
            return Storage(key, entry.data, count, entry.name, (part, offset, length))
    return None


def _check_view(storage: object, offset: object, size: object, stride: object, itemsize: int = 0) -> Storage:
    """A tensor lies inside its storage."""
    if storage is EXTERNAL:  # and that it is not known has been found
        raise Objection("a tensor whose storage is not known", rules.UNCHECKED)
    if type(storage) is not Storage:
        raise Objection("a tensor whose storage is none")
    last, shape, steps = whole(offset), sizes(size), sizes(stride)
    if len(shape) != len(steps):
        raise Objection("a tensor with as many strides as it has no dimensions", rules.BOUNDS)
    for length, step in zip(shape, steps, strict=True):
        last += (length - 1) * step
    width = itemsize or storage.itemsize
    if 0 not in shape and (last + 1) * width > storage.reach:
        raise Objection(
            f"a tensor of shape {list(shape)[:8]} reaches to byte {(last + 1) * width} of a storage of {storage.reach}",
            rules.BOUNDS,
        )
    return storage


def _elements(stored: Storage, size: object, itemsize: int = 0) -> int | None:
    """How many it has; `None` where it shows the same again and again, so that a copy is larger than the storage."""
    count = math.prod(sizes(size))
    return count if count * (itemsize or stored.itemsize) <= stored.reach else None


def _check_hooks(hooks: object) -> None:
    """Hooks are called when gradients flow; torch writes none."""
    if hooks is None:
        return
    if type(hooks) is not Made or hooks.entry.name != "collections.OrderedDict" or hooks.ready:
        raise Objection("hooks, which are called later")
    hooks.kept = True  # the tensor holds it, so it stays empty


def _check_metadata(metadata: tuple[object, ...]) -> None:
    """Whether a tensor is conjugated or negated, and nothing else."""
    for each in metadata:
        if each is None:
            continue
        if type(each) is not Mapping:
            raise Objection("metadata that are no dictionary")
        for key, value in each.items_of():
            if type(key) is not str or type(value) is not bool:
                raise Objection("metadata that are no truth values")


def _tensor(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    storage, offset, size, stride = arguments
    return Made(entry, _elements(_check_view(storage, offset, size, stride), size))


def _tensor_v2(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    storage, offset, size, stride, _gradient, hooks, *metadata = arguments
    stored = _check_view(storage, offset, size, stride)
    _check_hooks(hooks)
    if metadata:
        _check_metadata(tuple(metadata))
    return Made(entry, _elements(stored, size))


def _tensor_v3(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    storage, offset, size, stride, _gradient, hooks, dtype, *metadata = arguments
    stored = _check_view(storage, offset, size, stride, _itemsize(dtype))
    _check_hooks(hooks)
    _check_metadata(tuple(metadata))
    return Made(entry, _elements(stored, size, _itemsize(dtype)))


def _quantized(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    storage, offset, size, stride, scheme, _gradient, hooks = arguments
    held = _check_view(storage, offset, size, stride)
    # It is first made empty at its full size, strides or not.
    elements = math.prod(sizes(size))
    if elements > held.reach // held.itemsize * 4:
        raise Objection(f"{elements} elements of a storage of {held.reach} bytes", rules.BOUNDS)
    if not _is_scheme(scheme):
        raise Objection("a scheme of quantization that is none")
    _check_hooks(hooks)
    return Made(entry)


def _is_scheme(scheme: object) -> bool:
    """A scheme with its scales and zero points: numbers, tensors, or lists of numbers, of which torch makes tensors."""
    match scheme:
        case tuple((kind, scales, zeros, *axis)) if is_name(kind, *(f"torch.{each}" for each in _SCHEMES)):
            return all(_are_numbers(each) for each in (scales, zeros)) and all(type(each) is int for each in axis)
    return False


def _are_numbers(value: object) -> bool:
    if type(value) is list:
        return all(type(each) is int or type(each) is float for each in value)
    return type(value) is int or type(value) is float or _is_tensor(value)


def _itemsize(dtype: object) -> int:
    if type(dtype) is Name and dtype.entry is not None and dtype.module == "torch" and dtype.name in _DTYPES:
        return _DTYPES[dtype.name]
    raise Objection("a dtype that is none")


def _is_tensor(value: object) -> bool:
    return type(value) is Made and value.entry.data in _REBUILDERS


def _parameter(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    data, _gradient, hooks, *state = arguments
    if type(data) is not Made or not _is_tensor(data):
        raise Objection("a parameter that is no tensor")
    _check_hooks(hooks)
    if entry.name.endswith("_with_state"):
        _check_state(*state)
    elif state:
        raise Objection("with too many arguments")
    return Made(entry, data.detail)


def _check_state(state: object) -> None:
    """Attributes that are set on a tensor by name; its own have setters, and hooks are called."""
    for part in state if type(state) is tuple else (state,):
        if part is None:
            continue
        for name, value in check_attributes(part).items():
            if name in _OF_TENSORS or "hook" in name:
                raise Objection(f"sets {shown(name)} of a tensor", rules.BUILD)
            if _is_callable(value):  # in a method's place
                raise Objection(f"keeps {shown(described(value))} as {shown(name)} of a tensor", rules.BUILD)


def _is_callable(value: object) -> bool:
    if type(value) is Name:
        return not (value.module == "torch" and value.name in {*_DTYPES, *_SCHEMES})
    return type(value) is Made and value.entry.name.startswith("sklearn.")


_OF_TENSORS = frozenset(
    {"data", "grad", "grad_fn", "requires_grad", "names", "real", "imag", "dtype", "device", "shape"}
)


def _from_type(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    function, kind, inner, state = arguments
    if not (type(function) is Name and function.entry is not None and function.entry.data in _REBUILDERS):
        raise Objection("rebuilds by something that rebuilds no tensor")
    if function.entry.call is None or function.entry is entry or type(inner) is not tuple:
        raise Objection("rebuilds by something that rebuilds no tensor")
    if not is_name(kind, *_SUBCLASSES):
        raise Objection("a class of tensors that is not allowed")
    inside = function.entry.call(function.entry, inner, context)
    _check_state(state)
    return Made(entry, inside.detail if type(inside) is Made else None)


def _copied(data: object) -> int:
    """Elements of a tensor or an array that is copied."""
    detail = data.detail if type(data) is Made else 0
    if _is_tensor(data) and type(detail) is not int:
        raise Objection("copies a tensor that is larger than its storage", rules.EXHAUSTS)
    return detail if type(detail) is int else math.prod(detail.shape) if isinstance(detail, Array) else 0


def _sparse(_: Entry, arguments: tuple[object, ...], __: Context) -> Made:
    layout, data = arguments
    if not is_made(layout, "torch.serialization._get_layout") or type(data) is not tuple or len(data) not in {3, 4}:
        raise Objection("a sparse tensor that is none")
    for each in data:
        if not (_is_tensor(each) or each is None or type(each) is bool or type(each) is tuple):
            raise Objection("a sparse tensor of anything but tensors")
        _copied(each)
    raise Objection("a sparse tensor's numbers lie where other tensors say", rules.UNCHECKED)


def _layout(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case (str(layout),) if layout.startswith("torch."):
            return Made(entry)
    raise Objection("a layout that is none")


def _nested(_: Entry, arguments: tuple[object, ...], __: Context) -> Made:
    if len(arguments) != 4 or not all(_is_tensor(each) for each in arguments):
        raise Objection("a nested tensor of anything but tensors")
    raise Objection("the parts of a nested tensor lie where other tensors say", rules.UNCHECKED)


def _from_array(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    data, dtype, device, _gradient = arguments
    if not (_is_tensor(data) or (type(data) is Made and data.entry.data == "array")):
        raise Objection("a tensor made of anything but an array")
    context.copies(_copied(data) * _itemsize(dtype))
    _check_device(device)
    return Made(entry)


def _without_storage(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    dtype, size, stride, _gradient = arguments
    _itemsize(dtype)
    sizes(size)
    sizes(stride)
    return Made(entry)


def _wrapper(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    kind, dtype, size, stride, offset, layout, device, _gradient = arguments
    if not is_name(kind, *_SUBCLASSES) or not is_made(layout, "torch.serialization._get_layout"):
        raise Objection("a class of tensors that is not allowed")
    _itemsize(dtype)
    sizes(size)
    sizes(stride)
    whole(offset)
    _check_device(device)
    return Made(entry)


def _check_device(device: object) -> None:
    if not (is_text(device) or is_made(device, "torch.device")):
        raise Objection("a device that is none")


def _device(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case (str(),) | (str(), int()):
            return Made(entry)
    raise Objection("a device that is none")


def _size(_: Entry, arguments: tuple[object, ...], __: Context) -> object:
    match arguments:
        case (tuple() | list() as shape,) if not isinstance(shape, Mapping):
            return sizes(shape)
    raise Objection("a shape that is no tuple")


def _new_parameter(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case (Made() as data,) | (Made() as data, bool()) if _is_tensor(data):
            return Made(entry, data.detail)
    raise Objection("a parameter that is no tensor")


def _empty_tensor(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    context.copies(_TENSOR)
    return make_empty(entry, arguments, context)


def _tensor_state(made: Made, state: object, _: Context) -> None:
    """Files of the first versions of torch: storage, offset, size and stride of a tensor."""
    if made.ready:
        raise Objection("sets the state of a tensor twice", rules.BUILD)
    if type(state) is tuple and len(state) == 4:
        _check_view(*state)
        return
    if type(state) is tuple and len(state) == 3:
        _check_hooks(state[2])
        return
    raise Objection("a tensor's state that is none", rules.BUILD)


def _counted(check: Call, *counts: int) -> Call:
    """A check that takes so many arguments."""

    def counted(entry: Entry, arguments: tuple[object, ...], context: Context) -> object:
        if len(arguments) not in counts:
            raise Objection(f"with {len(arguments)} arguments")
        return check(entry, arguments, context)

    return counted


def _rebuilds(name: str, check: Call, *counts: int) -> Entry:
    return Entry(name, _GROUP, _counted(check, *counts), data="torch tensor")


ENTRIES: tuple[Entry, ...] = (
    _rebuilds("torch._utils._rebuild_tensor", _tensor, 4),
    _rebuilds("torch._utils._rebuild_tensor_v2", _tensor_v2, 6, 7),
    _rebuilds("torch._utils._rebuild_tensor_v3", _tensor_v3, 7, 8),
    _rebuilds("torch._utils._rebuild_qtensor", _quantized, 7),
    _rebuilds("torch._utils._rebuild_parameter", _parameter, 3),
    _rebuilds("torch._utils._rebuild_parameter_with_state", _parameter, 4),
    _rebuilds("torch._utils._rebuild_sparse_tensor", _sparse, 2),
    _rebuilds("torch._utils._rebuild_nested_tensor", _nested, 4),
    _rebuilds("torch._utils._rebuild_meta_tensor_no_storage", _without_storage, 4),
    _rebuilds("torch._utils._rebuild_wrapper_subclass", _wrapper, 8),
    _rebuilds("torch._utils._rebuild_device_tensor_from_numpy", _from_array, 4),
    _rebuilds("torch._utils._rebuild_device_tensor_from_cpu_tensor", _from_array, 4),
    _rebuilds("torch._tensor._rebuild_from_type_v2", _from_type, 4),
    Entry("torch.nn.parameter.Parameter", _GROUP, _new_parameter, _new_parameter, _tensor_state, data="torch tensor"),
    Entry("torch.Tensor", _GROUP, _empty_tensor, _empty_tensor, _tensor_state, data="torch tensor"),
    *(
        Entry(f"torch.{place}{kind}Tensor", _GROUP, _empty_tensor, _empty_tensor, _tensor_state, data="torch tensor")
        for place, kinds in (("", _TENSORS), ("cuda.", _TENSORS))
        for kind in kinds
    ),
    *(Entry(f"torch.{place}{kind}Tensor", _GROUP) for place in ("sparse.", "cuda.sparse.") for kind in _SPARSE),
    Entry("torch.Size", _GROUP, _size),
    Entry("torch.device", _GROUP, _device),
    Entry("torch.serialization._get_layout", _GROUP, _layout),
    *(Entry(f"torch.{kind}Storage", _GROUP, data=size) for kind, size in _STORAGES.items()),
    *(Entry(f"torch.cuda.{kind}Storage", _GROUP, data=_STORAGES[kind]) for kind in _ON_GPU),
    *(Entry(name, _GROUP, data=1) for name in _UNTYPED),
    *(Entry(f"torch.{kind}", _GROUP) for kind in _DTYPES),
    *(Entry(f"torch.{scheme}", _GROUP) for scheme in _SCHEMES),
)
