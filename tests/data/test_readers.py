import gzip
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hauberk.data.readers import parse_table, read_bytes
from hauberk.data.table import count_missing
from hauberk.errors import InputError

FRAME = pl.DataFrame(
    {
        "bytes": [1, 2, 3],
        "rate": [0.5, 1.0, 2.25],
        "land": [True, False, True],
        "flag": ["SF", "S0", "a,b"],
        "label": ["normal", "attack", "normal"],
    }
)


def parquet(frame):
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


CONTENTS = {
    "a.csv": FRAME.write_csv().encode(),
    "a.csv.gz": gzip.compress(FRAME.write_csv().encode()),
    "a.tsv": FRAME.write_csv(separator="\t").encode(),
    "a.TSV.GZ": gzip.compress(FRAME.write_csv(separator="\t").encode()),
    "a.parquet": parquet(FRAME),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_gives_the_same_table(name):
    table = parse_table(CONTENTS[name], Path(name))
    assert table.columns == tuple(FRAME.columns)
    for column in FRAME.columns:
        assert table[column].tolist() == FRAME[column].to_list()
    assert [table[column].dtype.kind for column in table.columns] == ["i", "f", "b", "O", "O"]


def test_missing_values_are_nan_or_none():
    table = parse_table(b"bytes,rate,land,flag,nothing\n1,,true,SF,\n,0.5,,,\n", Path("a.csv"))
    np.testing.assert_array_equal(table["bytes"], [1, np.nan])
    np.testing.assert_array_equal(table["rate"], [np.nan, 0.5])
    assert table["land"].tolist() == [True, None]
    assert table["flag"].tolist() == ["SF", None]
    assert count_missing(table["nothing"]) == 2


def test_parquet_categories_and_decimals_are_text_and_numbers():
    frame = FRAME.with_columns(pl.col("flag").cast(pl.Categorical), pl.col("rate").cast(pl.Decimal(10, 2)))
    table = parse_table(parquet(frame), Path("a.parquet"))
    assert table["flag"].tolist() == FRAME["flag"].to_list()
    assert table["rate"].tolist() == FRAME["rate"].to_list()


def test_spaces_around_column_names_are_dropped():
    assert parse_table(b"bytes, Label\n1,a\n", Path("a.csv")).columns == ("bytes", "Label")


def test_npz_holds_features_labels_and_perhaps_names():
    features = np.arange(6.0).reshape(3, 2)
    table = parse_table(npz(features=features, labels=np.array(["a", "b", "a"])), Path("a.npz"))
    assert table.columns == ("feature_0", "feature_1", "label")
    assert table["feature_1"].tolist() == [1.0, 3.0, 5.0]
    assert table["label"].tolist() == ["a", "b", "a"]
    named = parse_table(npz(features=features, labels=np.arange(3), names=np.array(["x", "y"])), Path("a.npz"))
    assert named.columns == ("x", "y", "label")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", b"bytes,label\n", "no records, only a header"),
        ("a.csv", b"\n\n", "file is empty|no records"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "text separated by ',': line 3 has 3 values, there are 2 columns$"),
        (
            "a.tsv.gz",
            gzip.compress(b"a\tb\n1\t2\t3\n", mtime=0),
            r"by '\\t': line 2 has 3 values, there are 2 columns$",
        ),
        ("a.csv", b"a,b\n\xff\xfe,2\n", "cannot be read as text separated by ','"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-20], "cannot be read|columns|no records"),
        ("a.csv", b"a,a \n1,2\n", "two columns are called 'a'"),
        ("a.csv", b"a,b,a\n1,2,3\n", "two columns are called 'a'"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "is UTF-16"),
        ("a.parquet", b"PAR1 not really", "cannot be read as Parquet"),
        ("a.parquet", parquet(pl.DataFrame({"when": [[1, 2]]})), "column 'when' holds List"),
        ("a.npz", b"PK\x03\x04 not really", "cannot be read as NPZ"),
        ("a.npz", npz(features=np.zeros((2, 2))), "needs the arrays 'features'"),
        ("a.npz", npz(features=np.zeros(2), labels=np.zeros(2)), "give numbers"),
        ("a.npz", npz(features=np.zeros((2, 2)), labels=np.zeros(3)), "one label a row"),
        ("a.npz", npz(features=np.zeros((2, 2)), labels=np.zeros(2), names=np.array(["x"])), "2 different names"),
        ("a.npz", npz(features=np.zeros((2, 1)), labels=np.zeros(2), names=np.array(["label"])), "different names"),
        ("a.npz", npz(features=np.zeros((0, 1)), labels=np.zeros(0)), "no records"),
        ("a.json", b"{}", "unknown kind of file; known are .csv"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(name, content, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        parse_table(content, Path(name))
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_npz_runs_no_pickle():
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("the pickle was run",)

    content = npz(features=np.zeros((2, 2)), labels=np.array([Bomb(), Bomb()], dtype=object))
    with pytest.raises(InputError, match="cannot be read as NPZ without pickles"):
        parse_table(content, Path("a.npz"))


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.touch()
    with pytest.raises(InputError, match="the file is empty"):
        read_bytes(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read the data"):
        read_bytes(tmp_path)


@pytest.mark.parametrize(
    ("text", "number"),
    [("Infinity", np.inf), ("-Infinity", -np.inf), ("inf", np.inf), ("nan", np.nan), ("NaN", np.nan), (" 1.5", 1.5)],
)
def test_a_column_of_numbers_is_one_in_every_spelling(text, number):
    """CIC-IDS2017 writes Infinity, `numpy.savetxt` writes nan; neither makes a column of numbers one of text."""
    column = parse_table(f"a,b\n1,2\n{text},3\n".encode(), Path("a.csv"))["a"]
    np.testing.assert_array_equal(column, [1.0, number])


def test_a_word_keeps_a_column_text():
    column = parse_table(b"a,b\n1,2\nnan,3\nnone,4\n", Path("a.csv"))["a"]
    assert column.tolist() == ["1", "nan", "none"]
