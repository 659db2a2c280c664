"""The catalogue of recipes by name, and those that are tried when nobody names any.

A recipe starts from the optimised float32 graph and needs no clean-up of its own: every step drops what it leaves dead,
and folding constants afterwards would widen half-precision weights again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

import msgspec

from hauberk.artifact import Artifact
from hauberk.compress.cluster import Codebook
from hauberk.compress.core import Core, read_core
from hauberk.compress.distill import Distill, Itself, Network, Pruned, Robust, Scaled
from hauberk.compress.factorise import Factorise
from hauberk.compress.precision import BrainPrecision, HalfPrecision
from hauberk.compress.prune import PruneStructured, PruneUnstructured
from hauberk.compress.quantize import (
    EqualiseLayers,
    QuantizeAware,
    QuantizeDynamic,
    QuantizeMixed,
    QuantizeNncf,
    QuantizeStatic,
    QuantizeWeights,
    SmoothActivations,
)
from hauberk.compress.tuning import Tuning
from hauberk.errors import InputError
from hauberk.graph.model import has_no_gradient
from hauberk.graph.passes.clean_up import CleanUp
from hauberk.graph.passes.strip_metadata import StripMetadata
from hauberk.recipe import Recipe, Step

_UNDER_ATTACK = Tuning(epochs=80, patience=10, schedule="constant", alpha=0.7, logits=0.0)
_TAUGHT = Tuning(epochs=60, learning_rate=3e-3)
_MADE_UP = 8  # for each record of a table: windows take as many times the work, and it gained nothing on them
_COPIED = Tuning(
    epochs=12, learning_rate=3e-3, made_up=_MADE_UP, robust=Robust(answers="attacked")
)  # what a robust detector has, attacked records included
_FOR_TREES = ((64, 32), (32,))  # hidden units of networks that learn the answers of trees
_NARROWEST = 4  # fewer hidden units than this are not worth timing


@dataclass(frozen=True)
class Entry:
    """One recipe of the catalogue.

    Attributes:
        summary: What the result is, in one sentence for the report.
        steps: The steps for a core; the same for every core unless they say otherwise.
    """

    summary: str
    steps: Callable[[Core], tuple[Step, ...]]


def _always(*steps: Step) -> Callable[[Core], tuple[Step, ...]]:
    return lambda core: steps  # noqa: ARG005 - these suit any core


def _taught(core: Core) -> Tuning:
    """How students learn from the whole detector."""
    columns = len(core.artifact.signature.inputs[0].shape) == 2
    return msgspec.structs.replace(_TAUGHT, made_up=_MADE_UP) if columns else _TAUGHT


def _lightly(core: Core) -> PruneStructured:
    return PruneStructured(amount=0.3, allocation="sensitivity", tuning=_taught(core))


def _half(core: Core) -> PruneStructured:
    return PruneStructured(amount=0.5, tuning=_taught(core))


def _student(core: Core, student: Pruned | Scaled) -> Distill:
    return Distill(student=student, tuning=_taught(core))


def _layers(core: Core) -> int:
    """Layers with weights, as far as quantization looks at them."""
    return len(core.linear_layers()) + [node.op_type for node in core.model.graph.node].count("Conv")


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        "int8-dynamic": Entry(
            "weights in 8 bits, activations quantized at run time",
            _always(QuantizeDynamic()),
        ),
        "int8-static": Entry(
            "weights and activations in 8 bits, calibrated on training records",
            _always(QuantizeStatic()),
        ),
        "int8-static-mse": Entry(
            "weights and activations in 8 bits, ranges of least squared error",
            _always(QuantizeStatic(calibrator="mse")),
        ),
        "equalised-int8": Entry(
            "scales balanced between neighbouring layers, then weights and activations in 8 bits",
            _always(EqualiseLayers(), QuantizeStatic()),
        ),
        "smoothquant-int8": Entry(
            "the difficulty moved from activations to weights (SmoothQuant), then both in 8 bits",
            _always(SmoothActivations(), QuantizeStatic()),
        ),
        "int8-mixed": Entry(
            "8 bits in all layers but the one that loses most by them, as measured",
            _always(QuantizeMixed(sensitive=1)),
        ),
        "int8-mixed-quarter": Entry(
            "8 bits in all layers but the quarter that loses most by them, as measured",
            lambda core: (QuantizeMixed(sensitive=max(1, _layers(core) // 4)),),
        ),
        "int8-qat": Entry(
            "weights and activations in 8 bits, trained as they are rounded",
            _always(QuantizeAware()),
        ),
        "int4-qat": Entry(
            "weights in 4 bits, trained as they are rounded, computed with in float32",
            _always(QuantizeAware(weight_bits=4, activations="float32")),
        ),
        "int4-int8-qat": Entry(
            "weights in 4 bits and activations in 8, trained as they are rounded, computed with in 8 bits",
            _always(QuantizeAware(weight_bits=4)),
        ),
        "codebook-16-qat": Entry(
            "weights kept as 4-bit indices into 16 levels, trained as they are rounded, computed with in float32",
            _always(QuantizeAware(weight_bits=4, levels="k-means", activations="float32")),
        ),
        "int8-nncf": Entry(
            "weights and activations in 8 bits as NNCF chooses them (extra 'nncf')",
            _always(QuantizeNncf()),
        ),
        "int4": Entry(
            "weights of large linear layers in 4 bits, activations in float32",
            _always(QuantizeWeights()),
        ),
        "codebook-16": Entry(
            "weights kept as 4-bit indices into 16 levels, computed with in float32",
            _always(Codebook(bits=4)),
        ),
        "float16": Entry(
            "weights kept in half precision, half the file",
            _always(HalfPrecision()),
        ),
        "low-rank": Entry(
            "layers split into two of lower rank where that is smaller, trained by the whole",
            _always(Factorise()),
        ),
        "pruned-30": Entry(
            "three of ten units removed, most where that costs least as measured, the rest trained by the whole",
            lambda core: (_lightly(core),),
        ),
        "pruned-30-int8": Entry(
            "three of ten units removed where that costs least, then weights and activations in 8 bits",
            lambda core: (_lightly(core), QuantizeStatic()),
        ),
        "pruned-50": Entry(
            "half of all channels, heads and hidden units removed, the rest trained by the whole",
            lambda core: (_half(core),),
        ),
        "pruned-50-int8": Entry(
            "half of all units removed, the rest trained by the whole, then weights and activations in 8 bits",
            lambda core: (_half(core), QuantizeStatic()),
        ),
        "pruned-50-int8-dynamic": Entry(
            "half of all units removed, the rest trained by the whole, then weights in 8 bits",
            lambda core: (_half(core), QuantizeDynamic()),
        ),
        "pruned-distilled-qat": Entry(
            "half of all units removed, the rest taught by the whole, then trained as it is rounded to 8 bits",
            _always(
                PruneStructured(amount=0.5, tuning=Tuning(epochs=8)),
                Distill(student=Itself(), tuning=Tuning()),
                QuantizeAware(),
                CleanUp(),
                StripMetadata(),
            ),
        ),
        "sparse-90": Entry(
            "nine of ten weights zero; smaller once the file is compressed, no faster on a processor",
            _always(PruneUnstructured(amount=0.9)),
        ),
        "distilled-pruned": Entry(
            "a copy with half of its units that learned the detector's answers",
            lambda core: (_student(core, Pruned(amount=0.5)),),
        ),
        "bfloat16": Entry(
            "weights kept in bfloat16, half the file",
            _always(BrainPrecision()),
        ),
        "distilled-half": Entry(
            "a network of the same kind and half its width that learned the detector's answers",
            lambda core: (_student(core, Scaled(width=0.5)),),
        ),
        "distilled-quarter": Entry(
            "a network of the same kind and a quarter of its width that learned the detector's answers",
            lambda core: (_student(core, Scaled(width=0.25)),),
        ),
        "distilled-robust": Entry(
            "a network of half the width that learned the detector's answers while its records were attacked",
            _always(Distill(student=Scaled(width=0.5), robust=Robust(), tuning=_UNDER_ATTACK)),
        ),
        "pruned-50-robust": Entry(
            "half of all units removed, the rest taught the answers of a robust detector to attacked records",
            _always(PruneStructured(amount=0.5, tuning=_COPIED)),
        ),
        "distilled-half-robust": Entry(
            "a network of half the width that learned the answers of a robust detector to attacked records",
            _always(Distill(student=Scaled(width=0.5), tuning=_COPIED)),
        ),
        "distilled-half-int8": Entry(
            "a network of half the width that learned the detector's answers, then in 8 bits",
            lambda core: (_student(core, Scaled(width=0.5)), QuantizeStatic()),
        ),
    }
)
"""Every recipe that has a name, in the order in which they are listed."""


def known(name: str) -> Entry:
    """The entry of that name.

    Raises:
        InputError: There is none.
    """
    if name not in CATALOGUE:
        raise InputError(f"unknown recipe {name!r}; known are {', '.join(CATALOGUE)}, or a recipe file")
    return CATALOGUE[name]


def named_recipe(name: str, artifact: Artifact) -> Recipe:
    """A recipe of the catalogue for a core.

    Args:
        name: One of `CATALOGUE`.
        artifact: The core, as a graph.

    Raises:
        InputError: There is no recipe of that name, or the artifact is no core.
    """
    entry = known(name)
    return Recipe(name, entry.steps(read_core(artifact, "recipe")), entry.summary)


def default_recipes(artifact: Artifact) -> tuple[Recipe, ...]:
    """The recipes that are worth trying on a core, by its kind.

    | the graph has | recipes |
    | --- | --- |
    | LSTM, GRU or RNN | 8-bit weights; half of the hidden units; both |
    | convolutions | 8 bits, calibrated, in all layers, all but one, and three quarters; half of the channels, also in 8
      bits. Dynamic quantization is slower there |
    | a Softmax or Attention inside | 8-bit weights; SmoothQuant; half the width |
    | linear layers alone | 8-bit weights and 8 bits, calibrated; half precision; two narrower networks |
    | trees (operators of ai.onnx.ml) | two networks that learn the trees' answers; 8-bit weights and half precision are
      tried too, so that the findings say why they do not apply |

    With the extra `nncf`, its quantizer is tried beside ours on convolutions and Transformers. A graph that is already
    quantized, or has nothing to compress, gets none.

    Args:
        artifact: The core, as a graph.

    Raises:
        InputError: It is not a core.
    """
    core = read_core(artifact, "default recipes")
    kinds = {node.op_type for node in core.model.graph.node}
    if core.quantized_by:
        return ()
    if kinds & {"LSTM", "GRU", "RNN"}:
        return _named(artifact, "int8-dynamic", "pruned-50", "pruned-50-int8-dynamic")
    if "Conv" in kinds:
        mixed = ("int8-mixed", "int8-mixed-quarter")[: _layers(core) // 4]  # of few layers, a quarter is none or one
        return _named(artifact, "int8-static", *_beside(), *mixed, "pruned-50", "pruned-50-int8")
    if has_no_gradient(core.artifact):
        return (*_named(artifact, "int8-dynamic", "float16"), *(_distilled(widths) for widths in _FOR_TREES))
    return _for_linear_layers(artifact, core, attends=bool(kinds & {"Softmax", "Attention"}))


def _for_linear_layers(artifact: Artifact, core: Core, *, attends: bool) -> tuple[Recipe, ...]:
    """Recipes for a core whose weights are all in linear layers; none where it has no such layer."""
    layers = core.linear_layers()
    if not layers:
        return ()
    if attends:
        return _named(artifact, "int8-dynamic", "smoothquant-int8", *_beside(), "distilled-half")
    widths = tuple(layer.weight.shape[1] for layer in layers[:-1])
    compressed = _named(artifact, "int8-dynamic", "int8-static", "float16")
    return compressed + tuple(_distilled(student) for student in narrower(widths))


def _beside() -> tuple[str, ...]:
    """Quantizers of others, where they are installed."""
    return ("int8-nncf",) if find_spec("nncf") else ()


def _named(artifact: Artifact, *names: str) -> tuple[Recipe, ...]:
    return tuple(named_recipe(name, artifact) for name in names)


def narrower(widths: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Two shapes worth distilling into, the wider one first; fewer where the detector is already small.

    The first drops the layer next to the input, where most weights are, and halves the others
    (256-128-64 becomes 64-32); a single hidden layer is halved. The second keeps only the last layer of the first (32),
    or halves it again where that is all there is.
    """
    if not widths:
        return ()
    first = tuple(width // 2 for width in (widths[1:] or widths))
    second = first[-1:] if len(first) > 1 else (first[0] // 2,)
    return tuple(shape for shape in (first, second) if min(shape) >= _NARROWEST and shape[0] <= widths[0])


def _distilled(widths: tuple[int, ...]) -> Recipe:
    shape = "-".join(str(width) for width in widths)
    summary = f"a network of {shape} hidden units that learned the detector's answers"
    student = Network("tabular-mlp", {"widths": list(widths)})
    tuning = msgspec.structs.replace(_TAUGHT, made_up=_MADE_UP)
    return Recipe(f"distilled-{shape}", (Distill(student=student, tuning=tuning),), summary)
