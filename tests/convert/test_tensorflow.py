"""Keras, SavedModel and TFLite: converted in an isolated process and held to TensorFlow, where it is installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from hauberk.convert import convert
from hauberk.errors import MissingExtraError

INSTALLED = all(importlib.util.find_spec(name) for name in ("tensorflow", "tf2onnx"))


@pytest.fixture(scope="module")
def network():
    if not INSTALLED:
        pytest.skip("TensorFlow is not installed")
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    return keras.Sequential([keras.layers.Input((6,)), *layers])


def saved(network, kind, folder):
    path = (
        folder / {"keras": "model.keras", "keras-h5": "model.h5", "savedmodel": "model", "tflite": "model.tflite"}[kind]
    )
    if kind == "savedmodel":
        network.export(path, verbose=False)
    elif kind == "tflite":
        import tensorflow as tf

        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    else:
        network.save(path)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["keras", "keras-h5", "savedmodel", "tflite"])
def test_a_model_of_tensorflow_becomes_a_graph(network, runs, tmp_path, kind):
    done = convert(saved(network, kind, tmp_path), tmp_path / "out.onnx")
    assert (done.source.format, done.comparison.holds) == (kind, True)
    assert "tensorflow" in done.comparison.framework
    features = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    truth = network.predict(features, verbose=0)
    np.testing.assert_allclose(runs((tmp_path / "out.onnx").read_bytes(), features), truth, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(INSTALLED, reason="TensorFlow is installed")
def test_without_tensorflow_the_error_names_the_extra(tmp_path):
    from corpus.honest_frameworks import CASES

    case = next(case for case in CASES if case.name == "keras-by-hand")
    with pytest.raises(MissingExtraError, match=r"pip install 'hauberk\[tensorflow\]'"):
        convert(case.make(tmp_path), tmp_path / "out.onnx")
