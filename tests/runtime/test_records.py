"""Records from files mean what the same records mean as Python objects; what does not fit is named."""

from __future__ import annotations

import csv
import gzip
import io
import json

import numpy as np
import pytest

import hauberk
from hauberk.errors import InputError, SchemaError
from hauberk.runtime import records as reading
from hauberk.runtime.records import format_of, predict_stream


@pytest.fixture(scope="module")
def detector(toy):
    with hauberk.open(toy.path, key=toy.key, trust=toy.policy) as detector:
        yield detector


@pytest.fixture(scope="module")
def records(toy):
    return [toy.record(seed=seed) for seed in range(20)]


def predict(detector, content: str | bytes, form: str) -> hauberk.Prediction:
    data = content.encode() if isinstance(content, str) else content
    return predict_stream(detector, io.BufferedReader(io.BytesIO(data)), form, where="flows")


def delimited(records, separator: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


HEADER = "duration,packets,encrypted,rate,protocol,flag\n"


class TestFormats:
    def contents(self, records):
        return {
            "csv": delimited(records),
            "tsv": delimited(records, "\t"),
            "json": json.dumps(records),
            "jsonl": "\n".join(json.dumps(record) for record in records),
        }

    @pytest.mark.parametrize("form", ["csv", "tsv", "json", "jsonl"])
    @pytest.mark.parametrize("compress", [bytes, gzip.compress])
    def test_the_same_answer_as_from_python(self, detector, records, form, compress):
        content = compress(self.contents(records)[form].encode())
        np.testing.assert_array_equal(predict(detector, content, form), detector.predict(records))

    def test_many_records_keep_their_order(self, detector, toy):
        many = [toy.record(seed=seed) for seed in range(9000)]
        np.testing.assert_allclose(predict(detector, delimited(many), "csv"), detector.predict(many), rtol=1e-6)

    def test_one_json_object_is_one_record(self, detector, records):
        assert len(predict(detector, json.dumps(records[0]), "json").scores) == 1

    @pytest.mark.parametrize(
        ("name", "form"),
        [("a.csv", "csv"), ("a.CSV.GZ", "csv"), ("a.b.tsv", "tsv"), ("/x/a.json", "json"), ("a.jsonl.gz", "jsonl")],
    )
    def test_the_name_says_the_format(self, name, form):
        assert format_of(name) == form

    @pytest.mark.parametrize("name", ["a.parquet", "csv", "a", "a.gz"])
    def test_an_unknown_name_is_refused(self, name):
        with pytest.raises(InputError, match="--format"):
            format_of(name)


class TestCells:
    """What a text means in a column, by comparison with the value that it stands for."""

    @pytest.mark.parametrize(
        ("cells", "means"),
        [
            ("1.5,2,1,0.5,tcp,S0", {}),
            (" 1.5 , 2.0 ,1,5e-1,tcp,S0", {}),
            ("1.5,2,true,0.5,tcp,S0", {}),
            ("1.5,2,TRUE,0.5,tcp,S0", {}),
            ("1.5,2,1.0,0.5,tcp,S0", {}),
            ("1.5,2,false,0.5,tcp,S0", {"encrypted": False}),
            ("1.5,2,1,,tcp,S0", {"rate": None}),
            ("1.5,2,1,nan,tcp,S0", {"rate": None}),
            ("1.5,2,1,0.5,sctp,S0", {"protocol": "sctp"}),
            ("1.5,2,1,0.5,tcp,", {"flag": None}),
            ('1.5,2,1,0.5,"tcp",S0', {}),
            ('1.5,2,1,0.5," tcp",S0', {"protocol": " tcp"}),
        ],
    )
    def test_meaning(self, detector, cells, means):
        record = {"duration": 1.5, "packets": 2, "encrypted": True, "rate": 0.5, "protocol": "tcp", "flag": "S0"}
        found = predict(detector, f"{HEADER}{cells}\n", "csv")
        np.testing.assert_array_equal(found, detector.predict({**record, **means}))

    def test_columns_may_come_in_any_order_with_others_between(self, detector, records):
        shuffled = [{"label": "x", **dict(sorted(record.items())), "id": 7} for record in records]
        np.testing.assert_array_equal(predict(detector, delimited(shuffled), "csv"), detector.predict(records))

    def test_a_byte_order_mark_and_windows_lines(self, detector, records):
        content = b"\xef\xbb\xbf" + delimited(records).replace("\n", "\r\n").encode()
        np.testing.assert_array_equal(predict(detector, content, "csv"), detector.predict(records))


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "form", "says"),
        [
            ("", "csv", "file is empty"),
            ("", "json", "not JSON"),
            ("[]", "json", "no records"),
            ("\n\n", "jsonl", "no records"),
            (HEADER, "csv", "no records"),
            ("{", "json", "not JSON"),
            ('{"a": 1}\n{', "jsonl", "record 1: not JSON"),
            ("3", "json", "record 0 is a int"),
            ("[" * 100_000, "json", "not JSON"),
            (HEADER + "1,2,1,0.5,tcp\n", "csv", "record 0: 5 values, the header names 6"),
            (HEADER + '1,2,1,0.5,"tcp,S0\n', "csv", "not text separated"),
            ("duration,duration,packets\n1,2,3\n", "csv", "two columns are called 'duration'"),
            (HEADER + "1,2,1,0.5,tcp,S0\nabc,2,1,0.5,tcp,S0\n", "csv", "record 1, column 'duration': 'abc' is not a"),
            (HEADER + "1,2.5,1,0.5,tcp,S0\n", "csv", "record 0, column 'packets'"),
            (HEADER + "1,2,maybe,0.5,tcp,S0\n", "csv", "record 0, column 'encrypted': 'maybe' is not true"),
            (HEADER + "1,2,2,0.5,tcp,S0\n", "csv", "record 0, column 'encrypted'"),
            (HEADER + "1,2,1,inf,tcp,S0\n", "csv", "record 0, column 'rate'"),
            (HEADER + "1,2,1,1,,S0\n", "csv", "record 0, column 'protocol' is missing"),
            ("packets\n1\n", "csv", "column 'duration' is not there"),
            (b"\xff\xfe\x00", "csv", "not UTF-8"),
            (b"\xff\xfe\x00", "jsonl", "not UTF-8"),
            (gzip.compress(b"a,b\n" * 100, mtime=0)[:-20], "csv", "compression is damaged"),
            (b"\x1f\x8b" + b"x" * 50, "csv", "compression is damaged"),
        ],
    )
    def test_is_one_line_that_names_the_file(self, detector, content, form, says):
        with pytest.raises(InputError, match=says) as raised:
            predict(detector, content, form)
        assert str(raised.value).startswith("flows: ")
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_a_line_that_does_not_end_is_not_held(self, detector, form):
        bomb = gzip.compress(b"a" * (40 << 20))
        with pytest.raises(InputError, match="flows: a line of more than 16777216 characters"):
            predict(detector, bomb, form)

    def test_json_that_does_not_end_is_not_held(self, detector, monkeypatch):
        monkeypatch.setattr(reading, "_LONGEST_JSON", 1000)
        with pytest.raises(InputError, match="flows: more than 1000 bytes of JSON; give JSON Lines"):
            predict(detector, gzip.compress(b"[" + b" " * 1000 + b"]"), "json")

    @pytest.mark.parametrize("row", [0, 5000, 8191, 8192])
    def test_records_are_counted_through_the_file(self, detector, toy, row):
        many = [toy.record(seed=1)] * 8200
        many[row] = {**many[row], "packets": 2.5}
        with pytest.raises(SchemaError, match=f"flows: record {row}, column 'packets'"):
            predict(detector, delimited(many), "csv")
