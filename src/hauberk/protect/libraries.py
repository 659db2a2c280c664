"""Which libraries an installation of Hauberk rests on, and in which versions, as the package metadata tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURSELVES = "hauberk"


@dataclass(frozen=True)
class Library:
    """An installed distribution.

    Attributes:
        name: Normalised name, as PyPI spells it.
        version: Installed version.
        needs: Names of the installed distributions that it asks for directly, sorted.
        runtime: Whether production needs it; False for what only makes detectors.
        license: SPDX expression, empty where the distribution states none.
    """

    name: str
    version: str
    needs: tuple[str, ...]
    runtime: bool
    license: str

    @property
    def package_url(self) -> str:
        """Its package URL (github.com/package-url/purl-spec)."""
        return f"pkg:pypi/{self.name}@{quote(self.version, safe='')}"  # a local version holds a plus sign


def installed_libraries(extras: Iterable[str] = ("harden",)) -> tuple[Library, ...]:
    """What is installed of Hauberk's requirements and of theirs in turn, sorted by name.

    Args:
        extras: Extras of Hauberk to follow besides its core requirements.

    Returns:
        Nothing where Hauberk itself is not installed as a distribution.
    """
    runtime = _closure(_requirements(OURSELVES, ""))
    workshop = _closure({name for extra in extras for name in _requirements(OURSELVES, extra)})
    return tuple(_library(name, runtime=name in runtime) for name in sorted(runtime | workshop))


def _closure(names: Iterable[str]) -> set[str]:
    """The installed ones among the names, and all that they need."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        if name not in found and _installed(name):
            found.add(name)
            waiting |= _requirements(name, "")
    return found


def _requirements(name: str, extra: str) -> set[str]:
    """Names that a distribution asks for in this environment, with one extra."""
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return set()
    requirements = map(Requirement, texts)
    return {
        str(canonicalize_name(requirement.name))
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    }


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _library(name: str, *, runtime: bool) -> Library:
    distribution = metadata.distribution(name)
    needs = tuple(sorted(need for need in _requirements(name, "") if _installed(need)))
    stated = distribution.metadata.get_all("License-Expression") or [""]
    return Library(name, distribution.version, needs, runtime=runtime, license=stated[0])
