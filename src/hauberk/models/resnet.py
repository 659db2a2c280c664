"""ResNet-18 and ResNet-50 (He et al. 2015), with the names and shapes of torchvision's weights.

Checkpoints that torchvision published, and those trained with its models, load strictly. As there, the 3×3 convolution
of a bottleneck has the stride ("ResNet v1.5").
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hauberk.models.sizes import MAX_PIXELS, require_size

_STAGES = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut: [N, inputs, H, W] to [N, width, H / stride, W / stride]."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, images: Tensor) -> Tensor:
        """The block's answer."""
        hidden = self.relu(self.bn1(self.conv1(images)))
        hidden = self.bn2(self.conv2(hidden))
        result: Tensor = self.relu(hidden + (images if self.downsample is None else self.downsample(images)))
        return result


class Bottleneck(nn.Module):
    """A 3×3 convolution between two 1×1 ones: [N, inputs, H, W] to [N, 4 * width, H / stride, W / stride]."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, images: Tensor) -> Tensor:
        """The block's answer."""
        hidden = self.relu(self.bn1(self.conv1(images)))
        hidden = self.relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(hidden))
        result: Tensor = self.relu(hidden + (images if self.downsample is None else self.downsample(images)))
        return result


class ResNet(nn.Module):
    """A residual network: images float32 [N, 3, H, W] to logits float32 [N, outputs].

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: Blocks of each of the four stages.
        outputs: K, the number of logits.
        size: Height and width of the images that it is meant for; the weights do not depend on it.

    Raises:
        InputError: A size out of its range.
    """

    def __init__(
        self, block: type[BasicBlock | Bottleneck], depths: Sequence[int], outputs: int = 1000, size: int = 224
    ) -> None:
        super().__init__()
        require_size("resnet", "outputs", outputs)
        require_size("resnet", "size", size, MAX_PIXELS)
        self.record_shape = (3, size, size)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages = []
        inputs = 64
        for number, (width, depth) in enumerate(zip(_STAGES, depths, strict=True)):
            stages.append(_stage(block, inputs, width, depth, stride=2 if number else 1))
            inputs = width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, outputs)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [N, K] of images float32 [N, 3, H, W]."""
        hidden = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        hidden = self.layer4(self.layer3(self.layer2(self.layer1(hidden))))
        logits: Tensor = self.fc(self.avgpool(hidden).flatten(1))
        return logits


def resnet18(outputs: int = 1000, size: int = 224) -> ResNet:
    """ResNet-18: 11,689,512 parameters at 1,000 outputs.

    Args:
        outputs: K, the number of logits.
        size: Height and width of the images that it is meant for.

    Raises:
        InputError: A size out of its range.
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), outputs, size)


def resnet50(outputs: int = 1000, size: int = 224) -> ResNet:
    """ResNet-50: 25,557,032 parameters at 1,000 outputs.

    Args:
        outputs: K, the number of logits.
        size: Height and width of the images that it is meant for.

    Raises:
        InputError: A size out of its range.
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), outputs, size)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """What brings a block's input to the shape of its output; `None` where it has that already."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


def initialise(module: nn.Module) -> None:
    """Weights of convolutions from a normal distribution that keeps the variance of gradients (He et al. 2015)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _stage(block: type[BasicBlock | Bottleneck], inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    following = (block(width * block.expansion, width) for _ in range(depth - 1))
    return nn.Sequential(block(inputs, width, stride), *following)
