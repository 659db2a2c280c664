"""The whole story on real records: what it reports is checked against the bundle and against independent tools."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from sklearn import metrics

import hauberk
from hauberk.cli import main
from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.evaluate.robustness.protocol import Budget
from hauberk.models import read_card
from hauberk.search import Findings
from hauberk.search.prepare import unseen_by
from hauberk.train import TrainingOptions, save_detector, train_detector
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy

ENCRYPTION = EncryptionKey(bytes(range(32)))
SIGNING = SigningKey.generate()
POLICY = TrustPolicy((SIGNING.public_key,))
QUICK = Budget(records=150, steps=5, restarts=1, queries=60)


@pytest.fixture(scope="module")
def splits():
    return load_splits("spambase", seed=3)


@pytest.fixture(scope="module")
def table(splits, tmp_path_factory):
    """Every fourth of the records as a table of its own, for what is asked of any run."""
    parts = [splits.training, splits.validation, splits.test]
    numeric = np.concatenate([part.coded.numeric for part in parts])[::4]
    targets = np.concatenate([part.targets for part in parts])[::4]
    path = tmp_path_factory.mktemp("data") / "spam.npz"
    names = np.array([feature.name for feature in splits.training.schema.features])
    np.savez(path, features=numeric, labels=np.where(targets == 1, "spam", "ham"), names=names)
    return path


@pytest.fixture(scope="module")
def detector(splits, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("spam") / "detector"
    save_detector(train_detector(splits, widths=(256, 128, 64), options=TrainingOptions(epochs=8, seed=3)), folder)
    return folder


@pytest.fixture(scope="module")
def hardened(detector, tmp_path_factory):
    return hauberk.harden(
        detector,
        data="spambase",
        out=tmp_path_factory.mktemp("out") / "spam.hbk",
        requirements=["latency.p99 <= 1s", "detection_rate@fpr=5% >= baseline - 20pt"],
        budget=QUICK,
        timing=0.2,
        encryption=ENCRYPTION,
        signing=SIGNING,
    )


@pytest.fixture(scope="module")
def answers(hardened, splits):
    with hauberk.open(hardened.bundle, key=ENCRYPTION, trust=POLICY) as opened:
        return opened.predict(splits.test.coded)


def test_requirements_that_can_be_met_are_met(hardened):
    assert hardened.findings.met
    assert [outcome.holds for outcome in hardened.findings.outcomes] == [True, True]


def test_the_test_split_is_that_of_the_training(hardened, splits):
    data = hardened.findings.data
    assert (data.seed, data.test, data.digest) == (3, len(splits.test), splits.digest)
    assert data.unseen


def test_reported_quality_is_what_the_sealed_bundle_answers(hardened, splits, answers):
    test = hardened.findings.test
    targets = splits.test.targets
    assert test["accuracy"].value == pytest.approx(metrics.accuracy_score(targets, answers.labels))
    assert test["detection_rate@fpr=5%"].value == pytest.approx(metrics.recall_score(targets, answers.labels))
    # Scores are rounded margins, so that ties may differ in the last place of the area.
    assert test["auroc"].value == pytest.approx(metrics.roc_auc_score(targets, answers.scores), abs=1e-3)


def test_class_figures_add_up_to_the_confusion_table(hardened, splits, answers):
    alerts = {figures.name: (figures.records, figures.alerts) for figures in hardened.findings.classes}
    (quiet, false_alarms), (missed, caught) = metrics.confusion_matrix(splits.test.targets, answers.labels)
    assert alerts == {"ham": (quiet + false_alarms, false_alarms), "spam": (missed + caught, caught)}


def test_the_threshold_keeps_the_false_positive_rate_on_validation_records(hardened, splits):
    with hauberk.open(hardened.bundle, key=ENCRYPTION, trust=POLICY) as opened:
        labels = opened.predict(splits.validation.coded).labels
    rate = labels[splits.validation.targets == 0].mean()
    assert hardened.findings.threshold.target_false_positive_rate == 0.05
    assert 0 < rate <= 0.05


def test_every_candidate_has_a_reason_and_one_is_recommended(hardened):
    candidates = hardened.findings.candidates
    names = [candidate.name for candidate in candidates]
    assert names == ["float32", "int8-dynamic", "int8-static", "float16", "distilled-64-32", "distilled-32"]
    assert all(candidate.reasons for candidate in candidates)
    assert sum(candidate.status == "recommended" for candidate in candidates) == 1


def test_nothing_slower_than_the_baseline_is_recommended(hardened):
    findings = hardened.findings
    latency = findings.candidate(findings.recommended).measurements["latency.p50"]
    assert latency.ratio is None or latency.ratio.low <= 1.5


def test_attacks_only_ever_lower_the_accuracy(hardened):
    test = hardened.findings.test
    assert test["robust_accuracy"].value < test["accuracy"].value
    for figures in hardened.findings.attacks.values():
        knowledge = {figure.knowledge for figure in figures}
        assert "scores" in knowledge
        assert min(figure.survived.value for figure in figures) < 1


def test_the_history_is_an_unbroken_chain_from_the_file_to_the_deployed_graph(hardened, detector):
    history = hardened.findings.history
    assert history[0].step == "admit"
    assert history[0].before == hardened.findings.origin
    assert [record.step for record in history].count("merge") == 1
    for earlier, later in pairwise(history):
        assert earlier.after == later.before
    assert all(record.verdict is None or record.verdict.holds for record in history)


def test_the_bundle_carries_its_evidence(hardened):
    from hauberk.bundle import read_bundle

    bundle = read_bundle(hardened.bundle, POLICY)
    evidence = bundle.evidence(ENCRYPTION)
    assert sorted(evidence) == ["bom.json", "measurements.json", "report.html", "statements.json"]
    carried = msgspec.json.decode(evidence["measurements.json"], type=Findings)
    assert msgspec.json.encode(carried) == msgspec.json.encode(hardened.findings)
    assert evidence["report.html"] == hardened.report.read_bytes()
    assert bundle.public_evidence()["predicate"]["met"] is True


def test_what_anyone_may_read_names_no_architecture(hardened):
    from hauberk.bundle import read_bundle

    public = json.dumps(read_bundle(hardened.bundle, POLICY).public_evidence())
    assert "distil" not in public
    assert "256" not in public.replace("sha256", "")


def test_the_sealed_graph_runs_in_plain_onnx_runtime(hardened, splits, answers):
    from hauberk.bundle import read_bundle

    model = read_bundle(hardened.bundle, POLICY).unlock(ENCRYPTION).model
    session = onnxruntime.InferenceSession(model)
    scores, labels = session.run(["scores", "labels"], {"numeric": splits.test.coded.numeric})
    np.testing.assert_array_equal(labels, answers.labels)
    np.testing.assert_allclose(scores, answers.scores, rtol=1e-6)


def test_a_requirement_that_cannot_be_met_leaves_with_3_and_an_artefact(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "keys"))
    out = tmp_path / "out.hbk"
    small = tmp_path / "small"
    splits = load_splits(table, benign="ham")
    save_detector(train_detector(splits, widths=(6,), options=TrainingOptions(epochs=4)), small)
    words = ["harden", str(small), "--data", str(table), "--out", str(out), "--require", "latency.p50 <= 1ns"]
    assert main([*words, "--budget", "quick", "--json"]) == 3
    findings = msgspec.json.decode(capsys.readouterr().out, type=Findings)
    assert not findings.met
    assert "latency.p50 <= 1ns" in findings.verdict
    assert out.is_file()
    assert out.with_suffix(".report.html").is_file()
    assert main(["verify", str(out)]) == 0


def test_an_own_network_without_a_card(tmp_path, table):
    """The user's own code and a state dict, numbers as they are: the whole way as well."""
    splits = load_splits(table, benign="ham", seed=3)
    code = tmp_path / "net.py"
    code.write_text(
        "import torch\n"
        "def build():\n"
        "    return torch.nn.Sequential(torch.nn.BatchNorm1d(57), torch.nn.Linear(57, 6), torch.nn.ReLU(),"
        " torch.nn.Linear(6, 2))\n",
        encoding="utf-8",
    )
    torch.manual_seed(0)
    scope: dict[str, object] = {}
    exec(code.read_text(encoding="utf-8"), scope)
    module = scope["build"]()
    numeric, targets = torch.from_numpy(splits.training.coded.numeric), torch.from_numpy(splits.training.targets)
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(numeric), targets).backward()
        optimiser.step()
    torch.save(module.state_dict(), tmp_path / "net.pt")
    hardened = hauberk.harden(
        tmp_path / "net.pt",
        arch=f"{code}:build",
        data=table,
        benign="ham",
        seed=3,
        out=tmp_path / "own.hbk",
        budget=QUICK,
        timing=0.1,
        encryption=ENCRYPTION,
        signing=SIGNING,
    )
    module.eval()
    with torch.no_grad():
        margin = torch.diff(module(torch.from_numpy(splits.test.coded.numeric)))[:, 0].numpy()
    assert hardened.findings.test_baseline["auroc"].value == pytest.approx(
        metrics.roc_auc_score(splits.test.targets, margin), abs=1e-3
    )


