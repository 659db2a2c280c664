"""The decision graph: logits to score and label, as `hauberk.schema.decision` defines them.

K = 1: margin = logit                                K = 2: margin = logit of attack - logit of benign
K > 2: margin = log of the sum of exp over the attack logits - logit of benign
scores = sigmoid(margin); labels = margin >= threshold
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import BATCH, artifact, assemble, node
from hauberk.schema.decision import Decision
from hauberk.tensors import Signature, TensorSpec


def decision_graph(decision: Decision) -> OnnxArtifact:
    """Build the decision graph.

    Returns:
        A graph from `logits` float32 [batch, K] to `scores` float32 [batch], the sigmoid of the margin, and `labels`
        int64 [batch], 1 where the margin reaches the threshold. For K = 1 and K = 2 the margin equals the numpy
        reference bit for bit, and so do the labels; for K > 2 it is close.

    Raises:
        InputError: Less than one output, or a benign index that is none of them.
    """
    outputs = decision.outputs
    if outputs < 1 or (outputs > 1 and not 0 <= decision.benign < outputs):
        raise InputError(f"decision: benign logit {decision.benign} of {outputs}; expected 0 <= benign < outputs")
    nodes, constants = _margin(decision)
    constants["threshold"] = np.array(decision.threshold, dtype=np.float32)
    nodes += [
        node("Sigmoid", ["margin"], "scores"),
        node("GreaterOrEqual", ["margin", "threshold"], "is_attack"),
        node("Cast", ["is_attack"], "labels", to=TensorProto.INT64),
    ]
    signature = Signature(
        inputs=(TensorSpec("logits", "float32", (BATCH, outputs)),),
        outputs=(TensorSpec("scores", "float32", (BATCH,)), TensorSpec("labels", "int64", (BATCH,))),
    )
    return artifact(assemble("decision", nodes, constants, signature))


def _margin(decision: Decision) -> tuple[list[onnx.NodeProto], dict[str, NDArray[np.generic]]]:
    """The nodes and constants that compute `margin` float32 [batch]."""
    second_axis = np.array([1], dtype=np.int64)
    if decision.outputs == 1:
        return [node("Squeeze", ["logits", "second_axis"], "margin")], {"second_axis": second_axis}
    if decision.outputs == 2:
        # A product with (-1, 1) is the difference, exactly. (As a vector it would save the Squeeze, but ONNX Runtime
        # takes four times as long for 256 records and fails on none.)
        signs = np.ones((2, 1), dtype=np.float32)
        signs[decision.benign] = -1
        nodes = [
            node("MatMul", ["logits", "signs"], "margin_column"),
            node("Squeeze", ["margin_column", "second_axis"], "margin"),
        ]
        return nodes, {"signs": signs, "second_axis": second_axis}
    attack = np.delete(np.arange(decision.outputs, dtype=np.int64), decision.benign)
    nodes = [
        node("Gather", ["logits", "attack"], "attack_logits", axis=1),
        node("ReduceLogSumExp", ["attack_logits", "second_axis"], "evidence", keepdims=0),
        node("Gather", ["logits", "benign"], "benign_logit", axis=1),
        node("Sub", ["evidence", "benign_logit"], "margin"),
    ]
    return nodes, {"attack": attack, "second_axis": second_axis, "benign": np.array(decision.benign)}
