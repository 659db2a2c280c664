"""TensorFlow Lite: tables of a FlatBuffer, and what an interpreter would follow in them."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from corpus.frameworks_tflite import HONEST_NESTED, SHARED, tflite
from corpus.messages import FIXTURES, written

from hauberk.scan import scan_paths
from hauberk.scan.content import BytesContent, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.frameworks.flatbuffer import Buffer
from hauberk.scan.frameworks.tflite_calls import WHOLE_32, Call, Tensor
from hauberk.scan.frameworks.tflite_costs import Costs, circles, peak, total


def scanned(path):
    (result,) = scan_paths([path])
    return result


def test_tables_are_what_flatbuffers_wrote():
    builder = flatbuffers.Builder(0)
    text, numbers = builder.CreateString("größer"), builder.CreateNumpyVector(np.arange(5, dtype=np.int32))
    builder.StartObject(2)
    builder.PrependInt64Slot(0, -7, 0)
    inner = builder.EndObject()
    builder.StartVector(4, 2, 4)
    for _ in range(2):
        builder.PrependUOffsetTRelative(inner)
    inners = builder.EndVector()
    builder.StartObject(6)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    builder.PrependUOffsetTRelativeSlot(1, numbers, 0)
    builder.PrependUOffsetTRelativeSlot(2, inners, 0)
    builder.PrependUint8Slot(4, 9, 0)
    builder.Finish(builder.EndObject())
    root = Buffer(BytesContent(bytes(builder.Output())), Examination()).root()
    assert root.text(0) == "größer"
    assert root.numbers(1, "<i4").tolist() == [0, 1, 2, 3, 4]
    assert [table.scalar(0, 8, signed=True) for table in root.tables(2)] == [-7, -7]
    assert (root.scalar(4, 1), root.scalar(3, 4, 5), root.scalar(5, 4), root.last_field) == (9, 5, 0, 4)
    assert root.table(3) is None


def test_a_table_outside_is_refused():
    with pytest.raises(CutError):
        Buffer(BytesContent((400).to_bytes(4, "little") + bytes(40)), Examination()).root()


def test_a_table_of_many_fields_is_refused():
    """Any number of tables may share one list of fields, which each of them would keep."""
    fields = bytes([4, 2, 4, 0]) + bytes(514)
    for size, refused in ((516, False), (518, True)):
        listed = size.to_bytes(2, "little") + fields[2:4] + bytes(size - 4)
        data = (4).to_bytes(4, "little") + (-4).to_bytes(4, "little", signed=True) + listed
        assert _is_refused(data) == refused


def _is_refused(data):
    try:
        Buffer(BytesContent(data + bytes(8)), Examination()).root()
    except ValueError as error:
        return "fields" in str(error)
    return False


def test_operators_that_share_their_lists_are_not_followed(tmp_path):
    result = scanned(SHARED(tmp_path))
    assert result.size < 60_000
    assert [finding.what for finding in result.findings] == ["more tensors and operators than are followed"]


def test_subgraphs_that_call_others_are_safe(tmp_path):
    assert scanned(HONEST_NESTED(tmp_path)).verdict == "safe"


def test_many_figures_are_refused_before_they_are_read():
    def numbers():
        raise AssertionError("read")

    tensor = Tensor(WHOLE_32, (65,), numbers)
    with pytest.raises(ValueError, match="65 figures"):
        Call([tensor], [], None).constant(0)


def test_circles_are_found_in_a_chain_of_any_length():
    chain = {number: {number + 1} for number in range(20_000)}
    assert circles(chain) == []
    assert circles({**chain, 20_000: {19_999}, 20_001: {7}})[-3:] == [19_999, 20_000, 20_001]
    assert circles({0: {1, 2}, 1: {3}, 2: {2}}) == [0, 2]


def test_a_model_by_hand_is_safe(tmp_path):
    result = scanned(tflite()(tmp_path))
    assert (result.format, result.verdict) == ("tflite", "safe")


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"inputs": (-1,)}, "unsafe"),  # an input that is left out
        ({"inputs": (1,)}, "unsafe"),  # what it gives itself
        ({"inputs": (1,), "result": (0,)}, "unsafe"),
        ({"code": 22, "inputs": (0, 2), "constants": ((),), "shape": (1,), "result": (), "data": bytes(4)}, "safe"),
        ({"result": (3,)}, "unknown"),
        ({"code": 65, "inputs": (0, 2, 3), "constants": ((0,), (1,)), "result": (1,)}, "safe"),
        ({"code": 65, "inputs": (0, 2, 3), "constants": ((0,), (-1,)), "result": (2,)}, "safe"),
        ({"code": 65, "inputs": (0, 2, 3), "constants": ((1,), (2,)), "result": (2,)}, "unknown"),
        ({"code": 0, "inputs": (0, 0)}, "safe"),
        ({"code": 39, "inputs": (0, 2), "constants": ((0,),)}, "safe"),
        ({"code": 39, "inputs": (0, 2), "constants": ((1,),)}, "unknown"),
        ({"code": 74, "inputs": (0, 2), "constants": ((0,),), "result": ()}, "safe"),
        ({"code": 74, "inputs": (0, 2), "constants": ((0, 0),), "result": ()}, "unknown"),
        ({"code": 22, "inputs": (0,), "result": (1, 2)}, "unknown"),  # nothing says to which shape
        ({"code": 118, "calls": (1, 1), "subgraphs": 2}, "unsafe"),  # the second one calls itself
        ({"code": 52}, "unknown"),
        ({"code": 500}, "unknown"),
        ({"elsewhere": (16, 8)}, "unknown"),  # two contents
        ({"elsewhere": (16, 8), "data": b""}, "safe"),
        ({"data": bytes(7)}, "unsafe"),
        ({"shape": ()}, "unsafe"),  # one element, eight bytes
        ({"shape": (), "data": bytes(4)}, "safe"),
        ({"code": 32, "custom": "FlexWriteFile"}, "unsafe"),
        ({"code": 32, "custom": "FlexSaveV2"}, "unsafe"),
    ],
)
def test_models(options, verdict, tmp_path):
    assert scanned(tflite(**options)(tmp_path)).verdict == verdict


@pytest.mark.parametrize("name", ["dense.tflite", "conv.tflite", "while.tflite"])
def test_damage_is_no_fault_of_the_scanner(name, tmp_path):
    data, rng = (FIXTURES / name).read_bytes(), np.random.default_rng(1)
    for _ in range(150):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            changed[int(at)] = int(rng.integers(0, 256))
        result = scanned(written(tmp_path / "x", bytes(changed)))
        assert "scan-failed" not in {finding.rule for finding in result.findings}


def test_what_calls_add_up_to():
    calls = [Costs(operations=1, calls=[index + 1, index + 1]) for index in range(60)]
    assert total([*calls, Costs(operations=1)]) > 1 << 60
    assert total([Costs(operations=5), Costs(operations=3, calls=[0])]) == 10


def test_memory_at_its_peak():
    sizes = {0: 10, 1: 100, 2: 20, 3: 5}
    steps = [((0,), (1,)), ((1,), (2,)), ((2,), (3,))]
    assert peak(steps, sizes, {0}) == 130  # the first result goes once the second is there
    assert peak(steps, sizes, {0, 3}) == 135


def test_what_a_model_leaves_open_is_worked_out():
    """The number of records is stated as 1 and open, as the converter of TensorFlow writes it."""
    result = scanned(FIXTURES / "open_batch.tflite")
    assert (result.verdict, result.facts["operators"] > 5) == ("safe", True)
