"""Gradient-boosted trees: read as their libraries wrote them, and every index held."""

from __future__ import annotations

import json

import numpy as np
import pytest
from corpus.honest_frameworks import lightgbm, xgboost
from corpus.messages import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.scan import scan_paths
from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination
from hauberk.scan.frameworks import lightgbm_fields
from hauberk.scan.frameworks.trees import DeepError, check_depth, walk_problem
from hauberk.scan.frameworks.ubjson import Reader


def scanned(path):
    (result,) = scan_paths([path])
    return result


def as_plain(value):
    if isinstance(value, dict):
        return {key: as_plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_plain(each) for each in value]
    return [as_plain(each) for each in value.tolist()] if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("options", [{}, {"booster": "gblinear"}, {"objective": "binary:logistic"}])
def test_ubjson_says_what_json_says(options, tmp_path):
    """XGBoost writes one model in both forms; only rounding may differ."""
    binary = Reader(BytesContent(xgboost("m.ubj", **options)(tmp_path).read_bytes()), Examination()).value()
    text = json.loads(xgboost("m.json", **options)(tmp_path).read_bytes())
    first, second = as_plain(binary), text

    def same(left, right):
        if isinstance(left, dict):
            assert left.keys() == right.keys()
            for key in left:
                same(left[key], right[key])
        elif isinstance(left, list):
            assert len(left) == len(right)
            for one, other in zip(left, right, strict=True):
                same(one, other)
        elif isinstance(left, float):
            assert left == pytest.approx(float(right), rel=1e-6, abs=1e-30)
        else:
            assert left == right

    same(first, second)


def test_lightgbm_in_windows_lines_too(tmp_path):
    path = lightgbm(objective="binary")(tmp_path)
    assert scanned(path).facts["trees"] == 3
    text = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(text)
    assert scanned(path).format == "lightgbm"
    assert scanned(path).verdict == "unsafe"  # the sizes of trees no longer fit, and the library goes by them


def walk_ends(left, right, inner):
    """Whether every walk from node 0 stays inside and ends: tried, one node after the other."""
    waiting, seen = [0], set()
    while waiting:
        node = waiting.pop()
        if not 0 <= node < len(inner) or node in seen:
            return False
        seen.add(node)
        if inner[node]:
            waiting += [left[node], right[node]]
    return True


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(*[st.lists(st.integers(-2, n), min_size=n, max_size=n)] * 2)))
def test_what_is_called_a_tree_is_one(sides):
    left, right = (np.array(side) for side in sides)
    inner = left != -1
    if not walk_problem((left, right), inner):
        assert walk_ends(left.tolist(), right.tolist(), inner.tolist())


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_every_tree_is_called_one(splits, random):
    """Trees grown leaf by leaf, as all libraries grow them."""
    left, right, leaves = [-1], [-1], [0]
    for _ in range(splits):
        node = leaves.pop(random.randrange(len(leaves)))
        left[node], right[node] = len(left), len(left) + 1
        leaves += [len(left), len(left) + 1]
        left += [-1, -1]
        right += [-1, -1]
    sides = np.array(left), np.array(right)
    inner = sides[0] != -1
    assert walk_problem(sides, inner) == ""
    check_depth(np.tile(np.flatnonzero(inner), 2), np.concatenate([side[inner] for side in sides]), len(inner))


@pytest.mark.parametrize("step", [1, -1])
def test_levels_are_counted(step):
    """A chain, its nodes numbered from its beginning or from its end."""
    for levels in (0, 1, 2, 3, 1023, 1024):
        chain = np.arange(levels + 1)[::step]
        check_depth(chain[:-1], chain[1:], levels + 1)
    chain = np.arange(1026)[::step]
    with pytest.raises(DeepError):
        check_depth(chain[:-1], chain[1:], 1026)


def test_a_circle_has_no_end():
    with pytest.raises(DeepError):
        check_depth(np.array([1, 2, 3]), np.array([2, 3, 1]), 4)


@pytest.mark.parametrize(
    "name", ["xgboost_categories.ubj", "xgboost_vector_leaves.ubj", "lightgbm_linear.txt", "catboost_oblivious.cbm"]
)
def test_every_cut_is_not_safe(name, tmp_path):
    data = (FIXTURES / name).read_bytes()
    path = tmp_path / "cut"
    end_of_trees = data.find(b"end of trees") if name.endswith(".txt") else len(data)
    for end in range(1, end_of_trees, max(1, len(data) // 60)):
        path.write_bytes(data[:end])
        result = scanned(path)
        assert result.format in {"text", ""} or result.verdict != "safe", end
        assert "scan-failed" not in {finding.rule for finding in result.findings}


@pytest.mark.parametrize("name", ["xgboost_categories.ubj", "catboost_oblivious.cbm", "catboost_depthwise.cbm"])
def test_damage_is_no_fault_of_the_scanner(name, tmp_path):
    data, rng = (FIXTURES / name).read_bytes(), np.random.default_rng(1)
    path = tmp_path / "damaged"
    for _ in range(150):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            changed[int(at)] = int(rng.integers(0, 256))
        path.write_bytes(bytes(changed))
        assert "scan-failed" not in {finding.rule for finding in scanned(path).findings}


@given(text=st.text(alphabet="0123456789-+.e ", max_size=14))
def test_what_looks_like_a_usual_list_of_numbers_is_one(text):
    """The quick look passes nothing that the look at each number would not."""
    for usual, whole in ((lightgbm_fields._USUAL, False), (lightgbm_fields._USUAL_WHOLE, True)):
        if usual.fullmatch(text):
            assert all(word == "" or lightgbm_fields._is_number(word, whole=whole) for word in text.split(" "))
