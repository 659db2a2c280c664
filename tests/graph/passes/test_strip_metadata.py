"""StripMetadata: nothing but the computation is left, and that is untouched."""

from __future__ import annotations

import dataclasses

import onnx
import pytest

from hauberk.errors import InputError
from hauberk.graph.model import parse
from hauberk.graph.passes import StripMetadata
from hauberk.graph.verify import verify
from hauberk.recipe import Recipe

SECRET = "/home/somebody/secret"


def littered(core):
    """The core with a path everywhere that ONNX has room for text."""
    proto = parse(core.model)
    proto.producer_name = proto.producer_version = proto.domain = proto.doc_string = SECRET
    graph = proto.graph
    declared = onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, ["batch"])
    graph.value_info.append(declared)
    branch = graph.node[0].attribute.add(name="unused_graph", type=onnx.AttributeProto.GRAPH, doc_string=SECRET)
    branch.g.doc_string = SECRET
    branch.g.node.add(op_type="Neg", doc_string=SECRET)
    graph.input[0].type.denotation = SECRET
    for holder in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, declared):
        holder.doc_string = SECRET
        holder.metadata_props.add(key=SECRET, value=SECRET)
    proto.metadata_props.add(key=SECRET, value=SECRET)
    function = proto.functions.add(name="f", domain="local", doc_string=SECRET)
    function.node.add(op_type="Neg", doc_string=SECRET)
    return dataclasses.replace(core, model=proto.SerializeToString())


def test_no_text_is_left(core, context_of):
    artifact = littered(core)
    assert SECRET.encode() in artifact.model
    stripped = StripMetadata().apply(artifact, context_of(119))
    assert SECRET.encode() not in stripped.model
    assert b"pytorch" not in stripped.model
    assert not parse(stripped.model).graph.value_info


def test_nodes_weights_and_names_stay(core, context_of):
    before, after = parse(core.model), parse(StripMetadata().apply(core, context_of(119)).model)
    assert [(n.name, n.op_type, list(n.input), list(n.output)) for n in before.graph.node] == [
        (n.name, n.op_type, list(n.input), list(n.output)) for n in after.graph.node
    ]
    assert [(t.name, t.raw_data) for t in before.graph.initializer] == [
        (t.name, t.raw_data) for t in after.graph.initializer
    ]


def test_it_is_exact(core, context_of):
    record = Recipe("r", (StripMetadata(),)).apply(core, context_of(119), verify).history[0]
    assert (record.kept, record.contract) == (True, {"contract": "exact"})


def test_the_result_is_the_same_every_time(core, context_of):
    once = StripMetadata().apply(core, context_of(119))
    assert StripMetadata().apply(once, context_of(119)).digest == once.digest


def test_a_module_is_refused(detector, context_of):
    with pytest.raises(InputError, match="strip-metadata: works on an ONNX graph"):
        StripMetadata().apply(detector, context_of(119))
