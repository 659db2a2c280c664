"""What other libraries say is quoted on one line."""

from __future__ import annotations

import pytest

from hauberk.errors import one_line


@pytest.mark.parametrize(
    ("said", "quoted"),
    [("a\n  b\t c ", "a b c"), ("", "ValueError"), ("x" * 301, "x" * 300 + "…"), ("x" * 300, "x" * 300)],
    ids=["breaks and spaces", "nothing", "too long", "as long as may be"],
)
def test_one_line(said, quoted):
    assert one_line(ValueError(said)) == quoted


def test_lines_that_say_where_it_stopped_are_left_out_unless_nothing_else_is_said():
    places = ("Exception from", "Check ")
    assert one_line(RuntimeError("Exception from src/a.cpp:3:\nno such input\n"), without=places) == "no such input"
    assert one_line(RuntimeError("Exception from src/a.cpp:3:"), without=places) == "Exception from src/a.cpp:3:"
