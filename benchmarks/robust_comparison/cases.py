"""Detectors to attack, trained with and without an adversary, and what compression makes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Literal

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.attacks import FeatureThreat
from hauberk.attacks.threat_file import load_threat
from hauberk.backends import Session
from hauberk.compress.recipes import named_recipe
from hauberk.data import load_splits
from hauberk.evaluate.robustness.figures import RobustnessResult
from hauberk.evaluate.robustness.protocol import BUDGETS, Defender, measure_robustness
from hauberk.graph.passes import optimise
from hauberk.graph.passes.export import Export
from hauberk.graph.twin import Twin
from hauberk.graph.verify import verify
from hauberk.recipe import Context, Recipe
from hauberk.schema import Decision, FeatureSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import fit_preprocessing, labelled
from hauberk.train.robust import every_column
from robust_training import SETTINGS, Data, fit

RADIUS = 0.05
BASELINE = "float32"
SETTING = {"standard": "standard", "adversarial": "pgd-10 balanced"}
"""How detectors are trained, by name in `robust_training.SETTINGS`; chosen on splits of the training file."""

_STEPS = 1 / 16

Training = Literal["standard", "adversarial"]
Adversary = Literal["every column", "shipped"]


class Case(msgspec.Struct, frozen=True):
    """One detector under one adversary.

    Attributes:
        data: "nsl-kdd" or "spambase".
        training: Whether it was trained on attacked records.
        seed: Of split, training and attacks.
        adversary: Who moves "every column" by at most 0.05, or does what the data's shipped threat model allows.
        recipes: What is made of it besides the float32 graph, by name.
        squeezed: Whether the same network behind rounded inputs stands the attacks, too.
    """

    data: str
    training: Training
    seed: int
    adversary: Adversary
    recipes: tuple[str, ...]
    squeezed: bool = False

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"{self.data}-{self.training}-{self.seed}-{self.adversary.replace(' ', '-')}"


class Outcome(msgspec.Struct, frozen=True):
    """What a case came to.

    Attributes:
        case: Which.
        results: Of the protocol, by candidate, the float32 graph first.
        missing: Recipes that gave no model of their own, with the reason.
        training_seconds: Wall-clock time of the training.
        attack_seconds: Of the protocol, over all candidates.
        records: How many were attacked.
        key: Digest of what decides this.
    """

    case: Case
    results: dict[str, RobustnessResult]
    missing: dict[str, str]
    training_seconds: float
    attack_seconds: float
    records: int
    key: str


class Squeezed(nn.Module):
    """A network behind inputs that are rounded to a grid ("feature squeezing", Xu et al. 2018, arXiv:1704.01155)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, K] of features [N, D]."""
        logits: Tensor = self.network(torch.round(features / _STEPS) * _STEPS)
        return logits


def run(case: Case, *, budget: str, key: str) -> Outcome:
    """Train, compress, attack."""
    data = _load(case)
    started = time.perf_counter()
    module, _ = fit(SETTINGS[SETTING[case.training]], case.seed, data.training, data.splits.training.labels, data)
    seconds = time.perf_counter() - started
    context = Context(
        calibration=data.training.sample(2000, case.seed).features,
        bounds=data.space.bounds,
        training=data.training.sample(6000, case.seed),
        validation=data.validation,
        seed=case.seed,
    )
    graphs, missing = _graphs(case, module, data.space.width, context)
    with ExitStack() as stack:
        defenders = dict(_defenders(graphs, stack))
        if case.squeezed:
            defenders["squeezed inputs"] = _squeezed(module, data.space.width, context, stack)
        started = time.perf_counter()
        results = measure_robustness(
            defenders, data.test, baseline=BASELINE, threat=data.threat, budget=BUDGETS[budget], seed=case.seed
        )
        attacked = time.perf_counter() - started
    records = min(len(data.test), BUDGETS[budget].records)
    return Outcome(case, results, missing, seconds, attacked, records, key)


def _load(case: Case) -> Data:
    """Splits in feature space, and what the adversary may do."""
    splits = load_splits(case.data, seed=case.seed)
    schema = splits.training.schema
    space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))
    training, validation, test = (labelled(space, part) for part in (splits.training, splits.validation, splits.test))
    return Data(splits, space, training, validation, test, _threat(case, space))


def _threat(case: Case, space: FeatureSpace) -> FeatureThreat:
    return every_column(space, RADIUS) if case.adversary == "every column" else load_threat(case.data).threat(space)


def _core(module: nn.Module, width: int, context: Context) -> OnnxArtifact:
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", width)),), (TensorSpec("logits", "float32", ("batch", 2)),)
    )
    artifact = TorchArtifact(module, signature, "0" * 64)
    core = Recipe("export", (Export(), *optimise().steps)).apply(artifact, context, verify)
    assert isinstance(core, OnnxArtifact)
    return core


def _graphs(
    case: Case, module: nn.Module, width: int, context: Context
) -> tuple[Mapping[str, OnnxArtifact], dict[str, str]]:
    """The float32 graph and what recipes make of it; a recipe whose first step is undone makes nothing."""
    graphs = {BASELINE: _core(module, width, context)}
    missing = {}
    for name in case.recipes:
        made = named_recipe(name, graphs[BASELINE]).apply(graphs[BASELINE], context, verify)
        done = made.history[len(graphs[BASELINE].history) :]
        undone = [f"{record.step}: {record.verdict.reason}" for record in done if record.verdict and not record.kept]
        if undone:
            missing[name] = "; ".join(undone)
        if any(record.kept for record in done) and isinstance(made, OnnxArtifact):
            graphs[name] = made
    return graphs, missing


def _defenders(graphs: Mapping[str, OnnxArtifact], stack: ExitStack) -> Iterator[tuple[str, Defender]]:
    for name, graph in graphs.items():
        yield name, Defender(stack.enter_context(Session(graph.model)), Decision(), Twin(graph).eval())


def _squeezed(module: nn.Module, width: int, context: Context, stack: ExitStack) -> Defender:
    """The network behind rounded inputs, with the gradient that its own framework gives: none."""
    squeezed = Squeezed(module).eval()
    graph = _core(squeezed, width, context)
    return Defender(stack.enter_context(Session(graph.model)), Decision(), squeezed)


SEEDS = (0, 1, 2, 3, 4)
_ROBUST_RECIPES = ("int8-static", "int8-qat", "pruned-50-robust", "distilled-half-robust")
_RECIPES = ("int8-static", "int8-qat", "pruned-50", "distilled-half")


def cases() -> tuple[Case, ...]:
    """All that is measured, the longest first."""
    found = [
        Case("nsl-kdd", "adversarial", seed, "every column", _ROBUST_RECIPES, squeezed=not seed)
        for seed in np.array(SEEDS).tolist()
    ]
    for data in ("nsl-kdd", "spambase"):
        if data == "spambase":
            found.append(Case(data, "adversarial", 0, "every column", _ROBUST_RECIPES, squeezed=True))
        found.append(Case(data, "standard", 0, "every column", _RECIPES, squeezed=True))
        found += [Case(data, training, 0, "shipped", ("int8-static",)) for training in ("standard", "adversarial")]
    return tuple(found)
