"""Features of any shape from an NPZ file, split, or refused in one line."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from hauberk.data.features import holds_features, load_features
from hauberk.data.readers import parse_table
from hauberk.errors import InputError


@pytest.fixture
def file(tmp_path):
    def save(features=None, labels=None, **arrays):
        windows = np.random.default_rng(0).normal(size=(100, 4, 3))
        given = {"features": windows if features is None else features, **arrays}
        given["labels"] = np.arange(len(given["features"])) % 2 if labels is None else labels
        np.savez(tmp_path / "windows.npz", **given)
        return tmp_path / "windows.npz"

    return save


def test_every_record_is_in_one_part_with_its_own_label(file):
    features = np.arange(100 * 4 * 3, dtype=np.float32).reshape(100, 4, 3)
    labels = np.where(np.arange(100) % 4 == 0, "evil", "fine")
    splits = load_features(file(features, labels), benign="fine")
    parts = (splits.training, splits.validation, splits.test)
    assert [len(part) for part in parts] == [60, 20, 20]
    rows = np.concatenate([part.features[:, 0, 0] / 12 for part in parts]).astype(int)
    assert sorted(rows) == list(range(100))
    assert (np.concatenate([part.targets for part in parts]) == (labels[rows] == "evil")).all()
    assert splits.classes == ("fine", "evil")


def test_numbers_are_class_indices_as_they_are(file):
    splits = load_features(file(labels=np.arange(100) % 3))
    assert splits.classes == ("0", "1", "2")
    assert set(splits.test.targets) == {0, 1, 2}


def test_the_same_seed_gives_the_same_split(file):
    path = file()
    one, same, other = (load_features(path, seed=seed).test.features for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("shape", "expected"), [((100, 4, 3), True), ((100, 1, 8, 8), True), ((100, 5), False)])
def test_tables_are_left_to_their_own_reader(file, shape, expected):
    assert holds_features(file(np.zeros(shape))) is expected


def test_columns_without_names_are_features_of_a_model_that_has_names(file):
    path = file(np.zeros((100, 2)))
    assert holds_features(path, ["rate", "bytes"])
    assert not holds_features(path, ["feature_0", "feature_1"])  # trained on just such a file
    assert not holds_features(file(np.zeros((100, 2)), names=np.array(["rate", "bytes"])), ["rate", "bytes"])


def test_columns_are_not_counted_out_however_many_a_file_claims(tmp_path):
    claimed = io.BytesIO()
    np.lib.format.write_array_header_1_0(claimed, {"descr": "<f4", "fortran_order": False, "shape": (1, 10**6)})
    with zipfile.ZipFile(path := tmp_path / "x.npz", "w") as archive:
        archive.writestr("features.npy", claimed.getvalue())
    tracemalloc.start()
    try:
        assert holds_features(path, ["rate", "bytes"])
        assert holds_features(path, ["feature_0", "feature_1000000"])
        assert holds_features(path, ["feature_00"])
        assert not holds_features(path, ["feature_0", "feature_999999"])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_of_two_names_the_usual_one_is_benign(file):
    labels = np.where(np.arange(100) % 4 == 0, "attack", "normal")
    assert load_features(file(labels=labels)).classes == ("normal", "attack")
    assert load_features(file(labels=labels), benign="attack").classes == ("attack", "normal")


def damaged(content: bytes) -> bytes:
    return content[:60] + b"\xff" * 30 + content[90:]


def encrypted(content: bytes) -> bytes:
    """Marked so in the headers of all members; the flags are 6 bytes into a local, 8 into a central header."""
    marked = bytearray(content)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := content.find(signature, place + 1)) >= 0:
            marked[place + flags] |= 1
    return bytes(marked)


def claims_terabytes(content: bytes) -> bytes:
    """An array whose header names a size that no memory holds."""
    claimed, labels = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(claimed, {"descr": "<f4", "fortran_order": False, "shape": (1 << 44, 2, 2)})
    np.save(labels, np.arange(100))
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        archive.writestr("features.npy", claimed.getvalue())
        archive.writestr("labels.npy", labels.getvalue())
    return made.getvalue()


@pytest.mark.parametrize("broken", [damaged, encrypted, claims_terabytes])
def test_what_numpy_cannot_read_is_one_line(broken, tmp_path):
    content = io.BytesIO()
    np.savez_compressed(content, features=np.random.default_rng(0).normal(size=(100, 4, 3)), labels=np.arange(100) % 2)
    path = tmp_path / "x.npz"
    path.write_bytes(broken(content.getvalue()))
    holds_features(path)  # whatever it answers, it answers
    for read in (lambda: load_features(path), lambda: parse_table(path.read_bytes(), path)):
        with pytest.raises(InputError, match=r"x\.npz: cannot be read as NPZ"):
            read()


def test_what_is_no_npz_holds_no_features(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 and so on")
    (tmp_path / "x.csv").write_text("a,b\n")
    assert not holds_features(tmp_path / "x.npz")
    assert not holds_features(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"labels": np.arange(100) % 2 + 1}, "number them from 0"),
        ({"labels": np.linspace(0, 1, 100)}, "'labels' is float64"),
        ({"labels": np.zeros(100, int)}, "all records are of class '0'"),
        ({"labels": np.arange(7)}, r"'labels' \[7\]"),
        ({"features": np.full((100, 2, 2), np.nan)}, "record 0 holds what is not finite"),
        ({"features": np.zeros((20, 2, 2))}, "20 records; at least 50"),
        ({"labels": np.array([0] * 98 + [1] * 2)}, "no record left for the"),
    ],
)
def test_bad_files_are_named(file, arrays, says):
    with pytest.raises(InputError, match=says):
        load_features(file(**arrays))


def test_an_unknown_benign_class_is_named(file):
    with pytest.raises(InputError, match="no record is of class 'normal'; there are 0, 1"):
        load_features(file(), benign="normal")
