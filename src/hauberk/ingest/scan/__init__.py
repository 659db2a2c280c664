"""Is this file safe? Every check here reads bytes and runs nothing of what it reads."""

from hauberk.ingest.scan.archive import scan_archive
from hauberk.ingest.scan.onnx import scan_onnx
from hauberk.ingest.scan.pickle import examine_pickle, refusal_of_names, scan_pickle
from hauberk.ingest.scan.safetensors import scan_safetensors

__all__ = ["examine_pickle", "refusal_of_names", "scan_archive", "scan_onnx", "scan_pickle", "scan_safetensors"]
