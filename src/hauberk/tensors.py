"""What goes into a model and what comes out: names, dtypes and shapes."""

from __future__ import annotations

import msgspec


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, dtype ("float32", "int64", …) and shape of a tensor; a named dimension ("batch") is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The inputs and outputs of a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
