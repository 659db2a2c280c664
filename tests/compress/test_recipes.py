"""The default recipes: which, for which detector, and that they are JSON."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from hauberk.compress import CATALOGUE, STEPS, QuantizeStatic, default_recipes, named_recipe, narrower, recipes
from hauberk.errors import InputError
from hauberk.graph.passes import PASSES
from hauberk.recipe import Recipe

FOR_OTHERS = ("int4", "smoothquant-int8")
"""Recipes for large layers, and for what a LayerNormalization makes."""


def test_names_for_the_reference_detector(mlp):
    names = [recipe.name for recipe in default_recipes(mlp(57, 256, 128, 64, 2))]
    assert names == ["int8-dynamic", "int8-static", "float16", "distilled-64-32", "distilled-32"]


@pytest.mark.parametrize(
    ("widths", "shapes"),
    [
        ((256, 128, 64), ((64, 32), (32,))),
        ((1024, 1024), ((512,), (256,))),
        ((64, 32), ((16,), (8,))),
        ((128,), ((64,), (32,))),
        ((8,), ((4,),)),
        ((8, 32), ((8,),)),
        ((4,), ()),
        ((), ()),
    ],
)
def test_narrower_shapes(widths, shapes):
    assert narrower(widths) == shapes


@given(st.lists(st.integers(1, 4096), max_size=6).map(tuple))
def test_narrower_shapes_have_fewer_weights(widths):
    def weights(shape: tuple[int, ...]) -> int:
        sizes = (100, *shape, 2)
        return sum(a * b for a, b in itertools.pairwise(sizes))

    for shape in narrower(widths):
        assert weights(shape) < weights(widths)
        assert len(shape) <= len(widths)


def test_every_recipe_says_what_it_is_and_is_json(core):
    recipes = default_recipes(core)
    assert all(recipe.summary for recipe in recipes)
    assert [Recipe.from_json(recipe.to_json(), STEPS) for recipe in recipes] == list(recipes)


def test_only_distillation_trains(core):
    trains = [recipe.name for recipe in default_recipes(core) if recipe.trains]
    assert trains == [name for name in trains if name.startswith("distilled-")] != []


def test_a_linear_model_has_nothing_to_narrow(mlp):
    assert [recipe.name for recipe in default_recipes(mlp(20, 2))] == ["int8-dynamic", "int8-static", "float16"]


def test_a_quantized_graph_gets_no_recipe(core, context):
    assert default_recipes(QuantizeStatic().apply(core, context)) == ()


def test_a_graph_without_linear_layers_gets_no_recipe(as_core):
    nodes = [helper.make_node("Slice", ["features", "start", "end", "axes"], ["logits"])]
    constants = {"start": np.array([0]), "end": np.array([2]), "axes": np.array([1])}
    assert default_recipes(as_core(nodes, constants)) == ()


@pytest.mark.parametrize(
    ("operator", "names"),
    [
        ("LSTM", ["int8-dynamic", "pruned-50", "pruned-50-int8-dynamic"]),
        ("GRU", ["int8-dynamic", "pruned-50", "pruned-50-int8-dynamic"]),
        ("Conv", ["int8-static", "pruned-50", "pruned-50-int8"]),
        ("Softmax", ["int8-dynamic", "smoothquant-int8", "distilled-half"]),
    ],
)
def test_the_kind_of_network_decides(operator, names, as_core):
    """Dynamic quantization is never tried on convolutions: it makes them several times slower."""
    nodes = [
        helper.make_node(operator, ["features"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "weight"], ["logits"]),
    ]
    core = as_core(nodes, {"weight": np.ones((20, 2), np.float32)})
    assert own(default_recipes(core)) == names


def own(recipes: tuple[Recipe, ...]) -> list[str]:
    """Names without the quantizers of others, which are tried where they are installed."""
    return [recipe.name for recipe in recipes if recipe.name != "int8-nncf"]


@pytest.mark.parametrize("installed", [False, True])
def test_others_quantizers_are_tried_where_they_are_installed(installed, as_core, monkeypatch):
    monkeypatch.setattr(recipes, "find_spec", lambda name: object() if installed else None)
    core = as_core([helper.make_node("Conv", ["features"], ["logits"])], {})
    assert ("int8-nncf" in [recipe.name for recipe in default_recipes(core)]) is installed


@pytest.mark.parametrize(("convolutions", "mixed"), [(2, 0), (4, 1), (8, 2)])
def test_a_deep_network_of_convolutions_is_tried_in_mixed_precision(convolutions, mixed, as_core):
    nodes = [helper.make_node("Conv", [f"x{layer}"], [f"x{layer + 1}"]) for layer in range(convolutions)]
    names = own(default_recipes(as_core(nodes, {})))
    assert names == ["int8-static", *["int8-mixed", "int8-mixed-quarter"][:mixed], "pruned-50", "pruned-50-int8"]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_recipe_of_the_catalogue_is_json(name, core):
    recipe = named_recipe(name, core)
    assert recipe.name == name
    assert recipe.summary == CATALOGUE[name].summary
    assert Recipe.from_json(recipe.to_json(), (*STEPS, *PASSES)) == recipe


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in (*FOR_OTHERS, "int8-nncf")])
def test_every_recipe_of_the_catalogue_makes_a_graph_that_answers(name, mlp, context, answers):
    """Untrained, as a search times it."""
    core = mlp(20, 64, 32, 2)
    for step in named_recipe(name, core).steps:
        core = step.apply(core, replace(context, trained=False))
    assert np.isfinite(answers(core, context.calibration)).all()


@pytest.mark.parametrize("name", FOR_OTHERS)
def test_what_a_recipe_finds_nothing_for_is_said(name, core, context):
    step, *_ = named_recipe(name, core).steps
    with pytest.raises(InputError, match="nothing to"):
        step.apply(core, context)


def test_an_unknown_name_is_refused(core):
    with pytest.raises(InputError, match="unknown recipe 'tiny'; known are int8-dynamic"):
        named_recipe("tiny", core)
