"""Asking only the formats that can begin with a byte changes nothing but the time that it takes."""

from __future__ import annotations

import pytest
from seeds import seeds

from hauberk.scan.content import BytesContent, CutError
from hauberk.scan.formats import HEAD, Format, formats, recognise

SEEDS = dict(seeds())
CHOOSY = [each for each in formats() if each.first]


def recognises(each: Format, data: bytes) -> bool:
    try:
        return each.recognise(data[:HEAD], BytesContent(data))
    except CutError:
        return False


@pytest.mark.parametrize("name", SEEDS)
def test_the_format_is_the_same_as_when_all_are_asked(name):
    data = SEEDS[name]
    everybody = next((each for each in formats() if recognises(each, data)), None)
    assert recognise(BytesContent(data)) is everybody


@pytest.mark.parametrize("each", CHOOSY, ids=lambda each: each.name)
def test_a_format_knows_nothing_that_begins_with_another_byte_than_it_says(each):
    others = [bytes([code]) for code in range(256) if code not in each.first]
    assert not any(recognises(each, first + data[1:]) for data in SEEDS.values() for first in others)


def test_most_formats_say_what_they_begin_with():
    assert len(CHOOSY) > len(formats()) // 2
