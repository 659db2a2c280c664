"""Writes src/hauberk/scan/graphs/operators.txt: every operator that ONNX and ONNX Runtime define.

Run it after an update of either package: `python tests/scan/generate_operators.py`. It asks onnx for its schemas (all
versions of all operators) and ONNX Runtime for those that it adds; a test compares the file with what it would write.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

TARGET = Path(__file__).parents[2] / "src/hauberk/scan/graphs/operators.txt"

_OF_ONNX = ("", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.preview")
_HEADER = """\
# Operators by domain, written by tests/scan/generate_operators.py from onnx {} and onnxruntime {}.
# [domain newest-version], then one operator a line: name, the version that brought it and, where its inputs or outputs
# end in a list of any length, how many stand before that list.
"""


def operators() -> str:
    """The content of the file."""
    known: dict[str, dict[str, int]] = {}
    lists: dict[tuple[str, str], dict[str, int]] = {}
    for schema in [*onnx.defs.get_all_schemas_with_history(), *runtime.get_all_operator_schema()]:
        domain = known.setdefault(schema.domain, {})
        domain[schema.name] = min(domain.get(schema.name, 1 << 30), schema.since_version)
        for side, places in (("in", schema.inputs), ("out", schema.outputs)):
            before = [at for at, given in enumerate(places) if str(given.option).endswith("Variadic")]
            if before:
                sides = lists.setdefault((schema.domain, schema.name), {})
                sides[side] = max(before[0], sides.get(side, 0))  # of all versions, the shortest list
    newest = {
        domain: max(
            schema.since_version for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == domain
        )
        if domain in _OF_ONNX
        else 1
        for domain in known
    }
    newest[""] = onnx.defs.onnx_opset_version()
    text = _HEADER.format(onnx.__version__, __import__("onnxruntime").__version__)
    for domain in sorted(known):
        text += f"\n[{domain or 'ai.onnx'} {newest[domain]}]\n"
        for name, since in sorted(known[domain].items()):
            sides = lists.get((domain, name), {})
            text += " ".join([f"{name} {since}", *(f"{side}:{count}" for side, count in sides.items())]) + "\n"
    return text


if __name__ == "__main__":
    TARGET.write_text(operators())
