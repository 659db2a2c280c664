import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.data.infer import infer_schema
from hauberk.data.table import Table
from hauberk.errors import InputError
from hauberk.schema import BooleanFeature, CategoricalFeature, Coder, IntegerFeature, Label, NumericFeature

LABEL = Label(name="label", classes=("0", "1"), benign="0")


def infer(columns, **options):
    table = Table({name: np.asarray(column) for name, column in columns.items()}, "a.csv")
    return infer_schema(table, LABEL, **options)


def texts(values):
    return np.array(list(values), dtype=object)


def test_kinds_and_ranges_are_those_of_the_rows():
    schema = infer({"bytes": [3, 0], "rate": [0.5, -1.0], "land": [True, False], "flag": texts(["SF", "S0"])})
    assert schema.features == (
        IntegerFeature(name="bytes", low=0, high=3),
        NumericFeature(name="rate", low=-1.0, high=0.5),
        BooleanFeature(name="land"),
        CategoricalFeature(name="flag", categories=("S0", "SF")),
    )


def test_zeros_and_ones_stay_integers_unless_they_are_known_to_be_truth_values():
    columns = {"urgent": [0, 1], "land": [0, 1]}
    assert infer(columns, booleans=frozenset({"land"})).features == (
        IntegerFeature(name="urgent", low=0, high=1),
        BooleanFeature(name="land"),
    )


def test_who_can_change_a_column_is_asked_by_name():
    schema = infer({"a": [1], "b": [1]}, mutable=lambda name: name == "a")
    assert [feature.mutable for feature in schema.features] == [True, False]


def test_text_with_few_values_is_a_category():
    values = [f"service {number % 66}" for number in range(200)]
    assert len(infer({"service": texts(values)}).categoricals[0].categories) == 66


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([f"10.0.0.{number}" for number in range(100)], "column 'a' has 100 different texts in 100 records"),
        ([f"{number % 300}x" for number in range(3000)], "column 'a' has 300 different texts"),
        ([str(number) for number in range(99)] + ["NA"], "column 'a' holds numbers and 1 texts such as 'NA'"),
    ],
)
def test_text_that_is_no_category_is_refused_by_name(values, complaint):
    with pytest.raises(InputError, match=complaint):
        infer({"a": texts(values)})


def test_numbers_as_text_are_an_identifier_where_there_are_too_many():
    with pytest.raises(InputError, match="'a' has 30 different texts in 30 records"):
        infer({"a": texts([f"{number}" for number in range(30)])})


_columns = st.integers(1, 30).flatmap(
    lambda count: st.fixed_dictionaries(
        {
            "integers": st.lists(st.integers(-(2**31), 2**31), min_size=count, max_size=count),
            "numbers": st.lists(
                st.floats(allow_nan=False, width=32, allow_infinity=False), min_size=count, max_size=count
            ),
            "truth": st.lists(st.booleans(), min_size=count, max_size=count),
            "words": st.lists(st.sampled_from(["tcp", "udp", "ü", "NA", "0"]), min_size=count, max_size=count).map(
                texts
            ),
        }
    )
)


@settings(deadline=None)
@given(_columns)
def test_an_inferred_schema_codes_its_own_rows_without_unknowns(columns):
    table = Table({name: np.asarray(column) for name, column in columns.items()}, "a.csv")
    schema = infer_schema(table, LABEL)
    coded = Coder(schema).code(table)
    assert (coded.codes > 0).all()
    lows = np.array([getattr(feature, "low", 0) for feature in schema.numbers], dtype=np.float32)
    highs = np.array([getattr(feature, "high", 1) for feature in schema.numbers], dtype=np.float32)
    assert ((coded.numeric >= lows) & (coded.numeric <= highs)).all()
    names = schema.categoricals[0].categories
    assert [names[code - 1] for code in coded.codes[:, 0]] == columns["words"].tolist()
