"""For every test: what hypothesis thinks of the time that examples take says more about the machine than about us."""

from __future__ import annotations

import functools
import sys

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

_EXPORTER = "torch.onnx._internal.exporter._registration"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Have torch's exporter collect its table of operators once, not for each of hundreds of exports: half of a second.

    The table is only read, as nothing here brings translations of its own.
    """
    registry = getattr(sys.modules.get(_EXPORTER), "ONNXRegistry", None)
    collect = getattr(registry, "from_torchlib", None)
    if collect is not None and not hasattr(collect, "cache_info"):
        registry.from_torchlib = staticmethod(functools.cache(collect))