def test_an_onnx_file_without_a_card(tmp_path, splits):
    """A graph that scikit-learn's arithmetic defines: logistic regression on raw numbers, probabilities as output."""
    from onnx import TensorProto, helper, numpy_helper
    from sklearn.linear_model import LogisticRegression

    numeric, targets = splits.training.coded.numeric, splits.training.targets
    model = LogisticRegression(max_iter=3000).fit(numeric, targets)
    weight, bias = model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["records", "weight", "bias"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
        ],
        "logistic",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["n", 57])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    file = tmp_path / "logistic.onnx"
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file.write_bytes(proto.SerializeToString())
    hardened = hauberk.harden(
        file,
        data="spambase",
        seed=3,
        out=tmp_path / "logistic.hbk",
        budget=QUICK,
        timing=0.1,
        encryption=ENCRYPTION,
        signing=SIGNING,
    )
    expected = metrics.roc_auc_score(splits.test.targets, model.decision_function(splits.test.coded.numeric))
    assert hardened.findings.test_baseline["auroc"].value == pytest.approx(expected, abs=1e-3)
    assert [record.step for record in hardened.findings.history[:2]] == ["admit", "normalise"]
    assert not hardened.findings.data.unseen  # nobody recorded what it was trained on


def test_a_benign_class_that_is_an_attack_to_the_detector_is_refused(tmp_path, detector):
    with pytest.raises(InputError, match="trained with 'ham' as the benign class, not 'spam'"):
        hauberk.harden(detector, data="spambase", benign="spam", out=tmp_path / "x.hbk")
    assert not list(tmp_path.iterdir())


