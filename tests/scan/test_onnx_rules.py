"""Which rule each hostile ONNX file breaks; the operators that are known; weights that may lie outside."""

from __future__ import annotations

import contextlib
import importlib.metadata
from pathlib import Path

import generate_operators
import numpy as np
import onnx
import pytest
from corpus.graphs import CASES
from corpus.graphs_external import DATA
from corpus.graphs_trees import TREES
from corpus.onnx_models import external, graph, model, node, numbers, value, with_weight, written
from onnx import helper, numpy_helper

from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.graphs import FORMATS, operations, reading, wire
from hauberk.scan.graphs.call import covered
from hauberk.scan.graphs.control import CONTROL
from hauberk.scan.graphs.examine import examine_onnx
from hauberk.scan.graphs.operators import known_operators, newest_versions
from hauberk.scan.report import Verdict
from hauberk.scan.walk import scan_file

assert operations  # importing them registers their rules

FIRST = {
    "group": "onnx-ambiguous",
    "long-tag": "onnx-ambiguous",
    "long-number": "onnx-ambiguous",
    "long-length": "onnx-ambiguous",
    "number-of-70-bits": "onnx-ambiguous",
    "field-number-beyond-29-bits": "onnx-ambiguous",
    "graph-twice": "onnx-ambiguous",
    "version-twice": "onnx-ambiguous",
    "location-as-bytes": "onnx-ambiguous",
    "location-of-33-bits": "onnx-ambiguous",
    "type-of-33-bits": "onnx-ambiguous",
    "name-no-utf8": "onnx-ambiguous",
    "two-types": "onnx-ambiguous",
    "cut": "onnx-broken",
    "trailing-rubbish": "scan-unrecognised",
    "unknown-field": "onnx-unknown-field",
    "unknown-field-in-tensor": "onnx-unknown-field",
    "sound-that-is-a-model": "onnx-unknown-field",
    "sound-behind-empty-graph": "onnx-unknown-field",
    "sound-behind-unknown-graph": "onnx-unknown-field",
    "sound-behind-many-fields": "onnx-unknown-field",
    "graphs-90-deep": "onnx-nesting",
    "types-60-deep": "onnx-nesting",
    "attribute-of-two-kinds": "onnx-tensor-type",
    "attribute-twice": "onnx-ambiguous",
    "opset-twice": "onnx-ambiguous",
    "metadata-twice": "onnx-ambiguous",
    "as-text": "onnx-text",
    "as-json": "onnx-text",
    "as-escaped-json": "onnx-text",
    "as-syntax": "onnx-text",
    "as-ort": "onnx-ort-format",
    "negative-dimension": "onnx-negative-dimension",
    "dimensions-wrap": "onnx-negative-dimension",
    "data-short": "onnx-tensor-size",
    "data-long": "onnx-tensor-size",
    "data-none": "onnx-tensor-size",
    "data-raw-and-typed": "onnx-ambiguous",
    "data-of-another-type": "onnx-ambiguous",
    "data-typed-short": "onnx-tensor-size",
    "packed-numbers-short": "onnx-tensor-size",
    "texts-in-raw-data": "onnx-ambiguous",
    "element-type-99": "onnx-tensor-type",
    "element-type-none": "onnx-tensor-type",
    "sparse-index-outside": "onnx-sparse-index",
    "sparse-index-negative": "onnx-sparse-index",
    "sparse-bomb": "onnx-memory-bomb",
    "external-parent": "onnx-external-path",
    "external-parent-of-inner": "onnx-external-path",
    "external-parent-of-file": "onnx-external-path",
    "external-absolute": "onnx-external-path",
    "external-drive": "onnx-external-path",
    "external-drive-relative": "onnx-external-path",
    "external-backslashes": "onnx-external-path",
    "external-share": "onnx-external-path",
    "external-url": "onnx-external-path",
    "external-end-of-text": "onnx-external-path",
    "external-empty": "onnx-external-path",
    "external-here": "onnx-external-path",
    "external-newline": "onnx-external-path",
    "external-device": "onnx-external-path",
    "external-address": "onnx-external-memory",
    "external-missing": "onnx-external-missing",
    "external-beyond": "onnx-external-range",
    "external-far-beyond": "onnx-external-range",
    "external-offset-negative": "onnx-external-key",
    "external-offset-odd-digits": "onnx-external-key",
    "external-offset-other-digits": "onnx-external-key",
    "external-offset-beyond-64-bits": "onnx-external-key",
    "external-length-short": "onnx-external-range",
    "external-length-long": "onnx-external-range",
    "external-key-of-object": "onnx-external-key",
    "external-key-unknown": "onnx-external-key",
    "external-prepacked": "onnx-external-prepacked",
    "external-key-twice": "onnx-external-key",
    "external-symlink": "onnx-external-link",
    "external-symlinked-folder": "onnx-external-link",
    "external-hard-link": "onnx-external-link",
    "external-pipe": "onnx-external-path",
    "external-folder": "onnx-external-path",
    "external-itself": "onnx-external-self",
    "external-in-constant": "onnx-external-path",
    "external-in-branch": "onnx-external-path",
    "external-in-sparse-values": "onnx-tensor-size",
    "external-in-sparse-indices": "onnx-external-indices",
    "external-sparse-indices": "onnx-external-indices",
    "external-in-function": "onnx-external-path",
    "external-in-default-of-function": "onnx-external-path",
    "external-in-training": "onnx-external-path",
    "external-in-list": "onnx-operator-unknown",
    "external-shared-range-bomb": "onnx-memory-bomb",
    "external-overlap": "onnx-external-overlap",
    "external-model-through-link": "onnx-external-link",
    "external-entries-without-mark": "onnx-ambiguous",
    "external-texts": "onnx-external-range",
    "operator-python": "onnx-operator-code",
    "operator-python-in-training": "onnx-operator-code",
    "operator-aten": "onnx-operator-code",
    "operator-image-reader": "onnx-operator-code",
    "operator-remote-service": "onnx-operator-code",
    "operator-program-by-path": "onnx-ep-context-path",
    "operator-program-by-absolute-path": "onnx-ep-context-path",
    "operator-program-inside": "onnx-ep-context",
    "operator-program-of-snpe": "onnx-ep-context",
    "operator-of-a-library": "onnx-custom-operator",
    "operator-unknown": "onnx-operator-unknown",
    "operator-unknown-of-the-runtime": "onnx-operator-unknown",
    "operator-plugin": "onnx-custom-operator",
    "operator-in-default-of-function": "onnx-operator-code",
    "opset-999": "onnx-opset-unknown",
    "settings-for-the-runtime": "onnx-runtime-settings",
    "training": "onnx-training",
    "function-itself": "onnx-function-recursion",
    "functions-each-other": "onnx-function-recursion",
    "function-itself-in-branch": "onnx-function-recursion",
    "function-bomb": "onnx-function-bomb",
    "function-twice": "onnx-function-twice",
    "function-hides-operator": "onnx-function-twice",
    "function-of-another-overload": "onnx-operator-code",
    "function-hides-operator-of-the-runtime": "onnx-function-twice",
    "division-by-zero": "onnx-division-by-zero",
    "name-twice": "onnx-duplicate-name",
    "name-of-input-twice": "onnx-duplicate-name",
    "weight-twice": "onnx-duplicate-name",
    "input-missing": "onnx-invalid",
    "output-missing": "onnx-invalid",
    "cycle": "onnx-cycle",
    "cycle-of-one": "onnx-cycle",
    "bomb-of-a-hundred-bytes": "onnx-memory-bomb",
    "bomb-constant-of-shape": "onnx-memory-bomb",
    "bomb-constant-of-shape-by-input": "onnx-unbounded-size",
    "bomb-expand": "onnx-memory-bomb",
    "bomb-expand-by-input": "onnx-unbounded-size",
    "bomb-tile": "onnx-memory-bomb",
    "bomb-tile-by-input": "onnx-unbounded-size",
    "bomb-range": "onnx-memory-bomb",
    "bomb-range-tiny-steps": "onnx-memory-bomb",
    "bomb-range-by-input": "onnx-unbounded-size",
    "bomb-resize-scales": "onnx-memory-bomb",
    "bomb-resize-sizes": "onnx-memory-bomb",
    "bomb-upsample": "onnx-memory-bomb",
    "bomb-one-hot": "onnx-memory-bomb",
    "bomb-pad": "onnx-memory-bomb",
    "bomb-pad-attribute": "onnx-memory-bomb",
    "bomb-random": "onnx-memory-bomb",
    "bomb-eye": "onnx-memory-bomb",
    "bomb-samples": "onnx-memory-bomb",
    "bomb-window": "onnx-memory-bomb",
    "bomb-mel": "onnx-memory-bomb",
    "bomb-product": "onnx-memory-bomb",
    "bomb-outer": "onnx-memory-bomb",
    "bomb-concat-chain": "onnx-memory-bomb",
    "bomb-texts-chain": "onnx-memory-bomb",
    "bomb-einsum": "onnx-memory-bomb",
    "bomb-convolution-pads": "onnx-memory-bomb",
    "bomb-transposed-convolution": "onnx-memory-bomb",
    "bomb-gather": "onnx-memory-bomb",
    "bomb-input": "onnx-memory-bomb",
    "bomb-spectrum": "onnx-memory-bomb",
    "bomb-n-grams": "onnx-memory-bomb",
    "bomb-that-wraps": "onnx-memory-bomb",
    "bomb-in-branch": "onnx-memory-bomb",
    "bomb-in-branch-of-other-sizes": "onnx-memory-bomb",
    "bomb-for-other-sizes": "onnx-memory-bomb",
    "bomb-for-two-records": "onnx-memory-bomb",
    "bomb-in-function": "onnx-memory-bomb",
    "bomb-in-attribute-of-function": "onnx-memory-bomb",
    "bomb-image-in-data": "onnx-unbounded-size",
    "work-products": "onnx-memory-bomb",
    "work-known-rounds": "onnx-operation-bomb",
    "work-nested-loops": "onnx-operation-bomb",
    "loop-endless": "onnx-endless-loop",
    "loop-endless-count": "onnx-endless-loop",
    "loop-counts-to-2-40": "onnx-unbounded-loop",
    "loop-by-input": "onnx-unbounded-loop",
    "loop-while-data": "onnx-unbounded-loop",
    "loop-that-doubles": "onnx-memory-bomb",
    "loop-sequence-that-doubles": "onnx-unbounded-size",
    "scan-that-doubles": "onnx-memory-bomb",
    "least-divided-int64": "onnx-division-overflow",
    "least-divided-int32": "onnx-division-overflow",
    "least-divided-remainder": "onnx-division-overflow",
    "least-divided-of-filled": "onnx-division-overflow",
    "least-divided-of-many": "onnx-cost-unknown",
    "division-by-filled-zero": "onnx-division-by-zero",
    "bomb-room-for-channels": "onnx-memory-bomb",
    "bomb-samples-of-regions": "onnx-memory-bomb",
    "bomb-samples-of-large-regions": "onnx-memory-bomb",
    "bomb-samples-of-scaled-regions": "onnx-memory-bomb",
    "bomb-samples-by-input": "onnx-unbounded-size",
    "bomb-room-of-spectrum": "onnx-memory-bomb",
    "bomb-room-of-frames": "onnx-memory-bomb",
    "bound-of-nan": "onnx-unbounded-size",
    "bound-of-nan-clipped": "onnx-unbounded-size",
    "bound-of-nan-between": "onnx-unbounded-size",
    "bound-of-root": "onnx-unbounded-size",
    "bound-backwards": "onnx-unbounded-size",
    "bound-unequal-parts": "onnx-unbounded-size",
    "bound-copied-size": "onnx-unbounded-size",
    "bound-short-frames": "onnx-unbounded-size",
    "bound-of-least": "onnx-unbounded-size",
    "bound-without-sign": "onnx-unbounded-size",
    "bound-of-sum": "onnx-unbounded-size",
    "bound-of-nothing": "onnx-unbounded-size",
    "bomb-slopes-both-ways": "onnx-memory-bomb",
    "bomb-not-smaller": "onnx-unbounded-size",
    "loop-even-then-doubling": "onnx-unbounded-loop",
    "loop-perhaps-never": "onnx-unbounded-size",
    "loop-number-in-sequence": "onnx-unbounded-size",
    "bomb-counted-behind-optional": "onnx-memory-bomb",
    "bomb-sequence-of-numbers": "onnx-memory-bomb",
    "version-missing": "onnx-opset-unknown",
    "version-of-function": "onnx-opset-unknown",
    "constant-of-two": "onnx-cost-unknown",
    "blank-in-list": "onnx-blank-name",
    "blank-in-list-of-outputs": "onnx-blank-name",
    "kernel-without-axis": "onnx-cost-unknown",
    "kernel-without-shift": "onnx-cost-unknown",
    "kernel-without-mean": "onnx-cost-unknown",
    "kernel-without-heads": "onnx-cost-unknown",
    "kernel-without-bias": "onnx-cost-unknown",
    "kernel-of-nothing": "onnx-cost-unknown",
    "kernel-scale-of-caller": "onnx-cost-unknown",
    "kernel-without-zero-point": "onnx-cost-unknown",
    "kernel-large-window": "onnx-cost-unknown",
    "kernel-places-short": "onnx-cost-unknown",
    "kernel-columns-below-zero": "onnx-cost-unknown",
    **{case.name[5:]: "onnx-tree" for case in TREES},
    "tree-table-kind-unknown": "onnx-cost-unknown",
    "tree-table-kind-unknown-typed": "onnx-cost-unknown",
    "tree-kind-unknown": "onnx-cost-unknown",
    "tree-deep": "onnx-tree-depth",
    "tree-table-deep": "onnx-tree-depth",
}
"""The first rule that a case breaks, by the case's name without `onnx-`."""


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.name[5:] in FIRST])
def test_a_case_breaks_the_rule_that_it_was_made_for(case, tmp_path):
    report = scan_file(case.make(tmp_path))
    assert report.findings[0].rule == FIRST[case.name[5:]]


