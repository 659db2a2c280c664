"""Making a core smaller and faster. Each step declares how far its result may move; `search` judges what pays."""

from hauberk.compress.cluster import Codebook
from hauberk.compress.distill import Distill
from hauberk.compress.precision import HalfPrecision
from hauberk.compress.prune import PruneStructured
from hauberk.compress.quantize import QuantizeAware, QuantizeDynamic, QuantizeMixed, QuantizeStatic
from hauberk.compress.recipes import CATALOGUE, default_recipes, known, named_recipe, narrower
from hauberk.recipe import Step

STEPS: tuple[type[Step], ...] = (
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeMixed,
    QuantizeAware,
    Codebook,
    HalfPrecision,
    Distill,
    PruneStructured,
)
"""Every kind of compression step, for reading recipes back (`Recipe.from_json`)."""

__all__ = [
    "CATALOGUE",
    "STEPS",
    "Codebook",
    "Distill",
    "HalfPrecision",
    "PruneStructured",
    "QuantizeAware",
    "QuantizeDynamic",
    "QuantizeMixed",
    "QuantizeStatic",
    "default_recipes",
    "known",
    "named_recipe",
    "narrower",
]
