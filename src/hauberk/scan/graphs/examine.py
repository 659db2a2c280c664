"""The examination of an ONNX file, from its bytes to what a run would take."""

from __future__ import annotations

import math

from hauberk.errors import RefusedModelError
from hauberk.protobuf import AmbiguousMessageError
from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.graphs import operations as _operations  # noqa: F401 - registers the rules of operators
from hauberk.scan.graphs import rules
from hauberk.scan.graphs.cost import estimate
from hauberk.scan.graphs.elements import BOOL, ELEMENTS, INT32, INT64, STRING
from hauberk.scan.graphs.external import check_external
from hauberk.scan.graphs.model import Model
from hauberk.scan.graphs.operators import check_operators
from hauberk.scan.graphs.reading import read_model
from hauberk.scan.graphs.structure import check_structure
from hauberk.scan.graphs.trees import check_trees
from hauberk.scan.report import Outcome, Verdict, shown

_NOT_PARAMETERS = frozenset({INT32, INT64, BOOL, STRING})
_REASON = "cut short: "


def examine_onnx(content: Content, examination: Examination) -> None:
    """Examine a model in ONNX's binary form.

    Args:
        content: The file.
        examination: Told what is found; `facts` get IR version, opset, nodes, functions, parameters, the files with
            weights (`external_files`), and what one run takes: peak_memory_bytes and operations for
            `batch` records.
    """
    try:
        model = read_model(content, examination)
    except AmbiguousMessageError as error:
        examination.find(rules.AMBIGUOUS, str(error).partition(_REASON)[2] or str(error))
        raise StopScan from error
    except (RefusedModelError, CutError) as error:
        examination.find(rules.BROKEN, str(error).partition(_REASON)[2] or str(error))
        raise StopScan from error
    _write_facts(model, examination)
    check_operators(model, examination)
    check_external(model, examination)
    check_trees(model, examination)
    sound = check_structure(model, examination)
    if sound and not _is_unsafe_data(examination):
        estimate(model, examination)


def examine_ort(content: Content, examination: Examination) -> None:
    """A model in ONNX Runtime's own format: not followed."""
    examination.find(rules.RUNTIME_FORMAT, f"{content.size} bytes with the mark ORTM")


def examine_text(content: Content, examination: Examination) -> None:
    """A model written as text: not followed."""
    examination.find(rules.TEXT_FORMAT, f"begins with '{shown(content.head(40), 40)}'")


def _is_unsafe_data(examination: Examination) -> bool:
    """Whether tensors have been found whose shapes cannot be relied on."""
    broken = {rules.NEGATIVE.id, rules.TENSOR_KIND.id}
    return examination.verdict is not Verdict.SAFE and any(
        finding.rule in broken and finding.outcome is not Outcome.NOTE for finding in examination.findings
    )


def _write_facts(model: Model, examination: Examination) -> None:
    facts = examination.facts
    facts["ir_version"] = model.version
    facts["opset"] = model.opsets.get("", 0)
    if model.producer:
        facts["producer"] = model.producer
    facts["nodes"] = len(model.nodes())
    if model.functions:
        facts["functions"] = len(model.functions)
    weights = model.graph.weights if model.graph else []
    facts["parameters"] = sum(
        math.prod(each.dims)
        for each in weights
        if each.element in ELEMENTS and each.element not in _NOT_PARAMETERS and min(each.dims, default=0) >= 0
    )
