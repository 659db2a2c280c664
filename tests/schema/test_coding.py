import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.errors import SchemaError
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    Coded,
    Coder,
    IntegerFeature,
    NumericFeature,
    RecordSchema,
)

STRICT = RecordSchema(
    features=(
        CategoricalFeature(name="protocol", categories=("icmp", "tcp", "80")),
        NumericFeature(name="duration", low=0.0, high=1.0),
        IntegerFeature(name="bytes", low=0, high=10),
        BooleanFeature(name="land"),
    )
)
LENIENT = RecordSchema(
    features=(
        CategoricalFeature(name="protocol", categories=("icmp", "tcp", "80"), missing="tcp"),
        NumericFeature(name="duration", low=0.0, high=1.0, missing=0.25),
        IntegerFeature(name="bytes", low=0, high=10, missing=7),
        BooleanFeature(name="land", missing=True),
    )
)
NUMBERS_ONLY = RecordSchema(features=STRICT.numbers)
GOOD = {"protocol": "tcp", "duration": 0.5, "bytes": 3, "land": False}


def coded_rows(coded):
    return coded.numeric.tolist(), coded.codes.tolist()


def reference(schema, record):
    """What one record becomes, written the slow and obvious way."""
    numeric, codes = [], []
    for feature in schema.features:
        value = record.get(feature.name)
        if value is None or value != value:
            value = feature.missing
        if isinstance(feature, CategoricalFeature):
            codes.append([None, *feature.categories].index(str(value)) if str(value) in feature.categories else 0)
        else:
            numeric.append(float(np.float32(value)))
    return numeric, codes


_records = st.fixed_dictionaries(
    {
        "protocol": st.sampled_from(["icmp", "tcp", "80", "gre", None]),
        "duration": st.none() | st.floats(width=32, allow_infinity=False),
        "bytes": st.none() | st.integers(-(2**24), 2**24),
        "land": st.none() | st.booleans(),
    }
)


@given(st.lists(_records, max_size=8))
def test_dicts_become_what_the_definition_says(records):
    coded = Coder(LENIENT).code(records)
    expected = [reference(LENIENT, record) for record in records]
    assert coded_rows(coded) == ([row for row, _ in expected], [row for _, row in expected])
    assert coded.numeric.dtype == np.float32
    assert coded.codes.dtype == np.int64
    assert coded.numeric.shape == (len(records), 3)
    assert coded.codes.shape == (len(records), 1)


_POLARS_KINDS = {"protocol": pl.String, "duration": pl.Float64, "bytes": pl.Int64, "land": pl.Boolean}


@settings(deadline=None)
@given(st.lists(_records, min_size=1, max_size=8))
def test_frames_become_what_their_rows_as_dicts_become(records):
    coder = Coder(LENIENT)
    expected = coded_rows(coder.code(records))
    assert coded_rows(coder.code(pl.DataFrame(records, schema=_POLARS_KINDS))) == expected
    assert coded_rows(coder.code(pd.DataFrame(records))) == expected
    assert coded_rows(coder.code(pd.DataFrame(records).convert_dtypes())) == expected


def test_one_dict_is_a_batch_of_one():
    assert coded_rows(Coder(STRICT).code(GOOD)) == ([[0.5, 3.0, 0.0]], [[2]])


def test_the_results_are_writable_and_contiguous():
    for array in Coder(STRICT).code([GOOD, GOOD]):
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_a_schema_of_categories_alone_has_an_empty_numeric():
    schema = RecordSchema(features=STRICT.categoricals)
    coded = Coder(schema).code([GOOD, GOOD])
    assert coded.numeric.shape == (2, 0)
    assert coded.codes.tolist() == [[2], [2]]


def test_columns_that_the_schema_does_not_name_are_ignored():
    assert coded_rows(Coder(STRICT).code(GOOD | {"note": object()})) == coded_rows(Coder(STRICT).code(GOOD))
    frame = pl.DataFrame([GOOD | {"note": [1, 2]}])
    assert coded_rows(Coder(STRICT).code(frame)) == coded_rows(Coder(STRICT).code(GOOD))


def test_a_missing_column_takes_the_stand_in_everywhere():
    expected = ([[0.25, 7.0, 1.0]], [[2]])
    assert coded_rows(Coder(LENIENT).code({})) == expected
    assert coded_rows(Coder(LENIENT).code(pl.DataFrame({"other": [1]}))) == expected


