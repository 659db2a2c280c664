"""Formats of this room, in the order of asking."""

from hauberk.scan.formats import Format

FORMATS: tuple[Format, ...] = ()
