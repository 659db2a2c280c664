"""Models of XGBoost: JSON, its binary form UBJSON, and the old binary format.

The library reads trees as arrays and follows them without looking, so every tree is walked here before.
Format: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.trees import BOUNDS, DEEP, DeepError, figure, integers
from hauberk.scan.frameworks.ubjson import Reader
from hauberk.scan.frameworks.xgboost_trees import category_bits, encoding_problem, tree_problem
from hauberk.scan.report import Outcome, Rule, Severity, shown

DAMAGED = Rule(
    "xgboost-damaged",
    "a model of XGBoost that is not complete",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Parts are missing, of another type or nested too deeply; what the library makes of them is not known.",
    "https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html",
)
LEGACY = Rule(
    "xgboost-legacy",
    "the old binary format of XGBoost",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It is a copy of the library's memory, read without checks, and was given up. Save the model as UBJSON.",
    "https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html",
)
_FEATURES_MOST = 1 << 32
_OUTPUTS_MOST = 1 << 20
_ROOM_FOR_A_FEATURE = 4 * 64  # bytes; records are predicted in blocks of 64


def recognise(head: bytes, content: Content) -> bool:
    """UBJSON: an object whose keys have lengths of eight bytes, the first of them one that XGBoost writes."""
    if not head.startswith(b"{L") or len(head) < 18:
        return False
    length = int.from_bytes(head[2:10], "big")
    return content.size > 20 and head[10 : 10 + length] in {b"learner", b"version", b"Model", b"Config"}


def examine(content: Content, examination: Examination) -> None:
    """Read all of it and walk its trees."""
    reader = Reader(content, examination)
    try:
        model = reader.value()
    except (ValueError, CutError) as error:
        examination.find(DAMAGED, shown(str(error)))
        return
    if reader.at != content.size:
        examination.find(DAMAGED, f"{content.size - reader.at} bytes behind the model", at=reader.at)
    examine_model(model, examination)


def examine_model(model: Any, examination: Examination) -> None:
    """Walk the trees of a model, from JSON or UBJSON.

    Args:
        model: The outermost object.
        examination: Reported to.
    """
    if isinstance(model, dict) and {"learner", "Model"} <= model.keys():
        examination.find(DAMAGED, "two models: one for files, one for copies of memory")
    try:
        learner = model["learner"] if "learner" in model else model["Model"]["learner"]
        booster = learner["gradient_booster"]
        name = booster["name"]
        features = figure(learner["learner_model_param"]["num_feature"])
        outputs = figure(learner["learner_model_param"]["num_class"])
        targets = figure(learner["learner_model_param"].get("num_target", 1))
        if not (0 <= features <= _FEATURES_MOST and 0 <= outputs <= _OUTPUTS_MOST and 0 <= targets <= _OUTPUTS_MOST):
            examination.find(BOUNDS, f"{features} features, {outputs} classes, {targets} targets")
            return
        if features * _ROOM_FOR_A_FEATURE > examination.limits.model_memory:
            examination.find(BOUNDS, f"{features} features, for which every prediction makes room")
        _examine_learner(learner, features, outputs, max(1, outputs, targets), examination)
        if name == "gblinear":
            _examine_linear(booster["model"], features, max(1, outputs, targets), examination)
        elif name in {"gbtree", "dart"}:
            trees = booster["gbtree"]["model"] if name == "dart" else booster["model"]
            if name == "dart" and len(booster["weight_drop"]) != len(trees["trees"]):
                examination.find(BOUNDS, f"{len(booster['weight_drop'])} weights of {len(trees['trees'])} trees")
            _examine_trees(trees, features, max(1, outputs, targets), examination)
        else:
            examination.find(DAMAGED, shown(f"a booster called {name!r}"))
    except DeepError as error:
        examination.find(DEEP, str(error))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        examination.find(DAMAGED, shown(f"{type(error).__name__}: {error}"))


def _examine_learner(learner: Any, features: int, classes: int, outputs: int, examination: Examination) -> None:
    """What stands beside the trees and must agree with them."""
    for key in ("feature_names", "feature_types"):
        if len(learner.get(key, ())) not in {0, features}:
            raise ValueError(f"{len(learner[key])} {key} of {features} features")
    for parameters in learner["objective"].values():
        if isinstance(parameters, dict) and figure(parameters.get("num_class", classes)) != classes:
            examination.find(BOUNDS, shown(f"an objective of {parameters['num_class']} classes, of {classes}"))
    scores = json.loads(str(learner["learner_model_param"].get("base_score", "0.5")))
    scores = scores if isinstance(scores, list) else [scores]
    if len(scores) not in {1, outputs} or not all(isinstance(each, int | float) for each in scores):
        examination.find(BOUNDS, f"{len(scores)} scores to begin with, of {outputs} outputs")


def _examine_linear(model: Any, features: int, outputs: int, examination: Examination) -> None:
    count = len(model["weights"])
    if count != (features + 1) * outputs:
        examination.find(BOUNDS, f"{count} weights of {features} features and {outputs} outputs")
    examination.facts["trees"] = 0


def _examine_trees(model: Any, features: int, outputs: int, examination: Examination) -> None:
    trees, groups = model["trees"], integers(model["tree_info"], "groups of trees")
    examination.facts["trees"] = len(trees)
    if len(groups) != len(trees) or figure(model["gbtree_model_param"]["num_trees"]) != len(trees):
        examination.find(BOUNDS, f"{len(trees)} trees, {len(groups)} groups of trees")
    if groups.size and (groups.min() < 0 or groups.max() >= outputs):
        examination.find(BOUNDS, f"a tree of group {groups.max()}, of {outputs}")
    parallel = figure(model["gbtree_model_param"].get("num_parallel_tree", 1))
    if "cats" in model and (problem := encoding_problem(model["cats"], features)):
        examination.find(BOUNDS, problem)
    starts = integers(model.get("iteration_indptr", []), "first trees of iterations")
    if starts.size and (starts.min() < 0 or starts.max() > len(trees) or (np.diff(starts) < 0).any()):
        examination.find(BOUNDS, "iterations that begin at trees which are not there")
    if (starts.size and (starts[0] != 0 or starts[-1] != len(trees))) or not 0 < parallel <= max(1, len(trees)):
        raise ValueError(f"iterations up to tree {starts[-1:]} of {len(trees)}, {parallel} trees at a time")
    bits = 0
    for index, tree in enumerate(trees):
        examination.check_time()
        problem = tree_problem(tree, index, features, outputs)
        bits += category_bits(tree)
        if not problem and bits // 8 > examination.limits.model_memory:
            problem = f"categories that take {bits // 8} bytes and more"
        if problem:
            examination.find(BOUNDS, problem, at=f"tree {index}")


def recognise_legacy(head: bytes, _: Content) -> bool:
    """The old binary format says so in its first four bytes."""
    return head.startswith((b"binf", b"bs64\t"))


def examine_legacy(_: Content, examination: Examination) -> None:
    """Nothing of it is followed."""
    examination.find(LEGACY, "the old binary format", at=0)


FORMATS = (
    Format("xgboost-ubjson", recognise, examine, (DAMAGED, BOUNDS, DEEP), b"{"),
    Format("xgboost-legacy", recognise_legacy, examine_legacy, (LEGACY,), b"b"),
)
