"""ResNets: the names and shapes of torchvision's checkpoints, written down here from the paper's table."""

from __future__ import annotations

import pytest
import torch

from hauberk.errors import InputError
from hauberk.models import resnet18, resnet50

# He et al. 2015, table 1: blocks of each stage and, in a block, (kernel, channels) of each convolution.
TABLE = {
    resnet18: ((2, 2, 2, 2), lambda width: ((3, width), (3, width))),
    resnet50: ((3, 4, 6, 3), lambda width: ((1, width), (3, width), (1, 4 * width))),
}
PARAMETERS = {resnet18: 11_689_512, resnet50: 25_557_032}  # as torchvision's documentation states them


def batch_norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{vector}": (width,) for vector in vectors}, f"{name}.num_batches_tracked": ()}


def published_layout(build) -> dict[str, tuple[int, ...]]:
    depths, convolutions = TABLE[build]
    layout = {"conv1.weight": (64, 3, 7, 7), **batch_norm("bn1", 64)}
    width = 64
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            given = width
            for number, (kernel, channels) in enumerate(convolutions(64 * 2 ** (stage - 1)), 1):
                layout[f"{prefix}.conv{number}.weight"] = (channels, width, kernel, kernel)
                layout |= batch_norm(f"{prefix}.bn{number}", channels)
                width = channels
            if block == 0 and (stage > 1 or given != width):
                layout[f"{prefix}.downsample.0.weight"] = (width, given, 1, 1)
                layout |= batch_norm(f"{prefix}.downsample.1", width)
    return {**layout, "fc.weight": (1000, width), "fc.bias": (1000,)}


@pytest.mark.parametrize("build", TABLE)
def test_names_and_shapes_are_those_of_the_published_checkpoints(build):
    with torch.device("meta"):
        state = build().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published_layout(build)


@pytest.mark.parametrize("build", TABLE)
def test_it_has_as_many_parameters_as_published(build):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == PARAMETERS[build]


def test_the_stride_of_a_bottleneck_lies_on_its_3x3_convolution():
    """Torchvision's choice ("v1.5"); the paper has it on the first one. The weights' shapes do not tell."""
    with torch.device("meta"):
        first = resnet50().layer2[0]
    assert (first.conv1.stride, first.conv2.stride, first.downsample[0].stride) == ((1, 1), (2, 2), (2, 2))


@pytest.mark.parametrize(("size", "expected"), [(64, 2), (224, 7), (97, 4)])
def test_the_last_feature_map_is_a_thirty_second_of_the_image(size, expected):
    with torch.device("meta"):
        network = resnet18(outputs=5, size=size)
        seen = []
        network.layer4.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape)))
        logits = network(torch.empty(2, 3, size, size))
    assert seen == [(2, 512, expected, expected)]
    assert tuple(logits.shape) == (2, 5)
    assert network.record_shape == (3, size, size)


@pytest.mark.parametrize(("parameters", "says"), [({"outputs": 0}, "outputs is 0"), ({"size": 5000}, "size is 5000")])
def test_impossible_sizes_are_refused(parameters, says):
    with pytest.raises(InputError, match=says):
        resnet18(**parameters)


@pytest.mark.parametrize("build", TABLE)
def test_it_answers_what_torchvisions_answers_bit_for_bit(build):
    """Where torchvision is installed; its weights load strictly, in its order."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = getattr(models, build.__name__)(weights=None).eval()
    ours = build().eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 97, 131)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
