"""`hauberk optimize` as a library: verified passes over any ONNX file."""

from hauberk.optimisation.findings import ModelFile, Optimisation, PassResult, WeightFile
from hauberk.optimisation.run import OTHERS, choose, optimise_file

__all__ = ["OTHERS", "ModelFile", "Optimisation", "PassResult", "WeightFile", "choose", "optimise_file"]
