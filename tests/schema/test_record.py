import pytest

from hauberk.errors import SchemaError
from hauberk.schema import BooleanFeature, CategoricalFeature, IntegerFeature, Label, NumericFeature, RecordSchema

NUMBER = NumericFeature(name="bytes", low=0.0, high=9.0)
LABEL = Label(name="label", classes=("normal", "attack"), benign="normal")


def test_numbers_and_categoricals_keep_schema_order():
    flag = CategoricalFeature(name="flag", categories=("S0",))
    land = BooleanFeature(name="land")
    schema = RecordSchema(features=(flag, NUMBER, land))
    assert schema.numbers == (NUMBER, land)
    assert schema.categoricals == (flag,)


@pytest.mark.parametrize(
    ("features", "label", "complaint"),
    [
        ((), None, "no features"),
        ((NUMBER, NUMBER), None, "'bytes' is there 2 times"),
        ((BooleanFeature(name=""),), None, "empty name"),
        ((NumericFeature(name="bytes", low=1.0, high=0.0),), None, "low 1.0 is above high 0.0"),
        ((NumericFeature(name="bytes", low=0.0, high=float("inf")),), None, "finite float32"),
        ((NumericFeature(name="bytes", low=0.0, high=1.0, missing=float("nan")),), None, "finite float32"),
        ((IntegerFeature(name="bytes", low=0, high=10**40),), None, "finite float32"),
        ((CategoricalFeature(name="flag", categories=("S0", "S0")),), None, "'S0' is there 2 times"),
        ((CategoricalFeature(name="flag", categories=("S0", "")),), None, "empty name"),
        ((NUMBER,), Label(name="bytes", classes=("a", "b"), benign="a"), "both the label and a feature"),
        ((NUMBER,), Label(name="label", classes=("a",), benign="a"), "one class"),
        ((NUMBER,), Label(name="label", classes=("a", "a"), benign="a"), "'a' is there 2 times"),
        ((NUMBER,), Label(name="label", classes=("a", "b"), benign="c"), "benign class 'c' is not among"),
    ],
)
def test_a_contradiction_is_refused_with_its_place(features, label, complaint):
    with pytest.raises(SchemaError, match=complaint):
        RecordSchema(features=features, label=label)


def test_a_schema_of_a_later_format_is_refused():
    with pytest.raises(SchemaError, match="format 2 is not known"):
        RecordSchema(features=(NUMBER,), label=LABEL, format=2)