def test_every_case_has_its_rule_and_every_rule_its_case():
    assert {case.name[5:] for case in CASES} == FIRST.keys()
    known = {rule.id for each in FORMATS for rule in each.rules}
    without = {"onnx-unsorted", "onnx-too-large", "onnx-cost-unknown"}  # tested below and with the cost
    assert known - set(FIRST.values()) - without == set()


def examined(proto: onnx.ModelProto | bytes, path: Path | None = None) -> Examination:
    data = proto if isinstance(proto, bytes) else proto.SerializeToString()
    examination = Examination(path=path)
    with contextlib.suppress(StopScan):
        examine_onnx(BytesContent(data), examination)
    return examination


def found(proto: onnx.ModelProto | bytes) -> set[str]:
    return {finding.rule for finding in examined(proto).findings}


def test_nodes_in_another_order_are_noted_and_followed():
    proto = model([node("Relu", ["a"]), node("Neg", ["x"], "a")])
    examination = examined(proto)
    assert examination.verdict is Verdict.SAFE
    assert [finding.rule for finding in examination.findings] == ["onnx-unsorted"]


def test_more_nodes_than_are_followed_are_not(monkeypatch):
    proto = model([node("Relu", ["x" if index == 0 else f"v{index - 1}"], f"v{index}") for index in range(20)])
    proto.graph.output[0].name = "v19"
    assert not found(proto)
    monkeypatch.setattr(reading, "MOST_NODES", 19)
    assert found(proto) == {"onnx-too-large"}


