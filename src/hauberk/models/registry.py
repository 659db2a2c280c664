"""The architectures that a model card can name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from hauberk.errors import InputError
from hauberk.models.autoencoder import Autoencoder
from hauberk.models.residual_cnn import ResidualCNN
from hauberk.models.resnet import resnet18, resnet50
from hauberk.models.tabular import TabularMLP
from hauberk.models.window_cnn import WindowCNN
from hauberk.models.window_recurrent import WindowGRU, WindowLSTM
from hauberk.models.window_transformer import WindowTransformer

ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "tabular-mlp": TabularMLP,
        "autoencoder": Autoencoder,
        "window-cnn": WindowCNN,
        "window-lstm": WindowLSTM,
        "window-gru": WindowGRU,
        "window-transformer": WindowTransformer,
        "residual-cnn": ResidualCNN,
        "resnet18": resnet18,
        "resnet50": resnet50,
    }
)
"""Names of reference architectures, as model cards use them. What each builds has a `record_shape`, the shape of one
record that it reads: (D,), (T, D) or (C, H, W)."""


def build(architecture: str, parameters: Mapping[str, Any]) -> nn.Module:
    """Build a reference architecture with fresh weights.

    Args:
        architecture: A name in `ARCHITECTURES`.
        parameters: Its keyword arguments.

    Raises:
        InputError: The name is unknown, or the parameters do not fit it.
    """
    factory = ARCHITECTURES.get(architecture)
    if factory is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(
            f"unknown architecture {architecture!r}; known are {known}, and --arch FILE.py:CALLABLE names your own"
        )
    taken = inspect.signature(factory).parameters
    for name in parameters:
        if name not in taken:
            raise InputError(f"architecture {architecture!r} does not take {name!r}; it takes {', '.join(taken)}")
    try:
        return factory(**parameters)
    except TypeError as error:
        raise InputError(f"architecture {architecture!r} does not take {dict(parameters)!r}: {error}") from error


def fresh(architecture: str, parameters: Mapping[str, Any], seed: int) -> nn.Module:
    """Build a reference architecture with weights that a seed decides; torch's random state is as before afterwards.

    Raises:
        InputError: As `build`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(architecture, parameters)
