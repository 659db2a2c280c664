"""Graphs of TensorFlow: operations, functions, and the files that a graph would open."""

from __future__ import annotations

import numpy as np
import pytest
from corpus.frameworks_graphs import constant, function, function_attribute, graph, node, saved_model
from corpus.frameworks_tensorflow import table_that_is_saved
from corpus.messages import FIXTURES, field, written

from hauberk.scan import scan_paths
from hauberk.scan.frameworks.tensorflow import allowed_operations, is_dangerous

INPUT = node("x", "Placeholder")
OPERATIONS = (
    "ReadFile WriteFile MatchingFiles PyFunc EagerPyFunc TFRecordDatasetV2 TextLineReaderV2 SnapshotDatasetV2 RpcCall"
    " DebugIdentityV3 CSVDatasetV2 XlaHostCompute SaveV2 RestoreV2 InitializeTableFromTextFileV2 LoadDataset"
    " RemoteCall ImmutableConst CreateSummaryFileWriter LMDBReader SqlDataset DumpTensor _Recv"
)


def scanned(path):
    (result,) = scan_paths([path])
    return result


def rules(result):
    return {finding.rule for finding in result.findings}


@pytest.mark.parametrize("name", OPERATIONS.split())
def test_what_opens_files_or_speaks_to_others_is_on_no_list(name):
    assert name not in allowed_operations()
    assert is_dangerous(name)


def test_no_dangerous_operation_is_allowed():
    assert len(allowed_operations()) > 1300
    assert not [name for name in allowed_operations() if is_dangerous(name)]
    suspect = ("ReadF", "WriteF", "MatchingFiles", "PyFunc", "Rpc", "Lmdb", "Sql", "Snapshot", "HostCompute")
    assert not [name for name in allowed_operations() for part in suspect if part in name]


@pytest.mark.parametrize("name", ["saved_model", "saved_model_keras", "saved_model_table"])
def test_what_tensorflow_saved_is_safe(name):
    result = scanned(FIXTURES / name / "saved_model.pb")
    assert (result.format, result.verdict) == ("tensorflow-saved-model", "safe")
    assert result.facts["nodes"] > 30
    assert result.facts["functions"] >= 4


def test_what_it_saved_that_writes_is_unsafe():
    result = scanned(FIXTURES / "saved_model_writes_file.pb")
    assert [finding.what for finding in result.findings] == ["WriteFile"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("/etc/passwd", "unsafe"),
        ("../../x", "unsafe"),
        ("gs://bucket/x", "unsafe"),
        ("~/x", "unsafe"),
        ("C:\\x", "unsafe"),
        ("variables/variables", "unsafe"),  # all of the name is made up by the graph
    ],
)
def test_a_file_that_the_graph_names(text, verdict, tmp_path):
    nodes = constant("n", text), node("r", "RestoreV2", "n", "n", "n")
    result = scanned(saved_model(*nodes)(tmp_path))
    assert result.verdict == verdict
    assert rules(result) == {"tensorflow-file-name"}


def test_a_name_from_outside_with_an_ending_is_how_savers_work(tmp_path):
    join = node("j", "StringJoin", "p", "e"), constant("e", "_temp/part")
    nodes = (node("p", "Placeholder"), *join, node("s", "SaveV2", "j", "j", "j"))
    saver = field(3, field(1, "p:0"))
    assert scanned(saved_model(*nodes, more=saver)(tmp_path)).verdict == "safe"
    assert scanned(saved_model(*nodes)(tmp_path)).verdict == "unknown"  # any input of the model could be meant
    asked = field(5, field(1, "serve") + field(2, field(1, field(1, "text") + field(2, field(1, "p:0")))))
    assert scanned(saved_model(*nodes, more=saver + asked)(tmp_path)).verdict == "unknown"


def test_a_name_from_outside_with_a_beginning_is_not(tmp_path):
    join = node("j", "StringJoin", "e", "p"), constant("e", "/srv/")
    nodes = (node("p", "Placeholder"), *join, node("s", "SaveV2", "j", "j", "j"))
    assert scanned(saved_model(*nodes)(tmp_path)).verdict == "unsafe"


def test_a_name_in_a_variable(tmp_path):
    """Assets reach tables through variables, which the graph sets; what a checkpoint sets them to is not known."""
    variable = node("v", "VarHandleOp"), node("r", "ReadVariableOp", "v"), node("t", "HashTableV2")
    table = node("i", "InitializeTableFromTextFileV2", "t", "r")
    asset = field(6, field(1, field(1, "n:0")) + field(2, "vocab.txt"))
    given = (constant("n", "x"), node("a", "AssignVariableOp", "v", "n"))
    assert scanned(saved_model(*variable, table, *given, more=asset)(tmp_path)).verdict == "safe"
    assert scanned(saved_model(*variable, table, *given)(tmp_path)).verdict == "unsafe"
    assert scanned(saved_model(*variable, table)(tmp_path)).verdict == "unsafe"
    restored = node("p", "Placeholder"), node("s", "RestoreV2", "p", "p", "p"), node("a", "AssignVariableOp", "v", "s")
    assert scanned(saved_model(*variable, table, *restored, more=asset)(tmp_path)).verdict != "safe"


def test_a_circle_of_functions_ends(tmp_path):
    call = node("c", "PartitionedCall", "a", more=function_attribute("f", "f"))
    circle = function("f", ("a",), call, node("s", "SaveV2", "c", "c", "c"))
    start = node("y", "PartitionedCall", "x", more=function_attribute("f", "f"))
    assert scanned(saved_model(INPUT, start, functions=(circle,))(tmp_path)).seconds < 2


def test_an_asset_is_the_loaders_business(tmp_path):
    table = (constant("n", "/tmp/vocab.txt"), node("t", "HashTableV2"))
    start = node("i", "InitializeTableFromTextFileV2", "t", "n")
    asset = field(6, field(1, field(1, "n:0")) + field(2, "vocab.txt"))
    assert scanned(saved_model(*table, start, more=asset)(tmp_path)).verdict == "safe"
    assert scanned(saved_model(*table, start)(tmp_path)).verdict == "unsafe"


def test_a_frozen_graph_is_recognised(tmp_path):
    result = scanned(written(tmp_path / "x", graph(INPUT, node("y", "Identity", "x"))))
    assert (result.format, result.verdict) == ("tensorflow-graph", "safe")


def test_every_cut_is_not_safe(tmp_path):
    data = (FIXTURES / "saved_model" / "saved_model.pb").read_bytes()
    for end in range(2, len(data), len(data) // 80):
        result = scanned(written(tmp_path / "cut", data[:end]))
        assert result.verdict != "safe", end
        assert "scan-failed" not in rules(result)


def test_damage_is_no_fault_of_the_scanner(tmp_path):
    data, rng = (FIXTURES / "saved_model_table" / "saved_model.pb").read_bytes(), np.random.default_rng(1)
    for _ in range(80):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            changed[int(at)] = int(rng.integers(0, 256))
        assert "scan-failed" not in rules(scanned(written(tmp_path / "x", bytes(changed))))


def test_a_table_that_is_saved_and_restored_by_its_own_functions_is_safe(tmp_path):
    result = scanned(table_that_is_saved()(tmp_path))
    assert (result.verdict, result.facts["functions"]) == ("safe", 3)
