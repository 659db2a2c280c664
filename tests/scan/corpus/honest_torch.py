"""What torch and safetensors write: state dicts of many architectures in every format and pickle protocol.

A case is one architecture in one format; the folder that it makes has a file for each protocol.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from corpus import SAFE, Case
from hauberk.models.registry import fresh

_PROTOCOLS = (2, 3, 4, 5)


class _Attention(nn.Module):
    """An encoder with its embedding, tied to its output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
        self.output = nn.Linear(8, 20, bias=False)
        self.output.weight = self.embedding.weight


def _seeded(build: Callable[[], nn.Module]) -> dict[str, object]:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        return build().state_dict()


def _ours(architecture: str, **parameters: object) -> dict[str, object]:
    return fresh(architecture, parameters, seed=7).state_dict()


def _weight_norm() -> nn.Module:
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), nn.utils.spectral_norm(nn.Linear(3, 2))
    )


def _data_types() -> dict[str, object]:
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128]
    kinds += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    return {str(kind): torch.ones(3, 2, dtype=kind) for kind in kinds}


def _views() -> dict[str, object]:
    whole = torch.arange(24.0).reshape(4, 6)
    return {
        "transposed": whole.t(), "every second": whole[::2, 1:5], "row": whole[1], "expanded": torch.ones(1).expand(5),
        "scalar": torch.tensor(1.5), "empty": torch.zeros(0), "empty row": torch.zeros(0, 4), "last": whole[3, 5],
        "channels last": torch.ones(1, 2, 3, 3).contiguous(memory_format=torch.channels_last),
    }  # fmt: skip


_NORMS = partial(nn.Sequential, nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.PReLU(8))
_CNN = partial(nn.Sequential, nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
_DEPTHWISE = partial(nn.Sequential, nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1), nn.ConvTranspose2d(8, 2, 2))
_BAG = partial(nn.Sequential, nn.EmbeddingBag(30, 4, mode="mean"), nn.LayerNorm(4), nn.Linear(4, 2))

ARCHITECTURES: dict[str, Callable[[], dict[str, object]]] = {
    "tabular-mlp": partial(_ours, "tabular-mlp", inputs=9, widths=(8, 4)),
    "autoencoder": partial(_ours, "autoencoder", inputs=9),
    "window-cnn": partial(_ours, "window-cnn", inputs=5, window=8, channels=(4, 4)),
    "window-lstm": partial(_ours, "window-lstm", inputs=5, hidden=4, layers=2, bidirectional=True),
    "window-gru": partial(_ours, "window-gru", inputs=5, hidden=4),
    "window-transformer": partial(_ours, "window-transformer", inputs=5, width=8, heads=2, layers=1),
    "residual-cnn": partial(_ours, "residual-cnn", widths=(4, 8)),
    "cnn": partial(_seeded, _CNN),
    "depthwise-cnn": partial(_seeded, _DEPTHWISE),
    "group-norm": partial(_seeded, _NORMS),
    "embedding-bag": partial(_seeded, _BAG),
    "transformer-encoder-tied": partial(_seeded, _Attention),
    "rnn-cell": partial(_seeded, partial(nn.RNNCell, 3, 4)),
    "weight-norm": partial(_seeded, _weight_norm),
    "multihead-attention": partial(_seeded, partial(nn.MultiheadAttention, 8, 2)),
    "data-types": _data_types,
    "views": _views,
}
"""State dicts by the name of what they are the state of."""


def _save(value: Callable[[], object], folder: Path, *, legacy: bool) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for protocol in _PROTOCOLS:
            path = folder / f"protocol{protocol}.pt"
            torch.save(value(), path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return folder


def _save_safetensors(value: Callable[[], dict[str, object]], folder: Path) -> Path:
    named = {name: tensor.clone().contiguous() for name, tensor in value().items()}
    state = {name: tensor for name, tensor in named.items() if tensor.dtype != torch.complex128}  # which it has none of
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    save_file(state, folder / "plain.safetensors")
    return folder


def _training(optimizer: str) -> dict[str, object]:
    """A checkpoint in the middle of training, as tutorials write it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        steps = getattr(torch.optim, optimizer)(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps, 10)
        for _ in range(2):
            model(torch.ones(5, 4)).sum().backward()
            steps.step()
            schedule.step()
    return {
        "epoch": 3, "model": model.state_dict(), "optimizer": steps.state_dict(), "scheduler": schedule.state_dict(),
        "best": 0.75, "history": [0.5, 0.6, 0.75], "names": ("benign", "attack"), "done": False, "note": None,
        "sizes": OrderedDict(layers=2), "random": torch.get_rng_state(), "shape": torch.Size([4, 2]),
    }  # fmt: skip


def _values() -> dict[str, object]:
    """Everything besides tensors that torch's restricted unpickler takes."""
    return {
        "parameter": nn.Parameter(torch.ones(2)), "device": torch.device("cpu"), "type": torch.float16,
        "counts": defaultdict(int, a=1), "set": {1, 2}, "long": 1 << 70, "bytes": b"abc", "text": "\u00e9",
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    }  # fmt: skip


def _containers(folder: Path) -> Path:
    """A checkpoint inside of other things."""
    buffer = io.BytesIO()
    torch.save(ARCHITECTURES["cnn"](), buffer)
    data = buffer.getvalue()
    for method, name in ((zipfile.ZIP_STORED, "stored"), (zipfile.ZIP_DEFLATED, "deflated")):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", method) as archive:
            archive.writestr("models/one.pt", data)
            archive.writestr("models/two.pt", data)
    for form, name in ((tarfile.PAX_FORMAT, "pax"), (tarfile.GNU_FORMAT, "gnu"), (tarfile.USTAR_FORMAT, "ustar")):
        with tarfile.open(folder / f"{name}.tar", "w", format=form) as tar:
            entry = tarfile.TarInfo("model.pt" if name == "ustar" else "m" * 150 + ".pt")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    (folder / "model.pt.gz").write_bytes(gzip.compress(data, mtime=0))
    (folder / "model.tar.gz").write_bytes(gzip.compress((folder / "pax.tar").read_bytes(), mtime=0))
    return folder


def _program(folder: Path) -> Path:
    """Exported programs, one with sizes that are decided when it runs."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    torch.export.save(torch.export.export(model, (torch.ones(2, 4),)), folder / "fixed.pt2")
    sizes = ({0: torch.export.Dim("batch", min=2, max=64)},)
    torch.export.save(torch.export.export(model, (torch.ones(4, 4),), dynamic_shapes=sizes), folder / "dynamic.pt2")
    return folder


CASES = (
    *(Case(f"{name}-zip", partial(_save, value, legacy=False), SAFE) for name, value in ARCHITECTURES.items()),
    *(Case(f"{name}-legacy", partial(_save, value, legacy=True), SAFE) for name, value in ARCHITECTURES.items()),
    *(Case(f"{name}-safetensors", partial(_save_safetensors, value), SAFE) for name, value in ARCHITECTURES.items()),
    *(
        Case(f"training-{name.lower()}-{form}", partial(_save, partial(_training, name), legacy=form == "legacy"), SAFE)
        for name in ("SGD", "Adam", "AdamW", "RMSprop")
        for form in ("zip", "legacy")
    ),
    Case("values-zip", partial(_save, _values, legacy=False), SAFE),
    Case("values-legacy", partial(_save, _values, legacy=True), SAFE),
    Case("in-containers", _containers, SAFE),
    Case("exported-programs", _program, SAFE),
)
