"""Making a core smaller and faster. Each step declares how far its result may move; `search` judges what pays."""

from hauberk.compress.cluster import Codebook
from hauberk.compress.distill import Distill
from hauberk.compress.factorise import Factorise
from hauberk.compress.precision import BrainPrecision, HalfPrecision
from hauberk.compress.prune import PruneNM, PruneStructured, PruneUnstructured, SparsifyActivations
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
from hauberk.compress.recipes import CATALOGUE, default_recipes, known, named_recipe, narrower
from hauberk.recipe import Step

STEPS: tuple[type[Step], ...] = (
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeMixed,
    QuantizeAware,
    QuantizeWeights,
    QuantizeNncf,
    EqualiseLayers,
    SmoothActivations,
    Codebook,
    HalfPrecision,
    BrainPrecision,
    Distill,
    PruneStructured,
    PruneUnstructured,
    PruneNM,
    SparsifyActivations,
    Factorise,
)
"""Every kind of compression step, for reading recipes back (`Recipe.from_json`)."""

__all__ = [
    "CATALOGUE",
    "STEPS",
    "BrainPrecision",
    "Codebook",
    "Distill",
    "EqualiseLayers",
    "Factorise",
    "HalfPrecision",
    "PruneNM",
    "PruneStructured",
    "PruneUnstructured",
    "QuantizeAware",
    "QuantizeDynamic",
    "QuantizeMixed",
    "QuantizeNncf",
    "QuantizeStatic",
    "QuantizeWeights",
    "SmoothActivations",
    "SparsifyActivations",
    "default_recipes",
    "known",
    "named_recipe",
    "narrower",
]
