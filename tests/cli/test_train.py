"""`hauberk train`: a folder that is complete, or one clear line and nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from hauberk.cli import main

QUICK = ["train", "--data", "spambase", "--epochs", "2", "--widths", "8"]


def test_it_writes_model_and_card_and_says_how_it_went(tmp_path, capsys):
    assert main([*QUICK, "--out", str(tmp_path / "detector")]) == 0
    assert sorted(path.name for path in (tmp_path / "detector").iterdir()) == ["detector.json", "detector.safetensors"]
    shown = capsys.readouterr().out
    assert "trained 2 epochs" in shown
    assert "accuracy" in shown


def test_json_prints_the_card_and_nothing_else(tmp_path, capsys):
    assert main([*QUICK, "--out", str(tmp_path), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card == json.loads((tmp_path / "detector.json").read_text())
    assert card["parameters"] == {"inputs": 57, "widths": [8], "outputs": 2}


def test_a_table_of_ones_own_is_trained_on(tmp_path, capsys):
    rows = [f"{i % 7},{i % 3},{'web' if i % 2 else 'mail'},{'evil' if i % 7 > 3 else 'fine'}" for i in range(200)]
    (tmp_path / "flows.csv").write_text("size,noise,service,verdict\n" + "\n".join(rows) + "\n")
    words = [
        "train",
        "--data",
        str(tmp_path / "flows.csv"),
        "--label",
        "verdict",
        "--benign",
        "fine",
        "--drop",
        "noise",
    ]
    assert main([*words, "--epochs", "2", "--out", str(tmp_path / "out"), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert [feature["name"] for feature in card["schema"]["features"]] == ["size", "service"]
    assert card["parameters"]["inputs"] == 1 + 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--widths", "8,x"], "--widths '8,x': expected whole numbers"),
        (["--widths", "0"], "0 units in a layer"),
        (["--epochs", "0"], "--epochs is 0; 1 or more"),
        (["--batch-size", "-1"], "--batch-size is -1; 1 or more"),
        (["--architecture", "mlp"], "architecture 'mlp' reads no records"),
        (["--parameter", "wdth=3"], "'tabular-mlp' does not take 'wdth'; it takes "),
        (["--learning-rate", "1e12"], "training diverged in epoch 1"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--device", "gpu"], "device 'gpu' is unknown"),
    ],
)
def test_bad_options_are_one_line_and_leave_no_file(tmp_path, capsys, words, says):
    assert main([*QUICK, "--out", str(tmp_path / "new" / "detector"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not list(tmp_path.iterdir())
    (tmp_path / "there").mkdir()
    assert main([*QUICK, "--out", str(tmp_path / "there" / "detector"), *words]) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_one_epoch_is_one_epoch(tmp_path, capsys):
    assert main([*QUICK, "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert "trained 1 epoch in" in capsys.readouterr().out


def test_an_unwritable_output_is_found_before_the_training(tmp_path, capsys):
    (tmp_path / "detector").write_text("")
    assert main([*QUICK, "--epochs", "100000", "--patience", "100000", "--out", str(tmp_path / "detector")]) == 2
    assert "exists and is not a folder" in capsys.readouterr().err


def test_an_interrupt_leaves_130_and_no_file(tmp_path):
    endless = ["--epochs", "1000000", "--patience", "1000000", "--out", str(tmp_path / "detector")]
    process = subprocess.Popen([sys.executable, "-m", "hauberk", *QUICK, *endless], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "detector").exists():  # made just before the training begins
        assert process.poll() is None
        time.sleep(0.05)
    work = psutil.Process(process.pid)
    begun = work.cpu_times().user
    while work.cpu_times().user < begun + 1:  # well inside the training, however busy the machine is
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode in {130, -signal.SIGINT}
    assert error == "hauberk: interrupted\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--architecture", "window-gru", "--window", "3", "--parameter", "hidden=4"], {"window": 3, "hidden": 4}),
        (["--architecture", "autoencoder", "--widths", "8,2"], {"inputs": 57, "widths": [8, 2]}),
        (
            ["--architecture", "window-lstm", "--parameter", "bidirectional=true", "--window", "2"],
            {"bidirectional": True},
        ),
    ],
)
def test_another_architecture_is_trained_with_its_parameters(tmp_path, capsys, words, expected):
    words = ["train", "--data", "spambase", "--epochs", "1", *words, "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["architecture"] == words[words.index("--architecture") + 1]
    assert card["parameters"].items() >= expected.items()


def test_digits_are_trained_on(tmp_path, capsys):
    words = ["train", "--data", "digits", "--epochs", "1", "--widths", "4,8", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["classes"] == list("0123456789")
    assert card["parameters"] == {"channels": 1, "size": 32, "outputs": 10, "widths": [4, 8]}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "spambase", "--architecture", "mlp"], "architecture 'mlp' reads no records; those that do are"),
        (["--data", "spambase", "--architecture", "resnet18"], "'resnet18' reads no records"),
        (["--data", "spambase", "--window", "4"], "tabular-mlp reads single records"),
        (["--data", "spambase", "--architecture", "window-gru", "--window", "0"], "--window 0: at least 1"),
        (["--data", "spambase", "--size", "32"], "--size is for images; --data spambase is none"),
        (["--data", "spambase", "--parameter", "hidden"], "--parameter 'hidden': expected NAME=VALUE"),
        (["--data", "spambase", "--parameter", "hidden=four"], "the value is no number, list or truth value"),
        (["--data", "digits", "--label", "x"], "--label is for records; --data digits is none"),
        (["--data", "digits", "--channels", "3"], "--channels is for folders of images"),
        (["--data", "digits", "--architecture", "resnet18"], "resnet18 reads colour"),
    ],
)
def test_options_of_another_kind_of_data_are_one_line(tmp_path, capsys, words, says):
    assert main(["train", "--epochs", "1", "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error


def test_a_folder_of_images_is_trained_on(tmp_path, capsys):
    for level, name in ((40, "night"), (200, "day")):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for number in range(30):
            pixels = np.full((9, 12, 3), level + number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photographs" / name / f"{number}.png")
    words = ["train", "--data", str(tmp_path / "photographs"), "--size", "8", "--widths", "4", "--epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["classes"] == ["day", "night"]
    assert card["image"]["size"] == card["image"]["resize"] == 8
