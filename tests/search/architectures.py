"""The reference architectures as a user's own file gives them: `--arch architectures.py:NAME`, small and untrained."""

from __future__ import annotations

from torch import Tensor, nn

from hauberk.models import build
from hauberk.models.resnet import BasicBlock, Bottleneck, initialise

COLUMNS, WINDOW, PIXELS = 9, 5, 8


def tabular_mlp() -> nn.Module:
    return build("tabular-mlp", {"inputs": COLUMNS, "widths": [64, 32]})


def autoencoder() -> nn.Module:
    return build("autoencoder", {"inputs": COLUMNS, "widths": [64, 16]})


def window_cnn() -> nn.Module:
    return build("window-cnn", {"inputs": COLUMNS, "window": WINDOW, "channels": [32, 32]})


def window_lstm() -> nn.Module:
    return build("window-lstm", {"inputs": COLUMNS, "window": WINDOW, "hidden": 32})


def window_gru() -> nn.Module:
    return build("window-gru", {"inputs": COLUMNS, "window": WINDOW, "hidden": 32})


def window_transformer() -> nn.Module:
    return build("window-transformer", {"inputs": COLUMNS, "window": WINDOW, "width": 32, "heads": 2, "layers": 1})


def residual_cnn() -> nn.Module:
    return build("residual-cnn", {"channels": 1, "size": PIXELS, "widths": [16, 32], "outputs": 3})


class SmallResNet(nn.Module):
    """What a ResNet is made of, small: stem and pooling, both kinds of block, with and without a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.record_shape = (3, 2 * PIXELS, 2 * PIXELS)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 12, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.blocks = nn.Sequential(BasicBlock(12, 12), Bottleneck(12, 12, stride=2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(48, 3)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.avgpool(self.blocks(self.stem(images))).flatten(1))
        return logits
