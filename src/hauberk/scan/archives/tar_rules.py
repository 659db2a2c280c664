"""What a tar archive may have wrong with it."""

from __future__ import annotations

from hauberk.scan.report import Outcome, Rule, Severity

_FORMAT = "https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html"
_DISAGREEMENT = "https://cwe.mitre.org/data/definitions/436.html"

DAMAGED = Rule(
    "tar-damaged",
    "a damaged tar archive",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It is cut, or a header is none; some readers end there, others search on. Get the file again.",
    _FORMAT,
)
CONTRADICTION = Rule(
    "tar-contradiction",
    "a tar archive that contradicts itself",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Readers differ in how long a member is or what it is called, and so in which members there are at all.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-62518",
)
TRAILING = Rule(
    "tar-trailing",
    "something behind the end of a tar archive",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Some readers stop at the end, others go on and find more members.",
    _DISAGREEMENT,
)
DUPLICATE = Rule(
    "tar-duplicate",
    "two members of one name",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Some readers take the first one, others the last: what was scanned is not what is loaded.",
    _DISAGREEMENT,
)
ALIKE = Rule(
    "tar-names-alike",
    "names that some readers take for the same",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "They differ in case, in how letters are composed or in empty parts of the path only.",
    _DISAGREEMENT,
)
PATH = Rule(
    "tar-path",
    "a member that leaves the folder",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Its name leads outside of the folder that the archive is unpacked into, where it overwrites what is there.",
    "https://nvd.nist.gov/vuln/detail/CVE-2007-4559",
)
NAME = Rule(
    "tar-name",
    "a name that readers understand differently",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It is empty, no UTF-8, or holds a backslash or a control character; what it is called depends on who reads it.",
    _DISAGREEMENT,
)
LINK_OUTSIDE = Rule(
    "tar-link-outside",
    "a link that leaves the folder",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Unpacked, it points to a place outside, and what is written or read through it lies there.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-4517",
)
LINK = Rule(
    "tar-link",
    "a link inside the archive",
    Severity.LOW,
    Outcome.UNKNOWN,
    "What is found under its name depends on what else has been unpacked. Replace links by the files themselves.",
    "https://cwe.mitre.org/data/definitions/59.html",
)
SPECIAL = Rule(
    "tar-special",
    "a device or pipe instead of a file",
    Severity.HIGH,
    Outcome.UNSAFE,
    "No model needs one; unpacked by a privileged user it reaches the machine's devices.",
    _FORMAT,
)
UNFOLLOWED = Rule(
    "tar-unfollowed",
    "a kind of member that is not followed",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Sparse files, parts of archives and types of single vendors are put together differently by each reader.",
    _FORMAT,
)
EMPTY = Rule(
    "tar-empty",
    "an archive without members",
    Severity.LOW,
    Outcome.UNKNOWN,
    "There is nothing in it that could be judged.",
)
MANY = Rule(
    "tar-many-members",
    "more members than are looked at",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "The rest was not looked at. Split it, or scan what comes out of it.",
    "https://cwe.mitre.org/data/definitions/770.html",
)
LEGACY_TORCH = Rule(
    "torch-legacy-tar",
    "a checkpoint in torch's oldest format",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Torch loads this form (before 0.1.10) only with a pickle reader that may run anything, so nothing here can be"
    " called safe. Load it in an isolated process and save its state dict again.",
    "https://docs.pytorch.org/docs/stable/generated/torch.load.html",
)

TAR_RULES = (
    DAMAGED, CONTRADICTION, TRAILING, DUPLICATE, ALIKE, PATH, NAME, LINK_OUTSIDE, LINK, SPECIAL, UNFOLLOWED, EMPTY,
    MANY, LEGACY_TORCH,
)  # fmt: skip