def test_records_split_by_another_label_are_not_known_to_be_unseen(detector, splits):
    card = read_card(detector / "detector.json")
    assert unseen_by(card, splits)
    label = msgspec.structs.replace(splits.test.label, name="verdict")
    test = replace(splits.test, schema=msgspec.structs.replace(splits.test.schema, label=label))
    assert not unseen_by(card, replace(splits, test=test))


@pytest.mark.parametrize("name", ["detector.safetensors", "detector.json"])
def test_the_model_and_its_card_are_not_written_over(detector, name):
    before = (detector / name).read_bytes()
    for outputs in (
        {"out": detector / name},
        {"out": detector / "x.hbk", "report": detector / ".." / "detector" / name},
    ):
        with pytest.raises(InputError, match="made of this file"):
            hauberk.harden(detector, data="spambase", name="x", **outputs)
    assert (detector / name).read_bytes() == before


def test_the_records_are_not_written_over(detector, tmp_path):
    records = tmp_path / "records.csv"
    records.write_text("a,label\n")
    with pytest.raises(InputError, match="made of this file"):
        hauberk.harden(detector, data=records, out=tmp_path / "x.hbk", report=records)
    assert records.read_text() == "a,label\n"


def test_a_graph_that_cannot_be_attacked_white_box_is_refused_by_its_operator(tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("EyeLike", ["h"], ["y"], name="odd")],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 57])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.ones((57, 2), np.float32), "w")],
    )
    file = tmp_path / "odd.onnx"
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="EyeLike"):
        hauberk.harden(file, data="spambase", out=tmp_path / "odd.hbk", encryption=ENCRYPTION, signing=SIGNING)
    assert not (tmp_path / "odd.hbk").exists()


def test_an_unwritable_output_is_found_before_the_work(tmp_path, detector):
    with pytest.raises(InputError, match="does not exist"):
        hauberk.harden(detector, data="spambase", out=tmp_path / "nowhere" / "x.hbk")
