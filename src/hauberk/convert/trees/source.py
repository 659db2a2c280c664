"""A tree model's file becomes a graph, and its library is asked whether the graph is right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hauberk.convert.admission import admit_graph
from hauberk.convert.compare import Rule, Source
from hauberk.convert.converted import Converted
from hauberk.convert.isolated import Isolated, require
from hauberk.convert.messages import Setup
from hauberk.convert.trees.edges import edges
from hauberk.convert.trees.ensemble import Ensemble, Meaning, split_values
from hauberk.convert.trees.graph import tree_graph
from hauberk.convert.trees.lightgbm import read_lightgbm
from hauberk.convert.trees.xgboost import read_xgboost
from hauberk.graph.model import parse, signature_of

_READERS = {"xgboost": read_xgboost, "lightgbm": read_lightgbm}
_RULES: dict[Meaning, Rule | None] = {
    "log-odds": "log-odds",
    "class logits": "largest",
    "value": None,
    "logarithm": None,
}


@contextmanager
def from_trees(content: bytes, kind: str, where: str, opset: int) -> Iterator[Converted]:
    """Convert an admitted model of boosted trees.

    Args:
        content: The file.
        kind: "xgboost" or "lightgbm".
        where: How messages call it.
        opset: Of the standard domain of the graph.

    Raises:
        MissingExtraError: The library that the graph is compared with is not installed.
        RefusedModelError: The file is damaged, or the graph is not admitted.
        InputError: It is a model of a kind that is not converted.
    """
    require(kind, "trees", f"{where}: comparing the trees with their own library")
    ensemble = _READERS[kind](content, where)
    model = tree_graph(ensemble, opset)
    admit_graph(model, where)
    margins = ensemble.meaning in ("log-odds", "class logits")
    setup = Setup(kind, content, options={"margins": "yes" if margins else "no"})
    with Isolated(setup, where) as library:
        yield Converted(
            model=model,
            signature=signature_of(parse(model)),
            source=Source(library.answer, library.greeting.version, _RULES[ensemble.meaning], extremes=True),
            of_its_kind=lambda given, seed: edges(split_values(ensemble), ensemble.features, given, seed),
            notes=(_told(ensemble), *ensemble.notes),
        )


def _told(ensemble: Ensemble) -> str:
    meanings: dict[Meaning, str] = {
        "log-odds": "the output is the log-odds of the second class",
        "class logits": "outputs are one logit a class",
        "value": "the output is the prediction, which decides nothing by itself",
        "logarithm": "the output is the prediction, which decides nothing by itself",
    }
    return (
        f"{len(ensemble.trees)} trees of {ensemble.library}, {ensemble.nodes} nodes, as one TreeEnsembleRegressor;"
        f" {meanings[ensemble.meaning]}"
    )