def test_a_stand_in_that_is_no_category_is_coded_as_unknown():
    schema = RecordSchema(features=(CategoricalFeature(name="flag", categories=("S0",), missing="none"),))
    assert Coder(schema).code({"flag": None}).codes.tolist() == [[0]]


@pytest.mark.parametrize("value", [80, 80.0, np.int64(80), "80", np.str_("80")])
def test_a_whole_number_names_a_category_by_its_digits(value):
    assert Coder(STRICT).code(GOOD | {"protocol": value}).codes.tolist() == [[3]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"duration": None}, "record 1, column 'duration' is missing"),
        ({"duration": math.nan}, "record 1, column 'duration': nan is missing"),
        ({"duration": math.inf}, "record 1, column 'duration': inf is not a finite"),
        ({"duration": 1e39}, "record 1, column 'duration': inf is not a finite"),
        ({"duration": 10**400}, "record 1, column 'duration': 1000.*is not a finite"),
        ({"duration": "0.5"}, "record 1, column 'duration': '0.5' is a str; give a number"),
        ({"duration": np.str_("0.5")}, "record 1, column 'duration': .*'0.5'.* is a str_; give a number"),
        ({"duration": b"0.5"}, "record 1, column 'duration': b'0.5' is a bytes; give a number"),
        ({"duration": [0.5]}, "record 1, column 'duration': .* is a list; give a number"),
        ({"duration": 1j}, "record 1, column 'duration': 1j is a complex; give a number"),
        ({"bytes": 2.5}, "record 1, column 'bytes': 2.5 is not of the column's type; give a whole number"),
        ({"land": 2}, "record 1, column 'land': 2.0 is not of the column's type; give true, false, 0 or 1"),
        ({"land": -1}, "record 1, column 'land': -1.0"),
        ({"land": "true"}, "record 1, column 'land': 'true' is a str"),
        ({"protocol": None}, "record 1, column 'protocol' is missing"),
        ({"protocol": math.nan}, "record 1, column 'protocol' is missing"),
        ({"protocol": 0.5}, "record 1, column 'protocol': 0.5 is a float; give the category's name"),
        ({"protocol": True}, "record 1, column 'protocol': True is a bool"),
        ({"protocol": b"tcp"}, "record 1, column 'protocol': b'tcp' is a bytes"),
        ({"protocol": ["tcp"]}, "record 1, column 'protocol': .* is a list"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_record_and_column(change, complaint):
    with pytest.raises(SchemaError, match=complaint):
        Coder(STRICT).code([GOOD, GOOD | change])


@pytest.mark.parametrize("name", ["protocol", "duration", "bytes", "land"])
def test_an_absent_column_is_named(name):
    record = {column: value for column, value in GOOD.items() if column != name}
    with pytest.raises(SchemaError, match=f"record 1, column '{name}' is not there"):
        Coder(STRICT).code([GOOD, record])
    with pytest.raises(SchemaError, match=f"column '{name}' is not there"):
        Coder(STRICT).code(pl.DataFrame([record]))


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        ({"duration": ["0.5", "0.5"]}, "record 0, column 'duration': '0.5' is a str"),
        ({"duration": pd.to_datetime(["2026-01-01", "2026-01-02"])}, "column 'duration' holds datetime64"),
        ({"bytes": [1.0, 2.5]}, "record 1, column 'bytes': 2.5"),
        ({"bytes": [1.0, np.nan]}, "record 1, column 'bytes': nan is missing"),
        ({"protocol": ["tcp", None]}, "record 1, column 'protocol' is missing"),
        ({"protocol": ["tcp", {}]}, "record 1, column 'protocol': {} is a dict"),
        ({"protocol": [0.5, 1.5]}, "record 0, column 'protocol': 0.5 is a float"),
    ],
)
def test_a_frame_that_does_not_fit_is_named_with_record_and_column(column, complaint):
    frame = pd.DataFrame([GOOD, GOOD]).assign(**column)
    with pytest.raises(SchemaError, match=complaint):
        Coder(STRICT).code(frame)


def test_a_doubled_column_of_a_frame_is_refused():
    frame = pd.DataFrame([[1.0, 2.0]], columns=["duration", "duration"]).assign(bytes=1, land=True, protocol="tcp")
    with pytest.raises(SchemaError, match="column 'duration' is there more than once"):
        Coder(STRICT).code(frame)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.uint8, np.bool_])
