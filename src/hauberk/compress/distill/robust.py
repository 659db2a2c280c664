"""Robust distillation by the names it has had here; what it is stands in `hauberk.compress.teaching`.

The student gives the teacher's answers where an adversary has moved the records, too (Goldblum et al. 2020,
arXiv:1905.09747). Any step that trains can learn so (`Tuning.robust`); the adversary is that of `hauberk.train.robust`.
"""

from hauberk.compress.teaching import robust_distillation, robust_lesson
from hauberk.compress.tuning import Robust

__all__ = ["Robust", "robust_distillation", "robust_lesson"]
