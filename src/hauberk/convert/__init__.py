"""Convert: models of other frameworks become ONNX or safetensors, and the result is compared with its source."""

from hauberk.convert.findings import Comparison, Conversion, FamilyFigures
from hauberk.convert.inputs import RealInputs
from hauberk.convert.run import Wanted, convert

__all__ = ["Comparison", "Conversion", "FamilyFigures", "RealInputs", "Wanted", "convert"]
