"""The last graph of a classifier: logits to the class with the largest one, and how sure that answer is.

labels = index of the largest logit (the first of equals); scores = largest of the softmax, in [1 / K, 1]
"""

from __future__ import annotations

import numpy as np

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import BATCH, artifact, assemble, node
from hauberk.tensors import Signature, TensorSpec


def classification_graph(classes: int) -> OnnxArtifact:
    """Build the graph that stands where a detector has its decision.

    Args:
        classes: K, at least 2.

    Returns:
        A graph from `logits` float32 [batch, K] to `scores` float32 [batch] and `labels` int64 [batch].

    Raises:
        InputError: Less than two classes.
    """
    if classes < 2:
        raise InputError(f"classification: {classes} classes; at least 2 are needed")
    nodes = [
        node("ArgMax", ["logits"], "labels", axis=1, keepdims=0),
        node("Softmax", ["logits"], "probabilities", axis=1),
        node("ReduceMax", ["probabilities", "second_axis"], "scores", keepdims=0),
    ]
    signature = Signature(
        (TensorSpec("logits", "float32", (BATCH, classes)),),
        (TensorSpec("scores", "float32", (BATCH,)), TensorSpec("labels", "int64", (BATCH,))),
    )
    return artifact(assemble("classification", nodes, {"second_axis": np.array([1], dtype=np.int64)}, signature))
