"""The inside of the scanning process: files that were opened elsewhere and handed over, one report for each.

A target of `hauberk.sandbox.forkserver`. It opens nothing: the process it runs in could not.
"""

from __future__ import annotations

import codecs
import gc
import inspect
import os
import pkgutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import msgspec

from hauberk import scan
from hauberk.scan.content import FileContent
from hauberk.scan.examination import ScanLimits
from hauberk.scan.walk import scan_content

_OUTSIDE = frozenset({"supervised", "sarif", "catalogue"})
_CODECS = ("ascii", "latin-1", "utf-8", "utf-16", "cp437", "unicode_escape", "raw_unicode_escape")


class Handed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked about the first descriptors.

    Attributes:
        paths: What to call the files, one for each; a name need not be text. Absolute, where a format names others.
        sizes: Bytes of each.
        limits: How far to go with each.
    """

    paths: tuple[bytes, ...]
    sizes: tuple[int, ...]
    limits: ScanLimits


def prepare() -> None:
    """Import and read all that a scan could later: the process that scans can open no file, not even Python's own.

    Tables and lists that the scanners read once and keep are what functions without arguments keep (`functools.cache`).
    """
    for found in pkgutil.walk_packages(scan.__path__, f"{scan.__name__}."):
        if found.name.rpartition(".")[2] in _OUTSIDE:
            continue
        module = import_module(found.name)
        for value in list(vars(module).values()):
            if hasattr(value, "cache_info") and not inspect.signature(value).parameters:
                value()
    for name in _CODECS:
        codecs.lookup(name)
    gc.freeze()  # what stays for good is not looked at again, and children go on sharing its pages


def scan_handed(question: bytes, descriptors: Sequence[int]) -> Iterator[bytes]:
    """Reports, in the order of the paths; further descriptors are files that the last one names."""
    handed = msgspec.msgpack.decode(question, type=Handed)
    for path, size, descriptor in zip(handed.paths, handed.sizes, descriptors, strict=False):
        report = scan_content(FileContent(descriptor, size), path=Path(os.fsdecode(path)), limits=handed.limits)
        yield msgspec.msgpack.encode(report)
