"""What an admitted model takes and gives, found out and checked against the data."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from hauberk.errors import InputError
from hauberk.models import ImageCard, ModelCard
from hauberk.tensors import Signature, TensorSpec

Card = ModelCard | ImageCard


def torch_signature(module: nn.Module, card: Card | None, inputs: int | None, where: str) -> Signature:
    """The signature of a module, proven by a forward pass on two records of zeros.

    Args:
        module: In evaluation mode, with its weights.
        card: Says how many features it should take and how many logits it should give.
        inputs: The feature columns of the data. Without it the card says what the module takes (windows [T, D] and
            images [C, S, S], too), else the module's own `record_shape`, else its first linear layer.
        where: How error messages call the file.

    Raises:
        InputError: The module does not map features [N, *shape] to logits [N, K], or another D or K is expected.
    """
    shape = card_shape(card) if inputs is None and card else _own_shape(module, inputs, where)
    if len(shape) > 1:
        return _signature(module, card, shape, where)
    own_width = next((layer.in_features for layer in module.modules() if isinstance(layer, nn.Linear)), None)
    width = inputs or (shape[0] if shape else own_width)
    if width is None:
        raise InputError(f"{where}: cannot tell how many features the model takes; say so with inputs=…")
    logits = _forward(module, (width,))
    if isinstance(logits, str):
        if own_width is not None and own_width != width and isinstance(_forward(module, (own_width,)), Tensor):
            raise _other_width(where, own_width, width, inputs)
        raise InputError(f"{where}: the model does not take {width} features: {logits}")
    return _signature(module, card, (width,), where)


def card_shape(card: Card) -> tuple[int, ...]:
    """The shape of one record by a model card: (D,), (T, D) or (C, S, S)."""
    if isinstance(card, ImageCard):
        return card.image.shape
    return (card.space.width,) if card.window is None else (card.window, card.space.width)


def _own_shape(module: nn.Module, inputs: int | None, where: str) -> tuple[int, ...]:
    """The shape of one record by the module's own word; empty where it has none, or where the data says."""
    own = getattr(module, "record_shape", None)
    if inputs is not None or own is None:
        return ()
    if not isinstance(own, tuple) or not all(type(size) is int and size > 0 for size in own):
        raise InputError(f"{where}: record_shape of the model is {own!r}; a tuple of sizes above 0 is needed")
    return own


def _signature(module: nn.Module, card: Card | None, shape: tuple[int, ...], where: str) -> Signature:
    """What the module gives for records of that shape, checked."""
    logits = _forward(module, shape)
    shown = "×".join(map(str, shape))
    if isinstance(logits, str):
        raise InputError(f"{where}: the model does not take {shown} features: {logits}")
    if logits.ndim != 2 or logits.shape[0] != 2 or not logits.is_floating_point():
        raise InputError(
            f"{where}: for features 2×{shown} the model gives {'×'.join(map(str, logits.shape))} of {logits.dtype};"
            " logits float32 [N, K] are needed"
        )
    _check_card(card, shape, logits.shape[1], where)
    return Signature(
        (TensorSpec("features", "float32", ("batch", *shape)),),
        (TensorSpec("logits", "float32", ("batch", logits.shape[1])),),
    )


def _forward(module: nn.Module, shape: tuple[int, ...]) -> Tensor | str:
    """Logits of two records of zeros, or in one line why there are none."""
    try:
        with torch.inference_mode():
            logits = module(torch.zeros(2, *shape))
    except Exception as error:  # noqa: BLE001 - the user's own code may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return logits if isinstance(logits, Tensor) else f"it returns {type(logits).__name__}, not a tensor"


def onnx_signature(proto: onnx.ModelProto, card: Card | None, inputs: int | None, where: str) -> Signature:
    """The signature of an ONNX model with one float32 input [batch, D] and one float32 output [batch, K].

    Where the data has not said its columns (`inputs`), windows [batch, T, D] and images [batch, C, H, W] of fixed sizes
    are taken as well.

    Raises:
        InputError: It has others, or another D or K is expected.
    """
    weights = {tensor.name for tensor in proto.graph.initializer}
    given = [value for value in proto.graph.input if value.name not in weights]
    any_rank = inputs is None
    taken = _only("input", "features float32 [batch, D]", given, where, any_rank=any_rank)
    produced = _only("output", "logits float32 [batch, K]", list(proto.graph.output), where)
    free, outputs = taken.shape[-1], produced.shape[1]
    width = inputs or (card_shape(card)[-1] if card else None) if isinstance(free, str) else free
    if width is None:
        raise InputError(f"{where}: the model leaves the number of features open; say so with inputs=…")
    if inputs is not None and inputs != width:
        raise _other_width(where, width, inputs, inputs)
    if isinstance(outputs, str):
        raise InputError(f"{where}: the model leaves the number of logits open; export it with a fixed one")
    sizes = tuple(size for size in taken.shape[1:-1] if isinstance(size, int))
    if open_sizes := [size for size in taken.shape[1:-1] if isinstance(size, str)]:
        raise InputError(
            f"{where}: the model leaves {', '.join(open_sizes)} of a record open; export it with fixed sizes"
        )
    _check_card(card, (*sizes, width), outputs, where)
    features = TensorSpec(taken.name, taken.dtype, (*taken.shape[:-1], width))
    return Signature((features,), (produced,))


def _only(
    role: str, needed: str, values: list[onnx.ValueInfoProto], where: str, *, any_rank: bool = False
) -> TensorSpec:
    if len(values) != 1:
        names = ", ".join(value.name[:40] for value in values[:5]) or "none"
        raise InputError(f"{where}: the model has {len(values)} {role}s ({names}); one is needed, {needed}")
    kind = values[0].type.tensor_type
    shape = tuple(_dimension(position, dimension) for position, dimension in enumerate(kind.shape.dim))
    fits = len(shape) >= 2 if any_rank else len(shape) == 2
    if kind.elem_type != onnx.TensorProto.FLOAT or not fits:
        found = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise InputError(f"{where}: {role} {values[0].name[:40]!r} is {found} {list(shape)}; {needed} is needed")
    return TensorSpec(values[0].name, "float32", shape)


def _dimension(position: int, dimension: onnx.TensorShapeProto.Dimension) -> int | str:
    if dimension.HasField("dim_value"):
        return int(dimension.dim_value)
    return str(dimension.dim_param) or ("batch" if position == 0 else f"dimension_{position}")


def _check_card(card: Card | None, shape: tuple[int, ...], outputs: int, where: str) -> None:
    if card is None:
        return
    said, logits = card_shape(card), len(card.classes) if isinstance(card, ImageCard) else card.decision.outputs
    if said != shape:
        whose = " describes images of" if isinstance(card, ImageCard) else "'s schema makes"
        shown, taken = ("×".join(map(str, sizes)) for sizes in (said, shape))
        raise InputError(f"{where}: the model card{whose} {shown} features, the model takes {taken}")
    if logits != outputs:
        raise InputError(f"{where}: the model card says {logits} logits, the model gives {outputs}")


def _other_width(where: str, own: int, wanted: int, inputs: int | None) -> InputError:
    whose = "the data has" if inputs is not None else "its model card's schema makes"
    return InputError(f"{where}: the model takes {own} features, {whose} {wanted}")
