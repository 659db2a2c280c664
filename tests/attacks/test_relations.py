"""The language of relations: read, refused with a reason, evaluated exactly, and checked for contradictions."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from hauberk.attacks.binding import bind
from hauberk.attacks.contradictions import Numbers, explain_contradiction
from hauberk.attacks.expressions import parse
from hauberk.attacks.relations import Raw
from hauberk.errors import InputError
from hauberk.schema import CategoricalFeature, IntegerFeature, NumericFeature, RecordSchema

NAMES = ("a", "b", "c", "rate", "char_freq_!", "and")
SCHEMA = RecordSchema(
    features=(
        IntegerFeature(name="a", low=0, high=100),
        IntegerFeature(name="b", low=0, high=100),
        IntegerFeature(name="c", low=-5, high=5),
        NumericFeature(name="rate", low=0.0, high=1.0),
        NumericFeature(name="char_freq_!", low=0.0, high=100.0),
        NumericFeature(name="and", low=0.0, high=100.0),
        CategoricalFeature(name="flag", categories=("S0", "SF")),
    )
)


def raw(*rows: tuple[float, ...], codes: int = 1) -> Raw:
    numeric = np.zeros((len(rows), len(NAMES)))
    for number, row in enumerate(rows):
        numeric[number, : len(row)] = row
    return Raw(numeric, np.full((len(rows), 1), codes))


def holds(text: str, *values: float, tolerance: float = 0.0, codes: int = 1) -> bool:
    return bool(bind(text, tolerance, SCHEMA).excess(raw(values, codes=codes))[0] == 0)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("a <= b", (1, 2), True),
        ("a = b", (2, 2), True),
        ("a < b", (2, 2), False),
        ("a != b", (2, 2), False),
        ("a - b - c == 0", (5, 3, 2), True),
        ("a / 2 * 4 == b", (3, 6), True),
        ("-a * 2 + 10 == b", (3, 4), True),
        ("a == count(b, c, rate)", (2, 7, -1), True),
        ("a == sum(b, c)", (2, 7, -5), True),
        ("a >= max(b, 2 * c) and min(b, c) <= 3", (8, 7, 4), False),
        ("a > 5 implies b > 5 implies c > 0", (6, 6, 0), False),
        ("a > 5 implies b > 5 implies c > 0", (6, 5, 0), True),
        ("a > 1 or b > 1 and c > 1", (2, 0, 0), True),
        ("(a > 1 or b > 1) and c > 1", (2, 0, 0), False),
        ('"char_freq_!" >= 1', (0, 0, 0, 0, 1), True),
        ('"and" >= 1 and sum("char_*") >= 1', (0, 0, 0, 0, 1, 1), True),
        ('count("*") == 2', (0, 4, 0, 0, 1, 0), True),
        ("flag == 'S0' implies a == 0", (1,), False),
        ("'S0' != flag or a == 1", (1,), True),
        ("rate != 0 implies a == 1", (2, 0, 0, 0.5), False),
        ("rate == 0 implies a == 1", (2, 0, 0, 0.5), True),
    ],
)
def test_what_a_relation_means(text, values, expected):
    assert holds(text, *values) is expected


@given(
    st.recursive(
        st.sampled_from(["a", "b", "c", "rate", "3", "0.25"]),
        lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        max_leaves=8,
    ),
    st.sampled_from(["==", "<=", ">=", "<", ">", "!="]),
    st.tuples(*[st.integers(-50, 50)] * 3, st.floats(0, 1)),
)
def test_arithmetic_is_pythons(side, operator, values):
    """Python's own float64 arithmetic and comparison of the same text are the independent truth."""
    text = f"a * 1 + {side} {operator} 2 * ({side} - b) / 4"
    wanted = eval(text, {}, dict(zip("abc", map(float, values[:3]), strict=True)) | {"rate": values[3]})
    # A tolerance, which '==' between real numbers needs, is below any difference that can arise here.
    assert holds(text, *values, tolerance=1e-300 if operator == "==" else 0.0) == wanted


def test_the_excess_says_by_how_much():
    assert bind("a <= 2 * b", 0, SCHEMA).excess(raw((7, 2), (4, 2))).tolist() == [3, 0]
    assert bind("a == b and c >= 1", 0, SCHEMA).excess(raw((7, 2, 1), (4, 4, -3))).tolist() == [5, 4]


def test_a_division_by_zero_breaks_the_relation_unless_a_premise_excludes_it():
    assert bind("a / b <= 1", 0, SCHEMA).excess(raw((0, 0)))[0] == np.inf
    assert holds("b > 0 implies a / b <= 1", 0, 0)


