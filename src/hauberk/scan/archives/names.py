"""Names of members: do they leave the folder, and would two readers take them for the same?"""

from __future__ import annotations

import unicodedata

_SUSPICIOUS = ("\\", ":", "..", "//", "/./", "|/", "|.", "||", "./", " /", ".|", " |", "/|")
"""In names between upright bars."""


def leaves_folder(name: str) -> bool:
    """Whether it leads outside of the folder that the archive is unpacked into, on any system."""
    return (
        name.startswith(("/", "\\"))
        or name[1:2] == ":"
        or (".." in name and ".." in name.replace("\\", "/").split("/"))
    )


def is_ambiguous(name: str) -> bool:
    """Whether readers understand it differently: empty, with a backslash or with characters that cannot be shown."""
    return not name.isprintable() or "\\" in name or not name


def folded(name: str) -> str:
    """A name as the most forgiving reader takes it; Windows drops dots and spaces at the end of each part."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
    name = name.casefold().replace("\\", "/")
    if "/" in name or "." in name or " " in name:
        parts = (part.rstrip(". ") for part in name.split("/"))
        name = "/".join(part for part in parts if part)
    return name


def are_plain(names: list[str]) -> bool:
    """Whether all of them are so plain that none of the other questions needs to be asked: quick, for long lists."""
    joined = f"|{'|'.join(names)}|"
    if not (joined.isascii() and joined.isprintable() and joined == joined.lower()):
        return False
    return not any(sign in joined for sign in _SUSPICIOUS)


def alike(names: set[str]) -> list[tuple[str, str]]:
    """Pairs of names that the most forgiving reader takes for one."""
    if len({folded(name) for name in names}) == len(names):
        return []
    first: dict[str, str] = {}
    pairs = []
    for name in sorted(names):
        other = first.setdefault(folded(name), name)
        if other != name:
            pairs.append((other, name))
    return pairs
