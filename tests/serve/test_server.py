"""A real `hauberk serve`, asked by an unmodified tritonclient and by clients with bad manners."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

INFER = "/v2/models/plain/infer"
NUMERIC = np.array([[0.5, 3, 1], [0.25, 4, 1.5], [0, 0, 0]], dtype=np.float32)
CODES = np.array([[1], [2], [0]], dtype=np.int64)
RECORDS = [
    {"rate": 0.5, "protocol": "tcp", "packets": 3, "entropy": 1},
    {"rate": 0.25, "protocol": "udp", "packets": 4, "entropy": 1.5},
    {"rate": 0, "protocol": "something new", "packets": 0, "entropy": 0},
]


@pytest.fixture(scope="module")
def client(plain: Any) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(plain.host, concurrency=4) as client:
        yield client


def tensors(*, binary: bool) -> list[InferInput]:
    inputs = [InferInput("numeric", NUMERIC.shape, "FP32"), InferInput("codes", CODES.shape, "INT64")]
    inputs[0].set_data_from_numpy(NUMERIC, binary_data=binary)
    inputs[1].set_data_from_numpy(CODES, binary_data=binary)
    return inputs


def raw_records(records: list[dict[str, Any]], *, binary: bool = True) -> list[InferInput]:
    item = InferInput("records", [len(records)], "BYTES")
    texts = [json.dumps(record).encode() for record in records]
    item.set_data_from_numpy(np.array(texts, dtype=object), binary_data=binary)
    return [item]


def assert_right(answer: Any, expected_scores: Any) -> None:
    scores = answer.as_numpy("scores")
    np.testing.assert_allclose(scores, expected_scores(NUMERIC, CODES), rtol=1e-5)
    np.testing.assert_array_equal(answer.as_numpy("labels"), (scores >= 0.5).astype(np.int64))


def test_live_and_ready(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("plain")
    assert client.is_model_ready("plain", "1")
    assert not client.is_model_ready("plain", "2")
    assert not client.is_model_ready("other")


def test_server_metadata(client: InferenceServerClient) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "hauberk"
    assert metadata["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize("version", ["", "1"])
def test_model_metadata(client: InferenceServerClient, version: str) -> None:
    metadata = client.get_model_metadata("plain", version)
    assert metadata["name"] == "plain"
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [
        {"name": "numeric", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "codes", "datatype": "INT64", "shape": [-1, 1]},
    ]
    assert metadata["outputs"] == [
        {"name": "scores", "datatype": "FP32", "shape": [-1]},
        {"name": "labels", "datatype": "INT64", "shape": [-1]},
    ]


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False, None])
def test_tensors_are_answered(
    client: InferenceServerClient, expected_scores: Any, binary_input: bool, binary_output: bool | None
) -> None:
    outputs = None
    if binary_output is not None:
        outputs = [InferRequestedOutput(name, binary_data=binary_output) for name in ("labels", "scores")]
    answer = client.infer("plain", tensors(binary=binary_input), outputs=outputs, request_id="request 7")
    assert_right(answer, expected_scores)
    assert answer.get_response()["id"] == "request 7"


@pytest.mark.parametrize("binary", [True, False])
def test_raw_records_are_answered(client: InferenceServerClient, expected_scores: Any, binary: bool) -> None:
    assert_right(client.infer("plain", raw_records(RECORDS, binary=binary), model_version="1"), expected_scores)


def test_one_record_alone_is_answered(client: InferenceServerClient, expected_scores: Any) -> None:
    score = client.infer("plain", raw_records(RECORDS[:1])).as_numpy("scores")
    np.testing.assert_allclose(score, expected_scores(NUMERIC[:1], CODES[:1]), rtol=1e-5)


def test_many_requests_at_once_are_all_answered(client: InferenceServerClient, expected_scores: Any) -> None:
    asked = [client.async_infer("plain", tensors(binary=True)) for _ in range(50)]
    for request in asked:
        assert_right(request.get_result(), expected_scores)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"rate": 0.5, "packets": 3}, "record 0, column 'protocol' is not there"),
        ({"rate": "fast", "protocol": "tcp", "packets": 3}, "column 'rate'"),
        ({"rate": 0.5, "protocol": "tcp", "packets": 2.5}, "column 'packets'"),
        ({"rate": None, "protocol": "tcp", "packets": 2}, "column 'rate' is missing"),
    ],
)
def test_a_record_that_does_not_fit_is_the_clients_fault(
    client: InferenceServerClient, record: dict[str, Any], says: str
) -> None:
    with pytest.raises(InferenceServerException, match=re.escape(says)) as caught:
        client.infer("plain", raw_records([record]))
    assert caught.value.status() == "400"


def test_tensors_that_do_not_fit_are_the_clients_fault(client: InferenceServerClient) -> None:
    inputs = tensors(binary=True)
    inputs[1].set_data_from_numpy(CODES + 5)
    with pytest.raises(InferenceServerException, match="code 6 is out of range") as caught:
        client.infer("plain", inputs)
    assert caught.value.status() == "400"


def test_infinity_is_the_clients_fault(client: InferenceServerClient) -> None:
    inputs = tensors(binary=True)
    inputs[0].set_data_from_numpy(np.full_like(NUMERIC, np.inf))
    with pytest.raises(InferenceServerException, match="not a finite number"):
        client.infer("plain", inputs)


def test_an_unknown_model_is_not_found(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("other", tensors(binary=True))
    assert caught.value.status() == "404"


def ask(
    server: Any, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    host, port = server.host.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def error_of(body: bytes) -> str:
    """The message of a well-formed error."""
    document = json.loads(body)
    assert list(document) == ["error"]
    assert "\n" not in document["error"]
    return str(document["error"])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2/models",
        "/v2/models/",
        "/v2/models/plain/config",
        "/v2/repository/index",
        "/v2/models/plain/versions/9",
    ],
)
def test_what_is_not_there_is_not_found(plain: Any, path: str) -> None:
    status, _, body = ask(plain, "GET", path)
    assert status == 404
    assert "there is no such" in error_of(body)


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", INFER, "POST"), ("POST", "/v2", "GET"), ("PUT", INFER, "POST")]
)
def test_a_wrong_method_is_told_the_right_one(plain: Any, method: str, path: str, allowed: str) -> None:
    status, headers, body = ask(plain, method, path)
    assert (status, headers["allow"]) == (405, allowed)
    assert allowed in error_of(body)


def test_the_server_says_little_about_itself(plain: Any) -> None:
    _, headers, _ = ask(plain, "GET", "/v2/health/live")
    assert headers["server"] == "hauberk"
    assert set(headers) <= {"server", "date", "content-type", "content-length"}


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_is_too_long_is_refused_and_the_refusal_arrives(plain: Any, chunked: bool) -> None:
    long = bytes(3_000_000)
    status, _, body = ask(
        plain, "POST", INFER, (long[i : i + 9999] for i in range(0, len(long), 9999)) if chunked else long
    )  # type: ignore[arg-type]
    assert status == 413
    assert "longer than 1048576 bytes" in error_of(body)


def test_a_chunked_body_is_read(plain: Any) -> None:
    body = json.dumps(
        {"inputs": [{"name": "records", "shape": [1], "datatype": "BYTES", "data": [json.dumps(RECORDS[0])]}]}
    )
    status, _, answer = ask(plain, "POST", INFER, (body[i : i + 10].encode() for i in range(0, len(body), 10)))  # type: ignore[arg-type]
    assert status == 200
    assert json.loads(answer)["outputs"][0]["name"] == "scores"


def test_more_records_than_allowed_are_refused(plain: Any) -> None:
    request = {"inputs": [{"name": "records", "shape": [1001], "datatype": "BYTES", "data": ["{}"] * 1001}]}
    status, _, body = ask(plain, "POST", INFER, json.dumps(request).encode())
    assert status == 400
    assert "give 1 to 1000" in error_of(body)


def test_a_compressed_body_is_refused(plain: Any) -> None:
    status, _, body = ask(plain, "POST", INFER, b"x", Content_Encoding="gzip")
    assert status == 415
    assert "compressed" in error_of(body)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 30, "٣", "5"])
def test_a_wrong_header_length_is_refused(plain: Any, length: str) -> None:
    status, _, body = ask(
        plain, "POST", INFER, b"{}", Inference_Header_Content_Length=length.encode().decode("latin-1")
    )
    assert status == 400
    assert error_of(body)


def talk(server: Any, message: bytes) -> bytes:
    """What the server says to bytes that may be no HTTP, until it closes."""
    host, port = server.host.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        pieces = []
        with contextlib.suppress(OSError):  # it may close on us at any moment
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)


@pytest.mark.parametrize(
    "message",
    [
        b"nonsense\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"".join(b"h%d: x\r\n" % number for number in range(200)) + b"\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nh: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n",
    ],
    ids=["nonsense", "200 headers", "a long header", "a long path", "a negative length", "two lengths"],
)
def test_bad_http_is_refused(plain: Any, message: bytes) -> None:
    answer = talk(plain, message)
    assert answer == b"" or 400 <= int(answer.split()[1]) < 500


def test_a_body_that_ends_early_harms_no_one(plain: Any, client: InferenceServerClient, expected_scores: Any) -> None:
    talk(plain, b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}")
    assert_right(client.infer("plain", tensors(binary=True)), expected_scores)


bodies = st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["inputs", "id", "outputs", "name"]), inner)
    ),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, length=st.none() | st.integers(0, 400))
def test_whatever_is_posted_gets_a_well_formed_refusal(plain: Any, body: bytes, length: int | None) -> None:
    headers = {} if length is None else {"Inference_Header_Content_Length": str(length)}
    status, _, answer = ask(plain, "POST", INFER, body, **headers)
    assert status == 400
    assert error_of(answer)


def test_metrics_follow_what_happens(plain: Any) -> None:
    def counted() -> list[float]:
        outcomes = [plain.figure("hauberk_requests_total", "plain", outcome=name) for name in ("answered", "invalid")]
        return [*outcomes, plain.figure("hauberk_request_duration_seconds_count", "plain")]

    before = counted()
    plain.infer("plain", rate=0.5, protocol="tcp", packets=1)
    plain.infer("plain", rate=0.5)
    assert counted() == [before[0] + 1, before[1] + 1, before[2] + 2]


def test_metrics_tell_of_the_workers(plain: Any) -> None:
    assert plain.figure("hauberk_workers", "plain") == 2
    assert plain.figure("hauberk_worker_memory_bytes", "plain") > 50e6
    assert plain.figure("hauberk_requests_in_flight", "plain") == 0


def test_nothing_of_this_went_wrong_inside(plain: Any) -> None:
    """The last test of this file: no worker was lost and no internal error was logged."""
    assert len(plain.errors) == 1, plain.errors
