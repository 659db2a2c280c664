"""The zip archives that torch writes: checkpoints (`torch.save`), TorchScript and exported programs (`.pt2`).

Torch reads with miniz: it takes the folder of the first member for the root, and finds members without regard to case.
A checkpoint is a pickle, `data.pkl`, and a storage for every tensor, which is never read here: it holds numbers and
nothing else. What counts is that it is there and as long as the pickle claims.

Sources: `torch/serialization.py`, `caffe2/serialize/inline_container.cc`.
"""

from __future__ import annotations

from hauberk.scan.archives import torch_rules as rules
from hauberk.scan.archives.exported_program import examine_program
from hauberk.scan.archives.kinds import ZipKind
from hauberk.scan.archives.plain_zip import examine_members
from hauberk.scan.archives.torch_members import check_records, check_storages, examine_torch_pickle
from hauberk.scan.archives.torch_script import examine_script
from hauberk.scan.archives.zip import Zip
from hauberk.scan.examination import Examination
from hauberk.scan.pickles import RULES as PICKLE_RULES
from hauberk.scan.report import shown

_OLD_PROGRAM = "serialized_exported_program.json"  # torch up to 2.7, all at the top


def root_of(archive: Zip) -> str:
    """The folder that torch takes for the model, with its slash; empty where it finds none."""
    first = next(iter(archive.members), "")
    folder, slash, _ = first.partition("/")
    return folder + slash if slash else ""


def below(archive: Zip, root: str) -> dict[str, str]:
    """Members of a folder: their names in it, and in the archive."""
    return {name.removeprefix(root): name for name in archive.members if name.startswith(root)}


def _is_package(archive: Zip) -> bool:
    return "/.data/extern_modules" in archive.lower_names


def _is_checkpoint(archive: Zip) -> bool:
    return "data.pkl" in archive.below_top


def _is_script(archive: Zip) -> bool:
    """A program with its constants, one for the small interpreter (`.ptl`), or one of torch 1.0 (`model.json`)."""
    signs = archive.below_top
    if "constants.pkl" in signs or "bytecode.pkl" in signs or {"code/", "data.pkl"} <= signs:
        return True
    return "model.json" in signs and not signs.isdisjoint({"version", ".data/"})


def _is_program(archive: Zip) -> bool:
    if "archive_format" in archive.below_top or _OLD_PROGRAM in archive.members:
        return True
    # The reader of compiled programs asks for nothing else, nor for a folder around it.
    return "/data/aotinductor/" in archive.lower_names or "\ndata/aotinductor/" in archive.lower_names


def _examine_package(archive: Zip, examination: Examination) -> None:
    examination.find(rules.PACKAGE, f"{len(archive.members)} members")
    examine_members(archive, examination, list(archive.members))


def _examine_checkpoint(archive: Zip, examination: Examination) -> None:
    root, members = _rooted(archive, examination)
    if "data.pkl" not in members:
        examination.find(rules.NO_PICKLE, f"no data.pkl in '{shown(root)}', where torch looks for it")
        examine_members(archive, examination, list(archive.members))
        return
    storages = examine_torch_pickle(archive, members["data.pkl"], examination).storages
    used = check_storages(archive, members, "data/", storages, examination)
    examination.facts["storages"] = len(used)
    used.add(members["data.pkl"])
    rest = check_records(archive, members, examination)
    examine_members(archive, examination, [name for name in rest if name not in used])


def _examine_script(archive: Zip, examination: Examination) -> None:
    _, members = _rooted(archive, examination)
    rest = check_records(archive, members, examination)
    used = examine_script(archive, members, examination)
    examine_members(archive, examination, [name for name in rest if name not in used])


def _examine_program(archive: Zip, examination: Examination) -> None:
    members = {name: name for name in archive.members}
    rest = list(members)
    if _OLD_PROGRAM not in members:
        _, members = _rooted(archive, examination)
        rest = check_records(archive, members, examination)
    used = examine_program(archive, members, examination)
    examine_members(archive, examination, [name for name in rest if name not in used])


def _rooted(archive: Zip, examination: Examination) -> tuple[str, dict[str, str]]:
    root = root_of(archive)
    members = below(archive, root)
    if len(members) < len(archive.members) or not root:
        stray = next((name for name in archive.members if not name.startswith(root)), "")
        examination.find(rules.ROOT, f"'{shown(stray)}', torch reads '{shown(root)}'")
    return root, members


_NAMES = (*rules.TORCH_RULES, *PICKLE_RULES)
ZIP_KINDS = (
    ZipKind("torch-package", _is_package, _examine_package, _NAMES),
    ZipKind("torchscript", _is_script, _examine_script, (*_NAMES, *rules.SCRIPT_RULES)),
    ZipKind("torch-exported-program", _is_program, _examine_program, (*_NAMES, *rules.PT2_RULES)),
    ZipKind("pytorch-zip", _is_checkpoint, _examine_checkpoint, _NAMES),
)
