"""Self-inflicted gradient masking: what a naive attack reports about a model, and what is true.

    python benchmarks/masking_cases.py [--data nsl-kdd|spambase] [--records 2000] [--epochs 40] [--steps 20]

One standard detector (MLP 256-128-64, scaled log and min-max), L-infinity 0.05 over all columns, in forms that compute
the same or nearly so and hide their gradients:

- **relu-clamp**: the input is kept in [0, 1] by Relu nodes in the graph. Every legal record passes unchanged, but Relu
  has no slope at 0, where most columns of a table lie;
- **rounded**: the input is rounded to thousandths in the graph, and rounding has no slope anywhere;
- **saturated**: logits times 1,000 (a temperature of 1e-3), so that the softmax is 1 and cross-entropy flat;
- **blind INT8**: static INT8, attacked through a twin whose rounding has the slope zero;
- **clamp in the loop**, **edge**: nothing is wrong with the model but with the attack, which clamps inside the
  differentiated function; or does so and starts from a corner of its ball besides.

`naive` is 20 signed steps on the gradient that such a set-up has. `protocol` is Hauberk's figure for the same form as
deployed (its graph in ONNX Runtime, its own twin); `unmasked` that of the plain float model, by the same protocol.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.attacks import FeatureThreat
from hauberk.backends import Session
from hauberk.compress import QuantizeStatic
from hauberk.data import load_splits
from hauberk.evaluate.robustness.figures import RobustnessResult
from hauberk.evaluate.robustness.protocol import Budget, Defender, measure_robustness, stratified_sample
from hauberk.graph.export import export
from hauberk.graph.twin import Twin
from hauberk.graph.twin.module import OPERATORS
from hauberk.models import TabularMLP
from hauberk.recipe import Context, LabelledFeatures
from hauberk.schema import Decision, FeatureSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, fit_preprocessing, labelled, train
from reference_detector import describe_machine

RADIUS = 0.05
Start = Literal["record", "corner"]


class Form(nn.Module):
    """A network with something before its input and after its output."""

    def __init__(self, network: nn.Module, *, before: Callable[[Tensor], Tensor], scale: float = 1.0) -> None:
        super().__init__()
        self.network, self.before, self.scale = network, before, scale

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, 2]."""
        logits: Tensor = self.network(self.before(features)) * self.scale
        return logits


def _relu_clamp(features: Tensor) -> Tensor:
    return torch.relu(features) - torch.relu(features - 1)


def _rounded(features: Tensor) -> Tensor:
    return torch.round(features * 1000) / 1000


FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "relu-clamp": lambda network: Form(network, before=_relu_clamp),
    "rounded": lambda network: Form(network, before=_rounded),
    "saturated": lambda network: Form(network, before=lambda features: features, scale=1000.0),
}
"""What is done to the plain network, by the name of the case."""


@dataclass(frozen=True)
class Scene:
    """A trained network, and the records under attack."""

    network: nn.Module
    records: LabelledFeatures
    threat: FeatureThreat
    context: Context

    def core(self, module: nn.Module) -> OnnxArtifact:
        """A module as the graph that would be deployed."""
        width = self.threat.width
        signature = Signature(
            (TensorSpec("features", "float32", ("batch", width)),), (TensorSpec("logits", "float32", ("batch", 2)),)
        )
        return export(TorchArtifact(module.eval(), signature, "0" * 64))

    def graphs(self) -> dict[str, OnnxArtifact]:
        """Every form as a graph, the plain one first."""
        plain = self.core(self.network)
        forms = {name: self.core(make(self.network)) for name, make in FORMS.items()}
        return {"unmasked": plain, **forms, "blind INT8": QuantizeStatic().apply(plain, self.context)}


class Outcome(NamedTuple):
    """What is reported for one case: shares of records that are left right."""

    naive: float
    protocol: RobustnessResult


def scene(data: str, *, records: int, epochs: int, widths: tuple[int, ...] = (256, 128, 64), seed: int = 0) -> Scene:
    """Train the standard detector, and sample test records in the range of the features."""
    splits = load_splits(data, seed=seed)
    schema = splits.training.schema
    space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))
    training, validation, test = (labelled(space, part) for part in (splits.training, splits.validation, splits.test))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TabularMLP(space.width, widths)
    train(network, training, validation, TrainingOptions(epochs=epochs, patience=6, seed=seed))
    inside = np.flatnonzero(((test.features >= 0) & (test.features <= 1)).all(axis=1))
    chosen = inside[stratified_sample(test.targets[inside], records, seed)]
    width = space.width
    threat = FeatureThreat(
        RADIUS, np.zeros(width, np.float32), np.ones(width, np.float32), np.ones(width, dtype=np.bool_)
    )
    context = Context(
        calibration=training.sample(2000, seed).features, bounds=space.bounds, training=training, validation=validation
    )
    return Scene(network, LabelledFeatures(test.features[chosen], test.targets[chosen]), threat, context)


