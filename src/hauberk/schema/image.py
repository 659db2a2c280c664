"""What an image is to a detector: how its pixels become features, and the numpy reference of that.

    uint8 [N, H, W, C] -> shorter side to `resize` -> centre crop size × size -> (x / 255 - mean) / deviation
                       -> float32 [N, C, size, size]

Resizing is linear interpolation with antialiasing at half-pixel centres: each output pixel is the mean of the input
under a triangle that is two output pixels wide (Pillow's and torchvision's "bilinear" of today), not rounded to whole
levels in between. The graph of `graph/image_preprocess.py` computes the same in production.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import SchemaError

_LARGEST_SIDE = 1 << 12
_LEVELS = 255


class ImageSpace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The feature space of an image model.

    Checked when it is built: `hauberk.errors.SchemaError` where a size is out of its range, the crop is larger than the
    resized image, or mean and deviation are not one finite number a channel (a deviation above 0).

    Attributes:
        channels: C, 1 (grey) or 3 (red, green, blue).
        size: S, height and width that the model reads, 1 to 4,096.
        resize: Length that the shorter side is brought to before the crop, at least `size`.
        mean: Subtracted from each channel, of pixels in [0, 1].
        deviation: What each channel is divided by then.
    """

    channels: int
    size: int
    resize: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise SchemaError(f"image: {self.channels} channels; 1 (grey) or 3 (red, green, blue) are known")
        if not 1 <= self.size <= self.resize <= _LARGEST_SIDE:
            raise SchemaError(
                f"image: a crop of {self.size} from a shorter side of {self.resize}; 1 <= size <= resize <="
                f" {_LARGEST_SIDE} is needed"
            )
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            if len(values) != self.channels or not all(math.isfinite(value) for value in values):
                raise SchemaError(f"image: {name} is {list(values)}; {self.channels} finite numbers are needed")
        if not all(value > 0 for value in self.deviation):
            raise SchemaError(f"image: deviation is {list(self.deviation)}; numbers above 0 are needed")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image's features, (C, S, S)."""
        return self.channels, self.size, self.size

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Float32 [C, S, S] twice: the features of a black and of a white image."""
        factor, shift = self.affine
        ends = np.array([0, _LEVELS], dtype=np.float32)[:, None] * factor + shift  # [2, C]
        low, high = np.broadcast_to(ends[:, :, None, None], (2, *self.shape)).astype(np.float32)
        return low, high

    @property
    def affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Float32 [C] twice: features are `pixel * first + second`, with pixels 0..255."""
        mean, deviation = np.array(self.mean), np.array(self.deviation)
        return (1 / (_LEVELS * deviation)).astype(np.float32), (-mean / deviation).astype(np.float32)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing: the shorter side is `resize`, the longer one in proportion, rounded down."""
        shorter = min(height, width)
        return height * self.resize // shorter, width * self.resize // shorter

    def transform(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images uint8 [N, H, W, C] to features float32 [N, C, S, S].

        Raises:
            SchemaError: They are not uint8 [N, H, W, C] with the space's channels.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != self.channels or 0 in images.shape[1:3]:
            raise SchemaError(f"image: {images.dtype} {list(images.shape)}; uint8 [N, H, W, {self.channels}] is needed")
        height, width = self.resized(*images.shape[1:3])
        rows = self._crop(interpolation(images.shape[1], height))
        columns = self._crop(interpolation(images.shape[2], width))
        factor, shift = self.affine
        pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
        cropped = rows @ pixels @ columns.T
        return np.asarray(cropped * factor[:, None, None] + shift[:, None, None], dtype=np.float32)

    def _crop(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows of an interpolation that the centre crop keeps."""
        first = (len(matrix) - self.size) // 2
        return matrix[first : first + self.size]


def interpolation(given: int, wanted: int) -> NDArray[np.float32]:
    """Linear interpolation with antialiasing along one axis, as a matrix float32 [wanted, given]; rows add up to 1.

    `weight(i, j) = max(0, 1 - |j + 1/2 - (i + 1/2) given / wanted| / max(1, given / wanted))`, normalised over j.
    """
    scale = given / wanted
    centres = (np.arange(wanted) + 0.5) * scale
    distances = np.abs(np.arange(given) + 0.5 - centres[:, None])
    weights = np.maximum(0, 1 - distances / max(1.0, scale))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
