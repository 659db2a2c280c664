"""The robustness protocol: every candidate is attacked as it is deployed, and the worst case per record counts."""

from hauberk.evaluate.robustness.figures import AttackFigures

__all__ = ["AttackFigures"]
