"""Archives and compressed streams: what they hold is examined, and they themselves are.

`FORMATS` is made when it is first asked for: what may lie in a zip archive is known to rooms that import this one.
"""

from functools import cache

from hauberk.scan.formats import Format


@cache
def _formats() -> tuple[Format, ...]:
    from hauberk.scan.archives import closed, streams, tar, zip_format  # noqa: PLC0415 - see above

    return (*zip_format.FORMATS, *tar.FORMATS, *streams.FORMATS, *closed.FORMATS)


def __getattr__(name: str) -> tuple[Format, ...]:
    if name == "FORMATS":
        return _formats()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
