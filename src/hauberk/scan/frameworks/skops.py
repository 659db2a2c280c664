"""Models of scikit-learn in a `.skops` archive: a tree of nodes in `schema.json`, arrays beside it.

skops asks its user to approve the types that a file names, and several times what was shown for approval was not what
was called. Here every node is judged by what its loader would do with it, against a list of types that only hold data
(`skops_types.txt`); a method, a function of `operator` or any other name is never called safe.
"""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache
from importlib import resources
from tokenize import TokenError
from typing import Any

import numpy.typing as npt

from hauberk.scan.archives.kinds import ZipKind
from hauberk.scan.archives.zip import Zip
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.frameworks import json_text
from hauberk.scan.frameworks.json_text import nodes
from hauberk.scan.frameworks.skops_trees import predictor_problem, read_array, state_of, tree_problem
from hauberk.scan.report import Outcome, Rule, Severity, shown

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
    "a kind of node that is not known",
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
RULES = (TYPE, METHOD, OPERATOR, NODE, UNCHECKED, TREE, MEMBER, IDENTITY)

SCHEMA = "schema.json"
_NEWEST_PROTOCOL = 2
_PRIMITIVE = {f"builtins.{name}" for name in ("int", "float", "str", "bool", "list", "set", "tuple", "dict", "complex")}
_DTYPE_NAMES = (
    "bool bool_ bytes_ str_ void object_ float16 float32 float64 longdouble complex64 complex128 clongdouble int8"
    " int16 int32 int64 longlong uint8 uint16 uint32 uint64 ulonglong datetime64 timedelta64 intp uintp intc uintc"
)
_DTYPES = {f"numpy.{name}" for name in _DTYPE_NAMES.split()}
_GENERATORS = {"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"}
_SPARSE = {
    f"{form}_{what}" for form in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok") for what in ("matrix", "array")
}

