"""Passes over graphs: one file a pass, the class named like the file, each a `Step` with its contract.

`PASSES` holds every one that is applied by default, in the order that lets each find what the ones before it left. A
single pass is imported from its own file.
"""

from dataclasses import replace

from hauberk.artifact import Artifact
from hauberk.graph.passes.cancel_repeats import CancelRepeats
from hauberk.graph.passes.choose_fastest import ChooseFastest
from hauberk.graph.passes.clean_up import CleanUp
from hauberk.graph.passes.drop_zero_terms import DropZeroTerms
from hauberk.graph.passes.eliminate_no_ops import EliminateNoOps
from hauberk.graph.passes.fix_batch import FixBatch
from hauberk.graph.passes.fold_affine_into_next import FoldAffineIntoNext
from hauberk.graph.passes.fold_affine_into_previous import FoldAffineIntoPrevious
from hauberk.graph.passes.fuse_attention import FuseAttention
from hauberk.graph.passes.fuse_batch_normalization import FuseBatchNormalization
from hauberk.graph.passes.fuse_gelu import FuseGelu
from hauberk.graph.passes.fuse_layer_normalization import FuseLayerNormalization
from hauberk.graph.passes.fuse_linear import FuseLinear
from hauberk.graph.passes.fuse_pad import FusePad
from hauberk.graph.passes.gemm_to_mat_mul import GemmToMatMul
from hauberk.graph.passes.hoist_means import HoistMeans
from hauberk.graph.passes.hoist_selections import HoistSelections
from hauberk.graph.passes.mat_mul_add_to_gemm import MatMulAddToGemm
from hauberk.graph.passes.merge_casts import MergeCasts
from hauberk.graph.passes.merge_reshapes import MergeReshapes
from hauberk.graph.passes.merge_transposes import MergeTransposes
from hauberk.graph.passes.one_hot_to_gather import OneHotToGather
from hauberk.graph.passes.pointwise_convolution_to_mat_mul import PointwiseConvolutionToMatMul
from hauberk.graph.passes.push_transposes import PushTransposes
from hauberk.graph.passes.remove_dead_code import RemoveDeadCode
from hauberk.graph.passes.replace_division import ReplaceDivision
from hauberk.graph.passes.replace_power import ReplacePower
from hauberk.graph.passes.share_initializers import ShareInitializers
from hauberk.graph.passes.share_subexpressions import ShareSubexpressions
from hauberk.graph.passes.strip_metadata import StripMetadata
from hauberk.recipe import UNCHANGED, Context, Recipe, Step, Verifier

PASSES: tuple[type[Step], ...] = (
    CleanUp,
    EliminateNoOps,
    DropZeroTerms,
    CancelRepeats,
    MergeCasts,
    MergeTransposes,
    PushTransposes,
    MergeReshapes,
    HoistSelections,
    HoistMeans,
    ShareSubexpressions,
    FuseLayerNormalization,
    FuseGelu,
    ReplacePower,
    MatMulAddToGemm,
    FusePad,
    FuseBatchNormalization,
    FoldAffineIntoPrevious,
    FoldAffineIntoNext,
    FuseLinear,
    OneHotToGather,
    ReplaceDivision,
    ShareInitializers,
    RemoveDeadCode,
    StripMetadata,
)
"""The default passes, in the default order. What enables others comes first: a Gemm can only be folded into once a
MatMul and an Add have become one, a scale only be folded where no repeated node hides it, and a division is only worth
replacing where it could not be folded."""

OPTIONAL: tuple[type[Step], ...] = (FuseAttention, GemmToMatMul, PointwiseConvolutionToMatMul, ChooseFastest, FixBatch)
"""Passes that are applied only where they are named: they suit one back end, pay on some machines only, or change what
the graph takes."""

__all__ = ["OPTIONAL", "PASSES", "PassRecipe", "optimise"]


class PassRecipe(Recipe, frozen=True):
    """A recipe of passes, whose history tells of those that changed something or were undone, and of no others."""

    def apply(self, artifact: Artifact, context: Context, verify: Verifier) -> Artifact:
        """Apply the passes in order, verifying each that changed something."""
        result = super().apply(artifact, context, verify)
        told = len(artifact.history)
        history = (*result.history[:told], *(each for each in result.history[told:] if each.verdict != UNCHANGED))
        return replace(result, history=history)


def optimise() -> Recipe:
    """The recipe of the baseline: the float32 graph after every default pass."""
    return PassRecipe("float32", tuple(kind() for kind in PASSES))
