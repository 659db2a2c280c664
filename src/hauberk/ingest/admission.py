"""May this file be opened, and as what? The scan's word, in one line where it is no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hauberk.errors import RefusedModelError
from hauberk.ingest.isolated import printable, scan
from hauberk.ingest.private import PrivateCopy
from hauberk.scan import FileReport, Finding, Verdict
from hauberk.scan.beside import named_files
from hauberk.scan.report import Outcome

Format = Literal["safetensors", "pytorch", "onnx"]

_LOADED: dict[str, Format] = {
    "safetensors": "safetensors",
    "pytorch-zip": "pytorch",
    "pytorch-stream": "pytorch",
    "onnx": "onnx",
}
"""What is loaded, by the scan's name of its format."""

_CONVERT = "`hauberk convert` makes an ONNX model of it, in a process of its own"
_SAVE_AGAIN = "For a model of your own, save model.state_dict() with torch.save, best as safetensors"

_INSTEAD: dict[str, str] = {
    **dict.fromkeys(("pytorch-zip", "pytorch-stream", "pytorch-tar", "tar", "pickle", "pickle-embedded"), _SAVE_AGAIN),
    **dict.fromkeys(
        (
            "torchscript", "torch-exported-program", "skops", "xgboost-json", "xgboost-ubjson", "lightgbm", "keras",
            "hdf5", "tensorflow-saved-model", "tflite",
        ),
        _CONVERT,
    ),
}  # fmt: skip
"""What to do about a format that is not loaded as it is."""


_LOCAL_HEADER, _FIRST_OF_BUNDLE = 30, b"manifest.json"
_NO_MODEL = "not a model that Hauberk reads, neither safetensors nor a PyTorch state dict nor ONNX"


@dataclass(frozen=True)
class Admission:
    """The scan calls a file safe, and there is a reader for it.

    Attributes:
        format: How to read it.
        outside: Files beside it in which an ONNX model has its weights; they may be used, and were not read.
    """

    format: Format
    outside: int


def admit(copy: PrivateCopy) -> Admission:
    """Scan a copy.

    Raises:
        RefusedModelError: The scan does not call it safe, or it is in order and nothing that is read here.
    """
    report = scan(copy)
    if report.format == "zip" and copy.head(_LOCAL_HEADER + len(_FIRST_OF_BUNDLE)).endswith(_FIRST_OF_BUNDLE):
        raise RefusedModelError(
            f"{copy.source}: refused: a Hauberk bundle, it seems; give the model that it was made of"
        )
    if report.verdict is not Verdict.SAFE:
        raise refusal(report, str(copy.source))
    if report.format not in _LOADED:
        raise RefusedModelError(f"{copy.source}: {_NO_MODEL} (it is {report.format}){_instead(report)}")
    return Admission(_LOADED[report.format], len(named_files(report.facts)))


def refusal(report: FileReport, where: str) -> RefusedModelError:
    """The error that says why a file is not opened: the worst finding, where it is, and what to do."""
    worst = [found for found in report.findings if found.outcome is Outcome.UNSAFE] or [
        found for found in report.findings if found.outcome is Outcome.UNKNOWN
    ]
    if not worst:
        return RefusedModelError(f"{where}: refused: the scan calls it {report.verdict}")
    if not report.format:
        return RefusedModelError(printable(f"{where}: {_NO_MODEL}: {worst[0].what}"))
    verdict = "unsafe" if report.verdict is Verdict.UNSAFE else "nobody can say that it is safe"
    others = len(worst) - 1 + report.omitted
    more = f" (and {others} more)" if others else ""
    return RefusedModelError(printable(f"{where}: refused, {verdict}: {_told(worst[0])}{more}{_instead(report)}"))


def _told(finding: Finding) -> str:
    place = f" ({finding.where})" if finding.where else ""
    return f"{finding.what}{place} [{finding.rule}]: {finding.why.rstrip('.')}"


def _instead(report: FileReport) -> str:
    return f". {_INSTEAD[report.format]}" if report.format in _INSTEAD else ""
