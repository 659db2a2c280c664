"""What every back end promises, checked on each of them: same answers, same errors, same buffers."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hauberk.backends import OpenVinoSession, RunnableSession, Session
from hauberk.errors import HauberkError, InputError, RefusedModelError
from hauberk.tensors import Signature, TensorSpec

BACK_ENDS = [Session, OpenVinoSession]


@pytest.fixture(params=BACK_ENDS, ids=["onnxruntime", "openvino"])
def opened(request) -> Callable[[bytes], RunnableSession]:
    if request.param is OpenVinoSession:
        pytest.importorskip("openvino", reason="the openvino extra is not installed")
    return request.param


def convolution(rng: np.random.Generator) -> bytes:
    """features [batch, 3, 8, 8] -> logits [batch, 5]: Conv, Relu, mean over pixels, Gemm."""
    weights = {
        "w": rng.normal(size=(16, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=16).astype(np.float32),
        "v": rng.normal(size=(16, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["features", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["logits"]),
    ]
    return model(nodes, ["batch", 3, 8, 8], 5, weights)


def recurrent(rng: np.random.Generator) -> bytes:
    """features [batch, 6, 4] -> logits [batch, 8]: the last hidden state of an LSTM."""
    weights = {
        "w": rng.normal(size=(1, 32, 4)).astype(np.float32),
        "r": rng.normal(size=(1, 32, 8)).astype(np.float32),
        "b": rng.normal(size=(1, 64)).astype(np.float32),
        "zero": np.array([0], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["features"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r", "b"], ["", "h"], hidden_size=8),
        helper.make_node("Squeeze", ["h", "zero"], ["logits"]),
    ]
    return model(nodes, ["batch", 6, 4], 8, weights)


def quantized(rng: np.random.Generator) -> bytes:
    """features [batch, 20] -> logits [batch, 4]: one layer between QuantizeLinear and DequantizeLinear."""
    weight = rng.normal(size=(20, 4))
    scale = (np.abs(weight).max(axis=0) / 127).astype(np.float32)
    weights = {
        "scale": np.array(4 / 255, dtype=np.float32),
        "zero": np.array(128, dtype=np.uint8),
        "w": np.rint(weight / scale).astype(np.int8),
        "w_scale": scale,
        "w_zero": np.zeros(4, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["features", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["dw"], axis=1),
        helper.make_node("MatMul", ["d", "dw"], ["logits"]),
    ]
    return model(nodes, ["batch", 20], 4, weights)


def model(nodes: list[onnx.NodeProto], shape: list[int | str], outputs: int, weights: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


class TestAnswers:
    def test_signature_is_that_of_the_graph(self, opened, graphs):
        with opened(graphs.two_outputs()) as session:
            assert session.signature == Signature(
                inputs=(TensorSpec("numeric", "float32", ("batch", 2)), TensorSpec("codes", "int64", ("batch", 1))),
                outputs=(TensorSpec("scores", "float32", ("batch",)), TensorSpec("labels", "int64", ("batch",))),
            )

    def test_run_computes_the_graph(self, opened, graphs):
        with opened(graphs.two_outputs()) as session:
            numeric = np.array([[1, 2], [-9, 3]], dtype=np.float32)
            scores, labels = session.run({"numeric": numeric, "codes": np.array([[4], [5]])})
        assert (scores.tolist(), labels.tolist()) == ([7.0, -1.0], [1, 0])
        assert labels.dtype == np.int64

    @pytest.mark.parametrize("records", [1, 3, 64])
    def test_a_linear_layer_is_a_matrix_product(self, opened, graphs, records):
        features = np.random.default_rng(1).normal(size=(records, 4)).astype(np.float32)
        weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
        with opened(graphs.linear()) as session:
            np.testing.assert_allclose(session.predict(features), features @ weight, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(("build", "shape"), [(convolution, (3, 8, 8)), (recurrent, (6, 4))])
    @pytest.mark.parametrize("records", [1, 5])
    def test_images_and_windows_agree_with_the_reference_evaluator(self, opened, build, shape, records):
        from onnx.reference import ReferenceEvaluator

        rng = np.random.default_rng(5)
        graph = build(rng)
        features = rng.normal(size=(records, *shape)).astype(np.float32)
        (expected,) = ReferenceEvaluator(onnx.load_from_string(graph)).run(None, {"features": features})
        with opened(graph) as session:
            np.testing.assert_allclose(session.predict(features), expected, rtol=1e-4, atol=1e-5)

    def test_quantized_layers_follow_the_standard(self, opened):
        """An input that lies between two codes may go either way, so by one code times the largest weight at most."""
        from onnx.reference import ReferenceEvaluator

        rng = np.random.default_rng(6)
        graph = quantized(rng)
        features = rng.uniform(-2, 2, size=(200, 20)).astype(np.float32)
        (expected,) = ReferenceEvaluator(onnx.load_from_string(graph)).run(None, {"features": features})
        with opened(graph) as session:
            difference = np.abs(session.predict(features) - expected)
        assert difference.max() < 0.1
        assert np.mean(difference > 1e-4) < 0.02

    def test_no_records_give_no_answers(self, opened, graphs):
        with opened(graphs.linear()) as session:
            assert session.predict(np.zeros((0, 4), np.float32)).shape == (0, 3)

    def test_records_may_lie_anyhow_in_memory(self, opened, graphs):
        features = np.asfortranarray(np.random.default_rng(7).normal(size=(6, 8)).astype(np.float32))[:, ::2]
        with opened(graphs.linear()) as session:
            np.testing.assert_array_equal(session.predict(features), session.predict(features.copy()))

    def test_results_are_fresh_memory(self, opened, graphs):
        with opened(graphs.linear()) as session:
            first = session.predict(np.ones((1, 4), np.float32))
            kept = first.copy()
            session.predict(np.zeros((1, 4), np.float32))
            np.testing.assert_array_equal(first, kept)

    def test_batches_of_many_sizes_one_after_the_other(self, opened, graphs):
        features = np.random.default_rng(8).normal(size=(9, 4)).astype(np.float32)
        with opened(graphs.linear()) as session:
            whole = session.predict(features)
            for records in (1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2):
                np.testing.assert_allclose(session.predict(features[:records]), whole[:records], rtol=1e-5, atol=1e-6)

    def test_eight_threads_get_what_one_gets(self, opened, graphs):
        inputs = np.random.default_rng(2).normal(size=(200, 1, 4)).astype(np.float32)
        with opened(graphs.linear()) as session:
            alone = [session.predict(row) for row in inputs]
            with ThreadPoolExecutor(8) as pool:
                together = list(pool.map(session.predict, inputs))
        np.testing.assert_array_equal(together, alone)


class TestRefusals:
    @pytest.mark.parametrize(
        ("feeds", "says"),
        [
            ({"features": np.zeros((1, 4))}, "data type"),
            ({"features": np.zeros((1, 5), np.float32)}, "dimensions"),
            ({"features": np.zeros((1, 1, 4), np.float32)}, r"dimensions|[rR]ank"),
            ({}, "missing"),
            ({"features": np.zeros((1, 4), np.float32), "more": np.zeros(1)}, "more"),
        ],
    )
    def test_a_wrong_input_is_one_line(self, opened, graphs, capfd, feeds, says):
        with opened(graphs.linear()) as session, pytest.raises(InputError, match=says) as raised:
            session.run(feeds)
        assert "\n" not in str(raised.value)
        assert capfd.readouterr() == ("", "")

    def test_predict_refuses_a_graph_with_two_outputs(self, opened, graphs):
        with opened(graphs.two_outputs()) as session, pytest.raises(InputError, match="one input and one output"):
            session.predict(np.zeros((1, 2), np.float32))

    @pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x09" * 1000])
    def test_what_is_no_model_is_one_line(self, opened, capfd, content):
        with pytest.raises(RefusedModelError) as raised:
            opened(content).close()
        assert "\n" not in str(raised.value)
        assert capfd.readouterr() == ("", "")

    def test_settings_and_files_beside_the_model_are_refused(self, opened, graphs):
        with pytest.raises(RefusedModelError, match="settings"):
            opened(graphs.with_runtime_settings())

    def test_an_operator_that_nobody_has_is_named(self, opened):
        nodes = [helper.make_node("Nonsense", ["features"], ["logits"])]
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        with pytest.raises(RefusedModelError, match="Nonsense"):
            opened(proto.SerializeToString())

    def test_a_closed_session_says_so(self, opened, graphs):
        session = opened(graphs.linear())
        session.close()
        session.close()
        with pytest.raises(HauberkError, match="closed"):
            session.predict(np.zeros((1, 4), np.float32))
        with pytest.raises(HauberkError, match="closed"):
            session.fixed_batch(1)


class TestFixedBatch:
    def test_computes_what_run_computes(self, opened, graphs):
        numeric = np.random.default_rng(3).normal(size=(6, 2)).astype(np.float32)
        codes = np.arange(6).reshape(6, 1)
        with opened(graphs.two_outputs()) as session:
            expected = session.run({"numeric": numeric, "codes": codes})
            batch = session.fixed_batch(6)
            batch.inputs["numeric"][...], batch.inputs["codes"][...] = numeric, codes
            batch.run()
            np.testing.assert_array_equal(batch.outputs["scores"], expected[0])
            np.testing.assert_array_equal(batch.outputs["labels"], expected[1])

    def test_two_sizes_do_not_disturb_each_other(self, opened, graphs):
        with opened(graphs.linear()) as session:
            one, many = session.fixed_batch(1), session.fixed_batch(5)
            one.inputs["features"][...], many.inputs["features"][...] = 1, 2
            many.run()
            one.run()
            np.testing.assert_allclose(many.outputs["logits"][0], 2 * one.outputs["logits"][0], rtol=1e-5)

    def test_its_call_keeps_the_memory_that_it_writes_to(self, opened, graphs):
        with opened(graphs.linear(4, 4096)) as session:
            run = session.fixed_batch(64).run
            gc.collect()
            others = [np.full((64, 4096), 7, np.float32) for _ in range(8)]
            run()
        assert all((other == 7).all() for other in others)

    def test_refuses_a_shape_that_is_not_fixed(self, opened, graphs):
        with opened(graphs.bomb()) as session, pytest.raises(InputError, match="fixed batch"):
            session.fixed_batch(3)


def test_sessions_may_be_built_in_many_threads(opened, graphs):
    wanted = {seed: graphs.linear(seed=seed) for seed in range(8)}
    got: dict[int, np.ndarray] = {}

    def build(seed: int) -> None:
        with opened(wanted[seed]) as session:
            got[seed] = session.predict(np.ones((1, 4), np.float32))

    threads = [threading.Thread(target=build, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, logits in got.items():
        weight = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
        np.testing.assert_allclose(logits[0], weight.sum(axis=0), rtol=1e-5, atol=1e-6)
