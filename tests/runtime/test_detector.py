"""Detectors answer what the numbers say, whatever form records come in and however many threads ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import hauberk
from hauberk.backends import Session, SessionOptions
from hauberk.errors import HauberkError, SchemaError
from hauberk.schema import NumericFeature, RecordSchema
from hauberk.schema.coding import Coded

AXIS = np.array([1])


def opened(toy, **options) -> hauberk.Detector:
    return hauberk.open(toy.path, key=toy.key, trust=toy.policy, options=SessionOptions(**options))


@pytest.fixture(scope="module")
def detector(toy):
    with opened(toy) as detector:
        yield detector


class TestAnswers:
    @pytest.mark.parametrize("records", [1, 2, 7, 1024, 1025, 3000])
    def test_coded_records(self, any_toy, records):
        coded = any_toy.coded(records)
        scores, labels = any_toy.expected(coded)
        with opened(any_toy) as detector:
            prediction = detector.predict(coded)
        np.testing.assert_allclose(prediction.scores, scores, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(prediction.labels, labels)

    @pytest.mark.parametrize("records", [0, 1, 5])
    def test_dtypes_and_shapes(self, detector, toy, records):
        scores, labels = detector.predict(toy.coded(records))
        assert (scores.dtype, scores.shape) == (np.float32, (records,))
        assert (labels.dtype, labels.shape) == (np.int64, (records,))

    @pytest.mark.parametrize("records", [[], pd.DataFrame({}), None])
    def test_no_records(self, detector, toy, records):
        if records is None:
            records = pl.DataFrame([toy.record()]).clear()
        elif not isinstance(records, list):
            records = pd.DataFrame([toy.record()]).iloc[:0]
        assert len(detector.predict(records).scores) == 0

    def test_every_form_of_records_gets_the_same_answer(self, detector, toy):
        records = [toy.record(seed=seed) for seed in range(9)]
        from_list = detector.predict(records)
        for form in (pd.DataFrame(records), pl.DataFrame(records)):
            np.testing.assert_array_equal(detector.predict(form), from_list)
        one_by_one = [detector.predict(record) for record in records]
        np.testing.assert_allclose(np.concatenate([one.scores for one in one_by_one]), from_list.scores, rtol=1e-5)

    def test_an_array_where_there_are_only_numbers(self, numbers_only):
        coded = numbers_only.coded(5)
        array = coded.numeric.astype(np.float64)
        array[:, 1], array[:, 2] = 3, 1
        with opened(numbers_only) as detector:
            expected = numbers_only.expected(Coded(array.astype(np.float32), coded.codes))
            np.testing.assert_allclose(detector.predict(array).scores, expected[0], rtol=1e-4)

    def test_the_label_follows_the_threshold(self, detector, toy):
        prediction = detector.predict(toy.coded(2000))
        clear = np.abs(prediction.scores - detector.threshold) > 1e-5
        np.testing.assert_array_equal(prediction.labels[clear], (prediction.scores >= detector.threshold)[clear])

    def test_answers_are_fresh_memory(self, detector, toy):
        first = detector.predict(toy.coded(1, seed=1))
        kept = first.scores.copy(), first.labels.copy()
        detector.predict(toy.coded(1, seed=2))
        np.testing.assert_array_equal(first, kept)

    def test_records_are_left_as_they_are(self, detector, toy):
        coded = toy.coded(1)
        before = coded.numeric.copy(), coded.codes.copy()
        detector.predict(coded)
        np.testing.assert_array_equal(coded.numeric, before[0])
        np.testing.assert_array_equal(coded.codes, before[1])

    def test_memory_that_is_not_contiguous(self, detector, toy):
        coded = toy.coded(6)
        for part in (slice(0, 1), slice(None)):
            strided = Coded(np.asfortranarray(coded.numeric)[part], np.asfortranarray(coded.codes)[part])
            tight = Coded(coded.numeric[part].copy(), coded.codes[part].copy())
            np.testing.assert_array_equal(detector.predict(strided), detector.predict(tight))


class TestRefusals:
    """The quick way for one record refuses exactly what the general way refuses."""

    @pytest.mark.parametrize("records", [1, 3])
    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda numeric, codes: (numeric.astype(np.float64), codes), "float64"),
            (lambda numeric, codes: (numeric, codes.astype(np.int32)), "int32"),
            (lambda numeric, codes: (numeric[:, :-1], codes), "shapes"),
            (lambda numeric, codes: (numeric, codes[:, :-1]), "shapes"),
            (lambda numeric, codes: (numeric, np.repeat(codes, 2, axis=0)), "shapes"),
            (lambda numeric, codes: (np.where(numeric == numeric.max(), np.nan, numeric), codes), "finite"),
            (lambda numeric, codes: (np.where(numeric == numeric.max(), -np.inf, numeric), codes), "finite"),
            (lambda numeric, codes: (numeric, codes - 10), "code -"),
            (lambda numeric, codes: (numeric, codes + 4), "out of range"),
        ],
    )
    def test_coded_records_that_do_not_fit(self, detector, toy, records, spoil, says):
        numeric, codes = spoil(*toy.coded(records))
        if numeric.dtype == np.float64 and says == "finite":
            numeric = numeric.astype(np.float32)
        with pytest.raises(SchemaError, match=says):
            detector.predict(Coded(numeric, codes))

    def test_numbers_whose_squares_overflow_are_numbers(self, detector, toy):
        coded = toy.coded(1)
        coded.numeric[0, 0] = 3e38
        assert np.isfinite(detector.predict(coded).scores).all()

    def test_numbers_that_leave_the_model_without_an_answer_raise_an_alert(self, detector):
        """Otherwise whoever may choose the numbers could pass unseen: NaN reaches no threshold."""
        nodes = [
            helper.make_node("Mul", ["numeric", "ten"], ["large"]),
            helper.make_node("ReduceSum", ["large", "axis"], ["margin"], keepdims=0),
            helper.make_node("Sigmoid", ["margin"], ["scores"]),
            helper.make_node("Greater", ["margin", "ten"], ["is_attack"]),
            helper.make_node("Cast", ["is_attack"], ["labels"], to=TensorProto.INT64),
        ]
        value = helper.make_tensor_value_info
        weights = [numpy_helper.from_array(np.array(10, np.float32), "ten"), numpy_helper.from_array(AXIS, "axis")]
        outputs = [value("scores", TensorProto.FLOAT, ["n"]), value("labels", TensorProto.INT64, ["n"])]
        graph = helper.make_graph(nodes, "sum", [value("numeric", TensorProto.FLOAT, ["n", 2])], outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        session = Session(model.SerializeToString())
        schema = RecordSchema(tuple(NumericFeature(name=name, low=0, high=1) for name in "ab"))
        numeric = np.array([[0, 0], [3e38, -3e38], [1, 2]], dtype=np.float32)
        assert np.isnan(session.run({"numeric": numeric})[0]).tolist() == [False, True, False]
        with hauberk.Detector(detector.manifest, schema, 0.5, session) as summing:
            scores, labels = summing.predict(Coded(numeric, np.empty((3, 0), dtype=np.int64)))
            assert (scores[:2].tolist(), labels.tolist()) == ([0.5, 1], [0, 1, 1])
            alone = summing.predict({"a": 3e38, "b": -3e38})
            assert (alone.scores.tolist(), alone.labels.tolist()) == ([1], [1])

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_one_record_is_refused_like_many(self, detector, toy, data):
        number = st.floats(width=32, allow_nan=True, allow_infinity=True)
        numeric = np.array([data.draw(st.lists(number, min_size=4, max_size=4))], dtype=np.float32)
        codes = np.array([data.draw(st.lists(st.integers(-2, 5), min_size=2, max_size=2))], dtype=np.int64)
        one = Coded(numeric, codes)
        good = toy.coded(1)
        two = Coded(np.concatenate([numeric, good.numeric]), np.concatenate([codes, good.codes]))
        try:
            detector.predict(two)
        except SchemaError:
            with pytest.raises(SchemaError):
                detector.predict(one)
        else:
            assert len(detector.predict(one).scores) == 1

    def test_the_answer_after_a_refusal_is_right(self, toy):
        good = toy.coded(1)
        with opened(toy) as detector:
            expected = detector.predict(good)
            for _ in range(3):
                with pytest.raises(SchemaError):
                    detector.predict(Coded(np.full((1, 4), np.nan, np.float32), good.codes))
                np.testing.assert_array_equal(detector.predict(good), expected)


class TestLife:
    def test_eight_threads_get_what_one_gets(self, toy):
        records = [toy.coded(1, seed=seed) for seed in range(400)] + [toy.coded(50, seed=seed) for seed in range(20)]
        with opened(toy) as detector:
            alone = [detector.predict(record) for record in records]
            with ThreadPoolExecutor(8) as pool:
                together = list(pool.map(detector.predict, records * 3))
        for found, expected in zip(together, alone * 3, strict=True):
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("records", [0, 1, 5])
    def test_a_closed_detector_says_so(self, toy, records):
        with opened(toy) as detector:
            detector.predict(toy.coded(1))
        detector.close()
        with pytest.raises(HauberkError, match="'toy' is closed"):
            detector.predict(toy.coded(records))

    def test_closing_under_way_ends_in_answers_or_that_error(self, toy):
        detector = opened(toy)
        wrong: list[BaseException] = []
        asked = threading.Event()

        def ask(records: int) -> None:
            try:
                while True:
                    detector.predict(toy.coded(records))
                    asked.set()
            except HauberkError:
                return
            except BaseException as error:  # noqa: BLE001 - anything else is what this test looks for
                wrong.append(error)

        threads = [threading.Thread(target=ask, args=(records,)) for records in (1, 1, 30, 30)]
        for thread in threads:
            thread.start()
        asked.wait()
        detector.close()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_it_says_what_it_is(self, detector, toy):
        assert detector.name == "toy"
        assert detector.schema == toy.schema
        assert detector.manifest.name == "toy"
        assert repr(detector) == "Detector('toy')"
