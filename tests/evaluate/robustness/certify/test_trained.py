"""Trained and quantized networks, as they are deployed: certified at most what attacks leave, and close to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hauberk.artifact import OnnxArtifact
from hauberk.attacks import PGD, Classes, FeatureThreat, ScoredModel, Square, WhiteBox
from hauberk.attacks.judge import Judge, headroom
from hauberk.compress import QuantizeStatic
from hauberk.evaluate.robustness.certify.certificate import METHODS, certify
from hauberk.graph.twin import Twin
from hauberk.recipe import Context, LabelledFeatures
from hauberk.schema import Decision

from .conftest import box, build, node, session

COLUMNS = 16


def trained(module: torch.nn.Module, features: np.ndarray, targets: np.ndarray, steps: int = 80) -> torch.nn.Module:
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        answers = module(torch.from_numpy(features))
        torch.nn.functional.cross_entropy(answers, torch.from_numpy(targets)).backward()
        optimiser.step()
    return module.eval()


def written(module: torch.nn.Sequential, shape: tuple[int, ...], outputs: int) -> OnnxArtifact:
    """The layers of a module as nodes."""
    nodes, constants, data = [], {}, "features"
    for place, layer in enumerate(module):
        tensors = {
            f"{name}{place}": value.detach().numpy() for name, value in layer.state_dict().items() if value.dim()
        }
        kind, attributes = {
            torch.nn.Linear: ("Gemm", {"transB": 1}),
            torch.nn.Conv2d: ("Conv", {"pads": [1, 1, 1, 1]}),
            torch.nn.BatchNorm2d: ("BatchNormalization", {}),
            torch.nn.MaxPool2d: ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            torch.nn.ReLU: ("Relu", {}),
            torch.nn.Flatten: ("Flatten", {}),
        }[type(layer)]
        result = "logits" if place == len(module) - 1 else f"h{place}"
        nodes.append(node(kind, [data, *tensors], result, **attributes))
        constants |= tensors
        data = result
    return build(nodes, constants, shape, outputs)


class Scene:
    """A graph with records, the rule that judges its answers, and how far they may be moved."""

    def __init__(
        self, core: OnnxArtifact, judge: Judge, records: LabelledFeatures, threat: FeatureThreat, form: str
    ) -> None:
        self.core, self.judge, self.records, self.threat, self.form = core, judge, records, threat, form
        self.session = ScoredModel(session(core), judge)
        shape = core.signature.inputs[0].shape[1:]
        self.twin = WhiteBox(torch.nn.Sequential(torch.nn.Unflatten(1, shape), Twin(core)), judge)

    def quantized(self, form: str) -> Scene:
        shape = self.core.signature.inputs[0].shape[1:]
        given = LabelledFeatures(self.records.features.reshape(-1, *shape), self.records.targets)
        context = Context(given.features, (self.threat.low.reshape(shape), self.threat.high.reshape(shape)))
        return Scene(QuantizeStatic(form=form).apply(self.core, context), self.judge, self.records, self.threat, form)


def detector() -> Scene:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, 800)
    centre = np.where(targets[:, None] == 1, 0.56, 0.44)
    features = np.clip(centre + 0.12 * generator.normal(size=(800, COLUMNS)), 0, 1).astype(np.float32)
    layers = [torch.nn.Linear(COLUMNS, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16), torch.nn.ReLU()]
    module = trained(torch.nn.Sequential(*layers, torch.nn.Linear(16, 2)), features, targets)
    records = LabelledFeatures(features[:150], targets[:150])
    return Scene(written(module, (COLUMNS,), 2), Decision(), records, box(0.02, COLUMNS), "float")


def digits() -> Scene:
    torch.manual_seed(0)
    images, targets = load_digits(return_X_y=True)
    features = (images / 16).astype(np.float32)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 16, 10),
    )
    trained(module, features[:1000].reshape(-1, 1, 8, 8), targets[:1000])
    records = LabelledFeatures(features[1000:1040], targets[1000:1040])
    return Scene(written(module, (1, 8, 8), 10), Classes(10), records, box(0.03, 64), "float")


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    torch.set_num_threads(1)
    float_detector, float_digits = detector(), digits()
    return {
        "detector": float_detector,
        "detector int8": float_detector.quantized("qdq"),
        "digits": float_digits,
        "digits int8": float_digits.quantized("qdq"),
    }


every_scene = pytest.mark.parametrize("name", ["detector", "detector int8", "digits", "digits int8"])


@every_scene
def test_certified_is_at_most_what_attacks_leave_and_not_far_from_it(scenes, name):
    scene = scenes[name]
    features, targets = scene.records.features, scene.records.targets
    ibp, crown = (certify(scene.core, scene.judge, scene.records, scene.threat, method) for method in METHODS)
    found = PGD(steps=15, early_stopping=False).run(scene.twin, features, targets, threat=scene.threat)
    stands = scene.session.right(found.adversarial, targets) & scene.session.right(features, targets)
    stands &= Square(queries=100).run(scene.session, features, targets, threat=scene.threat).survived
    assert not (crown.certified & ~stands).any()
    assert not (ibp.certified & ~stands).any()
    assert ibp.certified.sum() <= crown.certified.sum()
    assert crown.certified.mean() > stands.mean() - 0.3  # so that the bound says something


@every_scene
@pytest.mark.parametrize("method", METHODS)
def test_the_bound_holds_for_the_runtimes_own_answers(scenes, name, method):
    """At random points, at corners, and where gradients lead; the headroom is that of ONNX Runtime's float32 logits."""
    scene = scenes[name]
    features, targets = scene.records.features, scene.records.targets
    bound = certify(scene.core, scene.judge, scene.records, scene.threat, method).headroom
    low, high = scene.threat.limits(features)
    generator = np.random.default_rng(0)
    shares = [generator.random(low.shape, dtype=np.float32) for _ in range(20)]
    tried = [np.clip(low + share * (high - low), low, high) for share in (*shares, *map(np.round, shares))]
    tried.append(
        PGD(steps=15, early_stopping=False).run(scene.twin, features, targets, threat=scene.threat).adversarial
    )
    for points in tried:
        logits = torch.from_numpy(scene.session.function(points).astype(np.float64))
        assert (headroom(scene.judge, logits, torch.from_numpy(targets)).numpy() >= bound).all()
