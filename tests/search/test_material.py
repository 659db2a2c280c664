"""A model says what a record is, and gets such records."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from hauberk.compress.tuning import answers
from hauberk.data import load_digits, load_splits
from hauberk.errors import InputError
from hauberk.models import ImageCard, write_card
from hauberk.schema import Decision, FeatureSpace, ImageSpace
from hauberk.search.material import DataSource, gather
from hauberk.search.prepare import ModelSource, unseen_by

SPAMBASE = DataSource("spambase")


def test_source_and_graph_alone_give_the_same_core(trained):
    """The same seed splits the same records, and log-minmax fitted to them is what the card says."""
    with_card, alone = (gather(source, SPAMBASE, seed=0) for source in (trained.as_source, trained.as_onnx))
    np.testing.assert_array_equal(with_card.test.features, alone.test.features)
    one, other = (answers(each.core, each.test.features) for each in (with_card, alone))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert with_card.context.teacher is not None
    np.testing.assert_array_equal(with_card.context.teacher.predict(with_card.test.features), one)


def test_records_are_unseen_where_the_card_shows_the_same_split(trained):
    assert gather(trained.as_source, SPAMBASE, seed=0).unseen
    assert not gather(trained.as_source, SPAMBASE, seed=1).unseen  # another split: tested on what it was trained on
    assert not gather(trained.as_onnx, SPAMBASE, seed=0).unseen


def test_windows_split_in_other_blocks_are_not_unseen(trained):
    """The same data and seed in blocks of another length are other splits."""
    splits = load_splits("spambase", schema=trained.card.schema, block=16)
    assert not unseen_by(trained.card, splits)
    in_blocks = msgspec.structs.replace(trained.card.training, split_block=16)
    assert unseen_by(msgspec.structs.replace(trained.card, training=in_blocks), splits)


def test_decisions_are_those_at_the_cards_threshold(trained):
    decision = Decision(threshold=1.5)
    source = replace(trained.as_source, card=msgspec.structs.replace(trained.card, decision=decision))
    found = gather(source, SPAMBASE, seed=0)
    assert found.context.threshold == 1.5


def test_windows_are_made_of_a_table(saved):
    source = saved(8, 57)
    found = gather(source, SPAMBASE, seed=0)
    assert found.test.features.shape[1:] == (8, 57)
    assert [part.shape for part in found.context.bounds] == [(8, 57), (8, 57)]
    assert found.context.mutable is not None
    assert found.context.mutable.shape == (8, 57)


def test_windows_come_as_features(saved, windows):
    found = gather(saved(6, 4), DataSource(windows), seed=0)
    assert len(found.test) == 80
    assert found.context.task == "detection"


def test_images_of_three_classes_are_classified(saved, tmp_path):
    images = np.random.default_rng(0).normal(size=(90, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "images.npz", features=images, labels=np.array(["a", "b", "c"] * 30))
    source = saved(1, 8, 8, outputs=3)
    found = gather(source, DataSource(tmp_path / "images.npz"), seed=0)
    assert found.context.task == "classification"
    assert set(found.test.targets) == {0, 1, 2}


def test_another_model_may_teach(trained):
    found = gather(trained.as_source, SPAMBASE, seed=0, teacher=trained.onnx)
    assert found.context.teacher is not None
    own = answers(found.core, found.test.features)
    np.testing.assert_allclose(found.context.teacher.predict(found.test.features), own, rtol=1e-4, atol=1e-5)


def test_images_do_not_come_from_a_table(saved):
    with pytest.raises(InputError, match=r"reads \[1, 8, 8\] a record, which no table gives; .*'features'"):
        gather(saved(1, 8, 8), SPAMBASE, seed=0)


def test_features_of_another_shape_are_refused(saved, windows):
    source = saved(6, 5)
    with pytest.raises(InputError, match="the model takes 6×5 features, the data has 6×4"):
        gather(source, DataSource(windows), seed=0)


def test_a_table_of_another_width_is_refused(saved):
    source = saved(9)
    with pytest.raises(InputError, match="the model takes 9 features, the data has 57"):
        gather(source, SPAMBASE, seed=0)


def test_another_number_of_classes_is_refused(saved, windows):
    source = saved(6, 4, outputs=3)
    with pytest.raises(InputError, match="2 classes; the model tells 3 apart"):
        gather(source, DataSource(windows), seed=0)


def test_a_teacher_of_other_records_is_refused(trained, saved):
    other = saved(9)
    with pytest.raises(InputError, match=r"the teacher takes \[9\] a record, the model \[57\]"):
        gather(trained.as_source, SPAMBASE, seed=0, teacher=other.path)


def with_card(source: ModelSource, classes: tuple[str, ...]) -> ModelSource:
    """The same graph with the card of a model of 32×32 grey images."""
    card = ImageCard(
        architecture="mine",
        parameters={},
        image=ImageSpace(1, 32, 32, (0.3,), (0.2,)),
        classes=classes,
        weights_sha256=hashlib.sha256(source.path.read_bytes()).hexdigest(),
    )
    path = source.path.with_name("card.json")
    write_card(card, path)
    return replace(source, card_path=path)


def test_images_are_read_as_the_card_says(saved):
    digits = load_digits(0)
    found = gather(with_card(saved(1, 32, 32, outputs=10), digits.test.classes), DataSource("digits"), seed=0)
    pixels = digits.test.images[:, None, :, :, 0].astype(np.float32) / 255
    np.testing.assert_allclose(found.test.features, (pixels - 0.3) / 0.2, atol=1e-5)
    assert found.context.task == "classification"
    low, high = found.context.bounds
    np.testing.assert_allclose([low.min(), low.max(), high.min(), high.max()], [-1.5, -1.5, 3.5, 3.5], rtol=1e-6)
    assert (found.test.features >= low - 1e-6).all()
    assert (found.test.features <= high + 1e-6).all()


def test_images_without_a_card_are_refused(saved):
    with pytest.raises(InputError, match="images need a model card that says how pixels become features"):
        gather(saved(1, 32, 32, outputs=10), DataSource("digits"), seed=0)


def test_images_of_other_classes_are_refused(saved):
    source = with_card(saved(1, 32, 32, outputs=2), ("cat", "dog"))
    with pytest.raises(InputError, match=r"classes are .*; the model tells cat, dog apart"):
        gather(source, DataSource("digits"), seed=0)


def features_of(trained, folder, **arrays):
    """The bundled records as the detector takes them, in a file."""
    splits = load_splits("spambase", schema=trained.card.schema)
    space = FeatureSpace(trained.card.schema, trained.card.preprocessing)
    labelled = [(space.transform(*part.coded), part.targets) for part in (splits.training, splits.test)]
    features, targets = (np.concatenate(each) for each in zip(*labelled, strict=True))
    np.savez(folder / "records.npz", **{"features": features, "labels": targets, **arrays})
    return DataSource(folder / "records.npz")


def test_a_trained_detector_takes_features_without_names(trained, tmp_path):
    found = gather(trained.as_source, features_of(trained, tmp_path), seed=0)
    by_name = gather(trained.as_source, SPAMBASE, seed=0)
    for one, other in zip(found.context.bounds, by_name.context.bounds, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.context.mutable, by_name.context.mutable)
    answered = answers(found.core, found.test.features).argmax(axis=1)
    assert (answered == found.test.targets).mean() > 0.9
    assert not found.unseen


def test_features_without_names_of_another_width_are_refused(trained, tmp_path):
    data = features_of(trained, tmp_path, features=np.zeros((100, 9)), labels=np.arange(100) % 2)
    with pytest.raises(InputError, match="the model takes 57 features, the data has 9"):
        gather(trained.as_source, data, seed=0)


def test_columns_before_preprocessing_are_not_taken_for_features(trained, tmp_path):
    numbers = np.full((100, 57), 300.0)
    data = features_of(trained, tmp_path, features=numbers, labels=np.arange(100) % 2)
    with pytest.raises(InputError, match=r"far outside its range in training.*give 'names'"):
        gather(trained.as_source, data, seed=0)


def test_a_trained_detector_takes_columns_with_names_from_an_npz_file(trained, tmp_path):
    """Its array `labels` is the label, whatever that was called in the training."""
    splits = load_splits("spambase", schema=trained.card.schema)
    names = [feature.name for feature in splits.training.schema.numbers]
    texts = np.array(["ham", "spam"])[splits.training.targets]
    np.savez(tmp_path / "named.npz", features=splits.training.coded.numeric, labels=texts, names=np.array(names))
    found = gather(trained.as_source, DataSource(tmp_path / "named.npz"), seed=0)
    assert (answers(found.core, found.test.features).argmax(axis=1) == found.test.targets).mean() > 0.9
