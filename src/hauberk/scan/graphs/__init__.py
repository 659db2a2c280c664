"""ONNX models: read by our own protobuf walker, checked part by part, and followed through one run by their shapes."""

from hauberk.scan.formats import Format
from hauberk.scan.graphs import rules
from hauberk.scan.graphs.examine import examine_onnx, examine_ort, examine_text
from hauberk.scan.graphs.recognition import recognise_binary, recognise_ort, recognise_text

_OTHER_FORMS = (rules.TEXT_FORMAT, rules.RUNTIME_FORMAT)

FORMATS: tuple[Format, ...] = (
    Format("onnx-ort", recognise_ort, examine_ort, (rules.RUNTIME_FORMAT,)),
    Format("onnx", recognise_binary, examine_onnx, tuple(rule for rule in rules.RULES if rule not in _OTHER_FORMS)),
    Format("onnx-text", recognise_text, examine_text, (rules.TEXT_FORMAT,)),
)
"""Formats of this room, in the order of asking."""
