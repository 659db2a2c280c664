import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauberk.errors import InputError, SchemaError
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    IntegerFeature,
    Label,
    NumericFeature,
    RecordSchema,
    decode_schema,
    encode_schema,
    read_schema,
    write_schema,
)

SCHEMA = RecordSchema(
    features=(
        NumericFeature(name="duration", low=0.0, high=1.5, missing=0.0),
        IntegerFeature(name="bytes", low=0, high=2**53, mutable=False),
        BooleanFeature(name="land", missing=False),
        CategoricalFeature(name="flag", categories=("S0", "SF"), missing="SF"),
    ),
    label=Label(name="label", classes=("normal", "attack"), benign="normal"),
)

_numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
_names = st.text(min_size=1, max_size=12)


@st.composite
def schemas(draw):
    names = draw(st.lists(_names, min_size=2, max_size=6, unique=True))
    features = []
    for name in names[1:]:
        low, high = sorted((draw(_numbers), draw(_numbers)))
        mutable = draw(st.booleans())
        features.append(
            draw(
                st.sampled_from(
                    [
                        NumericFeature(
                            name=name, low=low, high=high, mutable=mutable, missing=draw(st.none() | _numbers)
                        ),
                        IntegerFeature(
                            name=name, low=-3, high=3, mutable=mutable, missing=draw(st.none() | st.integers(-9, 9))
                        ),
                        BooleanFeature(name=name, mutable=mutable, missing=draw(st.none() | st.booleans())),
                        CategoricalFeature(
                            name=name,
                            mutable=mutable,
                            categories=tuple(draw(st.lists(_names, max_size=4, unique=True))),
                        ),
                    ]
                )
            )
        )
    classes = tuple(draw(st.lists(_names, min_size=2, max_size=4, unique=True)))
    return RecordSchema(features=tuple(features), label=Label(name=names[0], classes=classes, benign=classes[-1]))


@given(schemas())
def test_a_schema_survives_its_file(schema):
    assert decode_schema(encode_schema(schema)) == schema


def test_the_file_is_json_that_people_can_edit(tmp_path):
    path = tmp_path / "schema.json"
    write_schema(SCHEMA, path)
    document = json.loads(path.read_text())
    assert document["features"][1] == {
        "type": "integer",
        "name": "bytes",
        "mutable": False,
        "low": 0,
        "high": 2**53,
        "missing": None,
    }
    assert path.read_text().count("\n") > 20
    document["features"][1]["mutable"] = True
    path.write_text(json.dumps(document))
    assert read_schema(path).features[1].mutable


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a record schema"),
        ("[1, 2]", "Expected `object`"),
        ('{"features": []}', "no features"),
        ('{"features": [{"type": "integer", "name": "a", "low": 0.5, "high": 1}]}', r"features\[0\]\.low"),
        ('{"features": [{"type": "integre", "name": "a"}]}', "Invalid value 'integre'"),
        ('{"features": [{"type": "boolean", "name": "a", "mutabel": true}]}', "unknown field `mutabel`"),
        ('{"features": [{"type": "boolean", "name": "a"}, {"type": "boolean", "name": "a"}]}', "2 times"),
    ],
)
def test_a_mistake_is_named_with_file_and_place(tmp_path, text, complaint):
    path = tmp_path / "schema.json"
    path.write_text(text)
    with pytest.raises(SchemaError, match=complaint) as caught:
        read_schema(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "schema.json"
    path.write_bytes(b'{"features": "\xff"}')
    with pytest.raises(SchemaError, match="not a record schema"):
        read_schema(path)


def test_a_schema_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"schema\.json"):
        read_schema(tmp_path / "schema.json")
