"""The codec, against tritonclient's own encoder and decoder, and against everything that hypothesis can think of."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from hauberk.errors import InputError
from hauberk.serve.protocol import Codec, ModelMetadata, Request, TensorMetadata, describe
from hauberk.tensors import TensorSpec

METADATA = ModelMetadata(
    name="flows",
    versions=("1",),
    platform="onnx_onnxv1",
    inputs=(TensorMetadata("numeric", "FP32", (-1, 3)), TensorMetadata("codes", "INT64", (-1, 1))),
    outputs=(TensorMetadata("scores", "FP32", (-1,)), TensorMetadata("labels", "INT64", (-1,))),
)
CODEC = Codec(METADATA, most_records=100)


def tensor(name: str = "numeric", data: Any = (1, 2, 3), shape: Any = (1, 3), datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


def codes(data: Any = (0,), shape: Any = (1, 1)) -> dict[str, Any]:
    return tensor("codes", list(data), shape, "INT64")


def message(**changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor(), codes()]} | changes


def decode(request: dict[str, Any]) -> Request:
    return CODEC.decode(json.dumps(request).encode(), None)


def triton_request(numeric: np.ndarray, codes: np.ndarray, *, binary: bool, **options: Any) -> tuple[bytes, int | None]:
    """What an unmodified tritonclient sends."""
    inputs = [InferInput("numeric", numeric.shape, "FP32"), InferInput("codes", codes.shape, "INT64")]
    for item, array in zip(inputs, (numeric, codes), strict=True):
        item.set_data_from_numpy(array, binary_data=binary)
    return InferenceServerClient.generate_request_body(inputs, **options)


batches = st.integers(1, 20).flatmap(
    lambda count: st.tuples(
        hnp.arrays(np.float32, (count, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
        hnp.arrays(np.int64, (count, 1)),
    )
)


@given(batches, st.booleans())
def test_tritonclients_requests_are_read_exactly(batch: tuple[np.ndarray, np.ndarray], binary: bool) -> None:
    body, header_length = triton_request(*batch, binary=binary)
    request = CODEC.decode(body, header_length)
    np.testing.assert_array_equal(request.tensors["numeric"], batch[0])
    np.testing.assert_array_equal(request.tensors["codes"], batch[1])
    assert request.tensors["numeric"].dtype == np.float32
    assert request.tensors["codes"].dtype == np.int64


def test_tensors_are_aligned_whatever_the_length_of_the_header() -> None:
    for padding in range(8):
        body, length = triton_request(
            np.ones((2, 3), np.float32), np.ones((2, 1), np.int64), binary=True, request_id="x" * padding
        )
        request = CODEC.decode(body, length)
        assert request.tensors["numeric"].flags.aligned
        assert request.tensors["codes"].flags.aligned


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    binary=st.tuples(st.booleans(), st.booleans()),
    identifier=st.text(max_size=20),
)
def test_tritonclient_reads_responses_exactly(scores: list[float], binary: tuple[bool, bool], identifier: str) -> None:
    results = {"scores": np.array(scores, np.float32), "labels": np.array(scores).round().astype(np.int64)}
    request = Request(identifier, {}, None, (("scores", binary[0]), ("labels", binary[1])))
    body, header_length = CODEC.encode(request, results)
    answer = InferResult.from_response_body(body, header_length=header_length)
    np.testing.assert_array_equal(answer.as_numpy("scores"), results["scores"])
    np.testing.assert_array_equal(answer.as_numpy("labels"), results["labels"])
    assert answer.get_response().get("id", "") == identifier
    assert answer.get_response()["model_name"] == "flows"


def test_tritonclient_asks_for_all_outputs_in_binary_by_default() -> None:
    body, length = triton_request(np.ones((1, 3), np.float32), np.ones((1, 1), np.int64), binary=True)
    assert CODEC.decode(body, length).outputs == (("scores", True), ("labels", True))


def test_outputs_come_as_asked_for() -> None:
    wanted = [InferRequestedOutput("labels", binary_data=False), InferRequestedOutput("scores", binary_data=True)]
    body, length = triton_request(np.ones((1, 3), np.float32), np.ones((1, 1), np.int64), binary=True, outputs=wanted)
    assert CODEC.decode(body, length).outputs == (("labels", False), ("scores", True))


def test_plain_json_gets_plain_json() -> None:
    assert decode(message()).outputs == (("scores", False), ("labels", False))


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_data_may_be_flat_or_nested(data: list[Any]) -> None:
    request = decode({"inputs": [tensor(data=data, shape=(2, 3)), codes((0, 1), (2, 1))]})
    assert request.tensors["numeric"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_nested_data_may_be_indented() -> None:
    text = json.dumps({"inputs": [tensor(data=[[1, 2, 3]]), codes([[0]])]}, indent=90)
    assert CODEC.decode(text.encode(), None).tensors["numeric"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("binary", [True, False])
def test_records_are_passed_on_as_they_are(binary: bool) -> None:
    texts = ['{"rate": 1}', '{"café": "ü"}']
    item = InferInput("records", [2], "BYTES")
    item.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object), binary_data=binary)
    body, length = InferenceServerClient.generate_request_body([item])
    assert CODEC.decode(body, length).records == [text.encode() for text in texts]


WRONG: dict[str, tuple[Any, str]] = {
    "not an object": ([], "not an inference request"),
    "no inputs": ({}, "inputs"),
    "inputs of a wrong type": ({"inputs": 3}, "inputs"),
    "no inputs at all": ({"inputs": []}, "give the inputs numeric and codes, or records alone"),
    "one input missing": ({"inputs": [tensor()]}, "give the inputs numeric and codes"),
    "too many inputs": ({"inputs": [tensor()] * 65}, "inputs"),
    "an unknown input": ({"inputs": [tensor("bytes")]}, "there is no input 'bytes'"),
    "a doubled input": ({"inputs": [tensor(), tensor()]}, "given twice"),
    "records beside tensors": (
        {"inputs": [tensor(), codes(), tensor("records", ["{}"], (1,), "BYTES")]},
        "or records alone",
    ),
    "another datatype": ({"inputs": [tensor(datatype="FP64")]}, "is 'FP64'; give FP32"),
    "another width": ({"inputs": [tensor(shape=(1, 4))]}, r"shape \[1, 4\]; give \[N, 3\]"),
    "another rank": ({"inputs": [tensor(shape=(3,))]}, r"give \[N, 3\]"),
    "a negative size": ({"inputs": [tensor(shape=(-1, 3))]}, ">= 0"),
    "a size of text": ({"inputs": [tensor(shape=("1", 3))]}, "int"),
    "no records": ({"inputs": [tensor(data=[], shape=(0, 3))]}, "holds 0 records; give 1 to 100"),
    "too many records": ({"inputs": [tensor(data=[0] * 303, shape=(101, 3))]}, "give 1 to 100"),
    "a batch that overflows": ({"inputs": [tensor(shape=(10**30, 3))]}, "input"),
    "too few values": ({"inputs": [tensor(data=[1, 2])]}, "does not say how many"),
    "too many values": ({"inputs": [tensor(data=[1, 2, 3, 4])]}, "does not say how many"),
    "ragged rows": ({"inputs": [tensor(data=[[1, 2], [3, 4, 5, 6]], shape=(2, 3))]}, "data is not a list"),
    "rows of another shape": (
        {"inputs": [tensor(data=[[1, 2], [3, 4], [5, 6]], shape=(2, 3))]},
        "does not have the shape",
    ),
    "text among numbers": ({"inputs": [tensor(data=[1, "2", 3])]}, "not a list of FP32"),
    "null among numbers": ({"inputs": [tensor(data=[1, None, 3])]}, "not a list of FP32"),
    "a truth value among numbers": ({"inputs": [tensor(data=[1, True, 3])]}, "not a list of FP32"),
    "a fraction among codes": ({"inputs": [tensor(), codes([0.5])]}, "not a list of INT64"),
    "a code beyond int64": ({"inputs": [tensor(), codes([2**63])]}, "not a list of INT64"),
    "data that is no list": ({"inputs": [tensor(data={"a": 1, "b": 2, "c": 3})]}, "not a list of FP32"),
    "no data": ({"inputs": [{"name": "numeric", "shape": [1, 3], "datatype": "FP32"}]}, "neither data nor"),
    "different batches": ({"inputs": [tensor(), codes([0, 1], (2, 1))]}, "different numbers of records"),
    "parameters that are no object": (message(parameters=[1]), "parameters"),
    "nested parameters": (message(parameters={"a": {"b": 1}}), "parameters"),
    "an id that is no text": (message(id=7), "id"),
    "an id without end": (message(id="x" * 257), "id"),
    "an unknown output": (message(outputs=[{"name": "logits"}]), "output 'logits' is not there"),
    "a doubled output": (message(outputs=[{"name": "scores"}] * 2), "named twice"),
    "classification": (message(outputs=[{"name": "scores", "parameters": {"classification": 3}}]), "classification"),
    "a flag that is none": (message(parameters={"binary_data_output": "yes"}), "give true or false"),
    "records that are no text": ({"inputs": [tensor("records", [1], (1,), "BYTES")]}, "not a list of BYTES"),
    "fewer records than said": ({"inputs": [tensor("records", ["{}"], (2,), "BYTES")]}, "but 1 elements"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_in_one_clear_line(case: str) -> None:
    request, says = WRONG[case]
    with pytest.raises(InputError, match=says) as caught:
        decode(request)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b'{"inputs": "\xff"}',
        b"[" * 200_000,
        b'{"inputs":' * 100_000,
        b'{"id":"\\ud800"}',
    ],
    ids=["empty", "cut", "null", "no UTF-8", "no UTF-8 inside", "deep lists", "deep objects", "half a surrogate"],
)
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InputError):
        CODEC.decode(body, None)


def test_deeply_nested_data_is_refused() -> None:
    text = json.dumps({"inputs": [tensor(data="DEEP"), codes()]}).replace('"DEEP"', "[" * 100_000 + "]" * 100_000)
    with pytest.raises(InputError):
        CODEC.decode(text.encode(), None)


def test_memory_is_not_spent_on_values_that_the_shape_denies() -> None:
    """Two megabytes of `0,0,…` would become a list of a million numbers before anything was compared."""
    import tracemalloc

    body = json.dumps({"inputs": [tensor(data="MANY")]}).replace('"MANY"', "[" + "0," * 1_000_000 + "0]").encode()
    tracemalloc.start()
    with pytest.raises(InputError, match="does not say how many"):
        CODEC.decode(body, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(body)


def binary_request(sizes: list[Any], payload: bytes, shape: tuple[int, int] = (1, 3)) -> tuple[bytes, int]:
    inputs = [
        {"name": name, "shape": list(dimensions), "datatype": datatype, "parameters": {"binary_data_size": size}}
        for (name, datatype, dimensions), size in zip(
            [("numeric", "FP32", shape), ("codes", "INT64", (shape[0], 1))], sizes, strict=False
        )
    ]
    header = json.dumps({"inputs": inputs}).encode()
    return header + payload, len(header)


@pytest.mark.parametrize(
    ("sizes", "payload", "says"),
    [
        ([12, 8], 19, "still holds"),
        ([12, 8], 21, "1 bytes more"),
        ([8, 12], 20, "are not FP32 of shape"),
        ([-12, 8], 20, "binary_data_size"),
        ([12.0, 8], 20, "binary_data_size"),
        (["12", 8], 20, "binary_data_size"),
        ([True, 8], 20, "binary_data_size"),
        ([10**30, 8], 20, "binary_data_size"),
    ],
)
def test_wrong_binary_sizes_are_refused(sizes: list[Any], payload: int, says: str) -> None:
    body, length = binary_request(sizes, bytes(payload))
    with pytest.raises(InputError, match=says):
        CODEC.decode(body, length)


def test_data_and_binary_data_at_once_are_refused() -> None:
    item = tensor() | {"parameters": {"binary_data_size": 12}}
    header = json.dumps({"inputs": [item, codes()]}).encode()
    with pytest.raises(InputError, match="either data or"):
        CODEC.decode(header + bytes(12), len(header))


@pytest.mark.parametrize("length", [0, 1, 10**6])
def test_a_wrong_header_length_is_refused(length: int) -> None:
    body, _ = binary_request([12, 8], bytes(20))
    with pytest.raises(InputError):
        CODEC.decode(body, length)


@pytest.mark.parametrize(
    "payload",
    [b"\x00", struct.pack("<I", 5) + b"abcd", struct.pack("<I", 0xFFFFFFFF), struct.pack("<I", 2) + b"{}" * 2],
)
def test_damaged_byte_elements_are_refused(payload: bytes) -> None:
    item = {"name": "records", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(payload)}}
    header = json.dumps({"inputs": [item]}).encode()
    with pytest.raises(InputError, match="records"):
        CODEC.decode(header + payload, len(header))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["numeric", "FP32"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
paths = st.lists(
    st.sampled_from(["inputs", "outputs", "parameters", "id", "name", "shape", "data", "datatype", 0, 1]), max_size=4
)


def holds(place: Any, step: Any) -> bool:
    if isinstance(place, list):
        return isinstance(step, int) and step < len(place)
    return isinstance(place, dict) and step in place


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, int | None]:
    """A good request with a few things replaced, at the level of JSON and of bytes."""
    request: Any = message(parameters={"binary_data_output": True}, outputs=[{"name": "scores"}])
    for path in draw(st.lists(paths, max_size=3)):
        place = request
        for step in path[:-1]:
            place = place[step] if holds(place, step) else place
        if path and (holds(place, path[-1]) or (isinstance(place, dict) and isinstance(path[-1], str))):
            place[path[-1]] = draw(values)
    header = json.dumps(request).encode()
    body = bytearray(header + draw(st.binary(max_size=24)))
    for _ in range(draw(st.integers(0, 2))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body), draw(st.none() | st.just(len(header)) | st.integers(0, len(body) + 5))


@settings(max_examples=600)
@given(damaged())
def test_whatever_comes_is_read_or_refused(request_: tuple[bytes, int | None]) -> None:
    try:
        request = CODEC.decode(*request_)
    except InputError:
        return
    count = len(request.records if request.records is not None else request.tensors["numeric"])
    assert 1 <= count <= 100
    if request.records is None:
        assert request.tensors["numeric"].shape == (count, 3)
        assert request.tensors["codes"].shape == (count, 1)
    CODEC.encode(request, {"scores": np.zeros(count, np.float32), "labels": np.zeros(count, np.int64)})


def test_tensors_are_described_in_the_protocols_words() -> None:
    assert describe(TensorSpec("numeric", "float32", ("batch", 7))) == TensorMetadata("numeric", "FP32", (-1, 7))