def test_a_tolerance_is_for_what_a_sensor_rounds():
    assert holds("rate == a / b", 1, 3, 0, 0.33, tolerance=0.0051)
    assert not holds("rate == a / b", 1, 3, 0, 0.32, tolerance=0.0051)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <=", "expected a value at column 5, found the end"),
        ("a <= b <= c", "expected 'and' before another comparison at column 8, found '<='"),
        ("a b", "expected an operator or the end at column 3, found 'b'"),
        ("(a <= b", r"expected '\)' at column 8, found the end"),
        ("a & b", "'&' at column 3 begins nothing"),
        ("a + b", "compares nothing"),
        ("(a <= b) + 1 == 2", "'\\+' at column 10 takes numbers, not comparisons"),
        ("a and b", "'and' at column 3 joins comparisons"),
        ("sum((a <= b)) == 1", "a function takes numbers, not what stands at column 5"),
        ("sum(a, 'S0') == 1", "a function takes numbers, not what stands at column 8"),
        ("1 <= 2", "there is no feature in it"),
        ("a <= 1e999", "'1e999' at column 6 is larger"),
        ("ports <= 3", "there is no feature 'ports'"),
        ("flag <= 3", "compared with a category in single quotes"),
        ("flag + 1 <= 3", "'flag' is a categorical feature"),
        ("flag == 'XX'", "'flag' has no category 'XX'"),
        ("flag < 'S0'", "categories have no order"),
        ("a == 'S0'", "'a' is a number and cannot be 'S0'"),
        ("a <= 'S0' + 1", "takes numbers, not the name of a category"),
        ('sum("x*") <= 1', "the name of no number matches 'x\\*'"),
        ('"c*" <= 1', "stands for several features"),
        ("rate == a / b", "'rate' is a real number, and '==' needs a tolerance"),
        ("+".join(["a"] * 70) + " <= 1", "more than 60 levels"),
        ("(" * 70 + "a" + ")" * 70 + " <= 1", "more than 60 levels"),
        ("a <= " + "1" * 5000, "5,005 characters"),
    ],
)
def test_what_is_no_relation_is_refused_with_the_reason(text, message):
    with pytest.raises(InputError, match=message):
        bind(text, 0.0, SCHEMA)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(InputError, match="tolerance"):
        bind("a <= b", tolerance, SCHEMA)


@given(st.text(alphabet="ab()<=>+-*/ ,'\"1.implesandrc", max_size=40))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(InputError):
        parse(text)


def clash(*texts: str, tolerance: float = 0.0) -> str:
    features = SCHEMA.numbers
    numbers = Numbers(
        NAMES,
        np.array([feature.low for feature in features], dtype=np.float64),
        np.array([feature.high for feature in features], dtype=np.float64),
        np.array([isinstance(feature, IntegerFeature) for feature in features]),
    )
    return explain_contradiction([bind(text, tolerance, SCHEMA) for text in texts], numbers)


def test_relations_that_can_hold_together_do_not_clash():
    assert not clash(
        "a <= b", "b <= a", "c == a - b", "a > 3 implies b > 4", "a != b or rate > 0.5", "a == count(b, c)"
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("a < b", "c <= 5", "b < a"), "relations 1 (a < b) and 3 (b < a) contradict each other; change one of them"),
        (("rate < b", "b < rate"), "relations 1 (rate < b) and 2 (b < rate) contradict each other; change one of them"),
        (
            ("a + b <= 10", "rate >= 0", "a >= 7", "b >= 4"),
            "relations 1 (a + b <= 10), 3 (a >= 7) and 4 (b >= 4) contradict each other; change one of them",
        ),
        (("a >= 101",), "relation 1 (a >= 101) cannot hold within the bounds 0 <= a <= 100; change it"),
        (("2 * a == 7",), "relation 1 (2 * a == 7) cannot hold; change it"),
        (("a == b + 1 and b == a + 1",), "relation 1 (a == b + 1 and b == a + 1) cannot hold; change it"),
        (("count(a, b) >= 3",), "relation 1 (count(a, b) >= 3) cannot hold; change it"),
        (("a * a <= -1",), "relation 1 (a * a <= -1) cannot hold within the bounds 0 <= a <= 100; change it"),
        (
            ("a >= 5", "count(a, b) == c", "c <= 0"),
            "relations 1 (a >= 5), 2 (count(a, b) == c) and 3 (c <= 0) contradict each other; change one of them",
        ),
        (("a >= 0 implies b >= 200",), "relation 1 (a >= 0 implies b >= 200) cannot hold within the bounds"),
    ],
)
def test_relations_that_clash_are_named_and_no_others(texts, message):
    assert clash(*texts).startswith(message)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.tuples(*[st.integers(-3, 3)] * 3), st.sampled_from(["<=", ">=", "=="]), st.integers(-40, 40)),
        min_size=1,
        max_size=5,
    )
)
def test_linear_contradictions_are_those_of_a_linear_program(rows):
    """Scipy's HiGHS says whether a point within the bounds exists; here all columns are real numbers."""
    rows = [row for row in rows if any(row[0])]
    schema = RecordSchema(features=tuple(NumericFeature(name=name, low=-10.0, high=10.0) for name in "abc"))
    texts = [
        f"{x} * a + {y} * b + {z} * c {operator} {bound}".replace("-", "0 - ") for (x, y, z), operator, bound in rows
    ]
    relations = [bind(text.replace("+ 0 - ", "- "), 1e-12, schema) for text in texts]
    numbers = Numbers("abc", np.full(3, -10.0), np.full(3, 10.0), np.zeros(3, dtype=np.bool_))
    above = [(np.array(w), bound) for w, operator, bound in rows if operator in {"<=", "=="}]
    above += [(-np.array(w), -bound) for w, operator, bound in rows if operator in {">=", "=="}]
    if rows:
        found = linprog(np.zeros(3), A_ub=[w for w, _ in above], b_ub=[b for _, b in above], bounds=[(-10, 10)] * 3)
        assert bool(explain_contradiction(relations, numbers)) == (found.status == 2)
