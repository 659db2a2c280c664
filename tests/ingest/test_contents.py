"""A table of contents comes from a process that may have been taken over: no table reaches beyond its memory."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Iterator

import msgspec
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hauberk.errors import RefusedModelError
from hauberk.ingest.contents import DATA_TYPES, Contents, Entry, Memory, Place, Told, most_written_out, tensors
from hauberk.ingest.isolated import decoded
from hauberk.ingest.private import PrivateCopy

SIZE = 4096


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    descriptor = os.memfd_create("hauberk-test")
    os.write(descriptor, bytes(range(256)) * (SIZE // 256))
    yield Memory(descriptor, SIZE)
    os.close(descriptor)


def entry(**changes: object) -> Entry:
    fields = {"name": "w", "dtype": "float32", "shape": (2, 3), "strides": (3, 1), "place": 0, "offset": 0}
    return Entry(**{**fields, **changes})  # type: ignore[arg-type]


PLACE = Place(0, 64, 24)


def test_a_table_becomes_tensors(memory: Memory) -> None:
    table = Contents((PLACE,), (entry(), entry(name="t", shape=(3, 2), strides=(1, 3))))
    found = tensors(table, [memory], "m")
    expected = torch.frombuffer(bytearray(range(64, 88)), dtype=torch.float32).reshape(2, 3)
    assert torch.equal(found["w"], expected)
    assert torch.equal(found["t"], expected.t())
    assert found["t"].data_ptr() == found["w"].data_ptr()


@pytest.mark.parametrize(
    ("places", "entries"),
    [
        ((Place(0, SIZE - 8, 24),), (entry(),)),
        ((Place(0, -8, 24),), (entry(),)),
        ((Place(0, 0, -24),), (entry(),)),
        ((Place(0, 1 << 63, 1 << 63),), (entry(),)),
        ((Place(1, 0, 24),), (entry(),)),
        ((Place(-1, 0, 24),), (entry(),)),
        ((), (entry(),)),
        ((PLACE,), (entry(place=1),)),
        ((PLACE,), (entry(place=-1),)),
        ((PLACE,), (entry(offset=1),)),
        ((PLACE,), (entry(offset=-1),)),
        ((PLACE,), (entry(shape=(2, 4)),)),
        ((PLACE,), (entry(shape=(2, -3)),)),
        ((PLACE,), (entry(strides=(4, 1)),)),
        ((PLACE,), (entry(strides=(-3, 1)),)),
        ((PLACE,), (entry(strides=(3,)),)),
        ((PLACE,), (entry(dtype="float64"),)),
        ((PLACE,), (entry(dtype="float33"),)),
        ((PLACE,), (entry(dtype="__class__"),)),
        ((PLACE,), (entry(shape=(1 << 62, 1 << 62, 1), strides=(0, 0, 0)),)),
        ((PLACE,), (entry(shape=(0, 1 << 62, 1 << 62), strides=(1, 1, 1)),)),
        ((PLACE,), (entry(shape=(0, 2), strides=(1 << 62, 1)),)),
        ((PLACE,), (entry(shape=(1,) * 65, strides=(1,) * 65),)),
        ((PLACE,), (entry(), entry())),
        ((PLACE,), (entry(name="w" * 5000),)),
    ],
)
def test_a_table_that_lies_is_refused(memory: Memory, places: tuple[Place, ...], entries: tuple[Entry, ...]) -> None:
    with pytest.raises(RefusedModelError, match="its table of contents is wrong"):
        tensors(Contents(places, entries), [memory], "m")


def test_more_tensors_than_any_model_has_are_refused(memory: Memory) -> None:
    many = (PLACE,) * ((1 << 20) + 1)
    with pytest.raises(RefusedModelError, match="at most 1048576"):
        tensors(Contents(many, ()), [memory], "m")


def test_tensors_without_elements_need_no_memory(memory: Memory) -> None:
    table = Contents((Place(0, 0, 0), PLACE), (entry(shape=(0, 3)), entry(name="e", shape=(3, 0), place=1)))
    found = tensors(table, [memory], "m")
    assert found["w"].shape == (0, 3)
    assert found["e"].shape == (3, 0)


def test_numbers_that_are_repeated_without_end_are_refused(memory: Memory) -> None:
    most = most_written_out(SIZE) // 4
    found = tensors(Contents((PLACE,), (entry(shape=(most,), strides=(0,)),)), [memory], "m")
    assert found["w"].shape == (most,)
    with pytest.raises(RefusedModelError, match=f"would take {4 * most + 4} bytes"):
        tensors(Contents((PLACE,), (entry(shape=(most + 1,), strides=(0,)),)), [memory], "m")


def test_places_that_would_be_copied_again_and_again_are_refused(memory: Memory) -> None:
    count = most_written_out(SIZE) // (SIZE - 1) + 1
    places = (Place(0, 1, SIZE - 1),) * count
    entries = tuple(entry(name=str(each), shape=(), strides=(), place=each) for each in range(count))
    with pytest.raises(RefusedModelError, match="its tensors repeat what they hold"):
        tensors(Contents(places, entries), [memory], "m")


def test_a_tensor_at_an_odd_place_is_copied_with_all_that_shares_it(memory: Memory) -> None:
    table = Contents((Place(0, 61, 24),), (entry(), entry(name="b", dtype="uint8", shape=(24,), strides=(1,))))
    found = tensors(table, [memory], "m")
    assert found["w"].data_ptr() % 4 == 0
    assert found["b"].tolist() == list(range(61, 85))
    found["b"].zero_()
    assert not found["w"].any()


def test_the_memory_itself_never_changes(memory: Memory) -> None:
    found = tensors(Contents((PLACE,), (entry(),)), [memory], "m")
    found["w"].fill_(7)
    assert os.pread(memory.descriptor, 24, 64) == bytes(range(64, 88))


NUMBERS = st.one_of(
    st.integers(-2, 40),
    st.sampled_from([SIZE - 1, SIZE, SIZE + 1, 1 << 31, 1 << 62, (1 << 63) - 1, 1 << 63, -(1 << 63)]),
)
PLACES = st.lists(st.builds(Place, st.integers(-1, 1), NUMBERS, NUMBERS), max_size=3).map(tuple)
SHAPES = st.lists(NUMBERS, max_size=3).map(tuple)
ENTRIES = st.lists(
    st.builds(Entry, st.sampled_from("abc"), st.sampled_from(sorted(DATA_TYPES)), SHAPES, SHAPES, NUMBERS, NUMBERS),
    max_size=3,
).map(tuple)
GOOD_PLACES = st.lists(
    st.builds(Place, st.just(0), st.integers(0, 64), st.integers(0, SIZE - 64)), min_size=1, max_size=2
)
GOOD_ENTRIES = st.integers(0, 3).flatmap(
    lambda rank: st.builds(
        Entry,
        st.just("a"),
        st.sampled_from(sorted(DATA_TYPES)),
        st.lists(st.integers(0, 9), min_size=rank, max_size=rank).map(tuple),
        st.lists(st.integers(0, 40), min_size=rank, max_size=rank).map(tuple),
        st.just(0),
        st.integers(0, 40),
    )
)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.builds(Contents, PLACES, ENTRIES),
        st.builds(Contents, GOOD_PLACES.map(tuple), GOOD_ENTRIES.map(lambda each: (each,))),
    )
)
def test_no_table_reaches_beyond_its_memory(memory: Memory, table: Contents) -> None:
    try:
        found = tensors(table, [memory], "m")
    except RefusedModelError:
        event("refused")
        return
    event("read")
    for each, tensor in zip(table.entries, found.values(), strict=True):
        place = table.places[each.place]
        assert tensor.untyped_storage().nbytes() == place.size
        if tensor.numel():
            last = tensor.storage_offset() + sum(
                (n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)
            )
            assert (last + 1) * tensor.dtype.itemsize <= place.size
            assert place.offset + place.size <= SIZE
            tensor.flatten()[-1].item()


ANSWERS = st.one_of(
    st.binary(max_size=80),
    st.tuples(st.tuples(PLACES.map(lambda places: [(p.memory, p.offset, p.size) for p in places]), st.just([]))).map(
        msgspec.msgpack.encode
    ),
)


@settings(max_examples=300, deadline=None)
@given(ANSWERS)
def test_no_bytes_make_the_reading_of_a_table_fail_otherwise(memory: Memory, tmp_path_factory, answer: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "model"
    path.write_bytes(b"x")
    with PrivateCopy(path) as copy, contextlib.suppress(RefusedModelError):
        told = decoded(answer, Told, copy)
        if isinstance(told.contents, Contents):
            tensors(told.contents, [memory], "m")


def test_a_table_of_more_than_can_be_is_refused_before_it_takes_memory(tmp_path) -> None:
    """Four bytes of an answer become a hundred in memory."""
    (tmp_path / "model").write_bytes(b"x")
    answer = b"\x91\x92\xdd" + (1 << 22).to_bytes(4, "big") + b"\x93\0\0\0" * (1 << 22) + b"\x90"
    with PrivateCopy(tmp_path / "model") as copy:
        tracemalloc.start()
        with pytest.raises(RefusedModelError, match="nonsense"):
            decoded(answer, Told, copy)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20
