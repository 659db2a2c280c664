"""Certified bounds on NSL-KDD: what is proved, beside what attacks leave, and what it costs.

    python benchmarks/certified_bounds.py [--records 1000] [--epochs 10] [--radii 0.005 0.01 0.02 0.05]

An MLP 256-128-64 over all columns of NSL-KDD (log1p, then min-max scaling; vocabulary and ranges from the training
records), trained as usual and by PGD-5 at radius 0.05; each as float32 and in static INT8. For each radius (L-infinity,
every column): the share of Test+ records certified by intervals and by CROWN, the share that PGD (20 steps) on the
graph's twin leaves right, judged by ONNX Runtime, and the seconds of a thread that the bounds took. A record that is
certified and broken ends the run with an error. At the end, the
robust detector is smoothed with noise.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.attacks import PGD, ScoredModel, WhiteBox
from hauberk.backends import Session
from hauberk.compress import QuantizeStatic
from hauberk.data import load_splits
from hauberk.evaluate.robustness.certify.certificate import METHODS, certify
from hauberk.evaluate.robustness.certify.smoothing import Smoothing, smooth
from hauberk.graph.export import export
from hauberk.graph.twin import Twin
from hauberk.measurement import wilson
from hauberk.models import fresh
from hauberk.recipe import Context, LabelledFeatures
from hauberk.schema import Decision, FeatureSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, fit_preprocessing, labelled, train
from hauberk.train.robust import RobustOptions, every_column, train_robust
from reference_detector import describe_machine

RADIUS = 0.05
WIDTHS = [256, 128, 64]


class Data:
    """NSL-KDD in feature space."""

    def __init__(self, records: int) -> None:
        splits = load_splits("nsl-kdd")
        schema = splits.training.schema
        self.space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))
        self.training, self.validation = (labelled(self.space, part) for part in (splits.training, splits.validation))
        self.test = labelled(self.space, splits.test).sample(records, seed=0)

    def network(self) -> nn.Module:
        """An untrained detector."""
        return fresh("tabular-mlp", {"inputs": self.space.width, "outputs": 2, "widths": WIDTHS}, 0)

    def graph(self, module: nn.Module) -> OnnxArtifact:
        """Its core."""
        signature = Signature(
            inputs=(TensorSpec("features", "float32", ("batch", self.space.width)),),
            outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
        )
        return export(TorchArtifact(module.eval(), signature, "0" * 64))


def detectors(data: Data, epochs: int) -> dict[str, OnnxArtifact]:
    """The four graphs."""
    options = TrainingOptions(epochs=epochs)
    standard, robust = data.network(), data.network()
    train(standard, data.training, data.validation, options)
    threat = every_column(data.space, RADIUS)
    train_robust(robust, data.training, data.validation, options, RobustOptions(steps=5), threat)
    context = Context(data.training.features[:2000], data.space.bounds)
    graphs = {"standard": data.graph(standard), "PGD-5": data.graph(robust)}
    coded = {f"{name}, INT8": QuantizeStatic().apply(graph, context) for name, graph in graphs.items()}
    return {**graphs, **coded}


def row(name: str, graph: OnnxArtifact, data: Data, radius: float) -> str:
    """One line of the table."""
    threat, decision = every_column(data.space, radius), Decision()
    twin = WhiteBox(Twin(graph).eval(), decision)
    attack = PGD(steps=20, early_stopping=False)
    found = attack.run(twin, data.test.features, data.test.targets, threat=threat).adversarial
    with Session(graph.model) as session:
        deployed = ScoredModel(session.predict, decision)
        stands = deployed.right(data.test.features, data.test.targets) & deployed.right(found, data.test.targets)
    cells = []
    for method in METHODS:
        begin = time.thread_time()
        proved = certify(graph, decision, data.test, threat, method)
        seconds = time.thread_time() - begin
        if (proved.certified & ~stands).any():
            raise SystemExit(f"{name}, radius {radius}: a certified record was broken")
        share = wilson(int(proved.certified.sum()), len(proved.certified))
        cells += [f"{100 * share.value:.1f} ({100 * share.low:.1f}–{100 * share.high:.1f})", f"{seconds:.1f}"]
    shares = (cells[0], cells[2], f"{100 * stands.mean():.1f}", cells[1], cells[3])
    return f"| {name} | {radius:g} | {' | '.join(shares)} |"


def smoothed(graph: OnnxArtifact, data: Data, records: LabelledFeatures, sigma: float) -> str:
    """One line of the table of smoothing."""
    with Session(graph.model) as session:
        found = smooth(session, Decision(), records, every_column(data.space, 0.1, norm="l2"), Smoothing(sigma=sigma))
    figures = found.figures
    shares = (figures.accuracy, figures.abstained, figures.certified_accuracy)
    radii = np.quantile(found.radii, 0.5)
    cells = " | ".join(f"{100 * share.value:.1f}" for share in shares)
    return f"| {sigma:g} | {cells} | {radii:.3f} | {1000 * figures.seconds / len(records):.1f} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--radii", type=float, nargs="+", default=[0.005, 0.01, 0.02, 0.05])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine(), end="\n\n")
    data = Data(arguments.records)
    graphs = detectors(data, arguments.epochs)
    print("| detector | radius | intervals, % | CROWN, % | PGD-20 leaves, % | intervals, s | CROWN, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, graph in graphs.items():
        for radius in arguments.radii:
            print(row(name, graph, data, radius), flush=True)
    few = data.test.sample(200, seed=1)
    print("\n| sigma | right, % | abstains, % | certified at L2 0.1, % | median radius | ms a record |")
    print("| --- | --- | --- | --- | --- | --- |")
    for sigma in (0.05, 0.1, 0.25):
        print(smoothed(graphs["PGD-5"], data, few, sigma), flush=True)


if __name__ == "__main__":
    main()
