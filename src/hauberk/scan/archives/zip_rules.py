"""What a zip archive may have wrong with it as a container, whatever lies inside."""

from __future__ import annotations

from hauberk.scan.report import Outcome, Rule, Severity

_SPECIFICATION = "https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT"
_DISAGREEMENT = "https://cwe.mitre.org/data/definitions/436.html"

DAMAGED = Rule(
    "zip-damaged",
    "a damaged zip archive",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It is cut or not what it says, so what its readers would make of it cannot be told. Get the file again.",
    _SPECIFICATION,
)
CONTRADICTION = Rule(
    "zip-contradiction",
    "a zip archive that contradicts itself",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Two places of the archive that must say the same do not, so a scanner's reader and a loader's reader may see"
    " different members. Honest writers never do this; get the file from its author, or write it again.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-1944",
)
FLAGS = Rule(
    "zip-flags",
    "header flags that readers treat differently",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Some readers stop at such a flag and others ignore it: a scanner that stops has looked at nothing.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-1945",
)
CHECKSUM = Rule(
    "zip-checksum",
    "a checksum that is wrong",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Readers that check refuse such a member, torch's reader loads it: a scanner that checks has looked at nothing."
    " Where the file is only damaged, get it again.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-10156",
)
HIDDEN = Rule(
    "zip-hidden-member",
    "a member that the directory does not name",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Readers that go through the file from its beginning find it, those that read the directory do not.",
    _DISAGREEMENT,
)
GAP = Rule(
    "zip-gap",
    "bytes that belong to no member",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Nothing says what they are for; another format can lie in them.",
    _DISAGREEMENT,
)
OVERLAP = Rule(
    "zip-overlap",
    "members that overlap",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The bytes of one member are those of another one too, which makes bombs of enormous size and lets readers differ.",
    "https://www.usenix.org/conference/woot19/presentation/fifield",
)
DUPLICATE = Rule(
    "zip-duplicate",
    "two members of one name",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Some readers take the first one, others the last: what was scanned is not what is loaded.",
    _DISAGREEMENT,
)
ALIKE = Rule(
    "zip-names-alike",
    "names that some readers take for the same",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "They differ in case, in how letters are composed or in empty parts of the path only. Torch's reader and many file"
    " systems take them for one.",
    _DISAGREEMENT,
)
PATH = Rule(
    "zip-path",
    "a member that leaves the folder",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Its name leads outside of the folder that the archive is unpacked into, where it overwrites what is there.",
    "https://cwe.mitre.org/data/definitions/22.html",
)
NAME = Rule(
    "zip-name",
    "a name that readers understand differently",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It is empty, holds a backslash, a control character or bytes of no stated encoding, or has two forms; what it is"
    " called depends on who reads it.",
    _DISAGREEMENT,
)
LINK = Rule(
    "zip-link",
    "a link or device instead of a file",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Unpacked, it points to a place outside, and what is written or read through it lies there.",
    "https://cwe.mitre.org/data/definitions/59.html",
)
ENCRYPTED = Rule(
    "zip-encrypted",
    "encrypted members",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Nobody can look inside without the password. Decrypt it and scan what comes out.",
    _SPECIFICATION,
)
METHOD = Rule(
    "zip-method",
    "a compression method that is not followed",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The scan unpacks stored, deflated and bzip2 members. Unpack it and scan what comes out.",
    _SPECIFICATION,
)
MULTIPLE_DISKS = Rule(
    "zip-disks",
    "one part of a split archive",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The rest lies in other files. Join the parts and scan what comes out.",
    _SPECIFICATION,
)
SURROUNDED = Rule(
    "zip-surrounded",
    "something before or behind the archive",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Readers that begin at the front and readers that begin at the end see different things in it.",
    _DISAGREEMENT,
)
COMMENT = Rule(
    "zip-comment",
    "a comment that is no text",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Comments are text, and short. Another format can lie in this one.",
    _SPECIFICATION,
)
BOMB = Rule(
    "zip-bomb",
    "a decompression bomb",
    Severity.HIGH,
    Outcome.UNSAFE,
    "It unpacks to hundreds of times its size and more than the scan follows: whoever unpacks it runs out of memory.",
    "https://cwe.mitre.org/data/definitions/409.html",
)
MANY = Rule(
    "zip-many-members",
    "more members than are looked at",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Its directory alone would fill the memory of many readers. Split it, or scan what comes out of it.",
    "https://cwe.mitre.org/data/definitions/770.html",
)

ZIP_RULES = (
    DAMAGED, CONTRADICTION, FLAGS, CHECKSUM, HIDDEN, GAP, OVERLAP, DUPLICATE, ALIKE, PATH, NAME, LINK, ENCRYPTED,
    METHOD, MULTIPLE_DISKS, SURROUNDED, COMMENT, BOMB, MANY,
)  # fmt: skip
