"""The configuration of a Keras model: which classes and functions it asks for, and with what.

Keras rebuilds a model by looking up every `class_name` of a tree of JSON, importing what `module` names where it does
not know it. Each bypass of its safe mode so far named something that Keras would find and that does more than compute.
So the names are held against a list of what only computes (`keras_names`); whatever else a configuration names is never
called safe.
"""

from __future__ import annotations

import builtins
import re
from typing import Any

from hauberk.scan.examination import Examination
from hauberk.scan.frameworks import keras_names
from hauberk.scan.frameworks.json_text import nodes
from hauberk.scan.frameworks.keras_sizes import HUGE, LARGE, Sizes
from hauberk.scan.report import Outcome, Rule, Severity, shown

LAMBDA = Rule(
    "keras-lambda",
    "Python code in the model",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "The layer holds compiled Python, which runs when the model is loaded from an `.h5` file or with safe mode off."
    " Write it as a registered layer and pass that as code of your own.",
    "https://github.com/advisories/GHSA-36rr-ww3j-vrjv",
)
FOREIGN = Rule(
    "keras-foreign-module",
    "a class or function from outside Keras",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "Keras imports the module that a configuration names and calls what it finds there with arguments from the file.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-1550",
)
NOT_A_MODEL = Rule(
    "keras-not-for-models",
    "a function of Keras that no model needs",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "Functions that download, unpack or switch safe mode off have been called through a configuration.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-8747",
)
LOADS_MORE = Rule(
    "keras-loads-more",
    "a layer that loads something else",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "The layer unpickles a torch module, rebuilds a function or loads a SavedModel from a path when it is made.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-49655",
)
READS_FILE = Rule(
    "keras-reads-file",
    "a vocabulary that is a path",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The layer opens the path or address when it is made: any file of the machine ends up in the model, and any server"
    " can be asked.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-12058",
)
CUSTOM = Rule(
    "keras-custom-object",
    "a class or function that Keras does not bring",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Only code of your own, registered under this name, can be meant; what it does with the file is not known here.",
    "https://keras.io/guides/serialization_and_saving/",
)
AT_ONCE = Rule(
    "keras-runs-at-once",
    "an operation on constants",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "An operation that is given no input of the model runs while the model is loaded, and takes as much memory and time"
    " as its arguments ask for.",
    "https://cwe.mitre.org/data/definitions/789.html",
)
RULES = (LAMBDA, FOREIGN, NOT_A_MODEL, LOADS_MORE, READS_FILE, CUSTOM, HUGE, LARGE, AT_ONCE)

_LAMBDAS = {"Lambda", "__lambda__"}
_LOADERS = {"TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"}
_PLAIN = {"__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__", "__tuple__"}
_TENSORFLOW_CALLS = {"TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceProperty", "InstanceMethod"}
_HOUSES = ("keras", "tf_keras")
_PARTS = (
    "layers models losses metrics optimizers optimizers.schedules initializers regularizers constraints activations"
    " quantizers dtype_policies random ops"
)
_MODELING = frozenset(f"keras.{part}" for part in _PARTS.split())
_KINDS = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16 complex64 complex128"
    " float8_e4m3fn float8_e5m2 int4 uint4 string object str"
)
_NUMBERS = frozenset(_KINDS.split())
_LONG = re.compile(r"\d{5}")
_STEPS_BETWEEN_LOOKS = 4096
_FILE_KEYS = {"vocabulary", "idf_weights", "filepath", "file_path", "filename"}


def looks_like_config(value: Any) -> bool:
    """Whether parsed JSON is one object as Keras keeps them."""
    return isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value


def examine_config(value: Any, examination: Examination, place: str = "", *, held: int = 0) -> None:
    """Follow a configuration wherever it names something.

    Args:
        value: Parsed JSON of `config.json`, of the attributes `model_config` and `training_config`, of the metadata of
            a SavedModel, or of a file written by `Model.to_json`.
        examination: Reported to.
        place: What the JSON is called in findings.
        held: Bytes of weights beside it; 0 where they are not known.
    """
    objects = 0
    sizes = Sizes(held, examination)
    for where, each in nodes(value, examination):
        if not isinstance(each, dict):
            continue
        at = f"{place}:{where}" if place and where else place or where
        if isinstance(each.get("class_name"), str):
            objects += 1
            _examine_object(each, examination, at)
        elif each.get("class_name") is not None:
            examination.find(CUSTOM, "a class name that is no text", at=at)
        _examine_values(each, examination, at)
        sizes.add(each, at)
    sizes.end(place)
    examination.facts.setdefault("objects", objects)


