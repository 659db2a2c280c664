"""The preprocessing graph of images: pixels to features, as `ImageSpace.transform` computes them.

    images uint8 [batch, height, width, C] -> float -> [batch, C, height, width] -> shorter side to `resize`
        -> centre crop size × size -> x * factor + shift -> features float32 [batch, C, size, size]

Height and width are free, the same for all images of a batch. Resizing is ONNX Resize, `linear` with `antialias`,
coordinates `half_pixel`, onto whole sizes that the graph computes from the image's (longer side in proportion, rounded
down). Where images are known to have the model's size already, nothing is resized or cropped.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import BATCH, artifact, assemble, node
from hauberk.schema.image import ImageSpace
from hauberk.tensors import Signature, TensorSpec

Constants = dict[str, NDArray[np.generic]]


def image_preprocessing_graph(space: ImageSpace, given: tuple[int, int] | None = None) -> OnnxArtifact:
    """Build the preprocessing graph of images.

    Args:
        space: How pixels become features.
        given: Height and width of the images where they are known; `None` leaves them free.

    Returns:
        A graph from `images` uint8 [batch, height, width, C] to `features` float32 [batch, C, S, S]. It equals
        `space.transform` to within 1e-4 of a channel's deviation (sums in another order).

    Raises:
        InputError: A given height or width below 1.
    """
    if given is not None and min(given) < 1:
        raise InputError(f"images of {given[1]}×{given[0]} pixels; at least 1×1 is needed")
    height, width = given or ("height", "width")
    factor, shift = space.affine
    constants: Constants = {"factor": factor[:, None, None], "shift": shift[:, None, None]}
    nodes = [
        node("Cast", ["images"], "levels", to=TensorProto.FLOAT),
        node("Transpose", ["levels"], "pixels", perm=[0, 3, 1, 2]),
    ]
    cropped = (
        "pixels" if given == (space.size, space.size) == (space.resize, space.resize) else _cut(space, nodes, constants)
    )
    nodes += [node("Mul", [cropped, "factor"], "stretched"), node("Add", ["stretched", "shift"], "features")]
    signature = Signature(
        (TensorSpec("images", "uint8", (BATCH, height, width, space.channels)),),
        (TensorSpec("features", "float32", (BATCH, *space.shape)),),
    )
    return artifact(assemble("image_preprocessing", nodes, constants, signature))


def _cut(space: ImageSpace, nodes: list[onnx.NodeProto], constants: Constants) -> str:
    """Append the nodes that resize and crop `pixels`; return the name of their result."""
    constants |= {
        "resize": np.array(space.resize, dtype=np.int64),
        "size": np.array(space.size, dtype=np.int64),
        "two": np.array(2, dtype=np.int64),
        "sides": np.array([2, 3], dtype=np.int64),
    }
    nodes += [
        node("Shape", ["pixels"], "given", start=2),
        node("ReduceMin", ["given"], "shorter", keepdims=0),
        node("Mul", ["given", "resize"], "given_times_resize"),
        node("Div", ["given_times_resize", "shorter"], "resized"),  # of whole numbers: rounds down
        node(
            "Resize",
            ["pixels", "", "", "resized"],
            "resized_pixels",
            axes=[2, 3],
            mode="linear",
            antialias=1,
            coordinate_transformation_mode="half_pixel",
        ),
        node("Sub", ["resized", "size"], "surplus"),
        node("Div", ["surplus", "two"], "first"),
        node("Add", ["first", "size"], "end"),
        node("Slice", ["resized_pixels", "first", "end", "sides"], "cropped"),
    ]
    return "cropped"
