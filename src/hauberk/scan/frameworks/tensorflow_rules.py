"""What may be found in a graph of TensorFlow."""

from __future__ import annotations

from hauberk.scan.report import Outcome, Rule, Severity

_SECURITY = "https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md"
DANGEROUS = Rule(
    "tensorflow-dangerous-operation",
    "an operation that opens files, runs code or speaks to others",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "The operation does so whenever the graph runs, some also when it is loaded; no detector needs it.",
    _SECURITY,
)
UNKNOWN_OPERATION = Rule(
    "tensorflow-unknown-operation",
    "an operation that is not known to only compute",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It belongs to a library of operations, to special hardware or to another version of TensorFlow.",
    _SECURITY,
)
FILE_NAME = Rule(
    "tensorflow-file-name",
    "a file that the graph names itself",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Variables and tables are read from the folder of the model, whose name the loader hands in; this graph names a"
    " file of its own.",
    _SECURITY,
)
FILE_UNCLEAR = Rule(
    "tensorflow-file-unclear",
    "a file whose name may not be the loader's",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Savers and tables take the name of their file from the loader, and add TensorFlow's own endings. Of this name it"
    " cannot be told: it is put together, computed, or handed in by others.",
    _SECURITY,
)
AT_ONCE = Rule(
    "tensorflow-runs-at-once",
    "an operation that runs while the model is loaded",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Loading a model makes its tables and fills them. This one computes besides, for as long and with as much memory as"
    " its operations ask for, or calls functions that call themselves.",
    _SECURITY,
)
ASSET = Rule(
    "tensorflow-asset-path",
    "an asset outside the model's folder",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The loader joins this name to the folder of assets, so that any file of the machine is read.",
    "https://cwe.mitre.org/data/definitions/22.html",
)
BOMB = Rule(
    "tensorflow-bomb",
    "a constant far larger than the file",
    Severity.HIGH,
    Outcome.UNSAFE,
    "One stored value stands for all elements, which take memory as soon as the graph is loaded.",
    "https://cwe.mitre.org/data/definitions/789.html",
)
DAMAGED = Rule(
    "tensorflow-damaged",
    "a graph that cannot be followed",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It is cut short, holds fields that its definition does not have, or names a node twice.",
    "https://www.tensorflow.org/guide/saved_model",
)
RULES = (DANGEROUS, UNKNOWN_OPERATION, FILE_NAME, FILE_UNCLEAR, AT_ONCE, ASSET, BOMB, DAMAGED)
