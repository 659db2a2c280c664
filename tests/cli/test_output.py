"""What commands print, where the terminal cannot show it all."""

from __future__ import annotations

import io
import sys

import pytest

from hauberk.cli.output import Output


@pytest.mark.parametrize(
    ("encoding", "line", "shown"),
    [
        ("ascii", "7 µs", b"7 \\xb5s\n"),
        ("utf-8", "7 µs", "7 µs\n".encode()),
        ("utf-8", "b\udcff.hbk", b"b\\udcff.hbk\n"),  # a file name that is not UTF-8, as Python hands it over
    ],
)
def test_what_the_terminal_lacks_is_escaped(monkeypatch, encoding, line, shown):
    for name, write in (("stdout", Output(json=False).text), ("stderr", Output(json=False).note)):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding, write_through=True))
        write(line)
        assert raw.getvalue() == shown
