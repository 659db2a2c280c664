"""Eight-bit integers: ranges found at run time (`dynamic`) or once on training records (`static`)."""

from hauberk.compress.quantize.dynamic import QuantizeDynamic
from hauberk.compress.quantize.static import QuantizeStatic

__all__ = ["QuantizeDynamic", "QuantizeStatic"]
