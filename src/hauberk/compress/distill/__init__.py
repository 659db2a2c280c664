"""A smaller network taught by the detector."""

from hauberk.compress.distill.narrow import Distill, distillation

__all__ = ["Distill", "distillation"]
