"""Image models: trained for real on digits, on a folder, and loaded again through the front door."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hauberk.data import ImageDataset, load_digits, load_image_folder
from hauberk.data.images import split_images
from hauberk.errors import InputError, SchemaError
from hauberk.ingest import load_model
from hauberk.models import read_any_card
from hauberk.train import TrainingOptions, fit_image_space, labelled_images, save_detector, train_image_model


def accuracy(trained, part) -> float:
    data = labelled_images(trained.card.image, part)
    with torch.inference_mode():
        return float((trained.module(torch.tensor(data.features)).argmax(dim=1).numpy() == data.targets).mean())


def test_a_small_residual_network_reads_digits():
    """360 digits that it never saw; a linear model reads 96 % of them (scikit-learn's own example)."""
    splits = load_digits(seed=0)
    options = TrainingOptions(epochs=8, batch_size=32, learning_rate=5e-3)
    trained = train_image_model(splits, parameters={"widths": [8, 16, 32]}, options=options)
    assert accuracy(trained, splits.test) >= 0.97
    figure = trained.card.training.figures["accuracy"]
    assert figure.value == pytest.approx(accuracy(trained, splits.validation), abs=1e-6)
    assert trained.card.training.options["task"] == "classification"


@pytest.fixture
def folder(tmp_path):
    """Bright and dark photographs of many sizes."""
    random = np.random.default_rng(0)
    for name, low in (("day", 128), ("night", 0)):
        (tmp_path / name).mkdir()
        for number in range(30):
            size = (*random.integers(20, 40, size=2), 3)
            Image.fromarray(random.integers(low, low + 128, size=size, dtype=np.uint8)).save(
                tmp_path / name / f"{number}.png"
            )
    return tmp_path


@pytest.mark.parametrize(("architecture", "size"), [("residual-cnn", 16), ("resnet18", 32)])
def test_a_folder_of_photographs_becomes_a_model_that_loads_again(folder, tmp_path, architecture, size):
    splits = load_image_folder(folder, shorter_side=size + 4)
    options = TrainingOptions(epochs=1, batch_size=12)
    parameters = {"widths": [4, 8]} if architecture == "residual-cnn" else {}
    trained = train_image_model(
        splits, architecture=architecture, size=size, resize=size + 4, parameters=parameters, options=options
    )
    assert trained.card.image.shape == (3, size, size)
    assert trained.card.classes == ("day", "night")
    out = tmp_path / "detector"
    save_detector(trained, out)
    loaded = load_model(out)
    assert loaded.card == trained.card == read_any_card(out / "detector.json")
    assert loaded.artifact.signature.inputs[0].shape == ("batch", 3, size, size)
    features = torch.tensor(labelled_images(trained.card.image, splits.test).features)
    with torch.inference_mode():
        assert torch.equal(loaded.artifact.module(features), trained.module(features))
    with pytest.raises(InputError, match="reads images; a detector of single records is needed"):
        load_model(out, inputs=41)


def grey(count=60) -> ImageDataset:
    images = np.random.default_rng(0).integers(0, 256, size=(count, 9, 8, 1), dtype=np.uint8)
    return ImageDataset("noise", images, np.arange(count) % 2, ("even", "odd"))


def test_the_space_makes_training_images_mean_0_and_deviation_1():
    space = fit_image_space(grey(), size=8, resize=8)
    levels = grey().images / 255
    assert space.mean == pytest.approx((levels.mean(),))
    assert space.deviation == pytest.approx((levels.std(),))


def test_a_constant_channel_is_not_blown_up():
    black = ImageDataset("black", np.zeros((60, 8, 8, 1), np.uint8), np.arange(60) % 2, ("even", "odd"))
    assert fit_image_space(black, size=8, resize=8).deviation == (1e-3,)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"architecture": "tabular-mlp"}, InputError, "'tabular-mlp' reads no images; those that do are residual-cnn"),
        ({"architecture": "resnet18"}, InputError, "resnet18 reads colour; the images have 1 channel"),
        ({"parameters": {"outputs": 3}}, InputError, "outputs follows from the data"),
        ({"parameters": {"depth": 3}}, InputError, "does not take"),
        ({"size": 8, "resize": 7}, SchemaError, "a crop of 8 from a shorter side of 7"),
    ],
)
def test_what_does_not_fit_is_one_line(options, error, says):
    with pytest.raises(error, match=says) as raised:
        train_image_model(split_images(grey(), "0" * 64, 0), options=TrainingOptions(epochs=1), **options)
    assert "\n" not in str(raised.value)
