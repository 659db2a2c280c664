"""A small residual network for small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hauberk.models.resnet import BasicBlock, initialise
from hauberk.models.sizes import MAX_PIXELS, require_size, require_sizes


class ResidualCNN(nn.Module):
    """A 3×3 convolution and one residual block a width.

    Maps images float32 [N, channels, size, size] to logits float32 [N, outputs]. Every block after the first halves
    height and width; the mean over what is left is read by a linear layer.

    Args:
        channels: C, channels of an image.
        size: Height and width of the images that it is meant for; the weights do not depend on it.
        widths: Channels of each block.
        outputs: K, the number of logits.

    Raises:
        InputError: A size out of its range.
    """

    def __init__(
        self, channels: int = 1, size: int = 32, widths: Sequence[int] = (16, 32, 64), outputs: int = 10
    ) -> None:
        super().__init__()
        require_size("residual-cnn", "channels", channels)
        require_size("residual-cnn", "size", size, MAX_PIXELS)
        require_sizes("residual-cnn", "widths", widths)
        require_size("residual-cnn", "outputs", outputs)
        self.record_shape = (channels, size, size)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        blocks = []
        width = widths[0]
        for number, following in enumerate(widths):
            blocks.append(BasicBlock(width, following, stride=2 if number else 1))
            width = following
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, outputs)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [N, K] of images float32 [N, C, S, S]."""
        logits: Tensor = self.head(self.pool(self.blocks(self.stem(images))).flatten(1))
        return logits
