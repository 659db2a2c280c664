"""The reference detector: trained on Spambase, saved whole or not at all, as good as scikit-learn's network."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPClassifier

from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.models import read_card
from hauberk.train import TrainedDetector, TrainingOptions, prepare_folder, save_detector, train_detector
from hauberk.train.loop import train

QUICK = TrainingOptions(epochs=3)


@pytest.fixture(scope="module")
def splits():
    return load_splits("spambase")


@pytest.fixture(scope="module")
def quick(splits) -> TrainedDetector:
    return train_detector(splits, widths=(16,), options=QUICK)


def features(trained, part):
    return trained.card.space.transform(part.coded.numeric, part.coded.codes)


def accuracy(trained, part) -> float:
    with torch.no_grad():
        logits = trained.module(torch.tensor(features(trained, part))).numpy()
    return float(np.mean((trained.card.decision.margin(logits) >= 0) == part.targets))


def test_it_is_as_good_as_scikit_learns_network(splits):
    """Within two percentage points on the validation split (919 records: one standard error is 0.8 points)."""
    trained = train_detector(splits, widths=(64, 32))
    reference = MLPClassifier((64, 32), early_stopping=True, random_state=0, batch_size=256, max_iter=60)
    reference.fit(features(trained, splits.training), splits.training.targets)
    theirs = reference.score(features(trained, splits.validation), splits.validation.targets)
    assert accuracy(trained, splits.validation) >= theirs - 0.02


def test_the_card_says_what_was_measured(splits, quick):
    record = quick.card.training
    figure = record.figures["accuracy"]
    assert figure.value == pytest.approx(accuracy(quick, splits.validation), abs=1e-6)
    assert figure.low < figure.value < figure.high
    assert figure.samples == len(splits.validation)
    assert (record.data, record.data_digest, record.split_seed) == ("spambase", splits.digest, 0)
    assert record.options == msgspec.to_builtins(QUICK)
    assert record.epochs == 3


def test_the_same_seed_gives_the_same_weights(splits, quick):
    again = train_detector(splits, widths=(16,), options=QUICK)
    assert again.card.weights_sha256 == quick.card.weights_sha256


def test_another_seed_gives_other_weights(splits, quick):
    other = train_detector(splits, widths=(16,), options=TrainingOptions(epochs=3, seed=1))
    assert other.card.weights_sha256 != quick.card.weights_sha256


def test_a_saved_detector_is_two_files_that_belong_together(tmp_path, quick):
    save_detector(quick, tmp_path / "new" / "detector")
    folder = tmp_path / "new" / "detector"
    assert sorted(path.name for path in folder.iterdir()) == ["detector.json", "detector.safetensors"]
    card = read_card(folder / "detector.json")
    assert card == quick.card
    assert card.weights_sha256 == hashlib.sha256((folder / "detector.safetensors").read_bytes()).hexdigest()


def test_saving_again_replaces_both(tmp_path, splits, quick):
    save_detector(train_detector(splits, widths=(4,), options=TrainingOptions(epochs=1)), tmp_path)
    save_detector(quick, tmp_path)
    assert read_card(tmp_path / "detector.json") == quick.card


def test_an_old_card_never_stands_beside_new_weights(tmp_path):
    """Files end at 4 KiB, enough for the weights of one unit but not for a card: no card means no detector."""
    (tmp_path / "detector.json").write_text("an older card")
    code = f"""
import resource
from pathlib import Path
from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.train import TrainingOptions, save_detector, train_detector
trained = train_detector(load_splits("spambase"), widths=(1,), options=TrainingOptions(epochs=1))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_detector(trained, Path({str(tmp_path)!r}))
except InputError as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no space left" in shown.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["detector.safetensors"]


def test_weights_that_changed_since_are_not_saved_under_the_old_card(tmp_path, splits):
    trained = train_detector(splits, widths=(4,), options=TrainingOptions(epochs=1))
    with torch.no_grad():
        trained.module.layers[0].bias += 1
    with pytest.raises(InputError, match="not those that its model card names"):
        save_detector(trained, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_an_input_error(tmp_path, quick):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="exists and is not a folder"):
        save_detector(quick, tmp_path / "taken")


def test_a_folder_in_the_place_of_the_card_is_found_before_the_training(tmp_path):
    (tmp_path / "detector.json").mkdir()
    with pytest.raises(InputError, match=r"detector\.json: cannot write"):
        prepare_folder(tmp_path)


def test_training_does_not_look_at_the_test_split(splits, quick):
    blind = msgspec.structs.replace(QUICK)
    shuffled = splits.test.take(np.arange(len(splits.test))[::-1].copy())
    other = type(splits)(splits.training, splits.validation, shuffled.take(np.arange(60)), splits.digest, 0, "spambase")
    assert train_detector(other, widths=(16,), options=blind).card.weights_sha256 == quick.card.weights_sha256


def test_the_loop_is_what_trains_the_detector(splits, quick):
    """A module with the detector's first weights, trained by the loop alone, ends with the detector's last weights."""
    from hauberk.models import TabularMLP
    from hauberk.recipe import LabelledFeatures

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = TabularMLP(57, (16,), 2)
    parts = [LabelledFeatures(features(quick, part), part.targets) for part in (splits.training, splits.validation)]
    train(module, *parts, QUICK)
    for name, value in module.state_dict().items():
        assert torch.equal(value, quick.module.state_dict()[name])
