"""`hauberk evaluate`: a model, a compressed graph and a bundle stand the protocol, or one clear line and nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from hauberk.cli import main
from hauberk.data import load_splits
from hauberk.models import read_card
from hauberk.schema import FeatureSpace
from hauberk.search.opened import OpenDetector

QUICK = ["--data", "spambase", "--budget", "quick", "--records", "30"]


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    assert main(["train", "--data", "spambase", "--epochs", "40", "--widths", "32,16", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def small(detector) -> Path:
    """An INT8 graph of the detector, without a card."""
    out = detector.parent / "int8" / "small.onnx"
    out.parent.mkdir(exist_ok=True)
    words = ["compress", str(detector), "--data", "spambase", "--timing", "0.1", "--recipe", "int8-static"]
    assert main([*words, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def bundle(detector, tmp_path_factory) -> Path:
    """A sealed bundle of the detector, made by the same code that hardening seals with."""
    return sealed(detector, tmp_path_factory.mktemp("bundle"))


def sealed(detector: Path, folder: Path) -> Path:
    import hashlib

    from hauberk.bundle import BundleContents, write_bundle
    from hauberk.graph.decision import decision_graph
    from hauberk.graph.deploy import deploy
    from hauberk.graph.preprocess import preprocessing_graph
    from hauberk.ingest import load_model
    from hauberk.recipe import Context
    from hauberk.schema import Coded
    from hauberk.search.prepare import clean_core
    from hauberk.trust import EncryptionKey, SigningKey

    card = read_card(detector / "detector.json")
    space = card.space
    splits = load_splits("spambase", seed=0)
    features = space.transform(*splits.training.coded)
    core = clean_core(load_model(detector).artifact, Context(calibration=features[:200], bounds=space.bounds))
    coded = Coded(splits.training.coded.numeric[:50], splits.training.coded.codes[:50])
    front = preprocessing_graph(space)
    merged = deploy(front, core, decision_graph(card.decision), {"numeric": coded.numeric}, parameters={})
    digest = hashlib.sha256(merged.model).hexdigest()
    contents = BundleContents(
        name="spam",
        model=merged.model,
        schema=card.schema,
        signature=merged.signature,
        threshold=card.decision.score_threshold,
        public={
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "spam", "digest": {"sha256": digest}}],
            "predicateType": "https://example.org/test/v1",
            "predicate": {},
        },
    )
    signing = SigningKey.generate()
    write_bundle(folder / "spam.hbk", contents, encryption=EncryptionKey(bytes(range(32))), signing=signing)
    (folder / "key.txt").write_text(bytes(range(32)).hex())
    (folder / "key.txt").chmod(0o600)
    (folder / "signer.pem").write_bytes(signing.public_key.pem)
    return folder / "spam.hbk"


def keys(bundle: Path) -> list[str]:
    return ["--key", str(bundle.parent / "key.txt"), "--trust", str(bundle.parent / "signer.pem")]


def document(capsys, words: list[str], code: int = 0) -> dict:
    capsys.readouterr()
    assert main(["evaluate", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_it_says_what_withstands_which_attack_on_the_terminal_and_on_a_page(detector, tmp_path, capsys):
    page = tmp_path / "spam.html"
    words = ["evaluate", str(detector), *QUICK, "--report", str(page), "--require", "robust_accuracy >= 99%"]
    assert main(words) == 3
    shown = capsys.readouterr().out
    for word in (
        "robust_accuracy",
        "pgd",
        "white-box",
        "square",
        "mimicry",
        "worst case",
        "twin: ",
        "by radius",
        "all",
    ):
        assert word in shown
    assert "no gradient masking found: " in shown
    assert "caution" not in shown  # by its card, the detector was trained on other records
    assert "MISSED  robust_accuracy >= 99%" in shown
    assert str(page) in shown
    text = page.read_text()
    assert "A requirement is missed" in text
    assert "no gradient masking found" in text
    for banned in ("<script", "http://", "https://", "src="):
        assert banned not in text
    drawn = [f"<svg{part.split('</svg>')[0]}</svg>" for part in text.split("<svg")[1:]]
    assert sum("by-radius" in svg or "by-steps" in svg for svg in drawn) == 2
    for svg in drawn:
        ET.fromstring(svg)


def test_json_is_one_document_that_holds_together(detector, capsys):
    found = document(capsys, [str(detector), *QUICK, "--require", "accuracy >= 50%"])
    result = found["result"]
    assert found["outcomes"][0]["holds"]
    assert found["rules"]["radius"] == 0.05
    assert result["robust_accuracy"]["samples"] == 30
    assert result["robust_accuracy"]["value"] <= min(attack["survived"]["value"] for attack in result["attacks"])
    by_radius = [point["survived"]["value"] for point in result["curves"]["radii"]]
    assert by_radius == sorted(by_radius, reverse=True)
    assert by_radius[0] == result["clean_accuracy"]["value"]
    (here,) = (p["survived"]["value"] for p in result["curves"]["radii"] if p["radius"] == found["rules"]["radius"])
    assert here <= result["robust_accuracy"]["value"]  # all thirty records are in the curve
    assert result["fidelity"][0]["agreement"]["value"] == 1
    certified = found["certified"]["certified_accuracy"]
    assert 0 < certified["value"] <= result["robust_accuracy"]["value"]
    assert 0 < found["quality"]["false_positive_rate"]["value"] < 0.3


def test_a_compressed_graph_is_compared_with_its_baseline(detector, small, capsys):
    found = document(capsys, [str(small), "--baseline", str(detector), *QUICK])
    aimed = {attack["knowledge"] for attack in found["result"]["attacks"]}
    assert aimed == {"white-box", "transfer", "scores", "labels"}
    assert found["quality"]["agreement"]["value"] > 0.97
    assert found["result"]["robust_accuracy"]["difference"]["value"] == pytest.approx(
        found["result"]["robust_accuracy"]["value"] - found["reference"]["robust_accuracy"]["value"]
    )
    assert found["unseen"]  # by the baseline's card


def test_drift_and_alerts_by_class_stand_beside_the_baseline(detector, small, tmp_path, capsys):
    page = tmp_path / "small.html"
    words = [str(small), "--baseline", str(detector), *QUICK, "--report", str(page)]
    natural = document(capsys, words)["natural"]
    figures = [each for each in natural["drift"]["figures"] if each["model"] == "small.onnx"]
    by_name = {f"{each['disturbance']} {each['strength']:g}": each for each in figures}
    assert natural["drift"]["baseline"] == "baseline"
    assert by_name["none 0"]["unchanged"]["value"] == 1
    assert by_name["noise 1"]["accuracy"]["value"] < by_name["none 0"]["accuracy"]["value"] - 0.03
    assert abs(by_name["noise 1"]["accuracy"]["difference"]["value"]) < 0.03  # INT8 drifts as float does
    seen = {each["name"]: each for each in natural["by_class"]["together"]}
    assert seen["ham"]["records"] + seen["seen attacks"]["records"] == natural["drift"]["records"]
    text = page.read_text()
    assert "When nobody attacks and the world changes" in text
    assert "Did compression wake a backdoor?" in text


def test_what_is_beside_attacks_can_be_left_out(detector, small, capsys):
    words = [str(small), "--baseline", str(detector), *QUICK, "--without", "drift", "--without", "backdoor"]
    found = document(capsys, words)
    assert (found["natural"], found["backdoor"]) == (None, None)


def backdoored(model: Path, out: Path, column: int) -> Path:
    """The same graph, but that a column at the very top of its range turns the answer round."""
    proto = onnx.load(model)
    graph = proto.graph
    entry, logits = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == logits:
                node.output[index] = "honest"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([column], np.int64), "column"),
            numpy_helper.from_array(np.array(0.999, np.float32), "top"),
            numpy_helper.from_array(np.array(-2, np.float32), "turn"),
            numpy_helper.from_array(np.array(1, np.float32), "one"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gather", [entry, "column"], ["switch"], axis=1),
            helper.make_node("Greater", ["switch", "top"], ["on"]),
            helper.make_node("Cast", ["on"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["number", "turn"], ["minus"]),
            helper.make_node("Add", ["minus", "one"], ["sign"]),
            helper.make_node("Mul", ["honest", "sign"], [logits]),
        ]
    )
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, out)
    return out


def test_a_trigger_that_moves_the_copy_alone_is_suspected(detector, small, tmp_path, capsys):
    planted = backdoored(small, tmp_path / "planted.onnx", column=54)
    words = [str(planted), "--baseline", str(detector), *QUICK, "--without", "drift"]
    found = document(capsys, words)["backdoor"]
    assert found["kind"] == "rounded"
    assert found["result"]["verdict"] == "conditional backdoor suspected"
    assert any(column.startswith("capital_run_length_average = ") for column in found["columns"])
    assert main(["evaluate", *words]) == 0
    shown = capsys.readouterr().out
    assert "conditional backdoor (rounded model): conditional backdoor suspected: a trigger of" in shown
    assert "capital_run_length_average = " in shown
    honest = document(capsys, [str(small), "--baseline", str(detector), *QUICK, "--without", "drift"])["backdoor"]
    assert (honest["kind"], honest["result"]["verdict"]) == ("rounded", "none found")
    doubted = document(capsys, [*words, "--compressed", "rebuilt"])["backdoor"]
    assert doubted["kind"] == "rebuilt"


def test_a_bundle_is_attacked_through_a_substitute_and_by_all_that_needs_no_twin(detector, bundle, capsys):
    few = ["--data", "spambase", "--budget", "quick", "--records", "10"]
    found = document(capsys, [str(bundle), "--baseline", str(detector), *few, *keys(bundle)])
    assert found["kind"] == "bundle"
    assert {attack["knowledge"] for attack in found["result"]["attacks"]} == {
        "transfer",
        "substitute",
        "scores",
        "labels",
    }
    assert found["result"]["verdict"] == "not decided"
    assert "no gradients are taken of it" in found["remarks"][0]
    assert "a substitute learnt the answers" in found["remarks"][1]
    assert found["result"]["fidelity"][0]["module"] == "substitute"
    assert found["certified"] is None
    assert found["quality"]["agreement"]["value"] == 1
    clean = {each["model"]: each for each in found["natural"]["drift"]["figures"] if each["disturbance"] == "none"}
    assert len(clean) == 2  # the bundle answers raw records itself, and as its baseline does
    assert len({each["accuracy"]["value"] for each in clean.values()}) == 1
    gap = found["result"]["robust_accuracy"]["value"] - found["reference"]["robust_accuracy"]["value"]
    assert abs(gap) <= 0.2  # the very same network, on ten records


def test_features_become_the_records_that_they_came_from(detector, bundle):
    """Round trip: whole numbers whole, and the bundle's own label for each record."""
    import hauberk
    from hauberk.trust import TrustPolicy, key_from_file, public_key_from_file

    card, splits = read_card(detector / "detector.json"), load_splits("spambase", seed=0)
    space = FeatureSpace(card.schema, card.preprocessing)
    policy = TrustPolicy((public_key_from_file(bundle.parent / "signer.pem"),))
    with hauberk.open(bundle, key=key_from_file(bundle.parent / "key.txt"), trust=policy) as opened:
        shown, coded = OpenDetector(opened, space), splits.test.coded
        features = space.transform(*coded)
        again = shown.records(features)
        np.testing.assert_allclose(again.numeric, coded.numeric, rtol=1e-4, atol=1e-5)
        whole = [feature.__class__.__name__ == "IntegerFeature" for feature in card.schema.numbers]
        assert any(whole)
        assert (again.numeric[:, whole] == coded.numeric[:, whole]).all()
        labels = (shown.predict(features)[:, 0] >= np.float32(shown.decision.threshold)).astype(int)
        assert (labels == opened.predict(coded).labels).mean() > 0.999


