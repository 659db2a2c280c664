"""What can be chosen about a training."""

from __future__ import annotations

from typing import Literal

import msgspec
import torch

from hauberk.errors import InputError
from hauberk.recipe import Task

_MOST = (1 << 63) - 1  # torch counts in 64 bits
_MOST_THREADS = 1024  # asked for a hundred thousand, OpenMP ends the process without a word

Precision = Literal["float32", "bfloat16"]
Schedule = Literal["constant", "cosine"]


class TrainingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to train.

    Attributes:
        epochs: The most epochs to run, at least 1.
        batch_size: Records a step of the optimiser, at least 1; all of them where there are fewer.
        learning_rate: Of AdamW, above 0.
        schedule: Whether the learning rate stays ("constant"), or falls to 0 along half a cosine over all epochs
            ("cosine"; Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts).
        weight_decay: Of AdamW, at least 0.
        patience: Epochs without a lower validation loss after which training stops, at least 1.
        class_weights: Weigh all classes alike, however rare one is.
        benign: Index of the benign logit.
        task: What the logits are for; see `hauberk.recipe.Task`.
        seed: Seed of the order of batches and of everything random in the module.
        threads: Threads that torch may use, at most 1,024; on the CPU the same seed and threads give the same weights
            bit for bit.
        device: "cpu", "cuda" or "cuda:N".
        accumulate: In how many parts a batch is computed, one after the other, at least 1; the gradient is that of the
            whole batch (but for batch normalisation, which sees a part at a time), the memory that of a part.
        averaging: Decay of the average of weights that is examined and kept instead of the weights themselves, in
            [0, 1]: 0 for none, 0.995 for about the last 200 steps, 1 for the mean of all; see
            `hauberk.train.averaging`.
        precision: "bfloat16" runs matrix products in bfloat16 (autocast); weights stay float32.

    Raises:
        InputError: A value out of its range.
    """

    epochs: int = 80
    batch_size: int = 512
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    weight_decay: float = 1e-4
    patience: int = 10
    class_weights: bool = True
    benign: int = 0
    task: Task = "detection"
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    accumulate: int = 1
    averaging: float = 0.0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "threads", "accumulate"):
            most = _MOST_THREADS if name == "threads" else _MOST
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"training option {name} is {getattr(self, name)}; 1 to {most} is right")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"training option learning_rate is {self.learning_rate}; a number above 0 is needed")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"training option weight_decay is {self.weight_decay}; a number from 0 is needed")
        if not 0 <= self.averaging <= 1:
            raise InputError(f"training option averaging is {self.averaging}; a number from 0 to 1 is needed")
        if not 0 <= self.seed <= _MOST:
            raise InputError(f"training option seed is {self.seed}; a whole number from 0 to 2**63 - 1 is needed")


def torch_device(name: str) -> torch.device:
    """The device of that name, if this machine has it.

    Raises:
        InputError: It is not a device that this installation of torch can use.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is unknown; use cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise InputError(f"device {name!r} is not supported; use cpu, cuda or cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        raise InputError(f"device {name!r}: torch {torch.__version__} finds no CUDA device here; use --device cpu")
    if (device.index or 0) >= found:
        raise InputError(f"device {name!r}: there are {found} CUDA devices, counted from 0")
    return device
