"""Few-bit integers: ranges found at run time (`dynamic`), once (`static`), for most layers (`mixed`), or trained."""

from hauberk.compress.quantize.aware import QuantizeAware
from hauberk.compress.quantize.dynamic import QuantizeDynamic
from hauberk.compress.quantize.equalise import EqualiseLayers
from hauberk.compress.quantize.mixed import QuantizeMixed
from hauberk.compress.quantize.nncf_static import QuantizeNncf
from hauberk.compress.quantize.smooth import SmoothActivations
from hauberk.compress.quantize.static import QuantizeStatic
from hauberk.compress.quantize.weights import QuantizeWeights

__all__ = [
    "EqualiseLayers",
    "QuantizeAware",
    "QuantizeDynamic",
    "QuantizeMixed",
    "QuantizeNncf",
    "QuantizeStatic",
    "QuantizeWeights",
    "SmoothActivations",
]
