"""Models of CatBoost in their binary form: a mark, the size of a FlatBuffer, the FlatBuffer, and further parts.

Format: `catboost/libs/model/flatbuffers/model.fbs` of https://github.com/catboost/catboost.
"""

from __future__ import annotations

import numpy as np

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.flatbuffer import Buffer, Table
from hauberk.scan.frameworks.trees import BOUNDS, DEEP, DeepError, Integers, check_depth, integers
from hauberk.scan.pickles.bare import begins_pickle
from hauberk.scan.report import Outcome, Rule, Severity, shown

DAMAGED = Rule(
    "catboost-damaged",
    "a model of CatBoost that cannot be followed",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It is cut short, or a table of it is damaged.",
    "https://github.com/catboost/catboost/tree/master/catboost/libs/model",
)
PARTS = Rule(
    "catboost-parts",
    "parts of a model that are not followed",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Statistics of categories, and what is computed from texts and embeddings, have formats of their own, which are not"
    " followed.",
    "https://github.com/catboost/catboost/tree/master/catboost/libs/model",
)
_MARK = b"CBM1"
_DEEPEST = 16
_FEATURES_MOST = 1 << 24


def recognise(head: bytes, content: Content) -> bool:
    """The mark, a FlatBuffer that fits, and nothing that an unpickler would follow."""
    fits = head.startswith(_MARK) and 16 <= int.from_bytes(head[4:8], "little") + 8 <= content.size
    return fits and not begins_pickle(head, content)


def examine(content: Content, examination: Examination) -> None:
    """Check the trees, and say what is not followed."""
    size = int.from_bytes(content.read(4, 4), "little")
    try:
        core = Buffer(content.part(8, size), examination).root()
        _examine_core(core, examination)
        parts = core.vector(3, 4)[1]
    except DeepError as error:
        examination.find(DEEP, str(error))
        return
    except (CutError, ValueError, IndexError) as error:
        examination.find(DAMAGED, shown(str(error)))
        return
    if parts or content.size != 8 + size:
        examination.find(PARTS, f"{content.size - 8 - size} bytes behind the trees", at=8 + size)


def _examine_core(core: Table, examination: Examination) -> None:
    trees = core.table(1)
    if trees is None:
        raise ValueError("no trees")
    dimension = trees.scalar(0, 4, signed=True)
    if dimension < 1:
        examination.find(BOUNDS, f"{dimension} outputs")
        return
    splits, sizes, starts = (integers(trees.numbers(field, "<i4"), "splits") for field in (1, 2, 3))
    examination.facts["trees"] = len(sizes)
    if trees.vector(12, 4)[1] or trees.vector(13, 4)[1] or trees.vector(18, 4)[1]:
        examination.find(PARTS, "features made from texts or embeddings")
        return
    if trees.vector(7, 4)[1]:
        examination.find(PARTS, "features made from statistics of categories")
    if problem := _features_problem(trees):
        examination.find(BOUNDS, problem)
        return
    borders = sum(each.vector(3, 4)[1] for each in trees.tables(5))
    borders += sum(each.vector(1, 4)[1] for each in trees.tables(6))
    borders += sum(each.vector(1, 4)[1] for each in trees.tables(7))
    if len(sizes) != len(starts) or (sizes < 0).any() or (starts < 0).any() or (starts + sizes > len(splits)).any():
        examination.find(BOUNDS, "trees beyond their splits")
    elif trees.vector(10, 4)[1] or trees.vector(11, 4)[1]:
        _examine_steps(trees, splits, borders, dimension, examination)
    elif splits.size and (splits.min() < 0 or splits.max() >= borders):
        examination.find(BOUNDS, f"split {splits.max()} of {borders}")
    elif (sizes > _DEEPEST).any() or trees.vector(8, 8)[1] != int((1 << sizes).sum()) * dimension:
        examination.find(BOUNDS, f"{trees.vector(8, 8)[1]} values of leaves, which are not those of the trees")


def _features_problem(trees: Table) -> str:
    """What is wrong with the places of features among those that a prediction is handed; empty where nothing is.

    The library counts them from the highest, and reads at the place of each that is used.
    """
    numbers = [(each.scalar(1, 4, -1, signed=True), each.scalar(2, 4, -1, signed=True)) for each in trees.tables(5)]
    categories = [(each.scalar(0, 4, -1, signed=True), each.scalar(1, 4, -1, signed=True)) for each in trees.tables(4)]
    flat = [place for _, place in (*numbers, *categories)]
    for places in ([index for index, _ in numbers], [index for index, _ in categories], flat):
        if len(set(places)) != len(places) or any(not 0 <= place <= _FEATURES_MOST for place in places):
            return "features at one place, or at none"
    known = {index for index, _ in categories}
    if any(each.scalar(0, 4, -1, signed=True) not in known for each in trees.tables(6)):
        return "a category of a feature that is not there"
    return ""


def _examine_steps(trees: Table, splits: Integers, borders: int, dimension: int, examination: Examination) -> None:
    """Trees of any shape: each node says how far ahead its children are, or which value its leaf has."""
    pairs = integers(trees.numbers(10, "<u4"), "steps")
    left, right = (pairs & 0xFFFF).tolist(), (pairs >> 16).tolist()
    leaves, values = integers(trees.numbers(11, "<u4"), "leaves"), trees.vector(8, 8)[1]
    if len(left) != len(splits) or len(leaves) != len(splits):
        examination.find(BOUNDS, f"{len(left)} nodes, {len(leaves)} leaves, {len(splits)} splits")
        return
    known = max(1, borders)  # the split of a node without children is looked up, too: 0, even of no borders
    if splits.size and (splits.min() < 0 or splits.max() >= known or (pairs.any() and not borders)):
        examination.find(BOUNDS, f"split {splits.max()} of {borders}")
        return
    sizes, starts = (integers(trees.numbers(field, "<i4"), "trees") for field in (2, 3))
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        examination.check_time()
        if not size:
            examination.find(BOUNDS, "a tree without a node")
            return
        for node in range(start, start + size):
            if node + max(left[node], right[node]) >= start + size:
                examination.find(BOUNDS, "a child that is none of its tree's nodes", at=f"node {node}")
                return
            last = int(leaves[node]) if not left[node] or not right[node] else 0
            if last + dimension > values:
                examination.find(BOUNDS, f"leaf {last} of {values} values", at=f"node {node}")
                return
    if problem := _ways_problem(pairs):
        examination.find(BOUNDS, problem)


def _ways_problem(pairs: Integers) -> str:
    """What goes down a tree by recursion goes every way there is; none must be long, nor two of them meet.

    Raises:
        DeepError: One is long.
    """
    steps = np.stack([pairs & 0xFFFF, pairs >> 16])
    parents = np.nonzero(steps)[1]
    children = parents + steps[steps > 0]
    if np.bincount(children).max(initial=0) > 1:
        return "a node that is reached in two ways"
    check_depth(parents, children, len(pairs))
    return ""


FORMATS = (Format("catboost", recognise, examine, (DAMAGED, PARTS, BOUNDS, DEEP), _MARK[:1]),)