def test_more_names_than_are_kept_are_not_read(monkeypatch):
    monkeypatch.setattr(wire, "MOST_KEPT", 1000)
    assert found(model([node("Relu", ["x"], f"v{index}") for index in range(20)])) == {"onnx-too-large"}


def test_operators_that_are_known_are_those_of_the_packages():
    """The list stands in a file because the scan has neither package; run generate_operators.py after an update."""
    text = generate_operators.TARGET.read_text()
    versions = importlib.metadata.version("onnx"), importlib.metadata.version("onnxruntime")
    if f"onnx {versions[0]} and onnxruntime {versions[1]}" not in text:
        pytest.skip(f"written for other versions than {versions}")
    assert text == generate_operators.operators()
    assert newest_versions()[""] == onnx.defs.onnx_opset_version()


NOT_MODELLED = {
    *{"DisentangledAttention_TRT", "EfficientNMS_TRT", "MultilevelCropAndResize_TRT", "PyramidROIAlign_TRT"},
    *{"GRUUnit", "LinearAttention"},
}
"""Operators of ONNX's own domain whose cost is not told: plug-ins of TensorRT, and those of no exporter."""


def test_every_operator_of_onnx_has_a_rule():
    for domain in ("", "ai.onnx.ml"):
        rules = {name for each, name in covered() if each == domain} | (CONTROL.keys() if not domain else set())
        assert known_operators()[domain].keys() - rules - NOT_MODELLED == set()