def test_an_array_of_numbers_in_schema_order_is_coded(kind):
    array = np.array([[0, 1, 1], [1, 0, 0]], dtype=kind)
    coded = Coder(NUMBERS_ONLY).code(array)
    assert coded.numeric.dtype == np.float32
    np.testing.assert_array_equal(coded.numeric, array.astype(np.float32))
    assert coded.codes.shape == (2, 0)


def test_filling_in_leaves_the_callers_array_alone():
    array = np.array([[np.nan, 1, 1]], dtype=np.float32)
    coded = Coder(RecordSchema(features=LENIENT.numbers)).code(array)
    assert coded.numeric.tolist() == [[0.25, 1.0, 1.0]]
    assert math.isnan(array[0, 0])


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((2, 4)), r"shape \(2, 4\); give \[N, 3\]"),
        (np.array([["1", "2", "3"]]), "holds <U1"),
        (np.array([[0.5, np.inf, 0]]), "record 0, column 'bytes': inf"),
        (np.array([[0.0, 0, 0], [1e39, 0, 0]]), "record 1, column 'duration': inf"),
        (np.array([[0.5, 0.5, 0]]), "record 0, column 'bytes': 0.5"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(array, complaint):
    with pytest.raises(SchemaError, match=complaint):
        Coder(NUMBERS_ONLY).code(array)


def test_an_array_cannot_hold_categories():
    with pytest.raises(SchemaError, match=r"categorical columns \(protocol\)"):
        Coder(STRICT).code(np.zeros((1, 4)))


@pytest.mark.parametrize("records", [3, "tcp", None, {1, 2}, iter([GOOD])])
def test_what_is_no_record_at_all_is_refused(records):
    with pytest.raises(SchemaError, match="give a dict"):
        Coder(STRICT).code(records)


@pytest.mark.parametrize("record", [3, "tcp", None, [0.5, 1]])
def test_a_list_of_something_else_is_refused(record):
    with pytest.raises(SchemaError, match="record 1 is a"):
        Coder(STRICT).code([GOOD, record])


def make_coded(numeric=((0.5, 3.0, 1.0),), codes=((3,),)):
    return Coded(np.array(numeric, dtype=np.float32), np.array(codes, dtype=np.int64))


def test_good_coded_records_pass_untouched():
    coded = make_coded()
    assert Coder(STRICT).code(coded) is coded


def test_coded_records_that_are_not_contiguous_are_copied():
    wide = np.zeros((2, 6), dtype=np.float32)
    checked = Coder(STRICT).check(Coded(wide[:, ::2], np.zeros((2, 1), dtype=np.int64)))
    assert checked.numeric.flags.c_contiguous


def test_numbers_whose_squares_overflow_are_still_finite():
    Coder(STRICT).check(make_coded(numeric=[(3e38, 3e38, 1.0)]))


@pytest.mark.parametrize(
    ("coded", "complaint"),
    [
        (Coded(np.zeros((1, 3)), np.zeros((1, 1), np.int64)), "float64 and int64; give float32 and int64"),
        (Coded(np.zeros((1, 3), np.float32), np.zeros((1, 1), np.int32)), "float32 and int32"),
        (Coded(np.zeros((1, 3), np.float32), np.zeros((2, 1), np.int64)), "shapes"),
        (Coded(np.zeros((1, 2), np.float32), np.zeros((1, 1), np.int64)), "shapes"),
        (Coded(np.zeros(3, np.float32), np.zeros((1, 1), np.int64)), "shapes"),
        (make_coded(numeric=[(0.0, math.inf, 0.0)]), "record 0, column 'bytes': inf"),
        (make_coded(numeric=[(0.0, 0.0, math.nan)]), "record 0, column 'land': nan"),
        (make_coded(codes=[(4,)]), r"record 0, column 'protocol': code 4 is out of range; give 0 \(unknown\) to 3"),
        (make_coded(codes=[(-1,)]), "code -1 is out of range"),
        (
            make_coded(numeric=[(0.5, 3.0, 1.0)] * 99, codes=[(0,)] * 98 + [(-1,)]),
            "record 98, .*code -1 is out of range",
        ),
        (make_coded(numeric=[(0.5, 3.0, 1.0)] * 99, codes=[(3,)] * 98 + [(4,)]), "record 98, .*code 4 is out of range"),
    ],
)
def test_coded_records_that_do_not_fit_are_refused(coded, complaint):
    with pytest.raises(SchemaError, match=complaint):
        Coder(STRICT).code(coded)
