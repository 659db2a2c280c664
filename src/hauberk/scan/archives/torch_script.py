"""TorchScript: a program in torch's own language, with the objects that it works on.

The code is text that torch's reader compiles; it runs when the file is loaded (`__setstate__`) and used. What it can
reach is torch's operators, and a few of these work on files or call other machines: naming one is reason enough to
refuse. Everything else is listed and stays unknown, because no list of dangerous operators proves a program harmless.

Sources: `torch/csrc/jit/serialization/import.cpp`, `torch/csrc/jit/frontend/lexer.h`, and the operators that torch 2.13
registers.
"""

from __future__ import annotations

import contextlib
import re

from hauberk.scan.archives import torch_rules as rules
from hauberk.scan.archives.torch_members import check_storages, examine_torch_pickle
from hauberk.scan.archives.zip import Zip
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.report import shown

_LONGEST_CODE = 64 << 20
# Comments and ends of lines may stand on both sides of a dot.
_JOINED = re.compile(r"\\\r?\n|#[^\n]*|\s+")
_DOTTED = re.compile(r"\.\s*([^\W\d]\w*)")
_OPERATOR = re.compile(r"\bops\s*\.\s*([^\W\d]\w*)\s*\.\s*([^\W\d]\w*)")
_FULL_NAME = re.compile(rb"(?<!\w)(\w++)::(\w+)")  # tried once at each word: there may be megabytes
_CLASS = re.compile(r"__torch__\s*\.\s*torch\s*\.\s*classes\s*\.\s*([^\W\d]\w*)\s*\.\s*([^\W\d]\w*)")
_PICKLED_LISTS = frozenset(
    {"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "build_tensor_from_id"}
    | {"restore_type_tag"}
)
_TORCH_NAMESPACES = frozenset(
    {
        "aten",
        "prim",
        "prims",
        "quantized",
        "_quantized",
        "mkldnn",
        "mkldnn_prepacked",
        "onednn",
        "sparse",
        "static_runtime",
    }
)

OPERATORS_ON_FILES = frozenset(
    # Of torch itself, torchvision, torchaudio and torchtext: all that open what a program names.
    {"from_file", "save", "rpc_sync", "rpc_async", "rpc_remote", "read_file", "write_file", "load_tensor"}
    | {"load_library", "load_shared_library", "_load_from_file", "open_file", "create_from_file"}
)
"""Operators that work on files or over the network, by their last name."""
_ON_FILES = tuple(sorted(OPERATORS_ON_FILES))


def examine_script(archive: Zip, members: dict[str, str], examination: Examination) -> set[str]:
    """Examine a TorchScript archive.

    Args:
        archive: The archive.
        members: Its members by their name below torch's root.
        examination: Of the archive.

    Returns:
        The members that were accounted for; the rest is the caller's.
    """
    used: set[str] = set()
    code = [short for short in members if short.startswith("code/") and not short.endswith(".debug_pkl")]
    size = sum(archive.members[members[short]].size for short in code)
    examination.facts["code_files"] = len(code)
    examination.facts["code_bytes"] = size
    listed = ", ".join(shown(short.removeprefix("code/"), 60) for short in code[:5])
    more = f" and {len(code) - 5} more" if len(code) > 5 else ""
    examination.find(rules.SCRIPT, f"{len(code)} files of code: {listed}{more}")
    for short in code:
        examination.check_time()
        with examination.inside(shown(members[short])) as child:
            _examine_code(archive, members[short], child)
        used.add(members[short])
    if "bytecode.pkl" in members:
        with examination.inside(shown(members["bytecode.pkl"])) as child:
            _examine_bytecode(archive, members["bytecode.pkl"], child)
    for short, name in members.items():
        if short.endswith(".debug_pkl") or (short.endswith(".pkl") and "/" not in short):
            result = examine_torch_pickle(archive, name, examination, admitted=_admitted)
            used.add(name)
            if short == "traced_inputs.pkl":  # examples of a trace: written without their bytes, and not read
                used |= {each for inner, each in members.items() if inner.startswith("traced_inputs/")}
                continue
            folder = "constants/" if short == "constants.pkl" else "data/"
            used |= check_storages(archive, members, folder, result.storages, examination)
    return used


def _admitted(module: str, name: str) -> bool:
    """Names that torch's reader in C++ takes from the archive's own code, or knows; it imports nothing."""
    return module.startswith("__torch__") or (module == "torch.jit._pickle" and name in _PICKLED_LISTS)


def _examine_code(archive: Zip, name: str, examination: Examination) -> None:
    content = archive.content(name)
    with contextlib.suppress(StopScan):
        archive.check(name)
    if content.size > _LONGEST_CODE:
        examination.find(rules.SCRIPT_TEXT, f"{content.size} bytes")
        return
    try:
        text = content.read(0, content.size).decode("utf-8")
    except UnicodeDecodeError:
        examination.find(rules.SCRIPT_TEXT, "no UTF-8")
        return
    text = _JOINED.sub(" ", text)
    for match in _DOTTED.finditer(text):
        if match[1] in OPERATORS_ON_FILES:
            examination.find(rules.SCRIPT_OPERATOR, f"{shown(match[1])} in '{shown(_around(text, match.start()))}'")
    for match in _OPERATOR.finditer(text):
        if match[1] not in _TORCH_NAMESPACES:
            examination.find(rules.SCRIPT_CUSTOM, f"ops.{shown(match[1])}.{shown(match[2])}")
    for match in _CLASS.finditer(text):
        examination.find(rules.SCRIPT_CUSTOM, f"class torch.classes.{shown(match[1])}.{shown(match[2])}")


def _examine_bytecode(archive: Zip, name: str, examination: Examination) -> None:
    """The instructions of torch's small interpreter (`.ptl`) name operators in full, each in one text."""
    content = archive.content(name)
    if content.size > _LONGEST_CODE:
        examination.find(rules.SCRIPT_TEXT, f"{content.size} bytes")
        return
    for match in _FULL_NAME.finditer(content.read(0, content.size)):
        namespace, last = match[1].decode(), match[2].decode()
        if last.startswith(_ON_FILES):  # the letter of the pickle's next instruction may follow
            examination.find(rules.SCRIPT_OPERATOR, f"{namespace}::{last}", at=match.start())
        elif namespace not in _TORCH_NAMESPACES:
            examination.find(rules.SCRIPT_CUSTOM, f"{namespace}::{last}", at=match.start())


def _around(text: str, at: int) -> str:
    return text[max(0, at - 30) : at + 50]
