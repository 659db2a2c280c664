"""Fields of a LightGBM model: which there are, and that each is as long and as plain as the library takes it to be.

The library takes lengths from one field and reads another by them, and ends the process where a number is none.
Source: `GBDT::LoadModelFromString` and `Tree::Tree` of https://github.com/microsoft/LightGBM.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_INTEGER = re.compile(r"-?\d{1,10}", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?", re.ASCII)
_USUAL = re.compile(r"(?:-?\d{1,9}(?:\.\d++)?(?:e[-+]\d\d)?(?: |\Z))*+", re.ASCII)
_USUAL_WHOLE = re.compile(r"(?:-?\d{1,9}(?: |\Z))*+", re.ASCII)
"""Lists of numbers as the library writes almost all: finite, or of 31 bits, by their looks."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OBJECTIVES = _words(
    "regression regression_l1 huber fair poisson quantile mape gamma tweedie binary lambdarank rank_xendcg"
    " cross_entropy cross_entropy_lambda multiclass multiclassova"
)
_HEADER = _words(
    "version num_class num_tree_per_iteration label_index max_feature_idx objective feature_names"
    " monotone_constraints feature_infos tree_sizes"
)
_OF_LEAVES, _OF_NODES = ("leaf_weight", "leaf_count"), ("split_gain", "internal_value", "internal_weight")
_NEEDED = ("leaf_count", "internal_count", "internal_value")
_TREE = _words(
    "num_leaves num_cat split_feature split_gain threshold decision_type left_child right_child leaf_value"
    " leaf_weight leaf_count internal_value internal_weight internal_count cat_boundaries cat_threshold is_linear"
    " leaf_const num_features leaf_features leaf_coeff shrinkage"
)
_WHOLE = ("leaf_count", "internal_count", "leaf_features", "num_features", "cat_boundaries")
_ENDLESS = ("threshold", "split_gain")
"""Where LightGBM itself writes infinities: a split between what is missing and everything else, and large targets."""
_WORDS_MOST = 1 << 32
_PARAMETER = re.compile(rb"\[([a-z0-9_]+): ?[^\x00-\x1f\x7f]*\]")
_IMPORTANCE = re.compile(rb"[^\x00-\x1f\x7f]+=\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def header_problem(fields: dict[str, str], classes: int, per_round: int, features: int) -> str:
    """What of the header does not fit together; empty where all does.

    Args:
        fields: By their names.
        classes: Stated number of outputs.
        per_round: Trees of one round.
        features: The last feature's index.
    """
    return next(_header_problems(fields, classes, per_round, features), "")


def _header_problems(fields: dict[str, str], classes: int, per_round: int, features: int) -> Iterator[str]:
    if fields.keys() - _HEADER:
        yield f"unknown fields {sorted(fields.keys() - _HEADER)[:3]}"
    if classes != per_round:
        yield f"{classes} classes and {per_round} trees a round"
    for key in ("feature_names", "feature_infos", "monotone_constraints"):
        if key in fields and len(fields[key].split(" ")) != features + 1:
            yield f"{len(fields[key].split(' '))} of {key} for {features + 1} features"
    if not _INTEGER.fullmatch(fields.get("label_index", "0")) or int(fields.get("label_index", "0")) < 0:
        yield "a label of no column"
    name, *options = fields.get("objective", "regression").split(" ")
    stated = 1
    for option in options:
        key, mark, value = option.partition(":")
        if option != "sqrt" and not (mark and re.fullmatch(r"[a-z_]+", key) and _NUMBER.fullmatch(value)):
            yield f"an objective with {option!r}"
        stated = int(value) if key == "num_class" and _INTEGER.fullmatch(value) else stated
    if name not in _OBJECTIVES or ("objective" in fields and stated != classes):
        yield f"objective {name!r} of {stated} classes, where there are {classes}"


def tree_problem(fields: dict[str, str], leaves: int) -> str:
    """What of a tree's plain fields the library would stumble over; its structure is looked at elsewhere.

    Args:
        fields: By their names.
        leaves: Their stated number.
    """
    return next(_tree_problems(fields, leaves), "")


def _tree_problems(fields: dict[str, str], leaves: int) -> Iterator[str]:
    if fields.keys() - _TREE:
        yield f"unknown fields {sorted(fields.keys() - _TREE)[:3]}"
    for key, value in fields.items():
        if (_USUAL_WHOLE if key in _WHOLE else _USUAL).fullmatch(value):
            continue
        words = value.split(" ")
        endless = {"inf", "-inf"} if key in _ENDLESS else set()
        if not all(each == "" or each in endless or _is_number(each, whole=key in _WHOLE) for each in words):
            yield f"{key} with what is no number"
    for key in (*_OF_LEAVES, *_OF_NODES, "internal_count"):
        expected = leaves if key in _OF_LEAVES else leaves - 1
        found = len(fields.get(key, "").split())
        if (key in fields or key in _NEEDED) and found != expected and not (leaves == 1 and found == 0):
            yield f"{found} of {key}, {expected} expected"
    kinds = [int(each) for each in fields.get("decision_type", "").split()]
    if any(not 0 <= kind < 12 for kind in kinds):  # bits: by category, default left; two for what is missing
        yield f"a decision of type {max(kinds)}"
    if any(not 0 <= int(each) < _WORDS_MOST for each in fields.get("cat_threshold", "").split()):
        yield "categories that are no bits"
    if len(fields.get("shrinkage", "1").split()) != 1 or fields.get("is_linear", "0") not in {"0", "1"}:
        yield "shrinkage or is_linear of several values"


def _is_number(word: str, *, whole: bool) -> bool:
    if whole:
        return bool(_INTEGER.fullmatch(word)) and abs(int(word)) < 1 << 31
    return bool(_NUMBER.fullmatch(word)) and math.isfinite(float(word))


class Tail:
    """What stands behind the trees: importances, parameters, categories of pandas."""

    def __init__(self) -> None:
        self._part = ""
        self._names: set[bytes] = set()

    def problem(self, line: bytes) -> str:
        """What is wrong with the next line; empty where nothing is."""
        if self._part == "parameters":
            return self._parameter(line)
        if line in {b"feature_importances:", b"feature importances:", b"parameters:"}:
            if self._part == "ended" or (line != b"parameters:" and self._part):
                return "parts behind the trees in another order"
            self._part = line[:-1].decode()
            return ""
        if not line or (line.startswith(b"pandas_categorical:") and not CONTROL.search(line)):
            return ""
        importances = self._part.startswith("feature")
        return "" if importances and _IMPORTANCE.fullmatch(line) else f"a line {line[:30]!r} behind the trees"

    def end(self) -> str:
        """What is missing at the end; empty where nothing is."""
        return "parameters that do not end" if self._part == "parameters" else ""

    def _parameter(self, line: bytes) -> str:
        if line == b"end of parameters":
            self._part = "ended"
            return ""
        found = _PARAMETER.fullmatch(line)
        if not line or (found and found.group(1) not in self._names):
            self._names.add(found.group(1) if found else b"")
            return ""
        return f"a parameter {line[:30]!r}"
