"""Names that a skops schema may use, by the kind of node: classes of containers and arrays, and the list of the others.

The list (`skops_types.txt`) holds classes, functions and losses. Each kind of node may name one of these sorts only: a
node for losses calls what it names, and must not call a function.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from hauberk.scan.fitted.callables import METRICS, SCORER

_PRIMITIVE = {f"builtins.{name}" for name in ("int", "float", "str", "bool", "list", "set", "tuple", "dict", "complex")}
_DTYPE_NAMES = (
    "bool bool_ bytes_ str_ void object_ float16 float32 float64 longdouble complex64 complex128 clongdouble int8"
    " int16 int32 int64 longlong uint8 uint16 uint32 uint64 ulonglong datetime64 timedelta64 intp uintp intc uintc"
)
_DTYPES = {f"numpy.{name}" for name in _DTYPE_NAMES.split()}
_UNLIKE_ARRAYS = {"numpy.void", "numpy.object_", "numpy.bytes_"}  # made of an array they are something else
GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
SPARSE = frozenset(
    f"{form}_{what}" for form in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok") for what in ("matrix", "array")
)
_KEYS = "str_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64"
KEY_TYPES = frozenset(
    [*(f"builtins.{name}" for name in ("str", "int", "float", "bool")), *(f"numpy.{name}" for name in _KEYS.split())]
)
"""What keys of a dictionary may be made by; each is called with the text of a key."""

# What each kind of node makes, by the kind; a name outside its set is judged as any other type.
BY_LOADER: dict[str, frozenset[str]] = {
    "DictNode": frozenset({"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"}),
    "DefaultDictNode": frozenset({"collections.defaultdict"}),
    "ListNode": frozenset({"builtins.list"}),
    "SetNode": frozenset({"builtins.set"}),
    "TupleNode": frozenset({"builtins.tuple", "sklearn.impute._iterative._ImputerTriplet"}),
    "BytesNode": frozenset({"builtins.bytes"}),
    "BytearrayNode": frozenset({"builtins.bytearray"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "TypeNode": frozenset(_PRIMITIVE | _DTYPES | {"builtins.object", "numpy.number"}),
    "NdArrayNode": frozenset({"numpy.ndarray", "numpy.matrix", *(_DTYPES - _UNLIKE_ARRAYS)}),
    "MaskedArrayNode": frozenset({"numpy.ma.MaskedArray", "numpy.ma.core.MaskedArray"}),
    "DTypeNode": frozenset({"numpy.dtype"}),
    "RandomStateNode": frozenset({"numpy.random.RandomState", "numpy.random.mtrand.RandomState"}),
    "RandomGeneratorNode": frozenset({"numpy.random.Generator", "numpy.random._generator.Generator"}),
    "ConstructorFromReduceNode": frozenset(
        {f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")}
    ),
    "PartialNode": frozenset({"functools.partial"}),
}
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
ISOTONIC = "sklearn.isotonic.IsotonicRegression"
TREE = "sklearn.tree._tree.Tree"
_LOSSES = ("sklearn._loss._loss.", "sklearn.linear_model._sgd_fast.")
_SELECTOR = "sklearn.compose._column_transformer.make_column_selector"  # a class, for all its name
UNCHECKED_TYPES = (
    "sklearn.neighbors._kd_tree.",
    "sklearn.neighbors._ball_tree.",
    "sklearn.metrics._dist_metrics.",
    "scipy.interpolate._bsplines.BSpline",
)


@cache
def listed_types() -> frozenset[str]:
    """Full names of classes and functions that a file may name: those of the list, scorers and their metrics."""
    text = resources.files("hauberk.scan.frameworks").joinpath("skops_types.txt").read_text("utf-8")
    lines = (line.split(": ") for line in text.splitlines() if not line.startswith("#"))
    return METRICS | {SCORER} | {f"{module}.{name}" for module, names in lines for name in names.split()}


@cache
def listed_for(loader: str) -> frozenset[str]:
    """Those of the list that a kind of node may name.

    Args:
        loader: `ObjectNode`, `FunctionNode`, `LossNode` or `TreeNode`.
    """
    losses = {name for name in listed_types() if name.startswith(_LOSSES)}
    classes = {name for name in listed_types() if name.rpartition(".")[2].lstrip("_")[:1].isupper()} | {_SELECTOR}
    functions = listed_types() - classes
    return {
        "ObjectNode": frozenset(classes - losses - {TREE}),
        "FunctionNode": functions,
        "LossNode": frozenset(losses),
        "TreeNode": frozenset({TREE}),
    }[loader]


def types_of_loaders() -> frozenset[str]:
    """Full names that nodes of a kind of their own may have: containers, arrays, dtypes, partial calls."""
    return frozenset[str]().union(*BY_LOADER.values())
