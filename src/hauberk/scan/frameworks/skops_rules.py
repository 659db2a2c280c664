"""What may be wrong with a skops archive."""

from __future__ import annotations

from hauberk.scan.report import Outcome, Rule, Severity

TYPE = Rule(
    "skops-type",
    "a type that is not known to hold data only",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "skops imports the name and makes an object of it, or calls it, as soon as its user approves the type.",
    "https://skops.readthedocs.io/en/stable/persistence.html",
)
METHOD = Rule(
    "skops-method",
    "a method bound by the file",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "A bound method of a harmless object reaches any other object through its attributes, code among them.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-54413",
)
OPERATOR = Rule(
    "skops-operator",
    "a function of `operator` called by the file",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "The node calls any function of the module `operator`, `call` among them, and has been shown as another type.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-54412",
)
NODE = Rule(
    "skops-node",
    "a node that skops does not write",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "What a loader does with it is not known here: it belongs to another version, to another package, or is damaged.",
    "https://skops.readthedocs.io/en/stable/persistence.html",
)
UNCHECKED = Rule(
    "skops-unchecked-indices",
    "a structure that compiled code follows unchecked",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "scikit-learn follows indices of this type without checking them, and the scan does not know their bounds.",
    "https://github.com/scikit-learn/scikit-learn/pull/34558",
)
TREE = Rule(
    "skops-tree-bounds",
    "a decision tree that leads outside itself",
    Severity.HIGH,
    Outcome.UNSAFE,
    "scikit-learn follows the nodes of a tree without checking them: such a tree reads foreign memory or never ends.",
    "https://github.com/scikit-learn/scikit-learn/pull/34558",
)
SPECIAL = Rule(
    "skops-special",
    "what is asked or called while the file is loaded",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "A dictionary calls the types of its keys, numpy asks what lies in an array for an address in memory, and an"
    " isotonic regression calls an attribute of its own.",
    "https://numpy.org/doc/stable/reference/arrays.interface.html",
)
MEMBER = Rule(
    "skops-member",
    "a node whose member is missing or not an array",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "The schema names a file of the archive that is not there or not what the node needs.",
    "https://skops.readthedocs.io/en/stable/persistence.html",
)
IDENTITY = Rule(
    "skops-identity",
    "two nodes under one number",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "skops makes the first node of a number and uses it for all others, so the others are not what is loaded.",
    "https://skops.readthedocs.io/en/stable/persistence.html",
)
RULES = (TYPE, METHOD, OPERATOR, NODE, UNCHECKED, TREE, SPECIAL, MEMBER, IDENTITY)
