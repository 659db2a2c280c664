"""The safetensors header: what the library writes is accepted, every lie in it is refused."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from hauberk.errors import RefusedModelError
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.scan import scan_safetensors


def entry(start: int, stop: int, shape=(2,), dtype="F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def file(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def scan(tmp_path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with PrivateCopy(path) as copy:
        scan_safetensors(copy)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8, torch.bool])
def test_what_the_library_writes_is_accepted(tmp_path, dtype):
    state = {"a": torch.ones(3, 5).to(dtype), "b.c": torch.ones(2).to(dtype), "scalar": torch.tensor(1.0)}
    scan(tmp_path, safetensors.torch.save(state, metadata={"made": "here"}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"short", "damaged"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "a safetensors header of 1099511627776 bytes in a file of 10"),
        (file(b"{", b""), "not a safetensors header"),
        (file(b'{"a": 3}', b""), "not a safetensors header"),
        (file(b"[" * 50_000, b""), "not a safetensors header"),
        (file({}, b""), "holds no tensor"),
        (file({"a": {**entry(0, 8), "code": "x"}}, bytes(8)), "unknown field `code`"),
        (file({"a": entry(0, 8, dtype="F8_E4M3")}, bytes(8)), "'a' has dtype 'F8_E4M3'"),
        (file({"a": entry(0, 12)}, bytes(12)), "'a' is empty, overlaps, or has a wrong size"),
        (file({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "'b' is empty, overlaps"),
        (file({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)), "'b' is empty, overlaps"),
        (file({"a": entry(0, 8), "b": entry(8, 8, (0,))}, bytes(8)), "'b' is empty"),
        (file({"a": entry(0, 8, (-1, -2))}, bytes(8)), "'a' is empty"),
        (file({"a": entry(0, 4, (1,) * 65)}, bytes(4)), "'a' has 65 dimensions"),
        (file({"a": entry(0, 8)}, bytes(9)), "9 bytes of tensors, the header has 8"),
        (file({"a": entry(0, 8)}, bytes(4)), "4 bytes of tensors, the header has 8"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, content, says):
    with pytest.raises(RefusedModelError) as raised:
        scan(tmp_path, content)
    assert says in str(raised.value)
