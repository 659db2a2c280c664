"""The recipes that are tried when nobody names others.

They start from the optimised float32 graph and need no clean-up of their own: every step drops what it leaves dead, and
folding constants afterwards would widen half-precision weights again.
"""

from __future__ import annotations

from hauberk.artifact import Artifact
from hauberk.compress.core import read_core
from hauberk.compress.distill import Distill, Network
from hauberk.compress.precision import HalfPrecision
from hauberk.compress.quantize import QuantizeDynamic, QuantizeStatic
from hauberk.recipe import Recipe

_NARROWEST = 4  # fewer hidden units than this are not worth timing


def default_recipes(artifact: Artifact) -> tuple[Recipe, ...]:
    """The recipes that apply to a core: 8-bit weights, half precision, two narrower networks.

    A graph that is already quantized, or has no linear layers, gets none.

    Args:
        artifact: The core, as a graph.

    Raises:
        InputError: It is not a core.
    """
    core = read_core(artifact, "default recipes")
    layers = core.linear_layers()
    if core.quantized_by or not layers:
        return ()
    widths = tuple(layer.weight.shape[1] for layer in layers[:-1])
    compressed = (
        Recipe("int8-dynamic", (QuantizeDynamic(),), "weights in 8 bits, activations quantized at run time"),
        Recipe("int8-static", (QuantizeStatic(),), "weights and activations in 8 bits, calibrated on training records"),
        Recipe("float16", (HalfPrecision(),), "weights kept in half precision, half the file"),
    )
    return compressed + tuple(_distilled(student) for student in narrower(widths))


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
    return Recipe(f"distilled-{shape}", (Distill(student=Network("tabular-mlp", {"widths": list(widths)})),), summary)
