"""Reference detectors and the model card that says how to rebuild one."""

from hauberk.models.autoencoder import Autoencoder
from hauberk.models.card import CARD_FILE, WEIGHTS_FILE, ModelCard, read_any_card, read_card, write_card
from hauberk.models.image_card import ImageCard
from hauberk.models.registry import ARCHITECTURES, build, fresh
from hauberk.models.residual_cnn import ResidualCNN
from hauberk.models.resnet import ResNet, resnet18, resnet50
from hauberk.models.tabular import TabularMLP
from hauberk.models.training_record import TrainingRecord
from hauberk.models.window_cnn import WindowCNN
from hauberk.models.window_recurrent import WindowGRU, WindowLSTM
from hauberk.models.window_transformer import WindowTransformer

__all__ = [
    "ARCHITECTURES",
    "CARD_FILE",
    "WEIGHTS_FILE",
    "Autoencoder",
    "ImageCard",
    "ModelCard",
    "ResNet",
    "ResidualCNN",
    "TabularMLP",
    "TrainingRecord",
    "WindowCNN",
    "WindowGRU",
    "WindowLSTM",
    "WindowTransformer",
    "build",
    "fresh",
    "read_any_card",
    "read_card",
    "resnet18",
    "resnet50",
    "write_card",
]
