"""Torch's oldest format: a tar archive of pickles with numbers between them.

Torch reads it only when it is told to unpickle anything, so the best verdict is unknown. The pickles are followed all
the same: what is dangerous in them is found.

Source: `legacy_load` in `torch/serialization.py`.
"""

from __future__ import annotations

import re

from hauberk.scan.archives import tar_rules as rules
from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.pickles import Storage, examine_pickle

_MEMBERS = frozenset({"pickle", "storages", "tensors"})
_SIZES = {
    "Double": 8, "Float": 4, "Half": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
}  # fmt: skip
_STORAGE = re.compile(r"torch\.(?:cuda\.)?(\w+)Storage")
_TYPE = re.compile(r"(?:cuda\.)?\w+(?:Tensor|Storage)")
_COUNT = 8  # bytes in front of the numbers of a storage
_MOST = 100_000


def is_torch_tar(members: dict[str, Content]) -> bool:
    """Whether torch would take an archive of these members for a checkpoint."""
    return _MEMBERS.issubset(members)


def examine_torch_tar(members: dict[str, Content], examination: Examination) -> None:
    """Follow all pickles, and examine what else there is."""
    examination.find(rules.LEGACY_TORCH, f"{len(members)} members")
    for name in ("sys_info", "pickle"):
        if name in members and members[name].size:
            with examination.inside(name) as child:
                examine_pickle(members[name], child, persistent=_anything, admitted=_is_torch_type)
    with examination.inside("storages") as child:
        _follow(members["storages"], child, storages=True)
    with examination.inside("tensors") as child:
        _follow(members["tensors"], child, storages=False)
    for name, content in members.items():
        if name not in _MEMBERS and name != "sys_info" and content.size:
            examination.examine(content, name)


def _follow(content: Content, examination: Examination, *, storages: bool) -> None:
    """The count, then a pickle and numbers for each item; behind storages one more pickle, of views."""
    at = 0
    for index in range(_MOST):
        examination.check_time()
        if at >= content.size:
            return
        result = examine_pickle(content, examination, start=at, persistent=_anything, admitted=_is_torch_type)
        if result.end is None:
            return
        at = result.end
        if index and at + _COUNT > content.size:
            return
        if index and storages:
            kinds = [match[1] for name in result.names if (match := _STORAGE.fullmatch(name))]
            if not kinds:
                continue  # the views, or the last one
            at += _COUNT + int.from_bytes(content.read(at, _COUNT), "little") * _SIZES.get(kinds[-1], 1)
        elif index:
            dimensions = int.from_bytes(content.read(at, 4), "little")
            at += 8 + 16 * dimensions + 8


def _anything(identifier: object) -> Storage:
    """Objects are referred to by number."""
    return Storage(str(identifier)[:40] if isinstance(identifier, int | str) else "", 1, 0, "")


def _is_torch_type(module: str, name: str) -> bool:
    return module in {"torch", "torch.cuda"} and _TYPE.fullmatch(name) is not None
