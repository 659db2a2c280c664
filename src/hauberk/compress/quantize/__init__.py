"""Few-bit integers: ranges found at run time (`dynamic`), once (`static`), for most layers (`mixed`), or trained."""

from hauberk.compress.quantize.aware import QuantizeAware
from hauberk.compress.quantize.dynamic import QuantizeDynamic
from hauberk.compress.quantize.mixed import QuantizeMixed
from hauberk.compress.quantize.static import QuantizeStatic

__all__ = ["QuantizeAware", "QuantizeDynamic", "QuantizeMixed", "QuantizeStatic"]
