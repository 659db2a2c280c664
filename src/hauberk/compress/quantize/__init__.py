"""Few-bit integers: ranges found at run time (`dynamic`) or once (`static`), for most layers only (`mixed`)."""

from hauberk.compress.quantize.dynamic import QuantizeDynamic
from hauberk.compress.quantize.mixed import QuantizeMixed
from hauberk.compress.quantize.static import QuantizeStatic

__all__ = ["QuantizeDynamic", "QuantizeMixed", "QuantizeStatic"]
