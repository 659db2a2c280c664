"""Bundles opened for use: raw records in, scores and labels out. Nothing here can train."""

from hauberk.runtime.detector import Detector, Prediction
from hauberk.runtime.opening import open  # noqa: A004 - `hauberk.open` is what users type

__all__ = ["Detector", "Prediction", "open"]
