"""Every method makes a real detector more robust against attacks that it was not trained on, and repeats itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hauberk.attacks import FGSM, PGD, Classes, FeatureThreat, WhiteBox
from hauberk.errors import InputError
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision
from hauberk.train import TrainingOptions, train, weights_by_kind
from hauberk.train.robust import METHODS, RobustOptions, train_robust

BRIEF = {"steps": 3, "validation_steps": 3, "validation_records": 150}


@pytest.fixture(scope="module")
def standard(mails):
    """Robust accuracy of the network trained on the records as they are."""
    module = mails.network()
    train(module, mails.training, mails.validation, TrainingOptions(epochs=12, batch_size=64, learning_rate=5e-3))
    return mails.robust_accuracy(module)


def robust_options(method: str) -> RobustOptions:
    return RobustOptions(method=method, **BRIEF, **({"beta": 2.0} if method in {"trades", "mart"} else {}))


@pytest.mark.parametrize(
    "robust",
    [
        *(robust_options(method) for method in METHODS),
        RobustOptions(method="fast", start="random", **BRIEF),
        RobustOptions(method="fast", start="record", alignment=0.2, **BRIEF),
        RobustOptions(method="pgd", weight_perturbation=0.005, label_smoothing=0.1, clean=0.2, **BRIEF),
    ],
    ids=[*METHODS, "fast-random", "fast-aligned", "pgd-with-all"],
)
def test_every_method_makes_a_model_more_robust(mails, quick, standard, robust):
    """By ten points at the least, under attacks of more steps and restarts, and one that needs no gradient."""
    module = mails.network()
    result = train_robust(module, mails.training, mails.validation, quick(), robust, mails.threat)
    assert mails.robust_accuracy(module) > standard + 0.1
    assert result.best.validation_accuracy > 0.8
    assert result.seconds > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_weights_bit_for_bit(mails, quick, method):
    found = []
    for seed in (3, 3, 4):
        module = mails.network()
        robust = robust_options(method)
        options = quick(epochs=1, seed=seed, averaging=0.9)
        train_robust(module, mails.training.sample(200, 0), mails.validation, options, robust, mails.threat)
        found.append(b"".join(value.numpy().tobytes() for value in module.state_dict().values()))
    assert found[0] == found[1] != found[2]


def test_training_stops_by_attacked_validation_records(mails, quick):
    module = mails.network()
    robust = RobustOptions(steps=3, validation_steps=5, validation_records=1000)
    result = train_robust(module, mails.training, mails.validation, quick(), robust, mails.threat)
    losses = [epoch.validation_loss for epoch in result.history]
    assert losses[result.best_epoch - 1] == min(losses)
    attack = PGD(steps=5, early_stopping=False)
    model = WhiteBox(module, Decision())
    validation = mails.validation
    found = attack.run(model, validation.features, validation.targets, threat=mails.threat)
    assert result.best.robust_accuracy == pytest.approx(found.survived.mean(), abs=0.02)
    assert result.best.validation_accuracy == pytest.approx(
        model.right(validation.features, validation.targets).mean(), abs=1e-6
    )
    assert result.best.robust_accuracy < result.best.validation_accuracy


def test_one_step_from_the_record_overfits_to_itself_and_noise_or_alignment_keep_it_from_that(mails, quick):
    """On few records a large network learns to mislead the very step that it is trained with."""
    few, threat = mails.training.sample(300, 0), replace(mails.threat, radius=0.1)
    gaps = []
    for change in ({"start": "record"}, {"start": "noise"}, {"start": "record", "alignment": 0.5}):
        module = mails.network((128, 128))
        robust = RobustOptions(method="fast", validation_steps=3, validation_records=50, **change)
        options = quick(epochs=70, batch_size=60, learning_rate=3e-3, patience=70)
        train_robust(module, few, few, options, robust, threat)
        model = WhiteBox(module, Decision())
        one, many = (
            attack.run(model, few.features, few.targets, threat=threat).survived.mean()
            for attack in (FGSM(), PGD(steps=20))
        )
        gaps.append(one - many)
    plain, noise, aligned = gaps
    assert plain > 0.04
    assert noise < plain / 2
    assert aligned < plain / 2


def test_a_model_of_classes_of_images_is_trained_under_attack():
    """Two bright corners tell three classes apart, dim ones too: under attack only what is bright counts."""
    random = np.random.default_rng(0)
    targets = np.arange(150) % 3
    images = 0.1 * random.standard_normal((150, 1, 4, 4))
    images[np.arange(150), 0, targets, targets] += 1.0
    images[np.arange(150), 0, 3, targets] += 0.15
    split = LabelledFeatures(images.astype(np.float32), targets)
    threat = FeatureThreat(
        0.2, np.full(16, -2, np.float32), np.full(16, 2, np.float32), np.ones(16, np.bool_), shape=(1, 4, 4)
    )
    options = TrainingOptions(epochs=15, batch_size=32, learning_rate=0.02, task="classification", patience=15)

    class OfRows(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.module(rows.view(-1, 1, 4, 4))

    robust = {}
    for method in (None, *METHODS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        if method is None:
            train(module, split, split, options)
        else:
            train_robust(module, split, split, options, robust_options(method), threat)
        model = WhiteBox(OfRows(module), Classes(3))
        rows = split.features.reshape(150, 16)
        robust[method] = PGD(steps=10).run(model, rows, split.targets, threat=threat).survived.mean()
    assert min(robust[method] for method in METHODS) > robust[None] + 0.05


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_trains_under_attack(mails, quick, method):
    module = mails.network()
    options = quick(epochs=3, precision="bfloat16")
    result = train_robust(module, mails.training, mails.validation, options, robust_options(method), mails.threat)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert result.best.robust_accuracy > 0.5


@pytest.mark.parametrize("method", ["pgd", "trades", "mart"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(mails, quick, method):
    """Class weights and weights of records included: parts weigh what their records weigh. Attacks start unlike."""
    frozen = replace(mails.threat, radius=1e-6)  # so that where an attack starts makes no difference that counts
    weights = weights_by_kind(np.arange(900) % 7, mails.training.targets, 0.8)
    found = []
    for parts in (1, 3):
        module = mails.network()
        options = quick(epochs=1, accumulate=parts, weight_decay=0.0)
        train_robust(module, mails.training, mails.validation, options, robust_options(method), frozen, weights=weights)
        found.append(torch.cat([value.flatten() for value in module.state_dict().values()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=2e-4)


def test_a_heavy_record_counts_as_several(mails, quick):
    """A weight of 3 is the record three times, where one batch holds everything and nothing is random."""
    few = mails.training.sample(60, 1)
    weights = np.where(np.arange(60) % 4 == 0, 3.0, 1.0).astype(np.float32)
    rows = np.repeat(np.arange(60), weights.astype(int))
    repeated = LabelledFeatures(few.features[rows], few.targets[rows])
    frozen = replace(mails.threat, radius=1e-6)
    found = []
    for records, each in ((few, weights), (repeated, None)):
        module = mails.network()
        options = quick(epochs=5, batch_size=1000, class_weights=False)
        robust = RobustOptions(method="pgd", steps=1)
        train_robust(module, records, mails.validation, options, robust, frozen, weights=each)
        found.append(torch.cat([value.flatten() for value in module.state_dict().values()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threat": "narrow"}, "the threat model has 3 columns, a record has 57"),
        ({"threat": "still"}, "the threat model moves nothing"),
        ({"threat": "free", "radius": 2.0}, "radius is 2.0 times that of a threat model without a norm"),
        ({"weights": np.zeros(900, np.float32)}, "900 finite numbers above 0"),
        ({"weights": np.ones(3, np.float32)}, "900 finite numbers above 0"),
    ],
)
def test_what_cannot_be_trained_against_is_refused(mails, quick, change, says):
    three = np.zeros(3, np.float32), np.ones(3, np.float32), np.ones(3, np.bool_)
    threats = {
        "narrow": FeatureThreat(0.1, *three),
        "still": replace(mails.threat, radius=0.0),
        "free": replace(mails.threat, radius=0.0, norm="none"),
    }
    threat = threats.get(change.get("threat"), mails.threat)
    robust = RobustOptions(radius=change.get("radius", 1.0))
    with pytest.raises(InputError, match=says):
        train_robust(
            mails.network(), mails.training, mails.validation, quick(), robust, threat, weights=change.get("weights")
        )


def test_ordinary_training_has_no_robust_accuracy(mails, quick):
    result = train(mails.network(), mails.training, mails.validation, quick(epochs=1))
    assert math.isnan(result.best.robust_accuracy)


def test_free_training_takes_batches_whole(mails, quick):
    """It carries moves from one pass to the next: those of one part would be put on the records of another."""
    with pytest.raises(InputError, match="'free' carries moves from one pass over a batch to the next"):
        train_robust(
            mails.network(),
            mails.training,
            mails.validation,
            quick(accumulate=2),
            RobustOptions(method="free"),
            mails.threat,
        )
