"""How much memory the layers of a Keras configuration ask for when they are made, before any weight is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hauberk.scan.examination import Examination
from hauberk.scan.report import Outcome, Rule, Severity, shown

HUGE = Rule(
    "keras-huge",
    "a layer of absurd size",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Making the layer takes the machine's memory before any weight is read.",
    "https://cwe.mitre.org/data/definitions/789.html",
)
LARGE = Rule(
    "keras-large",
    "layers that may be of absurd size together",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "How much a layer takes depends on what the layers before it give, which is not followed here. The largest of them"
    " together would take many times what the file holds.",
    "https://cwe.mitre.org/data/definitions/789.html",
)
_LARGEST = 1 << 31
_WIDTHS = ("units", "filters", "output_dim", "num_tokens", "intermediate_dim", "state_size")
_SHAPES = ("batch_shape", "batch_input_shape", "target_shape", "size", "output_shape")
_FACTORS = ("units", "filters", "input_dim", "output_dim", "kernel_size", "num_heads", "depth_multiplier")
_OTHERS = (
    "max_tokens padding n height width pool_size strides dilation_rate output_padding cropping num_bins groups"
    " output_sequence_length input_length key_dim value_dim num_mel_bins fft_length sequence_length num_query_heads"
    " num_key_value_heads head_dim input_shape num_thresholds num_classes lora_rank repeats num shape pad_width depth"
    " num_oov_indices fft_size"
)
_SIZES = frozenset((*_WIDTHS, *_SHAPES, *_FACTORS, *_OTHERS.split(" ")))
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell")
_TABLES = ("Embedding", "ReversibleEmbedding")
_WHOLE = ("PReLU", "LayerNormalization", "RMSNormalization", "Normalization")  # a weight for each element of an input
_TRANSFORMS = ("MelSpectrogram", "STFTSpectrogram", "STFT")
_COUNTS = ("MeanIoU", "IoU", "OneHotIoU", "OneHotMeanIoU")  # a table of classes by classes
_STRETCHES = ("size", "n", "repeats", "pad_width")
_STRETCHED = 64
_MOST_DIMENSIONS = 8
_NUMBER = 4  # bytes of a weight when a layer is made
_MARGIN = 16
_MOST = 1 << 80
_LISTED_MOST, _FOLLOWED_MOST = 64, 4096
"""Sizes of one list, and sizes and lists in one another, that are looked at: no array has as many dimensions."""


class Sizes:
    """Adds up what a configuration asks for.

    Args:
        held: Bytes of weights in the file; 0 where they are not known.
        examination: Reported to.
    """

    def __init__(self, held: int, examination: Examination) -> None:
        self._held = held
        self._examination = examination
        self._widest = 1
        self._largest = 1
        self._stretch = 1

    def add(self, each: dict[str, Any], at: str) -> None:
        """Take one object of the tree into account, whatever it is."""
        for key in _SIZES & each.keys():
            sizes = list(_integers(each[key]))
            if any(size > _LARGEST for size in sizes) or (key in _SHAPES and _times(sizes) > _LARGEST):
                self._examination.find(HUGE, f"{key} is {sizes[0] if len(sizes) == 1 else sizes[:8]}", at=at)
            elif key in _SHAPES or key in _WIDTHS:
                self._widest = max(self._widest, _times(sizes))
        for key in each.keys() & _STRETCHES:
            factor = _times(_integers(each[key]))
            self._stretch = _times((self._stretch, factor if factor > _STRETCHED else 1))
        for shape in _shapes(each):
            if _times(shape) > _LARGEST:
                self._examination.find(LARGE, shown(f"a shape of {shape}"), at=at)
        config = each.get("config")
        if isinstance(each.get("class_name"), str) and isinstance(config, dict):
            self._layer(each, config, at)

    def end(self, place: str) -> None:
        """Once all were added: the largest layer behind the widest one."""
        weights = self._largest * self._widest * self._stretch
        if self._is_too_much(weights // _MARGIN):
            self._examination.find(LARGE, f"up to {float(weights) * _NUMBER:.1e} bytes in one layer", at=place or None)

    def _layer(self, each: dict[str, Any], config: dict[str, Any], at: str) -> None:
        own = _product(config, _FACTORS)
        own *= max(
            (size for key in ("key_dim", "value_dim", "head_dim") for size in _integers(config.get(key))), default=1
        )
        shapes = _built(each.get("build_config"))
        last = max((size for shape in shapes for size in shape[-1:]), default=1)
        name = str(each["class_name"])
        if name in _TABLES:  # nothing before one makes it larger
            by_itself = own
        elif name in _WHOLE:
            by_itself = max((_times(shape) for shape in shapes), default=1)
        elif name in _TRANSFORMS:
            by_itself = _product(config, ("num_mel_bins", "fft_length"))
        elif name in _COUNTS:
            by_itself = max(_integers(config.get("num_classes")), default=1) ** 2
        else:
            if name == "EinsumDense":
                own *= _times(_integers(config.get("output_shape")))
            again = max(_integers(config.get("units")), default=0) if name.endswith(_RECURRENT) else 0
            by_itself = own * (last + again)
            self._largest = max(self._largest, own)
        beside = max(_integers(config.get("lora_rank")), default=0) * max(last, own)
        thresholds = max(_integers(config.get("num_thresholds")), default=0) * _MARGIN
        if self._is_too_much(max(by_itself, beside, thresholds)):
            self._examination.find(HUGE, f"{float(max(by_itself, beside, thresholds)) * _NUMBER:.1e} bytes", at=at)

    def _is_too_much(self, weights: int) -> bool:
        """More than a model may take, and more than the file could fill with a byte for each."""
        return weights * _NUMBER > self._examination.limits.model_memory and weights > self._held


def _integers(value: Any) -> Iterator[int]:
    """Sizes in a number or in lists of them, none above `_MOST`; `None` and below 1 stand for what is not known."""
    stack, followed = [value], 0
    while stack and followed < _FOLLOWED_MOST:
        each, followed = stack.pop(), followed + 1
        if isinstance(each, list):
            stack += reversed(each[:_LISTED_MOST])
        elif isinstance(each, int) and not isinstance(each, bool) and each > 0:
            yield min(each, _MOST)


def _times(sizes: Iterable[int]) -> int:
    """The product of sizes; beyond `_MOST`, so much: a number of thousands of digits is neither printed nor a float."""
    product = 1
    for size in sizes:
        product = min(product * size, _MOST)
    return product


def _product(config: dict[str, Any], keys: tuple[str, ...]) -> int:
    return _times(size for key in keys for size in _integers(config.get(key)))


def _shapes(value: dict[str, Any]) -> Iterator[list[int]]:
    """Shapes by their names, with sizes that are not known left out."""
    for key, each in value.items():
        if key.endswith("shape") and isinstance(each, list) and len(each) <= _MOST_DIMENSIONS:
            yield list(_integers(each))


def _built(build: Any) -> list[list[int]]:
    """Shapes that a layer is built for: one, or one for each of its inputs."""
    if not isinstance(build, dict):
        return []
    named = build.get("shapes_dict")
    return [*_shapes(build), *(_shapes(named) if isinstance(named, dict) else ())]
