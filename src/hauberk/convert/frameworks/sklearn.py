"""The door to `estimator`: what has to be so before scikit-learn is imported."""

from __future__ import annotations

from threadpoolctl import ThreadpoolController

from hauberk.convert.inside import Model
from hauberk.convert.messages import Setup


def load(setup: Setup) -> Model:
    """Read an admitted archive."""
    # scikit-learn looks for the thread pools of libraries in /proc/self/maps as soon as it is imported, which a
    # concealed process may not read. There is one thread here (OMP_NUM_THREADS), and so nothing to find.
    ThreadpoolController._load_libraries = lambda self: None  # noqa: ARG005, SLF001
    from hauberk.convert.frameworks.estimator import Estimator  # noqa: PLC0415 - not before

    return Estimator(setup.model)