def naive_attack(
    module: nn.Module,
    records: LabelledFeatures,
    *,
    steps: int = 20,
    start: Start = "record",
    clamp_inside: bool = False,
    cross_entropy: bool = True,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Signed steps as they are often written down; records float32 [N, D] in [0, 1], within `RADIUS`.

    Args:
        module: Whose gradient is followed.
        records: What is attacked.
        steps: Of 2.5 * radius / steps.
        start: From the record itself, or from a random corner of the ball around it.
        clamp_inside: Clamp to [0, 1] in the differentiated function, and keep what is added in the ball alone.
        cross_entropy: Climb the cross-entropy of the softmax instead of descending the margin.
        seed: Of the corner.
    """
    clean, targets = torch.from_numpy(records.features), torch.from_numpy(records.targets)
    moved = torch.zeros_like(clean)
    if start == "corner":
        random = torch.Generator().manual_seed(seed)
        moved = RADIUS * torch.sign(torch.rand(clean.shape, generator=random) - 0.5)
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        points = clean + moved
        if clamp_inside:
            points = torch.clamp(points, 0, 1)
        logits = module(points)
        if cross_entropy:
            chances = torch.softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
            loss = -torch.log(chances.clamp(min=1e-30)).sum()
        else:
            loss = ((logits[:, 0] - logits[:, 1]) * (2 * targets - 1)).sum()
        if not loss.requires_grad:
            break
        (gradient,) = torch.autograd.grad(loss, moved, allow_unused=True, materialize_grads=True)
        moved = (moved.detach() + 2.5 * RADIUS / steps * gradient.sign()).clamp(-RADIUS, RADIUS)
        if not clamp_inside:
            moved = torch.clamp(clean + moved, 0, 1) - clean
    found: NDArray[np.float32] = torch.clamp(clean + moved.detach(), 0, 1).numpy()
    return found


@contextmanager
def blind_rounding() -> Iterator[None]:
    """Twins built in here have quantizers without a slope, as rounding has where nobody passes it straight through."""
    honest = OPERATORS["QuantizeLinear"]

    def blind(node: Any, data: Tensor, *parameters: Tensor | None) -> Tensor:
        result = honest(node, data.detach(), *parameters)
        assert isinstance(result, Tensor)
        return result + 0 * data

    OPERATORS["QuantizeLinear"] = blind
    try:
        yield
    finally:
        OPERATORS["QuantizeLinear"] = honest


def left_right(session: Session, records: LabelledFeatures, attacked: NDArray[np.float32]) -> float:
    """Share of records that a session still labels right, the records themselves included."""
    right = np.ones(len(records), dtype=np.bool_)
    for features in (records.features, attacked):
        margins = np.concatenate(
            [
                Decision().margin(session.predict(features[first : first + 512]))
                for first in range(0, len(features), 512)
            ]
        )
        right &= (margins >= 0) == (records.targets == 1)
    return float(right.mean())


def naive_figures(found: Scene, graphs: dict[str, OnnxArtifact], steps: int) -> dict[str, float]:
    """What the naive attacks leave right, by case; "plain" is an attack without a mistake on the unmasked model."""
    plain, records = found.network, found.records
    with blind_rounding():
        blind = Twin(graphs["blind INT8"]).eval()
    attacked = {
        "plain": ("unmasked", naive_attack(plain, records, steps=steps, cross_entropy=False)),
        "clamp in the loop": ("unmasked", naive_attack(plain, records, steps=steps, clamp_inside=True)),
        "edge": ("unmasked", naive_attack(plain, records, steps=steps, clamp_inside=True, start="corner")),
        **{name: (name, naive_attack(make(plain), records, steps=steps)) for name, make in FORMS.items()},
        "blind INT8": ("blind INT8", naive_attack(blind, records, steps=steps)),
    }
    figures = {}
    for case, (form, points) in attacked.items():
        with Session(graphs[form].model) as session:
            figures[case] = left_right(session, records, points)
    return figures


def protocol_figures(found: Scene, graphs: dict[str, OnnxArtifact], budget: Budget) -> dict[str, RobustnessResult]:
    """Hauberk's protocol on every form; "blind INT8" also with the blind twin, as "blind INT8, blind twin"."""
    sessions = {name: Session(graph.model) for name, graph in graphs.items()}
    defenders = {name: Defender(sessions[name], Decision(), Twin(graph).eval()) for name, graph in graphs.items()}
    with blind_rounding():
        blind = Twin(graphs["blind INT8"]).eval()
    defenders["blind INT8, blind twin"] = Defender(sessions["blind INT8"], Decision(), blind)
    try:
        return measure_robustness(
            defenders, found.records, baseline="unmasked", threat=found.threat, budget=budget, seed=0
        )
    finally:
        for session in sessions.values():
            session.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="nsl-kdd")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    found = scene(options.data, records=options.records, epochs=options.epochs)
    graphs = found.graphs()
    naive = naive_figures(found, graphs, options.steps)
    budget = Budget(
        records=options.records,
        steps=options.steps,
        restarts=2,
        queries=options.queries,
        attacks=("fgsm", "pgd", "apgd", "square"),
    )
    results = protocol_figures(found, graphs, budget)
    print(
        f"{describe_machine()}\n\n{options.data}, {len(found.records)} records, {time.perf_counter() - started:.0f} s\n"
    )
    print(f"a naive attack without a mistake on the unmasked model leaves {100 * naive['plain']:.1f} %\n")
    print("| case | naive attack says, % | protocol says, % | white-box alone, % | verdict |\n|---|---|---|---|---|")
    of_form = {"clamp in the loop": "unmasked", "edge": "unmasked"}
    for name in ("unmasked", "clamp in the loop", "edge", *FORMS, "blind INT8", "blind INT8, blind twin"):
        result = results[of_form.get(name, name)]
        says = naive.get(name, naive["plain"] if name == "unmasked" else naive["blind INT8"])
        plain = [each for each in result.attacks if each.knowledge == "white-box" and not each.answer]
        white = min(each.survived.value for each in plain)
        robust = result.robust_accuracy.value
        print(f"| {name} | {100 * says:.1f} | {100 * robust:.1f} | {100 * white:.1f} | {result.verdict} |")


if __name__ == "__main__":
    main()
