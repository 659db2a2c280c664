"""Windows: truly consecutive, labelled by their newest record, and no record in windows of two splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.data import Dataset, block_split, load_splits, newest_records, windows_of
from hauberk.errors import InputError
from hauberk.schema import Coded, Label, NumericFeature, RecordSchema

SCHEMA = RecordSchema((NumericFeature(name="row", low=0, high=1e6),), Label("class", ("good", "bad"), "good"))


def dataset(rows) -> Dataset:
    """Records whose one number is their position in the source."""
    rows = np.asarray(rows, dtype=np.int64)
    coded = Coded(rows[:, None].astype(np.float32), np.zeros((len(rows), 0), np.int64))
    return Dataset("flows", SCHEMA, coded, rows % 2, rows)


_rows = st.lists(st.integers(0, 60), min_size=1, max_size=50, unique=True).map(sorted)


@given(_rows, st.integers(1, 6), st.integers(1, 4))
def test_every_window_of_consecutive_records_is_found_and_no_other(rows, window, stride):
    data = dataset(rows)
    present = set(rows)
    expected = [row for row in rows if {row - back for back in range(window)} <= present][::stride]
    if not expected:
        with pytest.raises(InputError, match=f"flows: there are no {window} records in a row"):
            newest_records(data, window, stride)
        return
    newest = newest_records(data, window, stride)
    windows = windows_of(data.coded.numeric, newest, window)
    assert windows.shape == (len(expected), window, 1)
    assert windows[:, :, 0].tolist() == [list(range(row - window + 1, row + 1)) for row in expected]


@settings(max_examples=50)
@given(st.integers(100, 400), st.integers(1, 40), st.integers(0, 99))
def test_blocks_are_whole_and_every_row_is_in_one_part(records, block, seed):
    parts = block_split(records, (0.6, 0.2, 0.2), block, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(records))
    owner = np.empty(records, int)
    for number, part in enumerate(parts):
        assert (np.diff(part) > 0).all()
        owner[part] = number
    assert all(len(set(owner[first : first + block])) == 1 for first in range(0, records, block))


def test_parts_have_their_shares_of_blocks():
    assert [len(part) for part in block_split(1000, (0.6, 0.2, 0.2), 10, 3)] == [600, 200, 200]


def test_no_record_is_in_windows_of_two_splits():
    splits = load_splits("spambase", block=40)
    seen = []
    for part in (splits.training, splits.validation, splits.test):
        newest = newest_records(part, 8)
        seen.append({int(part.rows[index - back]) for index in newest for back in range(8)})
    assert all(seen)
    assert len(set().union(*seen)) == sum(map(len, seen))


def test_records_of_a_file_of_their_own_are_all_consecutive():
    data = dataset(range(10))
    whole = Dataset(data.name, data.schema, data.coded, data.labels)
    assert newest_records(whole, 4).tolist() == list(range(3, 10))


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (3, 0)])
def test_impossible_windows_are_refused(window, stride):
    with pytest.raises(InputError, match="both must be at least 1"):
        newest_records(dataset(range(10)), window, stride)


@pytest.mark.parametrize(("block", "says"), [(0, "a block of a split is 0"), (4000, "too few for blocks of 4000")])
def test_impossible_blocks_are_refused(block, says):
    with pytest.raises(InputError, match=says):
        load_splits("spambase", block=block)
