"""From pixels to features: compared with Pillow and torch, which resize on their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hauberk.errors import SchemaError
from hauberk.schema.image import ImageSpace, interpolation

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_interpolation_is_pillows_bilinear(height, width, new_height, new_width):
    pixels = np.random.default_rng(height).random((height, width)).astype(np.float32)
    found = interpolation(height, new_height) @ pixels @ interpolation(width, new_width).T
    expected = Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(found, np.asarray(expected), atol=3e-6)


def test_interpolation_is_torchs_antialiased_bilinear():
    pixels = np.random.default_rng(0).random((50, 31)).astype(np.float32)
    found = interpolation(50, 17) @ pixels @ interpolation(31, 40).T
    image = torch.tensor(pixels)[None, None]
    expected = torch.nn.functional.interpolate(image, (17, 40), mode="bilinear", antialias=True)[0, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=3e-6)


@pytest.mark.parametrize("shape", [(40, 60), (90, 33), (24, 24), (11, 17)])
def test_the_features_are_what_pillow_and_numpy_make(shape):
    """Pillow rounds to whole levels after each axis: one level of difference, and the crop is the same."""
    space = ImageSpace(3, 20, 24, *IMAGENET)
    image = np.random.default_rng(0).integers(0, 256, size=(*shape, 3), dtype=np.uint8)
    height, width = space.resized(*shape)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    top, left = (height - 20) // 2, (width - 20) // 2
    cropped = resized[top : top + 20, left : left + 20] / 255
    expected = ((cropped - IMAGENET[0]) / IMAGENET[1]).transpose(2, 0, 1)
    found = space.transform(image[None])[0]
    assert found.shape == space.shape
    np.testing.assert_allclose(found, expected, atol=1.01 / 255 / min(IMAGENET[1]))


def test_an_image_of_the_right_size_is_only_scaled():
    space = ImageSpace(1, 8, 8, (0.5,), (0.25,))
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    np.testing.assert_allclose(space.transform(image)[0, 0], (image[0, :, :, 0] / 255 - 0.5) / 0.25, atol=1e-6)


def test_bounds_are_black_and_white():
    space = ImageSpace(3, 4, 4, *IMAGENET)
    low, high = space.bounds
    for color, bound in ((0, low), (255, high)):
        np.testing.assert_allclose(space.transform(np.full((1, 4, 4, 3), color, np.uint8))[0], bound, atol=1e-6)


def test_the_shorter_side_is_resized_and_the_longer_one_follows():
    assert ImageSpace(1, 1, 256, (0.0,), (1.0,)).resized(500, 375) == (341, 256)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channels": 2}, "2 channels"),
        ({"size": 0}, "a crop of 0"),
        ({"size": 9}, "a crop of 9 from a shorter side of 8"),
        ({"resize": 5000}, "<= 4096"),
        ({"mean": ()}, "1 finite numbers"),
        ({"mean": (float("nan"),)}, "mean is"),
        ({"deviation": (0.0,)}, "above 0"),
    ],
)
def test_an_impossible_space_is_refused(changes, says):
    given = {"channels": 1, "size": 8, "resize": 8, "mean": (0.5,), "deviation": (0.5,), **changes}
    with pytest.raises(SchemaError, match=says):
        ImageSpace(**given)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((8, 8, 1), np.uint8), np.zeros((1, 8, 8, 1), np.float32)]
)
def test_other_arrays_are_refused(images):
    with pytest.raises(SchemaError, match=r"uint8 \[N, H, W, 1\] is needed"):
        ImageSpace(1, 8, 8, (0.5,), (0.5,)).transform(images)