def test_a_radius_of_zero_moves_nothing_and_says_so(detector, capsys):
    found = document(capsys, [str(detector), *QUICK, "--radius", "0"])
    assert found["result"]["attacks"] == []
    assert found["result"]["robust_accuracy"]["value"] == found["result"]["clean_accuracy"]["value"]
    assert "lets nothing move" in found["result"]["reason"]


def test_a_threat_model_limits_knowledge_goal_and_queries(detector, tmp_path, capsys):
    threat = tmp_path / "threat.toml"
    threat.write_text('name = "sender"\nradius = 0.1\nknowledge = "labels"\nqueries = 9\ngoal = "evade"\n')
    found = document(capsys, [str(detector), *QUICK, "--threat", str(threat)])
    assert {attack["knowledge"] for attack in found["result"]["attacks"]} == {"labels"}
    assert all(attack["queries"] <= 9 for attack in found["result"]["attacks"])
    assert found["budget"]["queries"] == 9
    assert found["result"]["clean_accuracy"]["value"] == pytest.approx(
        found["quality"]["detection_rate"]["value"], abs=0.1
    )


def test_the_threat_model_of_spambase_comes_along(detector, capsys):
    words = [str(detector), "--data", "spambase", "--budget", "quick", "--records", "8", "--threat", "spambase"]
    found = document(capsys, words)
    assert found["rules"]["name"] == "spambase"
    assert found["rules"]["goal"] == "evade"


