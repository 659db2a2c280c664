"""Model cards: written, read back, and every mistake one clear line."""

from __future__ import annotations

import json

import msgspec
import pytest

from hauberk.errors import InputError
from hauberk.measurement import Measurement
from hauberk.models import ModelCard, TrainingRecord, read_card, write_card
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    Decision,
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
