"""A smaller network taught by the detector, or by any other teacher."""

from hauberk.compress.distill.hints import Attention, Hints, Pair
from hauberk.compress.distill.robust import Robust
from hauberk.compress.distill.step import Distill
from hauberk.compress.distill.student import Itself, Network, Pruned, Scaled, Student
from hauberk.compress.distill.teacher import Ensemble, GraphTeacher, ModuleTeacher, ProbabilityTeacher

__all__ = [
    "Attention",
    "Distill",
    "Ensemble",
    "GraphTeacher",
    "Hints",
    "Itself",
    "ModuleTeacher",
    "Network",
    "Pair",
    "ProbabilityTeacher",
    "Pruned",
    "Robust",
    "Scaled",
    "Student",
]
