"""One-class training: benign records only, a level that benign validation records set, and attacks that stand out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.errors import InputError
from hauberk.models import Autoencoder
from hauberk.recipe import LabelledFeatures
from hauberk.train import TrainingOptions, train_autoencoder

OPTIONS = TrainingOptions(epochs=30, batch_size=64, learning_rate=0.01, patience=30)


def records(count: int, seed: int, attacks: float = 0.3) -> LabelledFeatures:
    """Benign records lie on a plane in 8 dimensions, attacks beside it."""
    random = np.random.default_rng(seed)
    targets = (random.random(count) < attacks).astype(np.int64)
    plane = np.random.default_rng(0).standard_normal((2, 8))
    features = random.standard_normal((count, 2)) @ plane + targets[:, None] * random.standard_normal((count, 8))
    return LabelledFeatures(features.astype(np.float32), targets)


def network() -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Autoencoder(8, (6, 2))


def margins(module, features):
    with torch.inference_mode():
        return module(torch.tensor(features))[:, 0].numpy()


@pytest.fixture(scope="module")
def trained():
    module = network()
    return module, train_autoencoder(module, records(600, 1), records(400, 2), OPTIONS, false_positive_rate=0.05)


def test_attacks_stand_out(trained):
    module, _ = trained
    test = records(400, 3)
    alarms = margins(module, test.features) >= 0
    assert alarms[test.targets == 1].mean() > 0.9
    assert alarms[test.targets == 0].mean() < 0.15


def test_the_level_is_that_of_the_asked_share_of_benign_validation_records(trained):
    module, _ = trained
    validation = records(400, 2)
    benign = margins(module, validation.features[validation.targets == 0])
    assert (benign >= 0).sum() == int(0.05 * (len(benign) - 1))


def test_the_loss_is_the_error_of_reconstruction(trained):
    module, result = trained
    validation = records(400, 2)
    known = torch.tensor(validation.features[validation.targets == 0])
    with torch.inference_mode():
        error = float(((module.reconstruct(known) - known) ** 2).mean())
    assert result.best.validation_loss == pytest.approx(error, rel=1e-5)
    assert np.isnan(result.best.validation_accuracy)


def test_attacks_are_not_looked_at(trained):
    module, _ = trained
    training, validation = records(600, 1), records(400, 2)
    for part in (training, validation):
        part.features[part.targets == 1] = np.nan
    again = network()
    train_autoencoder(again, training, validation, OPTIONS, false_positive_rate=0.05)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in module.state_dict().items())


def test_records_without_benign_ones_are_refused():
    attacks = LabelledFeatures(np.zeros((9, 8), np.float32), np.ones(9, np.int64))
    with pytest.raises(InputError, match="no benign record in the training split"):
        train_autoencoder(network(), attacks, records(50, 1), OPTIONS)


@pytest.mark.parametrize("rate", [0.0, 1.0, float("nan")])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(InputError, match="false positive rate"):
        train_autoencoder(network(), records(50, 1), records(50, 2), OPTIONS, false_positive_rate=rate)
