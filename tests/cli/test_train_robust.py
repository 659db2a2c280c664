"""`hauberk train --robust`: what it says, what the card keeps of it, and one clear line where options do not fit."""

from __future__ import annotations

import json

import pytest

from hauberk.cli import main

QUICK = ["train", "--data", "spambase", "--epochs", "2", "--widths", "8"]
ROBUST = [*QUICK, "--robust", "pgd", "--steps", "2", "--validation-steps", "2", "--validation-records", "100"]


def test_it_says_how_the_detector_does_under_attack_and_keeps_how_it_was_trained(tmp_path, capsys):
    words = ["--radius", "0.1", "--label-smoothing", "0.1", "--averaging", "0.9", "--balance-kinds", "0.5"]
    assert main([*ROBUST, *words, "--out", str(tmp_path)]) == 0
    assert "under the attack that it stopped by" in capsys.readouterr().out
    training = json.loads((tmp_path / "detector.json").read_text())["training"]
    assert training["options"]["averaging"] == 0.9
    robust = training["options"]["robust"]
    assert (robust["method"], robust["steps"], robust["label_smoothing"]) == ("pgd", 2, 0.1)
    assert "at most 0.1 (L-infinity)" in robust["threat"]
    figure = training["figures"]["robust_accuracy"]
    assert figure["samples"] == 100
    assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1


def test_windows_are_trained_under_attack(tmp_path, capsys):
    rows = [f"{i % 7},{'web' if i % 2 else 'mail'},{'evil' if i % 7 > 3 else 'fine'}" for i in range(800)]
    (tmp_path / "flows.csv").write_text("size,service,verdict\n" + "\n".join(rows) + "\n")
    words = ["train", "--data", str(tmp_path / "flows.csv"), "--label", "verdict", "--benign", "fine", "--epochs", "1"]
    windows = ["--architecture", "window-cnn", "--window", "4", "--robust", "fast", "--every-column", "--json"]
    assert main([*words, *windows, "--out", str(tmp_path / "out")]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["training"]["options"]["robust"]["method"] == "fast"


def test_images_are_trained_under_attack(tmp_path, capsys):
    words = ["train", "--data", "digits", "--epochs", "1", "--size", "8", "--robust", "fast", "--validation-steps", "1"]
    assert main([*words, "--validation-records", "20", "--batch-size", "512", "--json", "--out", str(tmp_path)]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["training"]["figures"]["robust_accuracy"]["samples"] == 20


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--steps", "3"], "--steps is for training under attack; say how with --robust"),
        (["--robust", "fast", "--replays", "3"], "--replays is for free; --robust is fast"),
        (["--radius", "0.1"], "--radius is for training under attack"),
        (["--robust", "pgd", "--radius", "0"], "--radius is 0.0; a number above 0 is needed"),
        (["--robust", "pgd", "--steps", "0"], "robust: steps is 0"),
        (["--robust", "pgd", "--beta", "3"], "robust: beta is for trades and mart; the method is pgd"),
        (["--robust", "free", "--weight-perturbation", "0.1"], "robust: weight_perturbation is for pgd"),
        (["--robust", "pgd", "--threat", "nowhere.toml"], "nowhere.toml"),
        (["--robust", "pgd", "--threat", "spambase", "--radius", "0.1"], "--radius and --threat exclude each other"),
        (["--robust", "pgd", "--balance-kinds", "2"], "the exponent is 2.0"),
        (["--robust", "pgd", "--architecture", "autoencoder"], "an autoencoder learns from benign records alone"),
        (["--averaging", "2"], "averaging is 2.0"),
        (["--accumulate", "0"], "--accumulate is 0; 1 or more"),
    ],
)
def test_bad_options_are_one_line_and_leave_no_file(tmp_path, capsys, words, says):
    base = [word for word in QUICK if "autoencoder" not in words or word not in {"--widths", "8"}]
    assert main([*base, "--out", str(tmp_path / "new"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not list(tmp_path.iterdir())