# What each kind of node makes, by the kind; a name outside its set is judged as any other type.
_BY_LOADER: dict[str, frozenset[str]] = {
    "DictNode": frozenset({"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"}),
    "DefaultDictNode": frozenset({"collections.defaultdict"}),
    "ListNode": frozenset({"builtins.list"}),
    "SetNode": frozenset({"builtins.set"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "BytesNode": frozenset({"builtins.bytes"}),
    "BytearrayNode": frozenset({"builtins.bytearray"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "TypeNode": frozenset(_PRIMITIVE | _DTYPES),
    "NdArrayNode": frozenset({"numpy.ndarray", "numpy.matrix", *_DTYPES}),
    "MaskedArrayNode": frozenset({"numpy.ma.MaskedArray", "numpy.ma.core.MaskedArray"}),
    "DTypeNode": frozenset({"numpy.dtype"}),
    "RandomStateNode": frozenset({"numpy.random.RandomState", "numpy.random.mtrand.RandomState"}),
    "RandomGeneratorNode": frozenset({"numpy.random.Generator", "numpy.random._generator.Generator"}),
    "ConstructorFromReduceNode": frozenset(
        {f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")}
    ),
    "PartialNode": frozenset({"functools.partial"}),
}
_LISTED = {"ObjectNode", "FunctionNode", "LossNode", "TreeNode"}
_PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoosting"
UNCHECKED_TYPES = (
    _PREDICTOR,
    "sklearn.neighbors._kd_tree.",
    "sklearn.neighbors._ball_tree.",
    "sklearn.metrics._dist_metrics.",
    "scipy.interpolate._bsplines.BSpline",
)


@cache
def listed_types() -> frozenset[str]:
    """Full names of classes and functions that a file may name."""
    text = resources.files("hauberk.scan.frameworks").joinpath("skops_types.txt").read_text("utf-8")
    lines = (line.split(": ") for line in text.splitlines() if not line.startswith("#"))
    return frozenset(f"{module}.{name}" for module, names in lines for name in names.split())


def types_of_loaders() -> frozenset[str]:
    """Full names that nodes of a kind of their own may have: containers, arrays, dtypes, partial calls."""
    return frozenset[str]().union(*_BY_LOADER.values())


def recognise(archive: Zip) -> bool:
    """A skops archive has its tree of nodes in `schema.json`."""
    member = archive.members.get(SCHEMA)
    if member is None or not member.readable:
        return False
    head = archive.content(SCHEMA).head(1 << 16)
    return b"__loader__" in head or b"__class__" in head or b"_skops_version" in head


def examine(archive: Zip, examination: Examination) -> None:
    """Judge every node of the schema and every array."""
    for name, member in archive.members.items():
        examination.check_time()
        if member.readable:
            if name != SCHEMA and member.size:
                examination.examine(archive.content(name), shown(name))
            with contextlib.suppress(StopScan):
                archive.check(name)
    schema = json_text.parse(archive.content(SCHEMA), examination, place=SCHEMA)
    protocol = schema.get("protocol") if isinstance(schema, dict) else None
    if isinstance(protocol, bool) or not isinstance(protocol, int) or not 0 <= protocol <= _NEWEST_PROTOCOL:
        examination.find(NODE, shown(f"protocol {protocol!r}"), at=SCHEMA)
    scan = _Schema(archive, examination)
    for place, each in nodes(schema, examination):
        if isinstance(each, dict) and ({"__loader__", "__class__", "__module__"} & each.keys()):
            scan.node(each, f"{SCHEMA}:{place}" if place else SCHEMA)
    scan.check_trees()
    examination.facts["nodes"] = scan.count


class _Schema:
    """The nodes of one schema."""

    def __init__(self, archive: Zip, examination: Examination) -> None:
        self._archive = archive
        self._examination = examination
        self.count = 0
        self._first: dict[int, dict[str, Any]] = {}
        self._ambiguous: set[Any] = set()
        self._made: dict[Any, Any] = {}
        self._digests: dict[str, bytes] = {}
        self._trees: list[tuple[dict[str, Any], str]] = []
        self._features: dict[int, Any] = {}

    def node(self, each: dict[str, Any], at: str) -> None:
        """Judge one node; what lies in it is judged on its own."""
        self.count += 1
        loader, module, name = (each.get(key) for key in ("__loader__", "__module__", "__class__"))
        if not (isinstance(loader, str) and isinstance(module, str) and isinstance(name, str)):
            self._find(NODE, "a node without loader, module or class", at)
            return
        self._identity(each, loader, at)
        if loader in {"JsonNode", "CachedNode"}:
            return  # a plain value, or another node once more: neither looks at the names
        full = f"{module}.{name}"
        if loader in _BY_LOADER:
            self._plain(each, loader, full, at)
        elif loader in _LISTED:
            self._listed(each, loader, full, at)
        elif loader == "SparseMatrixNode":
            self._sparse(each, module, name, at)
        elif loader == "MethodNode":
            called = each.get("content")
            self._find(METHOD, f"{full}, {called.get('func') if isinstance(called, dict) else 'no function'}", at)
        elif loader == "OperatorFuncNode":
            self._find(OPERATOR, full, at)
        else:
            self._find(NODE, f"{loader} for {full}", at)

    def _identity(self, each: dict[str, Any], loader: str, at: str) -> None:
        """A number that was given before stands for the node that had it first, whatever is written here."""
        number = each.get("__id__")
        if not number or loader == "CachedNode":
            return
        first = self._first.setdefault(number, each) if isinstance(number, int) else {}
        if first is each or first == each:
            return
        self._examination.check_time()
        if number not in self._made:
            self._made[number] = self._plainly(first)
        if self._made[number] == self._plainly(each):
            return
        self._ambiguous.add(number)  # states of random generators are made anew each time they are saved
        if _surface(first) != _surface(each):
            self._find(IDENTITY, f"{number!r} for two nodes", at)

    def _plainly(self, value: Any) -> Any:
        """A node by what it makes: states are new dictionaries and arrays, with new numbers, each time they are saved.

        That a number within it stands for another node is found when that node is judged.
        """
        if isinstance(value, list):
            return [self._plainly(each) for each in value]
        if not isinstance(value, dict):
            return value
        if value.get("__loader__") == "CachedNode":  # its number is all that it is
            return value
        plain = {key: self._plainly(each) for key, each in value.items() if key != "__id__"}
        if isinstance(file := plain.get("file"), str) and file in self._archive.members:
            plain["file"] = self._digest(file)
        return plain

    def _digest(self, name: str) -> bytes:
        if name not in self._digests:
            self._examination.check_time()
            content = self._archive.content(name)
            self._examination.unpack(content.size)
            self._digests[name] = hashlib.sha256(content.read(0, content.size)).digest()
        return self._digests[name]

    def _plain(self, each: dict[str, Any], loader: str, full: str, at: str) -> None:
        if full not in _BY_LOADER[loader]:
            self._find(TYPE, f"{full} in a {loader}", at)
        elif loader in {"NdArrayNode", "BytesNode", "BytearrayNode"}:
            self._member(each, at)
        elif loader == "RandomGeneratorNode":
            self._generator(each, at)

    def _find(self, rule: Rule, what: str, at: str) -> None:
        self._examination.find(rule, shown(what), at=at)

    def _listed(self, each: dict[str, Any], loader: str, full: str, at: str) -> None:
        content = each.get("content")
        if loader == "FunctionNode" and isinstance(content, dict) and "__loader__" not in content:
            full = f"{content.get('module_path')}.{content.get('function')}"  # protocol 0 called what stands here
        if full == _PREDICTOR and id(each) in self._features:
            return  # kept by its estimator
        if full.startswith(UNCHECKED_TYPES):
            self._find(UNCHECKED, full, at)
        elif full not in listed_types():
            self._find(TYPE, f"{full} in a {loader}", at)
        elif loader == "TreeNode":
            self._trees.append((each, at))
        elif loader == "ObjectNode":
            self._keep_trees(each, full, at)

    def _member(self, each: dict[str, Any], at: str) -> None:
        if each.get("type", "numpy") == "json":
            return
        file = each.get("file")
        if not isinstance(file, str) or file not in self._archive.members:
            self._find(MEMBER, f"file {file!r}", at)

    def _sparse(self, each: dict[str, Any], module: str, name: str, at: str) -> None:
        if not module.startswith("scipy.sparse") or name not in _SPARSE:
            self._find(TYPE, f"{module}.{name} in a SparseMatrixNode", at)
        elif each.get("type") != "scipy":
            self._find(NODE, "a sparse matrix of another kind", at)
        else:
            self._member(each, at)

    def _generator(self, each: dict[str, Any], at: str) -> None:
        """The state of a random generator names the class of its bits as a mere text."""
        content = each.get("content")
        state = content.get("bit_generator") if isinstance(content, dict) else None
        inner = state.get("content", state) if isinstance(state, dict) else None
        stated = inner.get("bit_generator") if isinstance(inner, dict) else None
        text = stated.get("content") if isinstance(stated, dict) else stated
        if not isinstance(text, str) or text.strip('"') not in _GENERATORS:
            self._find(TYPE, f"bits of a random generator: {text!r}", at)

    def _keep_trees(self, each: dict[str, Any], full: str, at: str) -> None:
        """Trees of an estimator, with the number of columns that it makes sure of."""
        state = state_of(each)
        if isinstance(tree := state.get("tree_"), dict) and "n_features_in_" in state:
            self._features[id(tree)] = state["n_features_in_"]
        if full.startswith(_HISTOGRAM) and "n_features_in_" in state:
            for place, inner in nodes(state.get("_predictors"), self._examination):
                if isinstance(inner, dict) and inner.get("__class__") == "TreePredictor":
                    self._features[id(inner)] = state["n_features_in_"]
                    self._trees.append((inner, f"{at}.content.content._predictors{place}"))

    def check_trees(self) -> None:
        """Bounds of the nodes of all decision trees, once all numbers are known."""
        for each, at in self._trees:
            self._tree(each, at)

    def _tree(self, each: dict[str, Any], at: str) -> None:
        features = self._features.get(id(each))
        for _, inner in nodes([each, features], self._examination):
            if isinstance(inner, dict) and inner.get("__id__") in self._ambiguous:
                self._find(IDENTITY, f"{inner['__id__']} for two nodes", at)
                return
        try:
            columns = None if features is None else int(features["content"])
            if each["__loader__"] == "TreeNode":
                problem = tree_problem(each, columns, self._array)
            else:
                problem = predictor_problem(each, columns or 0, self._array)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError, SyntaxError, TokenError) as error:
            self._find(UNCHECKED, f"a tree that cannot be checked: {error}", at)
            return
        if problem:
            self._find(TREE, problem, at)

    def _array(self, name: str) -> npt.NDArray[Any]:
        content = self._archive.content(name)
        self._examination.unpack(content.size)
        return read_array(content)


def _surface(node: dict[str, Any]) -> dict[str, Any]:
    """A node without the nodes inside it; a file of bytes has a new name each time it is saved."""
    plain = {key: value for key, value in node.items() if not isinstance(value, dict | list)}
    if plain.get("__loader__") in {"BytesNode", "BytearrayNode"}:
        plain.pop("file", None)
    return plain


ZIP_KINDS = (ZipKind("skops", recognise, examine, (*RULES, *json_text.RULES)),)