def _examine_object(each: dict[str, Any], examination: Examination, at: str) -> None:
    """One object of the tree, by its names alone; what lies in it is visited on its own."""
    package, _, name = str(each["class_name"]).rpartition(">")
    module, registered = each.get("module"), each.get("registered_name")
    if name in _LAMBDAS:
        examination.find(LAMBDA, f"{name} with {_code_of(each)}", at=at)
    elif name in _LOADERS:
        examination.find(LOADS_MORE, name, at=at)
    elif name in _PLAIN:
        _examine_plain(each, examination, at)
    elif name == "function":
        _examine_function(each, examination, at)
    elif name == "__typespec__":
        _examine_type_specification(each, examination, at)
    elif name in _TENSORFLOW_CALLS:
        _examine_tensorflow_call(each, examination, at)
    elif module is not None and not _is_keras(module):
        examination.find(FOREIGN, shown(f"{_text(module)}.{name}"), at=at)
    elif name not in keras_names.CLASSES and not (_is_operation(module) and name in keras_names.OPERATIONS):
        public = module is None or module in _MODELING or str(module).startswith("keras.src.layers.")
        examination.find(CUSTOM if public else NOT_A_MODEL, shown(f"{module or 'no module'}: {name}"), at=at)
    elif package or (isinstance(registered, str) and ">" in registered):
        examination.find(CUSTOM, shown(f"{name}, registered as {registered or package}"), at=at)


def _examine_plain(each: dict[str, Any], examination: Examination, at: str) -> None:
    """A value; one element of a type such as `S1000000000` takes as much memory as its name says."""
    config = each.get("config")
    kind = config.get("dtype") if isinstance(config, dict) else None
    if isinstance(kind, str):
        if kind not in _NUMBERS:
            examination.find(HUGE if _LONG.search(kind) else CUSTOM, shown(f"a value of type {kind!r}"), at=at)
    elif kind is not None:
        examination.find(CUSTOM, "a value whose type is no text", at=at)


def _examine_function(each: dict[str, Any], examination: Examination, at: str) -> None:
    name, module = each.get("config"), each.get("module")
    if not isinstance(name, str):
        examination.find(CUSTOM, "a function without a name", at=at)
    elif module not in (None, "builtins") and not _is_keras(module):
        examination.find(FOREIGN, shown(f"{_text(module)}.{name}"), at=at)
    elif name in keras_names.FUNCTIONS:
        return
    elif module is None or module == "builtins":
        # Old versions looked such a name up among Python's own functions.
        examination.find(FOREIGN if hasattr(builtins, name) else CUSTOM, shown(f"function {name}"), at=at)
    else:
        examination.find(NOT_A_MODEL, shown(f"{module}.{name}"), at=at)


def _examine_type_specification(each: dict[str, Any], examination: Examination, at: str) -> None:
    module, name = _text(each.get("module")), _text(each.get("spec_name"))
    known = module.partition(".")[0] == "tensorflow" and name.endswith("Spec")
    examination.find(CUSTOM if known else FOREIGN, shown(f"{module}.{name}"), at=at)


def _examine_tensorflow_call(each: dict[str, Any], examination: Examination, at: str) -> None:
    """A layer that stands for a call of any function of TensorFlow, by its name."""
    config = each.get("config")
    called = _text(config.get("function", "")) if isinstance(config, dict) else ""
    parts = set(called.replace("_", ".").split("."))
    severe = bool(parts & {"io", "file", "raw", "py", "numpy", "load", "gfile", "data", "saved", "import", "train"})
    examination.find(NOT_A_MODEL if severe else CUSTOM, shown(f"TensorFlow's {called or 'unnamed function'}"), at=at)


def _examine_values(each: dict[str, Any], examination: Examination, at: str) -> None:
    """Arguments that mean more than a number."""
    for key in _FILE_KEYS & each.keys():
        value = each[key]
        if isinstance(value, str) and value:
            examination.find(READS_FILE, shown(f"{key} is {value!r}"), at=at)
    calls = each.get("inbound_nodes")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and not _is_given_a_tensor(call, examination):
            examination.find(AT_ONCE, "a call without a tensor", at=at)
    if each.get("function_type") in ("lambda", "raw") and "class_name" not in each:
        examination.find(LAMBDA, "a function kept as code", at=at)


def _is_given_a_tensor(call: dict[str, Any], examination: Examination) -> bool:
    """Whether one of the arguments is an input of the model, or what a layer gives."""
    waiting: list[Any] = [call]
    steps = 0
    while waiting:
        each, steps = waiting.pop(), steps + 1
        if steps % _STEPS_BETWEEN_LOOKS == 0:
            examination.check_time()
        if isinstance(each, dict):
            if each.get("class_name") == "__keras_tensor__":
                return True
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return False


def _code_of(each: dict[str, Any]) -> str:
    """Which kind of code a lambda holds, in words."""
    config = each.get("config")
    function = config.get("function", config.get("value")) if isinstance(config, dict) else config
    if isinstance(function, dict):
        inner = function.get("config")
        function = inner.get("code", inner) if isinstance(inner, dict) else inner
    code = function[0] if isinstance(function, list) and function else function
    return (
        f"{len(code)} characters of code"
        if isinstance(code, str) and len(code) > 80
        else shown(f"function {_text(code)}")
    )


def _text(value: Any) -> str:
    """A name, or what stands in its place: not all that may lie in that, again at every level."""
    return value if isinstance(value, str) else f"<{type(value).__name__}>"


def _is_keras(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _HOUSES


def _is_operation(module: Any) -> bool:
    """Files of the old kind keep operations by their bare name."""
    return module is None or (isinstance(module, str) and module.startswith(("keras.src.ops.", "keras.ops")))
