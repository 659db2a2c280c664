"""Model cards: written, read back, and every mistake one clear line."""

from __future__ import annotations

import json

import msgspec
import pytest

from hauberk.errors import InputError
from hauberk.measurement import Measurement
from hauberk.models import ImageCard, ModelCard, TrainingRecord, read_any_card, read_card, write_card
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    Decision,
    ImageSpace,
    Label,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)

SCHEMA = RecordSchema(
    features=(
        NumericFeature(name="bytes", low=0.0, high=9.0),
        CategoricalFeature(name="protocol", categories=("tcp", "udp")),
        BooleanFeature(name="land"),
    ),
    label=Label("class", ("normal", "dos"), "normal"),
)
RECORD = TrainingRecord(
    data="flows",
    data_digest="ab" * 32,
    split_seed=1,
    options={"epochs": 3},
    epochs=3,
    best_epoch=2,
    seconds=0.5,
    validation_loss=0.25,
    figures={"accuracy": Measurement("accuracy", 0.9, "fraction", 100, 0.8, 0.95)},
)
CARD = ModelCard(
    architecture="tabular-mlp",
    parameters={"inputs": 5, "widths": [4], "outputs": 2},
    schema=SCHEMA,
    preprocessing=Preprocessing((Scaling(True, 0.0, 2.5), Scaling(False, 0.0, 1.0))),
    decision=Decision(),
    weights_sha256="cd" * 32,
    training=RECORD,
)


def test_a_card_reads_back_as_it_was_written(tmp_path):
    write_card(CARD, tmp_path / "detector.json")
    assert read_card(tmp_path / "detector.json") == CARD


def test_the_feature_space_is_that_of_schema_and_preprocessing():
    assert CARD.space.width == 2 + 3


def broken(**changes):
    return {**json.loads(msgspec.json.encode(CARD)), **changes}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a model card"),
        (b"[1, 2]", "not a model card"),
        (b"\xff\xfe", "not a model card"),
        (b"[" * 100_000, "not a model card"),
        (broken(format=7), "model card format 7; this version reads format 1"),
        (broken(surprise=1), "unknown field `surprise`"),
        (broken(preprocessing={"scalings": []}), "0 scalings, the schema has 2 numbers"),
        (
            broken(preprocessing={"scalings": [{"logarithm": False, "offset": 0, "scale": 0}] * 2}),
            "'bytes' divides by a scale of 0",
        ),
        (broken(decision={"outputs": 2, "benign": 2}), "benign output 2 does not exist among 2"),
        (broken(decision={"outputs": 0}), "does not exist among 0"),
        (broken(schema={"features": [{"type": "numeric", "name": "rate", "low": 2, "high": 1}]}), "rate"),
    ],
)
def test_a_card_that_is_none_is_one_line(tmp_path, content, says):
    path = tmp_path / "detector.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InputError, match=says) as raised:
        read_card(path)
    assert "\n" not in str(raised.value)
    assert "detector.json" in str(raised.value)


def test_a_missing_card_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_card(tmp_path / "nowhere.json")


IMAGE_CARD = ImageCard(
    architecture="residual-cnn",
    parameters={"channels": 1, "size": 8, "outputs": 2},
    image=ImageSpace(1, 8, 9, (0.5,), (0.25,)),
    classes=("clean", "dirt"),
    weights_sha256="cd" * 32,
    training=RECORD,
)


def test_the_card_of_an_image_model_reads_back_as_it_was_written(tmp_path):
    write_card(IMAGE_CARD, tmp_path / "detector.json")
    assert read_any_card(tmp_path / "detector.json") == IMAGE_CARD
    with pytest.raises(InputError, match=r"detector\.json: the card of an image model"):
        read_card(tmp_path / "detector.json")


def test_a_card_from_before_windows_and_images_still_reads(tmp_path):
    """The fields that came later, taken out of the file."""
    old = json.loads(msgspec.json.encode(CARD))
    del old["window"]
    del old["training"]["split_block"]
    (tmp_path / "detector.json").write_text(json.dumps(old))
    assert read_card(tmp_path / "detector.json") == CARD


@pytest.mark.parametrize(
    ("card", "changes", "says"),
    [
        (CARD, {"window": 0}, "a window of 0 records"),
        (IMAGE_CARD, {"classes": ["clean"]}, "at least two different names"),
        (IMAGE_CARD, {"classes": ["clean", "clean"]}, "at least two different names"),
        (IMAGE_CARD, {"image": {"channels": 1, "size": 9, "resize": 8, "mean": [0], "deviation": [1]}}, "a crop of 9"),
        (IMAGE_CARD, {"image": None}, "not a model card"),
        (IMAGE_CARD, {"format": 2}, "model card format 2"),
    ],
)
def test_a_card_of_windows_or_images_that_is_none_is_one_line(tmp_path, card, changes, says):
    path = tmp_path / "detector.json"
    path.write_text(json.dumps({**json.loads(msgspec.json.encode(card)), **changes}))
    with pytest.raises(InputError, match=says):
        read_any_card(path)
