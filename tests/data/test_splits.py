import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hauberk.data import stratified_split

_labels = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(np.array)


@given(_labels, st.integers(0, 2**32 - 1))
def test_every_row_is_in_exactly_one_part(labels, seed):
    parts = stratified_split(labels, (0.6, 0.2, 0.2), seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


@given(_labels, st.integers(0, 2**32 - 1))
def test_every_class_has_its_share_to_within_one_record(labels, seed):
    parts = stratified_split(labels, (0.6, 0.2, 0.2), seed)
    for label in np.unique(labels):
        count = int((labels == label).sum())
        sizes = [int((labels[part] == label).sum()) for part in parts]
        assert sizes[0] >= 1
        assert all(abs(size - share * count) <= 1 for size, share in zip(sizes, (0.6, 0.2, 0.2), strict=True))


def test_the_seed_decides():
    labels = np.arange(100) % 2
    first, again, other = (stratified_split(labels, (0.8, 0.2), seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_a_class_of_two_records_stays_in_the_first_part():
    parts = stratified_split(np.array([0] * 10 + [1] * 2), (0.6, 0.2, 0.2), 0)
    assert {10, 11} <= set(parts[0].tolist())