def test_every_rule_is_of_a_known_operator():
    unknown = [(domain, name) for domain, name in covered() if name not in known_operators()[domain]]
    assert unknown == [("", "ArrayFeatureExtractor")]


def beside(tmp_path: Path, proto: onnx.ModelProto) -> set[str]:
    (tmp_path / "w.bin").write_bytes(DATA)
    report = scan_file(written(proto)(tmp_path))
    return {finding.rule for finding in report.findings}


def test_weights_in_a_file_beside_the_model_are_accepted(tmp_path):
    assert not beside(tmp_path, with_weight(external(location="w.bin")))
    assert not beside(tmp_path, with_weight(external(location="w.bin", offset="4032", length="64")))
    assert not beside(tmp_path, with_weight(external(location="w.bin", checksum="0" * 40)))


def test_tensors_may_share_their_bytes_and_lie_one_after_the_other(tmp_path):
    parts = [external(name, location="w.bin", offset=offset) for name, offset in (("a", "0"), ("b", "0"), ("c", "64"))]
    assert not beside(tmp_path, model(weights=parts))


def test_shapes_that_lie_outside_are_read(tmp_path):
    """A shape of [1024] int64 zeros: of data it would be unknown, of these it is nothing."""
    shape = external("s", (2,), 7, location="w.bin")
    assert not beside(tmp_path, model([node("ConstantOfShape", ["s"])], weights=[shape]))
    (tmp_path / "w.bin").write_bytes(np.array([1 << 20, 1 << 20], np.int64).tobytes())
    assert {each.rule for each in scan_file(tmp_path / "model.onnx").findings} == {"onnx-memory-bomb"}