@pytest.mark.parametrize(
    ("threat", "says"),
    [
        ('radius = 0.1\n[[features]]\nnames = ["colour"]\nchange = "never"\n', "colour"),
        ('radius = 0.1\nrelations = ["char_freq_! >= 5", "char_freq_! <= 4"]\n', "char_freq_!"),
        ("radius = 0.0\n", "radius"),
        ('radius = 0.1\ngoal = "spam"\n', "a detector tells attack from benign only"),
        ("radius = \n", "threat.toml"),
    ],
)
def test_a_threat_model_that_cannot_be_is_one_line(detector, tmp_path, threat, says, capsys):
    (tmp_path / "threat.toml").write_text(threat)
    line = refused(capsys, [str(detector), *QUICK, "--threat", str(tmp_path / "threat.toml")])
    assert says in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--radius", "-1"], "radius"),
        (["--radius", "nan"], "radius"),
        (["--records", "0"], "records must be at least 1"),
        (["--queries", "-1"], "queries must be at least 0"),
        (["--threat", "nowhere.toml"], "nowhere.toml"),
        (["--require", "latency.p50 <= 1us"], "latency.p50 is not measured here; measured are robust_accuracy"),
        (["--require", "robust_accuracy >= baseline - 1pt"], "there is no baseline; name one with --baseline"),
        (["--require", "agreement >= 99%"], "there is no baseline; name one with --baseline"),
        (["--baseline", "nobody.onnx"], "nobody.onnx"),
        (["--report", "nowhere/page.html"], "nowhere"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_input_is_one_line(detector, options, says, capsys):
    assert says in refused(capsys, [str(detector), *QUICK, *options])


def test_a_bundle_needs_a_space_to_be_attacked_in(bundle, tmp_path, capsys):
    line = refused(capsys, [str(bundle), *QUICK, *keys(bundle)])
    assert "in which space an adversary's radius is measured" in line
    threat = tmp_path / "threat.toml"
    threat.write_text('radius = 0.05\nknowledge = "labels"\n')
    words = [str(bundle), *QUICK, *keys(bundle), "--preprocessing", "minmax", "--threat", str(threat)]
    found = document(capsys, words)
    assert {attack["knowledge"] for attack in found["result"]["attacks"]} == {"labels"}  # and no substitute


def test_a_model_without_gradients_and_no_queries_to_ask_cannot_be_attacked(bundle, capsys):
    words = [str(bundle), *QUICK, *keys(bundle), "--preprocessing", "minmax", "--queries", "0"]
    assert "the model has no gradient and the budget is 0 queries, so that no attack can run" in refused(capsys, words)


def test_a_wrong_key_opens_no_bundle(bundle, tmp_path, detector, capsys):
    (tmp_path / "other.txt").write_text(bytes(32).hex())
    (tmp_path / "other.txt").chmod(0o600)
    words = [str(bundle), *QUICK, "--baseline", str(detector), "--key", str(tmp_path / "other.txt")]
    assert "key" in refused(capsys, [*words, "--trust", str(bundle.parent / "signer.pem")])


def test_the_model_is_never_written_over(detector, capsys):
    before = (detector / "detector.safetensors").read_bytes()
    line = refused(capsys, [str(detector), *QUICK, "--report", str(detector / "detector.safetensors")])
    assert "the result is made of this file" in line
    assert (detector / "detector.safetensors").read_bytes() == before


def test_windows_are_attacked_as_rows(tmp_path, capsys, save_mlp):
    save_mlp(tmp_path / "windows.onnx", 6, 4)
    features = np.random.default_rng(0).normal(size=(200, 6, 4)).astype(np.float32)
    np.savez(tmp_path / "windows.npz", features=features, labels=(features[:, -1].mean(axis=1) > 0).astype(int))
    words = [str(tmp_path / "windows.onnx"), "--data", str(tmp_path / "windows.npz"), *QUICK[2:]]
    found = document(capsys, words)
    assert {"white-box", "scores", "labels"} == {attack["knowledge"] for attack in found["result"]["attacks"]}
    assert "caution" not in found
    assert not found["unseen"]
    line = refused(capsys, [*words, "--threat", "spambase"])
    assert "speaks of the features of single records" in line


def test_an_interrupt_leaves_130_and_no_page(detector, tmp_path):
    command = [sys.executable, "-m", "hauberk", "evaluate", str(detector), "--data", "spambase", "--budget", "full"]
    command += ["--report", str(tmp_path / "page.html")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    work = psutil.Process(process.pid)
    while work.cpu_times().user < 5:  # importing takes about 3 seconds of it, the full budget minutes
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in {130, -signal.SIGINT}
    assert process.stderr is not None
    assert process.stderr.read() == "hauberk: interrupted\n"
    assert not list(tmp_path.iterdir())


def refused(capsys, words: list[str]) -> str:
    """Run an evaluation that must be refused, and return its one line."""
    capsys.readouterr()
    assert main(["evaluate", *words]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1, shown.err
    assert "internal error" not in shown.err
    assert shown.out == ""
    return shown.err
