"""A model as the user names it: whose seed counts, and what is never written over."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hauberk.errors import InputError
from hauberk.models import write_card
from hauberk.search.source import find_source, require_apart


def test_the_seed_is_that_of_the_card_unless_another_is_asked_for(trained, tmp_path):
    card = replace(trained.card, training=replace(trained.card.training, split_seed=5))
    write_card(card, tmp_path / "card.json")
    source, seed = find_source(trained.folder, card=tmp_path / "card.json")
    assert (seed, source.card, source.card_path) == (5, card, tmp_path / "card.json")
    assert find_source(trained.folder, card=tmp_path / "card.json", seed=7)[1] == 7


def test_a_file_alone_has_no_card_and_seed_0(trained):
    source, seed = find_source(trained.onnx, preprocessing="standard")
    assert (source.card, source.card_path, source.preprocessing, seed) == (None, None, "standard", 0)


@pytest.mark.parametrize("taken", ["detector.safetensors", "detector.json", "nets.py", "data.csv"])
def test_nothing_that_the_result_is_made_of_is_written_over(trained, tmp_path, taken):
    arch = f"{tmp_path / 'nets.py'}:net"
    source, _ = find_source(trained.folder, arch=arch)
    folder = trained.folder if taken.startswith("detector") else tmp_path
    with pytest.raises(InputError, match=f"{taken}: the result is made of this file"):
        require_apart((tmp_path / "free.onnx", folder / taken), source, (tmp_path / "data.csv", None))
    require_apart((tmp_path / "free.onnx",), source, (tmp_path / "data.csv", None))
