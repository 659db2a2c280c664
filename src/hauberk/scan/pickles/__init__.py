"""Pickles, bare and in the formats that carry them: numpy's, joblib's and torch's without a zip archive.

`examine_pickle` follows one pickle anywhere; readers of archives call it for the pickles that they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.pickles.calls import Admitted, Persistent
from hauberk.scan.pickles.machine import Machine
from hauberk.scan.pickles.rules import EMBEDDED, RULES
from hauberk.scan.pickles.torch_names import torch_storage
from hauberk.scan.pickles.values import Storage

__all__ = ["RULES", "PickleResult", "Storage", "examine_pickle", "torch_storage"]


@dataclass(frozen=True)
class PickleResult:
    """What a pickle holds, beside what was found wrong with it.

    Attributes:
        end: Behind its STOP; `None` where it breaks off before, which was found.
        storages: Tensor storages that its persistent ids refer to, in order; the same key may come more than once.
        names: Every name that it asks for, each once, in order.
        arrays: Arrays in the stream that were stepped over (joblib).
    """

    end: int | None
    storages: tuple[Storage, ...]
    names: tuple[str, ...]
    arrays: int = 0


def examine_pickle(
    content: Content,
    examination: Examination,
    *,
    start: int = 0,
    persistent: Persistent | None = None,
    admitted: Admitted | None = None,
) -> PickleResult:
    """Follow one pickle and report what it does that it should not. Nothing is imported or called.

    Args:
        content: Holds it. What lies behind its end is the caller's business.
        examination: Is told.
        start: Where it begins.
        persistent: Says what a persistent id stands for, or `None` for one that it does not know, which is then found;
            `torch_storage` for what torch writes. Without it every persistent id is found.
        admitted: Names that the content's own reader resolves by itself and that are harmless to it (the classes in a
            TorchScript archive, which its reader in C++ takes from the archive's code).

    Returns:
        Where it ends and what it refers to.

    Raises:
        StopScan: Time is up.
    """
    machine = Machine(content, examination, start=start, persistent=persistent, admitted=admitted)
    machine.run()
    return PickleResult(machine.end, tuple(machine.storages), tuple(machine.names), machine.arrays)


@cache
def _formats() -> tuple[Format, ...]:
    from hauberk.scan.pickles import bare, embedded, npy, torch_stream  # noqa: PLC0415 - they use what is above

    bare_rules = (*RULES, EMBEDDED)
    return (
        Format("npy", npy.recognise, npy.examine, npy.RULES, npy.MAGIC[:1]),
        Format("pytorch-stream", torch_stream.recognise, torch_stream.examine, torch_stream.RULES, b"\x80"),
        Format("pickle", bare.begins_pickle, bare.examine_bare, bare_rules),
        Format("pickle-embedded", embedded.recognise, embedded.examine, bare_rules),
    )


def __getattr__(name: str) -> tuple[Format, ...]:
    if name == "FORMATS":
        return _formats()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
