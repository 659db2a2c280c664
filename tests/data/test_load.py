import gzip
import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from hauberk.data import KNOWN, check_files, load_splits
from hauberk.errors import InputError, SchemaError
from hauberk.schema import IntegerFeature, NumericFeature

FOLDER = KNOWN["nsl-kdd"].folder()
needs_nsl_kdd = pytest.mark.skipif(
    FOLDER is None or not FOLDER.is_dir(), reason="NSL-KDD is not here; set HAUBERK_DATA (see docs/how-to/data.md)"
)


def flows(count=200, seed=0):
    """Flows with an attack in every fourth record."""
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "bytes": generator.integers(0, 1000, count),
            "rate": generator.random(count),
            "flag": generator.choice(["SF", "S0", "REJ"], count),
            "label": np.where(np.arange(count) % 4 == 0, "attack", "normal"),
        }
    )


def write(folder, frame, name="flows.csv"):
    path = folder / name
    frame.write_csv(path)
    return path


def same(one, two):
    return (
        one.schema == two.schema
        and np.array_equal(one.coded.numeric, two.coded.numeric)
        and np.array_equal(one.coded.codes, two.coded.codes)
        and np.array_equal(one.labels, two.labels)
    )


def test_spambase_is_the_published_one():
    splits = load_splits("spambase")
    parts = (splits.training, splits.validation, splits.test)
    assert [len(part) for part in parts] == [2759, 919, 919]
    assert sum(int(part.targets.sum()) for part in parts) == 1812
    assert splits.training.schema.label.benign == "ham"
    # Means over all 4,601 records, from UCI's spambase.DOCUMENTATION; four records are missing here.
    published = {
        "word_freq_make": 0.10455,
        "word_freq_george": 0.7673,
        "char_freq_!": 0.26907,
        "capital_run_length_total": 283.29,
    }
    names = [feature.name for feature in splits.training.schema.numbers]
    everything = np.concatenate([part.coded.numeric for part in parts])
    for name, mean in published.items():
        assert everything[:, names.index(name)].mean() == pytest.approx(mean, rel=0.002)


def test_spambase_says_what_a_bulk_sender_can_change():
    schema = load_splits("spambase").training.schema
    fixed = {feature.name for feature in schema.features if not feature.mutable}
    assert {"word_freq_george", "word_freq_hp", "word_freq_650"} <= fixed
    assert "word_freq_free" not in fixed
    kinds = [feature.name for feature in schema.features if isinstance(feature, IntegerFeature)]
    assert kinds == ["capital_run_length_longest", "capital_run_length_total"]


def test_spambase_comes_with_its_attribution():
    text = (KNOWN["spambase"].folder() / "ATTRIBUTION.md").read_text()
    assert "10.24432/C53G6X" in text
    assert KNOWN["spambase"].files[0].sha256 in text


@needs_nsl_kdd
def test_nsl_kdd_keeps_attack_names_and_its_test_file():
    splits = load_splits("nsl-kdd")
    assert (len(splits.training) + len(splits.validation), len(splits.test)) == (25192, 22544)
    label = splits.training.schema.label
    # 9,711 normal records in Test+ (Tavallaee et al. 2009, table of record counts).
    assert int((splits.test.targets == 0).sum()) == 9711
    assert int((splits.test.labels == label.classes.index("mscan")).sum()) == 996
    trained = set(splits.training.labels.tolist())
    assert label.classes.index("mscan") not in trained
    assert set(range(len(label.classes))) == trained | set(splits.validation.labels.tolist()) | set(
        splits.test.labels.tolist()
    )


@needs_nsl_kdd
def test_nsl_kdd_has_41_columns_of_which_a_sender_cannot_change_counts_over_other_connections():
    schema = load_splits("nsl-kdd").training.schema
    assert [feature.name for feature in schema.categoricals] == ["protocol_type", "service", "flag"]
    assert len(schema.numbers) == 38
    mutable = {feature.name for feature in schema.features if feature.mutable}
    assert "src_bytes" in mutable
    assert not any(
        name.endswith("_rate") or name.startswith("dst_host_") or name in {"count", "flag"} for name in mutable
    )


@needs_nsl_kdd
def test_a_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HAUBERK_DATA", str(tmp_path))
    shutil.copytree(FOLDER, tmp_path / "nsl-kdd", copy_function=shutil.copyfile)
    (tmp_path / "nsl-kdd").chmod(0o755)
    path = tmp_path / "nsl-kdd" / "KDDTest+.txt"
    path.write_bytes(path.read_bytes().replace(b"neptune", b"normal_", 1))
    with pytest.raises(InputError, match=r"KDDTest\+\.txt has SHA-256 .*, not fa46b09"):
        load_splits("nsl-kdd")


