"""Robust training: models that learn from attacked records, and stop by them."""

from hauberk.train.robust.adversary import Adversary, against
from hauberk.train.robust.options import RobustOptions
from hauberk.train.robust.threats import UnderAttack, every_column, of_images, of_windows
from hauberk.train.robust.training import METHODS, train_robust

__all__ = [
    "METHODS",
    "Adversary",
    "RobustOptions",
    "UnderAttack",
    "against",
    "every_column",
    "of_images",
    "of_windows",
    "train_robust",
]
