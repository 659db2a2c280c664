"""The file of a threat model: what it says is what the columns do, and every mistake is one clear line."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from hauberk.attacks import FeatureThreat, RecordThreat, load_threat
from hauberk.attacks.threat_file import ThreatFile, decode_threat, inferred, read_threat, shipped, shipped_names
from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    FeatureSpace,
    IntegerFeature,
    Label,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)
from hauberk.train.preprocessing import fit_preprocessing

SCHEMA = RecordSchema(
    features=(
        IntegerFeature(name="bytes", low=0, high=1000),
        NumericFeature(name="rate", low=0.1, high=1.0),
        BooleanFeature(name="login", mutable=False),
        CategoricalFeature(name="flag", categories=("S0", "SF")),
        NumericFeature(name="rate of errors", low=0.0, high=1.0),
    ),
    label=Label(name="class", classes=("benign", "scan"), benign="benign"),
)
SPACE = FeatureSpace(
    SCHEMA,
    Preprocessing(
        (
            Scaling(logarithm=True, offset=0.0, scale=7.0),
            Scaling(logarithm=False, offset=0.1, scale=0.9),
            Scaling(logarithm=False, offset=0.0, scale=1.0),
            Scaling(logarithm=False, offset=0.0, scale=-1.0),
        )
    ),
)
BALL = 'norm = "linf"\nradius = 0.1\n'


def threat_of(text: str) -> FeatureThreat:
    return decode_threat(text.encode(), "threat.toml").threat(SPACE)


def rules_of(text: str) -> RecordThreat:
    threat = threat_of('moves = "records"\n' + text)
    assert isinstance(threat, RecordThreat)
    return threat


def test_a_ball_alone_is_the_default_threat_of_the_space():
    threat, default = threat_of(BALL), FeatureThreat.from_space(SPACE, 0.1)
    assert type(threat) is FeatureThreat
    for field in fields(FeatureThreat):
        assert np.array_equal(getattr(threat, field.name), getattr(default, field.name))


def test_bounds_and_immutable_columns_alone_stay_in_the_feature_space():
    threat = threat_of(
        BALL + '[[features]]\nnames = ["rate*"]\nlow = 0.5\n[[features]]\nnames=["bytes"]\nchange="never"'
    )
    assert type(threat) is FeatureThreat
    assert threat.mutable.tolist() == [False, True, False, True, False, False, False]
    assert threat.low[1] == np.float32(np.float32(0.5) - np.float32(0.1)) / np.float32(0.9)
    assert (threat.low[3], threat.high[3]) == (-1.0, -0.5)


@pytest.mark.parametrize(
    "entry",
    [
        '[[features]]\nnames = ["bytes"]\nchange = "increase"',
        '[[features]]\nnames = ["rate"]\ninteger = true',
        '[[features]]\nnames = ["rate"]\nlow = "source"',
        '[[features]]\nnames = ["flag"]\ncategories = ["SF"]',
        'relations = ["bytes >= 1"]',
    ],
)
def test_what_is_about_records_makes_a_threat_of_records(entry):
    assert isinstance(threat_of(BALL + entry), RecordThreat)
    with pytest.raises(InputError, match=r'threat.toml: .+ needs moves = "records"'):
        threat_of('moves = "features"\n' + BALL + entry)


def test_features_without_an_entry_do_what_the_schema_says_or_never_move():
    by_schema = rules_of(BALL).rules
    assert by_schema.rising.tolist() == by_schema.falling.tolist() == [True, True, False, True]
    assert by_schema.whole.tolist() == [True, False, True, False]
    never = rules_of('others = "never"\n' + BALL + '[[features]]\nnames = ["login", "rate"]\nchange = "any"').rules
    assert never.rising.tolist() == [False, True, True, False]


def test_directions_bounds_and_categories_are_read():
    threat = rules_of(
        BALL
        + """
        [[features]]
        names = ["rate*"]
        change = "decrease"
        high = 0.75
        [[features]]
        names = ["rate of errors"]
        high = "source"
        integer = true
        [[features]]
        names = ["flag"]
        change = "any"
        """
    )
    assert threat.rules.rising.tolist() == [True, False, False, False]
    assert threat.rules.falling.tolist() == [True, True, False, True]
    assert threat.rules.high.tolist() == [1000, 0.75, 1, 1]
    assert threat.rules.whole.tolist() == [True, False, True, True]
    assert threat.choices == ((1, 2),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("norm = ", "not a threat model: Invalid value"),
        ("radius = 0.1\nteeth = 3", "not a threat model: Object contains unknown field `teeth`"),
        ('radius = "big"', "not a threat model: Expected `float | null`, got `str` - at `$.radius`"),
        ('norm = "l1"\nradius = 1.0', "not a threat model: Invalid enum value 'l1' - at `$.norm`"),
        ('knowledge = "everything"', "Invalid enum value 'everything' - at `$.knowledge`"),
        ("radius = -0.1", "the radius must be a finite number above 0, not -0.1"),
        ("radius = 0.0", 'the radius must be a finite number above 0, not 0 (or norm = "none")'),
        ("radius = nan", "the radius must be a finite number above 0, not nan"),
        ('norm = "linf"', "norm 'linf' needs a 'radius'"),
        ('norm = "none"\nradius = 0.1', "without a norm there is no ball: take out 'radius' (0.1)"),
        ('norm = "none"', 'norm = "none" needs moves = "records" or "features"'),
        (BALL + "queries = 0", "queries must be at least 1, not 0; left out, the budget decides"),
        (BALL + 'goal = "fame"', "the goal must be one of evade, false-alarm, any or a class, not 'fame'"),
        (BALL + '[[features]]\nnames = ["port"]', "there is no feature 'port' in the schema"),
        (BALL + '[[features]]\nnames = ["dst_*"]', "no feature matches 'dst_*' in the schema"),
        (BALL + "[[features]]\nnames = []", "an entry of 'features' names no feature"),
        (BALL + '[[features]]\nnames = ["rate", "rate"]', "feature 'rate' has two entries; join them"),
        (BALL + '[[features]]\nnames = ["rate"]\ncolour = 1', "unknown field `colour` - at `$.features[0]`"),
        (
            BALL + '[[features]]\nnames = ["rate"]\nlow = 2.0',
            "feature 'rate': its lowest value 2 is above its highest 1",
        ),
        (BALL + '[[features]]\nnames = ["rate"]\nlow = 3\nhigh = 2', "'rate': low 3 is above high 2"),
        (BALL + '[[features]]\nnames = ["rate"]\nlow = inf', "'rate': low must be a finite float32 number, not inf"),
        (BALL + '[[features]]\nnames = ["rate"]\nlow = "own"', "Invalid enum value 'own' - at `$.features[0].low`"),
        (
            BALL + '[[features]]\nnames = ["bytes"]\nlow = 1.2\nhigh = 1.8',
            "feature 'bytes': there is no whole number between 1.2 and 1.8",
        ),
        (BALL + '[[features]]\nnames = ["bytes"]\ninteger = false', "feature 'bytes' is whole in the schema"),
        (
            BALL + '[[features]]\nnames = ["bytes"]\ncategories = ["SF"]',
            "feature 'bytes' is a number and has no categories",
        ),
        (BALL + '[[features]]\nnames = ["flag"]\ncategories = ["S1"]', "feature 'flag' has no category 'S1'"),
        (
            BALL + '[[features]]\nnames = ["flag"]\nchange = "increase"',
            "'flag' is categorical, and change = \"increase\"",
        ),
        (
            BALL + '[[features]]\nnames = ["flag"]\nchange = "never"\ncategories = ["SF"]',
            "feature 'flag' never changes, and has categories to change to; take one out",
        ),
        (BALL + 'relations = ["bytes >= "]', "relation 1 (bytes >= ): expected a value at column 10, found the end"),
        (BALL + 'relations = ["bytes >= 1", "ports <= 2"]', "relation 2 (ports <= 2): there is no feature 'ports'"),
        (
            BALL + 'relations = ["bytes >= 10", "bytes <= 9"]',
            "relations 1 (bytes >= 10) and 2 (bytes <= 9) contradict each other; change one of them",
        ),
        (BALL + 'relations = [{rule = "rate == bytes / 7"}]', "'rate' is a real number, and '==' needs a tolerance"),
        (BALL + f"relations = {['bytes >= 1'] * 201}", "there are more than 200 relations"),
    ],
)
def test_every_mistake_is_one_line_that_names_it(text, message):
    with pytest.raises(InputError) as caught:
        decode_threat(text.encode(), "threat.toml").threat(SPACE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("threat.toml: ", "threat model 'threat': "))


def test_a_bound_of_the_file_is_for_moves_and_contradicts_no_relation():
    entry = '[[features]]\nnames = ["bytes"]\nhigh = 20\n'
    assert isinstance(threat_of(BALL + 'relations = ["bytes >= 200"]\n' + entry), RecordThreat)


def test_a_class_can_be_the_goal():
    assert decode_threat((BALL + 'goal = "scan"').encode(), "t").threat(SPACE).radius == 0.1


def test_a_file_is_read_by_its_path_and_a_shipped_one_by_its_name(tmp_path: Path):
    path = tmp_path / "threat.toml"
    path.write_text(BALL)
    assert load_threat(path) == load_threat(str(path)) == read_threat(path)
    assert load_threat("spambase") == shipped("spambase")
    assert shipped_names() == ("nsl-kdd", "spambase")


def test_what_is_neither_a_file_nor_a_name_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere: there is no such file, and no threat model of this name \(nsl-kdd"):
        load_threat("nowhere")
    with pytest.raises(InputError, match="no threat model 'nowhere' comes with Hauberk"):
        shipped("nowhere")
    with pytest.raises(InputError):
        load_threat(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a threat model"):
        load_threat(tmp_path / "binary")


def test_what_the_schema_says_is_assumed_without_a_file():
    assert type(inferred(0.1).threat(SPACE)) is FeatureThreat
    whole = inferred(0.0, norm="none", moves="records").threat(SPACE)
    assert isinstance(whole, RecordThreat)
    assert whole.norm == "none"


def test_the_description_says_who_the_adversary_is():
    words = ThreatFile(
        name="n", radius=0.1, knowledge="labels", queries=1000, goal="evade", about="A sender."
    ).describe()
    for part in ("'n'", "its labels", "1,000 times", "pass as benign", "linf radius 0.1", "A sender."):
        assert part in words


def test_spambases_relations_hold_in_every_record():
    splits = load_splits("spambase")
    training = splits.training
    space = FeatureSpace(training.schema, fit_preprocessing(training.schema, training.coded.numeric))
    threat = shipped("spambase").threat(space)
    assert isinstance(threat, RecordThreat)
    for part in (training, splits.validation, splits.test):
        assert not threat.remarks(space.transform(part.coded.numeric, part.coded.codes))
    assert int((threat.rules.rising & threat.rules.falling).sum()) == 48


@pytest.mark.skipif("HAUBERK_DATA" not in os.environ, reason="NSL-KDD is not distributed; set HAUBERK_DATA")
def test_nsl_kdds_relations_hold_in_the_share_that_the_docs_say():
    splits = load_splits("nsl-kdd")
    training = splits.training
    space = FeatureSpace(training.schema, fit_preprocessing(training.schema, training.coded.numeric))
    threat = shipped("nsl-kdd").threat(space)
    assert isinstance(threat, RecordThreat)
    parts = (training, splits.validation, splits.test)
    broken = sum((threat.excess(space.transform(p.coded.numeric, p.coded.codes)) > 0).sum(axis=1) for p in parts)
    found = {relation.text: int(count) for relation, count in zip(threat.relations, broken, strict=True) if count}
    assert found == {
        "flag == 'REJ' implies duration == 0": 14,
        "logged_in == 0 implies num_access_files + num_file_creations == 0 and num_compromised <= 1": 1,
        "logged_in == 0 implies hot == 0": 50,
    }
    assert threat.rules.rising.sum() == 10
    assert not threat.rules.falling.any()


def test_a_file_that_says_no_name_is_called_like_itself(tmp_path):
    (tmp_path / "office-hours.toml").write_text("radius = 0.1\n")
    assert load_threat(tmp_path / "office-hours.toml").name == "office-hours"
    (tmp_path / "named.toml").write_text('name = "night"\nradius = 0.1\n')
    assert load_threat(tmp_path / "named.toml").name == "night"