@pytest.mark.parametrize("folder", ["", "unset", "empty"])
def test_missing_files_are_named_with_digests_and_publisher(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HAUBERK_DATA", {"": "", "unset": "x", "empty": str(tmp_path)}[folder])
    if folder == "unset":
        monkeypatch.delenv("HAUBERK_DATA")
    with pytest.raises(InputError) as caught:
        load_splits("nsl-kdd")
    for word in ("KDDTrain+_20Percent.txt", "KDDTest+.txt", "7ea86479", "fa46b093", "University of New Brunswick"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bundled_file_that_was_changed_is_refused(tmp_path):
    content = gzip.decompress((KNOWN["spambase"].folder() / "spambase.csv.gz").read_bytes())
    (tmp_path / "spambase.csv.gz").write_bytes(gzip.compress(content.replace(b"spam\n", b"ham\n", 1)))
    with pytest.raises(InputError, match="has SHA-256"):
        check_files(replace(KNOWN["spambase"], folder=lambda: tmp_path))


def test_the_same_records_in_any_format_are_split_alike(tmp_path):
    frame = flows().drop("flag")
    splits = load_splits(write(tmp_path, frame), seed=3)
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.tsv", separator="\t")
    features = frame.drop("label")
    np.savez(
        tmp_path / "a.npz",
        features=features.to_numpy(),
        labels=frame["label"].to_numpy().astype(str),
        names=features.columns,
    )
    for name in ("a.parquet", "a.tsv", "a.npz"):
        other = load_splits(tmp_path / name, seed=3)
        for part in ("training", "validation", "test"):
            one, two = getattr(splits, part), getattr(other, part)
            assert np.array_equal(one.coded.numeric, two.coded.numeric)
            assert np.array_equal(one.labels, two.labels)


def test_the_seed_decides_the_split(tmp_path):
    path = write(tmp_path, flows())
    first, again, other = (load_splits(path, seed=seed) for seed in (1, 1, 2))
    assert all(same(getattr(first, part), getattr(again, part)) for part in ("training", "validation", "test"))
    assert not np.array_equal(first.test.coded.numeric, other.test.coded.numeric)


def test_training_rows_alone_decide_the_schema(tmp_path):
    frame = flows().with_row_index("row")
    splits = load_splits(write(tmp_path, frame))
    held_out = [*splits.validation.coded.numeric[:, 0].tolist(), *splits.test.coded.numeric[:, 0].tolist()]
    strange = pl.col("row").is_in([int(row) for row in held_out])
    changed = frame.with_columns(
        bytes=pl.when(strange).then(10**6).otherwise("bytes"),
        rate=pl.when(strange).then(-50.0).otherwise("rate"),
        flag=pl.when(strange).then(pl.lit("unheard of")).otherwise("flag"),
    )
    after = load_splits(write(tmp_path, changed))
    assert after.training.schema == splits.training.schema
    assert same(after.training, splits.training)
    assert (after.test.coded.codes == 0).all()
    assert (after.test.coded.numeric[:, 1] == 10**6).all()


def test_the_digest_is_that_of_the_file(tmp_path):
    path = write(tmp_path, flows())
    splits = load_splits(str(path))
    assert splits.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert splits.name == splits.test.name == "flows"


def test_a_schema_given_is_used_with_its_stand_ins_and_leaves_other_columns_out(tmp_path):
    path = write(tmp_path, flows())
    inferred = load_splits(path).training.schema
    rate = NumericFeature(name="rate", low=0.0, high=9.0, missing=0.5, mutable=False)
    schema = msgspec.structs.replace(inferred, features=(inferred.features[0], rate))
    holes = flows().with_columns(rate=pl.when(pl.col("rate") > 0.9).then(None).otherwise("rate"))
    splits = load_splits(write(tmp_path, holes), schema=schema)
    assert splits.training.schema == schema
    assert splits.training.coded.codes.shape[1] == 0
    assert (splits.training.coded.numeric[:, 1] == 0.5).any()


def test_records_that_break_a_given_schema_are_named(tmp_path):
    schema = load_splits(write(tmp_path, flows())).training.schema
    broken = flows().with_columns(bytes=pl.col("bytes") + 0.5)
    path = write(tmp_path, broken)
    with pytest.raises(SchemaError, match=r"flows\.csv: record 0, column 'bytes'"):
        load_splits(path, schema=schema)


def test_a_column_can_be_dropped(tmp_path):
    frame = flows().with_columns(identifier=pl.Series([f"id-{row}" for row in range(200)]))
    path = write(tmp_path, frame)
    with pytest.raises(InputError, match="column 'identifier' has 120 different texts"):
        load_splits(path)
    names = [feature.name for feature in load_splits(path, drop=["identifier"]).training.schema.features]
    assert names == ["bytes", "rate", "flag"]


def test_label_and_benign_can_be_named(tmp_path):
    frame = flows().rename({"label": "verdict"}).with_columns(verdict=pl.col("verdict").replace("normal", "fine"))
    path = write(tmp_path, frame.select("verdict", "bytes", "rate"))
    splits = load_splits(path, label="verdict", benign="fine")
    assert int(splits.test.targets.sum()) == 10
    assert splits.test.schema.label.classes == ("attack", "fine")


@pytest.mark.parametrize(
    ("change", "options", "complaint"),
    [
        (lambda frame: frame.head(10), {}, "10 records; at least 50"),
        (lambda frame: frame.head(0), {}, "only a header"),
        (lambda frame: frame.with_columns(label=pl.lit("normal")), {}, "every record has the label 'normal'"),
        (lambda frame: frame, {"label": "lable"}, "no column 'lable'"),
        (lambda frame: frame, {"benign": "fine"}, "benign class 'fine'"),
        (lambda frame: frame, {"drop": ["byte"]}, "cannot drop 'byte'"),
        (lambda frame: frame, {"drop": ["bytes", "rate", "flag"]}, "only the column 'label'"),
        (
            lambda frame: frame.with_columns(rate=pl.when(pl.col("rate") > 0.5).then(None).otherwise("rate")),
            {},
            r"column 'rate' is missing in \d+ of 200 records, first in record \d+; fill it in",
        ),
        (
            lambda frame: frame.with_columns(rate=pl.when(pl.col("rate") > 0.99).then(np.inf).otherwise("rate")),
            {},
            r"column 'rate' is infinite in \d+ of 200 records, first in record \d+; make",
        ),
        (
            lambda frame: frame.with_columns(label=pl.Series(["attack"] * 2 + ["normal"] * 198)),
            {},
            "no attack record is left for the validation split",
        ),
    ],
)
def test_data_that_make_no_detector_are_refused_in_one_line(tmp_path, change, options, complaint):
    path = write(tmp_path, change(flows()))
    with pytest.raises(InputError, match=complaint) as caught:
        load_splits(path, **options)
    assert "\n" not in str(caught.value)


def test_what_is_neither_file_nor_name_is_refused():
    with pytest.raises(InputError, match="no such file, and no data set of that name; known are spambase, nsl-kdd"):
        load_splits("spambse")


def test_take_keeps_records_and_labels_together():
    validation = load_splits("spambase").validation
    rows = np.array([5, 1, 5])
    taken = validation.take(rows)
    assert np.array_equal(taken.coded.numeric, validation.coded.numeric[rows])
    assert np.array_equal(taken.labels, validation.labels[rows])
    assert len(taken) == 3


def test_the_wheel_holds_the_bundled_data(tmp_path):
    build = f"import hatchling.build; hatchling.build.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=Path(__file__).parents[2], check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {"hauberk/data/bundled/spambase.csv.gz", "hauberk/data/bundled/ATTRIBUTION.md"} <= set(names)


@pytest.mark.parametrize("seed", [-1, 1 << 63])
def test_a_seed_that_is_none_is_refused(tmp_path, seed):
    with pytest.raises(InputError, match=f"seed of a split is {seed}"):
        load_splits(write(tmp_path, flows()), seed=seed)


def test_what_no_schema_can_hold_is_refused_with_the_file_that_holds_it(tmp_path):
    frame = flows().with_columns(rate=pl.col("rate") * 1e40)
    with pytest.raises(SchemaError, match=r"flows.csv: schema: feature 'rate'"):
        load_splits(write(tmp_path, frame))


@pytest.mark.parametrize(("value", "what"), [(None, "missing in 1"), (np.inf, "infinite in 1")])
def test_the_first_record_with_a_hole_is_named(tmp_path, value, what):
    rates = flows()["rate"].to_list()
    rates[6] = value
    path = write(tmp_path, flows().with_columns(rate=pl.Series(rates)))
    with pytest.raises(InputError, match=f"column 'rate' is {what} of 200 records, first in record 7;"):
        load_splits(path)