def test_weights_that_lie_outside_of_an_archive_are_not_there():
    examination = examined(with_weight(external(location="w.bin")))
    assert examination.verdict is Verdict.UNKNOWN
    assert [finding.rule for finding in examination.findings] == ["onnx-external-missing"]
    assert examined(with_weight(external(location="../w.bin"))).verdict is Verdict.UNSAFE


def test_a_path_through_a_linked_folder_above_the_model_is_no_matter(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to("real")
    assert not beside(tmp_path / "real", with_weight(external(location="w.bin")))
    assert not scan_file(tmp_path / "named" / "model.onnx").findings


@pytest.mark.parametrize(
    "element", sorted(helper.mapping.TENSOR_TYPE_MAP) if hasattr(helper, "mapping") else range(1, 23)
)
def test_the_size_of_every_element_type_is_that_of_onnx(element):
    if element == onnx.TensorProto.STRING:
        return
    made = helper.make_tensor("w", element, [6], [1, 0, 1, 1, 0, 1])
    assert "onnx-tensor-size" not in found(model(weights=[made]))
    assert "onnx-ambiguous" not in found(model(weights=[made]))
    packed = numpy_helper.from_array(numpy_helper.to_array(made), "w")
    assert "onnx-tensor-size" not in found(model(weights=[packed]))
    packed.raw_data += b"\0"
    assert "onnx-tensor-size" in found(model(weights=[packed]))


def test_names_of_graphs_around_are_seen_inside_and_not_outside():
    inner = graph([node("Relu", ["a"], "b")], outputs=[value("b", None)])
    nodes = [node("Neg", ["x"], "a"), node("If", ["c"], "d", then_branch=inner, else_branch=inner)]
    proto = model([*nodes, node("Identity", ["d"])], weights=[numpy_helper.from_array(np.array(True), "c")])
    assert not found(proto)
    proto.graph.node[2].input[0] = "b"
    assert found(proto) == {"onnx-invalid"}


def test_the_function_of_an_overload_is_its_own():
    proto = model([node("F", ["x"], domain="own")], domains=["own"])
    for overload in ("", "wide"):
        made = helper.make_function("own", "F", ["x"], ["y"], [node("Relu", ["x"])], [helper.make_opsetid("", 20)])
        made.overload = overload
        proto.functions.append(made)
    assert not found(proto)


def test_metadata_that_exporters_write_is_accepted():
    proto = model()
    for key in ("producer", "classes", "pkg.torch.export"):
        proto.metadata_props.add(key=key, value="x" * 100_000)
    assert not found(proto)


def test_a_tensor_of_no_elements_needs_no_data():
    assert not found(model(weights=[numbers("w", shape=(0,))]))
