"""What holds for every compression step. A new step is held to it by being listed in `STEPS`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from hauberk.artifact import TorchArtifact
from hauberk.compress import (
    STEPS,
    BrainPrecision,
    Codebook,
    Distill,
    EqualiseLayers,
    Factorise,
    HalfPrecision,
    PruneNM,
    PruneStructured,
    PruneUnstructured,
    QuantizeAware,
    QuantizeDynamic,
    QuantizeMixed,
    QuantizeNncf,
    QuantizeStatic,
    QuantizeWeights,
    SmoothActivations,
    SparsifyActivations,
)
from hauberk.compress.distill import Network
from hauberk.compress.tuning import Tuning
from hauberk.errors import InputError
from hauberk.recipe import Close, Lossy, Recipe
from hauberk.tensors import Signature, TensorSpec

EXAMPLES = (
    QuantizeDynamic(),
    QuantizeDynamic(per_channel=False, reduced_range=True),
    QuantizeStatic(),
    QuantizeStatic(reduced_range=True),
    QuantizeStatic(form="qoperator", signed=True, calibrator="mse", bias_correction=True),
    QuantizeMixed(sensitive=1),
    QuantizeAware(tuning=Tuning(epochs=2)),
    QuantizeAware(weight_bits=4, levels="k-means", tuning=Tuning(epochs=2)),
    QuantizeWeights(smallest=100),
    EqualiseLayers(),
    SmoothActivations(narrowest=8, multiply=True),
    Codebook(smallest=16),
    HalfPrecision(),
    BrainPrecision(),
    Distill(student=Network("tabular-mlp", {"widths": [4]}), tuning=Tuning(epochs=2)),
    PruneStructured(tuning=Tuning(epochs=2)),
    PruneUnstructured(amount=0.5, tuning=Tuning(epochs=2)),
    PruneNM(tuning=Tuning(epochs=2)),
    SparsifyActivations(tuning=Tuning(epochs=2)),
    Factorise(ratio=0.25, tuning=Tuning(epochs=2)),
)
ON_FLOAT_ONLY = tuple(step for step in EXAMPLES if not step.trains)

every_step = pytest.mark.parametrize("step", EXAMPLES, ids=repr)


def test_every_step_has_an_example():
    assert {type(step) for step in EXAMPLES} | {QuantizeNncf} == set(STEPS)  # it is slow, and has tests of its own


@every_step
def test_signature_and_origin_stay(step, core, context):
    result = step.apply(core, context)
    assert (result.signature, result.origin, result.history) == (core.signature, core.origin, core.history)


@every_step
def test_any_batch_size_is_answered(step, core, context, answers):
    result = step.apply(core, context)
    shapes = [answers(result, context.calibration[:records]).shape for records in (1, 7, 300)]
    assert shapes == [(1, 2), (7, 2), (300, 2)]


@every_step
def test_the_input_is_left_alone(step, core, context):
    before = bytes(core.model)
    step.apply(core, context)
    assert core.model == before


@every_step
def test_the_same_input_gives_the_same_bytes(step, core, context):
    assert step.apply(core, context).digest == step.apply(core, context).digest


@every_step
def test_no_metadata_is_left(step, core, context):
    model = onnx.load_model_from_string(core.model)
    model.producer_name, model.doc_string = "someone", "/home/someone/model.py"
    helper.set_model_props(model, {"path": "/home/someone"})
    for part in (model.graph, *model.graph.node):
        part.metadata_props.add(key="path", value="/home/someone")
        part.doc_string = "/home/someone"
    result = step.apply(replace(core, model=model.SerializeToString()), context)
    assert b"someone" not in result.model
    assert b"onnx.quant" not in result.model


@every_step
def test_json_round_trip(step):
    recipe = Recipe("name", (step,), "summary")
    assert Recipe.from_json(recipe.to_json(), STEPS) == recipe


@every_step
def test_outputs_may_move_by_a_stated_amount_only(step):
    if not isinstance(step.contract, Close):
        assert isinstance(step.contract, Lossy)
        assert 0.9 <= step.contract.agreement < 1


@every_step
def test_a_torch_module_is_refused(step, core, context):
    module = TorchArtifact(torch.nn.Linear(20, 2), core.signature, core.origin)
    with pytest.raises(InputError, match="export it first"):
        step.apply(module, context)


@every_step
def test_a_merged_graph_is_refused(step, core, context):
    inputs = (*core.signature.inputs, TensorSpec("codes", "int64", ("batch", 1)))
    with pytest.raises(InputError, match="one input and one output"):
        step.apply(replace(core, signature=Signature(inputs, core.signature.outputs)), context)


@every_step
def test_what_is_no_model_is_refused(step, core, context):
    with pytest.raises(InputError, match="not an ONNX model"):
        step.apply(replace(core, model=b"\xff\xff"), context)


@pytest.mark.parametrize("step", ON_FLOAT_ONLY, ids=repr)
@pytest.mark.parametrize("first", [QuantizeDynamic(), QuantizeStatic()], ids=repr)
def test_a_quantized_graph_is_refused(step, first, core, context):
    with pytest.raises(InputError, match="already quantized"):
        step.apply(first.apply(core, context), context)


@pytest.mark.parametrize("step", ON_FLOAT_ONLY, ids=repr)
def test_a_graph_with_nothing_to_compress_is_refused(step, as_core, context):
    nodes = [
        helper.make_node("ReduceMean", ["features", "axes"], ["mean"]),
        helper.make_node("Tile", ["mean", "n"], ["logits"]),
    ]
    empty = as_core(nodes, {"axes": np.array([1]), "n": np.array([1, 2])})
    with pytest.raises(InputError, match="nothing to"):
        step.apply(empty, context)


def test_contract_is_kept_on_real_records(core, context, answers):
    """Agreement and error as `Lossy` defines them, computed here."""
    before = answers(core, context.calibration)
    for step in ON_FLOAT_ONLY:
        after = answers(step.apply(core, context), context.calibration)
        if isinstance(step.contract, Close):
            np.testing.assert_allclose(after, before, rtol=step.contract.rtol, atol=step.contract.atol)
            continue
        agreement = (before.argmax(1) == after.argmax(1)).mean()
        rms = np.sqrt(np.mean((after - before) ** 2) / np.mean(before**2))
        assert agreement >= step.contract.agreement, step
        assert rms <= step.contract.rms, step
