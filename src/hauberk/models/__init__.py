"""Reference detectors and the model card that says how to rebuild one."""

from hauberk.models.card import CARD_FILE, WEIGHTS_FILE, ModelCard, TrainingRecord, read_card, write_card
from hauberk.models.registry import ARCHITECTURES, build
from hauberk.models.tabular import TabularMLP

__all__ = [
    "ARCHITECTURES",
    "CARD_FILE",
    "WEIGHTS_FILE",
    "ModelCard",
    "TabularMLP",
    "TrainingRecord",
    "build",
    "read_card",
    "write_card",
]
