"""Files that hold tensors and nothing else, in the order of asking."""

from hauberk.scan.formats import Format
from hauberk.scan.weights.gguf import GGUF
from hauberk.scan.weights.safetensors import SAFETENSORS

FORMATS: tuple[Format, ...] = (SAFETENSORS, GGUF)
