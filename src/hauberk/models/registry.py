"""The architectures that a model card can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from hauberk.errors import InputError
from hauberk.models.tabular import TabularMLP

ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType({"tabular-mlp": TabularMLP})
"""Names of reference architectures, as model cards use them."""


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
    try:
        return factory(**parameters)
    except TypeError as error:
        raise InputError(f"architecture {architecture!r} does not take {dict(parameters)!r}: {error}") from error
