"""The small residual network: its shapes, and the shortcut around its blocks."""

from __future__ import annotations

import pytest
import torch

from hauberk.errors import InputError
from hauberk.models import ResidualCNN


def test_it_has_the_layers_that_its_parameters_say():
    """Stem, two convolutions a block, and a 1×1 one where a block changes the shape; counted by hand."""
    module = ResidualCNN(channels=1, size=32, widths=(16, 32, 64), outputs=10)
    convolutions = [tuple(p.shape) for name, p in module.named_parameters() if p.ndim == 4]
    assert len(convolutions) == 1 + 2 * 3 + 2
    assert sum(p.numel() for p in module.parameters()) == (
        (9 * 16 + 32)  # stem
        + 2 * (9 * 16 * 16 + 32)
        + (9 * 16 * 32 + 64) + (9 * 32 * 32 + 64) + (16 * 32 + 64)
        + (9 * 32 * 64 + 128) + (9 * 64 * 64 + 128) + (32 * 64 + 128)
        + (64 * 10 + 10)
    )  # fmt: skip


def test_a_block_whose_convolutions_are_silent_passes_its_input_on():
    module = ResidualCNN(channels=1, size=8, widths=(4,), outputs=3).eval()
    block = module.blocks[0]
    with torch.no_grad():
        block.conv2.weight.zero_()
    images = torch.rand(2, 4, 8, 8)
    assert torch.allclose(block(images), images)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"channels": 0}, "residual-cnn: channels is 0"),
        ({"size": 1 << 13}, "residual-cnn: size is 8192"),
        ({"widths": ()}, "0 widths"),
        ({"outputs": -1}, "outputs is -1"),
    ],
)
def test_impossible_sizes_are_refused(parameters, says):
    with pytest.raises(InputError, match=says):
        ResidualCNN(**parameters)
