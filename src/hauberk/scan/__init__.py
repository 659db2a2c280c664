"""Is this file safe? Everything here reads bytes and runs nothing of what it reads.

The room belongs to the field floor: it imports neither torch nor onnx nor anything of a scanned file's world, so a core
install can scan.
"""

from hauberk.scan.examination import ScanLimits
from hauberk.scan.report import FileReport, Finding, Rule, ScanReport, Severity, Verdict
from hauberk.scan.walk import scan_content, scan_paths

__all__ = [
    "FileReport",
    "Finding",
    "Rule",
    "ScanLimits",
    "ScanReport",
    "Severity",
    "Verdict",
    "scan_content",
    "scan_paths",
]
