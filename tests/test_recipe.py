"""Recipes: every step verified, broken ones undone, all of it repeatable from JSON."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hauberk.artifact import Artifact, OnnxArtifact, Verdict
from hauberk.errors import InputError
from hauberk.recipe import Close, Context, Contract, LabelledFeatures, Recipe, Step
from hauberk.tensors import Signature

SIGNATURE = Signature(inputs=(), outputs=())
START = OnnxArtifact(model=b"start", signature=SIGNATURE, origin="0" * 64)
BOUNDS = (np.zeros(1, np.float32), np.ones(1, np.float32))
CONTEXT = Context(calibration=np.zeros((1, 1), np.float32), bounds=BOUNDS)


class Append(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="append"):
    """Appends text to the serialised model: enough of a transformation for the recipe's own logic."""

    text: str

    @property
    def contract(self) -> Contract:
        return Close(rtol=0.5)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        assert isinstance(artifact, OnnxArtifact)
        return dataclasses.replace(artifact, model=artifact.model + self.text.encode())


class Train(Append, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="train"):
    trains = True


def refuse_b(before: OnnxArtifact, after: OnnxArtifact, contract: Contract, context: Context) -> Verdict:
    holds = not after.model.endswith(b"b")
    return Verdict(holds, 1, 1.0 if holds else 0.0, 0.0, "real[0]", "" if holds else "ends in b")


def test_a_step_that_breaks_its_contract_is_undone_and_the_others_go_on():
    recipe = Recipe("r", (Append(text="a"), Append(text="b"), Append(text="c")))
    result = recipe.apply(START, CONTEXT, refuse_b)
    assert result.model == b"startac"
    assert [record.kept for record in result.history] == [True, False, True]
    assert result.history[1].verdict.reason == "ends in b"


def test_the_history_is_a_chain_of_digests():
    result = Recipe("r", (Append(text="a"), Append(text="b"), Append(text="c"))).apply(START, CONTEXT, refuse_b)
    digests = [START.digest, *(record.after for record in result.history)]
    assert [record.before for record in result.history] == digests[:-1]
    assert digests[1] == digests[2]
    assert result.digest == digests[-1]


def test_the_record_is_enough_to_repeat_the_step():
    record = Recipe("r", (Append(text="a"),)).apply(START, CONTEXT, refuse_b).history[0]
    assert record.parameters == {"step": "append", "text": "a"}
    assert record.contract == {"contract": "close", "rtol": 0.5, "atol": 1e-5}


def test_an_untrained_build_is_not_verified():
    context = dataclasses.replace(CONTEXT, trained=False)
    result = Recipe("r", (Append(text="b"),)).apply(START, context, refuse_b)
    assert result.model == b"startb"
    assert result.history[0].verdict is None


def test_a_recipe_trains_when_a_step_does():
    assert Recipe("r", (Append(text="a"), Train(text="b"))).trains
    assert not Recipe("r", (Append(text="a"),)).trains


def test_json_round_trip():
    recipe = Recipe("r", (Append(text="a"), Train(text="b")))
    assert Recipe.from_json(recipe.to_json(), [Append, Train]) == recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "recipe:"),
        (
            b'{"name": "r", "steps": [{"step": "append", "txt": "a"}]}',
            "step 'append': Object contains unknown field `txt`; its parameters are text$",
        ),
        (b'{"name": "r", "steps": [{"step": "melt"}]}', "unknown step 'melt'; known steps: append, train"),
        (b'{"name": "r", "steps": [{"step": "append"}]}', "missing required field `text`"),
        (b'{"name": "r", "steps": [{"step": "append", "text": "a", "x": 1}]}', "unknown field `x`"),
        (b'{"name": "r"}', "missing required field `steps`"),
    ],
)
def test_a_bad_recipe_is_refused_with_a_reason(text, says):
    with pytest.raises(InputError, match=says):
        Recipe.from_json(text, [Append, Train])


RECORDS = LabelledFeatures(np.arange(100, dtype=np.float32)[:, None], np.arange(100, dtype=np.int64))


def test_a_sample_is_as_long_as_asked_and_keeps_order_and_pairs():
    sample = RECORDS.sample(30, seed=0)
    assert len(sample) == 30
    assert (np.diff(sample.targets) > 0).all()
    np.testing.assert_array_equal(sample.features[:, 0], sample.targets)


def test_a_sample_is_decided_by_its_seed():
    first, again, other = (RECORDS.sample(30, seed).targets for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_every_record_is_as_likely_to_be_in_a_sample():
    drawn = np.bincount(np.concatenate([RECORDS.sample(30, seed).targets for seed in range(400)]), minlength=100)
    # 120 times each, give or take 9.2; five times that is beyond chance for all hundred together.
    assert np.abs(drawn - 120).max() < 46


@pytest.mark.parametrize("most", [100, 101])
def test_a_sample_of_no_fewer_records_is_all_of_them(most):
    assert RECORDS.sample(most, seed=0) is RECORDS


def test_a_sample_of_none_has_the_shape_of_a_record():
    assert RECORDS.sample(0, seed=0).features.shape == (0, 1)
