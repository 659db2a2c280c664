"""scikit-learn's handwritten digits, upscaled to 32×32: 1,797 small images, for a network that trains in seconds.

Nothing is bundled: the images come with scikit-learn, which must be installed. They are a part of the "Optical
Recognition of Handwritten Digits" of the UCI Machine Learning Repository (https://doi.org/10.24432/C50P49).
"""

from __future__ import annotations

import hashlib

import numpy as np

from hauberk.data.images import ImageDataset, ImageSplits, split_images
from hauberk.errors import InputError
from hauberk.schema.image import interpolation

SIZE = 32
_GIVEN = 8
_LEVELS = 16  # a pixel is 0 to 16, the ink counted in a 4×4 field of the scan


def load_digits(seed: int = 0) -> ImageSplits:
    """The ten digits as images uint8 [N, 32, 32, 1], white on black, split 60, 20 and 20 %.

    They are upscaled fourfold by linear interpolation, so that a convolutional network has something to do.

    Args:
        seed: Seed of the split.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load  # noqa: PLC0415 - a dependency of nobody else in the library
    except ImportError as error:
        raise InputError("digits: scikit-learn is not installed; pip install scikit-learn") from error
    found = load()
    enlarge = interpolation(_GIVEN, SIZE)
    pixels = enlarge @ found.images.astype(np.float32) @ enlarge.T * (255 / _LEVELS)
    images = np.rint(pixels).astype(np.uint8)[..., None]
    labels = found.target.astype(np.int64)
    digest = hashlib.sha256(found.images.astype(np.uint8).tobytes() + labels.tobytes()).hexdigest()
    return split_images(ImageDataset("digits", images, labels, tuple("0123456789")), digest, seed)
