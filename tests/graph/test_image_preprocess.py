"""The image preprocessing graph against the numpy reference, at sizes that are odd, small, large, long and empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.errors import InputError
from hauberk.graph.image_preprocess import image_preprocessing_graph
from hauberk.graph.model import run, session
from hauberk.schema.image import ImageSpace

SPACE = ImageSpace(3, 24, 28, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def runner():
    return session(image_preprocessing_graph(SPACE).model)


def images(count, height, width, channels=3):
    random = np.random.default_rng(height * 1000 + width)
    return random.integers(0, 256, size=(count, height, width, channels), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 120), st.integers(1, 120))
def test_it_equals_the_reference_whatever_the_size(runner, count, height, width):
    pixels = images(count, height, width)
    found = run(runner, {"images": pixels})[0]
    np.testing.assert_allclose(found, SPACE.transform(pixels), rtol=0, atol=1e-4)


def test_a_photograph_of_two_megapixels(runner):
    pixels = images(1, 1080, 1920)
    np.testing.assert_allclose(run(runner, {"images": pixels})[0], SPACE.transform(pixels), rtol=0, atol=1e-4)


def test_no_images_are_no_features(runner):
    assert run(runner, {"images": images(0, 40, 30)})[0].shape == (0, *SPACE.shape)


def test_images_of_the_models_size_are_neither_resized_nor_cropped(operators):
    space = ImageSpace(1, 8, 8, (0.5,), (0.25,))
    graph = image_preprocessing_graph(space, given=(8, 8))
    assert operators(graph) == ["Cast", "Transpose", "Mul", "Add"]
    pixels = images(5, 8, 8, channels=1)
    np.testing.assert_allclose(run(session(graph.model), {"images": pixels})[0], space.transform(pixels), atol=1e-6)


def test_images_of_a_known_size_are_declared_so():
    graph = image_preprocessing_graph(SPACE, given=(40, 30))
    assert graph.signature.inputs[0].shape == ("batch", 40, 30, 3)
    pixels = images(2, 40, 30)
    np.testing.assert_allclose(run(session(graph.model), {"images": pixels})[0], SPACE.transform(pixels), atol=1e-4)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(InputError, match="images of 0×40 pixels"):
        image_preprocessing_graph(SPACE, given=(40, 0))
