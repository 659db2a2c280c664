"""Every architecture of records goes the whole way: trained, saved, loaded, and the same again from the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hauberk.data import BLOCK_WINDOWS, load_splits
from hauberk.errors import InputError
from hauberk.ingest import load_model
from hauberk.models import read_card
from hauberk.train import RECORDS, WINDOWS, TrainingOptions, labelled, save_detector, train_detector

SMALL = {
    "tabular-mlp": {"widths": [8]},
    "autoencoder": {"widths": [16, 4]},
    "window-cnn": {"channels": [4, 4]},
    "window-lstm": {"hidden": 6},
    "window-gru": {"hidden": 6, "bidirectional": True},
    "window-transformer": {"width": 8, "heads": 2, "layers": 1},
}
WINDOW = 4
QUICK = TrainingOptions(epochs=2, batch_size=128)


@pytest.fixture(scope="module")
def splits():
    return load_splits("spambase", block=BLOCK_WINDOWS * WINDOW)


def train(splits, architecture, options=QUICK, **changes):
    window = WINDOW if architecture in WINDOWS else None
    return train_detector(
        splits,
        **{"architecture": architecture, "parameters": SMALL[architecture], "window": window, **changes},
        options=options,
    )


@pytest.fixture(scope="module", params=RECORDS)
def trained(request, splits):
    """Each architecture, trained once."""
    return train(splits, request.param)


def test_it_is_trained_saved_and_loaded(trained, splits, tmp_path):
    architecture = trained.card.architecture
    save_detector(trained, tmp_path)
    loaded = load_model(tmp_path)
    card = read_card(tmp_path / "detector.json")
    assert card == trained.card == loaded.card
    assert card.window == (WINDOW if architecture in WINDOWS else None)
    assert card.training.split_block == BLOCK_WINDOWS * WINDOW
    data = labelled(card.space, splits.validation, window=card.window)
    assert loaded.artifact.signature.inputs[0].shape[1:] == data.features.shape[1:]
    with torch.inference_mode():
        logits = loaded.artifact.module(torch.tensor(data.features)).numpy()
    alarms = card.decision.margin(logits) >= 0
    assert card.training.figures["accuracy"].value == pytest.approx((alarms == data.targets).mean(), abs=1e-6)
    assert card.training.figures["accuracy"].samples == len(data)


def test_the_same_seed_gives_the_same_weights(trained, splits):
    assert train(splits, trained.card.architecture).card.weights_sha256 == trained.card.weights_sha256


def test_products_in_bfloat16_leave_weights_in_float32(trained, splits):
    options = TrainingOptions(epochs=2, batch_size=128, precision="bfloat16")
    coarse = train(splits, trained.card.architecture, options)
    assert {parameter.dtype for parameter in coarse.module.parameters()} == {torch.float32}
    assert coarse.card.training.validation_loss == pytest.approx(trained.card.training.validation_loss, rel=0.2)
    assert coarse.card.weights_sha256 != trained.card.weights_sha256


def test_a_window_tells_more_than_its_newest_record(splits):
    """Labels that only the record before knows: a GRU learns them, a network of single records cannot."""

    def shifted(part):
        label = part.label
        benign = label.classes.index(label.benign)
        before = np.roll(part.coded.numeric[:, 0] > 0, 1)  # word_freq_make of the e-mail before
        return replace(part, labels=np.where(before, 1 - benign, benign))

    parts = [shifted(part) for part in (splits.training, splits.validation, splits.test)]
    odd = replace(splits, training=parts[0], validation=parts[1], test=parts[2])
    options = TrainingOptions(epochs=25, batch_size=64, learning_rate=0.01, patience=25)
    with_window = train(odd, "window-gru", options, window=2, parameters={"hidden": 8}, preprocessing_kind="minmax")
    alone = train(odd, "tabular-mlp", TrainingOptions(epochs=10))
    assert with_window.card.training.figures["accuracy"].value > 0.9
    assert alone.card.training.figures["accuracy"].value < 0.8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architecture": "resnet18", "parameters": {}}, "'resnet18' reads no records; those that do are tabular-mlp"),
        ({"architecture": "tabular-mlp", "window": 4}, "tabular-mlp reads single records; --window is for window-cnn"),
        ({"architecture": "window-gru", "parameters": {"inputs": 3}}, "inputs follows from the data"),
        ({"architecture": "window-gru", "parameters": {"depth": 3}}, "does not take"),
        ({"architecture": "window-gru", "window": 0}, "window is 0"),
        ({"architecture": "window-gru", "window": 2000}, "there are no 2000 records in a row"),
        ({"architecture": "autoencoder", "false_positive_rate": 2.0}, "false positive rate"),
    ],
)
def test_what_does_not_fit_is_one_line(splits, changes, says):
    with pytest.raises(InputError, match=says) as raised:
        train_detector(splits, options=QUICK, **changes)
    assert "\n" not in str(raised.value)


def test_a_classifier_is_no_detector(splits):
    with pytest.raises(InputError, match="task is 'classification'"):
        train(splits, "tabular-mlp", TrainingOptions(task="classification"))


def test_a_detector_of_windows_is_not_taken_for_one_of_records(splits, tmp_path):
    save_detector(train(splits, "window-cnn"), tmp_path)
    with pytest.raises(InputError, match="reads windows of 4 records; a detector of single records is needed"):
        load_model(tmp_path, inputs=57)
