"""`hauberk train --data … --out FOLDER`: train a reference detector, of records, windows of them, or images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hauberk.cli import robust_options
from hauberk.cli.data_options import configure_columns
from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.models import ImageCard, ModelCard
    from hauberk.progress import Progress
    from hauberk.train import TrainedDetector, TrainingOptions


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "exit codes: 0 trained and written, 2 bad usage or input (nothing is written)"
    parser.add_argument(
        "--data",
        required=True,
        help="records: spambase, nsl-kdd, or a .csv, .tsv, .parquet or .npz file;"
        " images: digits, or a folder that holds a folder of images for each class",
    )
    configure_columns(parser)
    parser.add_argument("--schema", type=Path, metavar="FILE", help="record schema (default: inferred from the data)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where model and card are written")
    network = parser.add_argument_group("network")
    network.add_argument(
        "--architecture",
        metavar="NAME",
        help="of records: tabular-mlp (default), autoencoder, window-cnn, window-lstm, window-gru, window-transformer;"
        " of images: residual-cnn (default), resnet18, resnet50",
    )
    network.add_argument("--widths", help="units of the hidden layers, as in 256,128,64 (default: the architecture's)")
    network.add_argument(
        "--parameter", metavar="NAME=VALUE", action="append", default=[], help="of the architecture; repeatable"
    )
    network.add_argument("--window", type=int, metavar="T", help="records of a window (default: 16)")
    network.add_argument(
        "--false-positive-rate", type=float, default=0.01, help="an autoencoder's level (default: %(default)s)"
    )
    network.add_argument("--channels", type=int, choices=(1, 3), help="of images: grey or colour (default: colour)")
    network.add_argument("--size", type=int, metavar="S", help="height and width that an image model reads")
    network.add_argument("--resize", type=int, metavar="R", help="shorter side before the crop (default: S)")
    network.add_argument(
        "--preprocessing",
        default="log-minmax",
        choices=("log-minmax", "minmax", "standard", "none"),
        help="how numbers are scaled (default: %(default)s)",
    )
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, default=80, help="at most (default: %(default)s)")
    training.add_argument(
        "--patience", type=int, default=10, help="epochs without a better validation loss (default: %(default)s)"
    )
    training.add_argument("--batch-size", type=int, default=512, help="(default: %(default)s)")
    training.add_argument("--learning-rate", type=float, default=1e-3, help="(default: %(default)s)")
    training.add_argument("--no-class-weights", action="store_true", help="do not weigh both classes alike")
    training.add_argument("--seed", type=int, default=0, help="of the split and the training (default: %(default)s)")
    training.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    training.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    training.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16"),
        help="of matrix products (default: %(default)s)",
    )
    training.add_argument("--weight-decay", type=float, default=1e-4, help="of AdamW (default: %(default)s)")
    training.add_argument(
        "--schedule",
        default="constant",
        choices=("constant", "cosine"),
        help="of the learning rate (default: constant)",
    )
    training.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="compute each batch in N parts (default: %(default)s)"
    )
    training.add_argument(
        "--averaging", type=float, default=0.0, metavar="D", help="keep averaged weights, of this decay (default: none)"
    )
    robust_options.configure(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Train, save, and say how it went."""
    from hauberk.train import prepared_folder, save_detector

    for name in ("epochs", "patience", "batch_size", "threads", "accumulate"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(options, name)}; 1 or more")
    of_images = options.data == "digits" or Path(options.data).is_dir()
    train = (_image_model if of_images else _detector)(options)
    with prepared_folder(options.out):  # an unwritable one is found out before the training, not after
        with output.progress() as progress:
            trained = train(progress)
        save_detector(trained, options.out)
    _show(trained.card, options.out, output)
    return 0


def _detector(options: argparse.Namespace) -> Callable[[Progress], TrainedDetector[Any]]:
    """Load records; what is returned trains on them."""
    from hauberk.data import BLOCK_WINDOWS, load_splits
    from hauberk.schema import read_schema
    from hauberk.train import WINDOW, WINDOWS, train_detector

    _refuse(options, ("channels", "size", "resize"), "images")
    architecture = options.architecture or "tabular-mlp"
    parameters, training_options = _parameters(options), _training_options(options)
    window = options.window
    if window is not None and window < 1:
        raise InputError(f"--window {window}: at least 1 record is needed")
    block = BLOCK_WINDOWS * (window or WINDOW) if architecture in WINDOWS else 1
    splits = load_splits(
        options.data,
        label=options.label,
        benign=options.benign,
        schema=read_schema(options.schema) if options.schema else None,
        drop=options.drop,
        seed=options.seed,
        block=block,
    )
    robust = robust_options.of_records(options)
    return lambda progress: train_detector(
        splits,
        architecture=architecture,
        parameters=parameters,
        window=window,
        options=training_options,
        preprocessing_kind=options.preprocessing,
        false_positive_rate=options.false_positive_rate,
        robust=robust,
        progress=progress,
    )


def _image_model(options: argparse.Namespace) -> Callable[[Progress], TrainedDetector[Any]]:
    """Load images; what is returned trains on them."""
    from hauberk.data import load_digits, load_image_folder
    from hauberk.train import train_image_model

    _refuse(options, ("label", "benign", "drop", "schema", "window"), "records")
    parameters, training_options = _parameters(options), _training_options(options)
    architecture = options.architecture or "residual-cnn"
    if options.data == "digits":
        _refuse(options, ("channels",), "folders of images")
        splits = load_digits(options.seed)
    else:
        side = options.resize or options.size or (32 if architecture == "residual-cnn" else 224)
        splits = load_image_folder(
            Path(options.data), channels=options.channels or 3, shorter_side=side, seed=options.seed
        )
    robust = robust_options.of_images(options)
    return lambda progress: train_image_model(
        splits,
        architecture=architecture,
        size=options.size,
        resize=options.resize,
        parameters=parameters,
        options=training_options,
        robust=robust,
        progress=progress,
    )


def _training_options(options: argparse.Namespace) -> TrainingOptions:
    from hauberk.train import TrainingOptions

    return TrainingOptions(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        patience=options.patience,
        class_weights=not options.no_class_weights,
        seed=options.seed,
        threads=options.threads,
        device=options.device,
        precision=options.precision,
        weight_decay=options.weight_decay,
        schedule=options.schedule,
        accumulate=options.accumulate,
        averaging=options.averaging,
    )


def _refuse(options: argparse.Namespace, names: tuple[str, ...], what: str) -> None:
    for name in names:
        if getattr(options, name):
            raise InputError(f"--{name} is for {what}; --data {options.data} is none")


def _parameters(options: argparse.Namespace) -> dict[str, object]:
    """The architecture's parameters that were asked for."""
    parameters: dict[str, object] = {}
    for text in options.parameter:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals):
            raise InputError(f"--parameter {text!r}: expected NAME=VALUE, as in hidden=32")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            raise InputError(
                f"--parameter {text!r}: the value is no number, list or truth value; as in hidden=32, widths=[64,32] or"
                " bidirectional=true"
            ) from None
    if options.widths is not None:
        parameters["widths"] = _widths(options.widths)
    return parameters


def _widths(text: str) -> list[int]:
    try:
        return [int(width) for width in text.split(",")]
    except ValueError:
        raise InputError(f"--widths {text!r}: expected whole numbers with commas, as in 256,128,64") from None


def _show(card: ModelCard | ImageCard, folder: Path, output: Output) -> None:
    record = card.training
    if record is not None:
        accuracy = record.figures["accuracy"]
        epochs = "1 epoch" if record.epochs == 1 else f"{record.epochs} epochs"
        output.text(f"trained {epochs} in {record.seconds:.1f} s, kept the weights of epoch {record.best_epoch}")
        output.text(
            f"validation loss {record.validation_loss:.4f}, accuracy {100 * accuracy.value:.2f} % of {accuracy.samples}"
        )
        withstood = record.figures.get("robust_accuracy")
        if withstood is not None:
            output.text(f"under the attack that it stopped by {100 * withstood.value:.2f} % of {withstood.samples}")
    output.text(f"model  {folder / 'detector.safetensors'}\ncard   {folder / 'detector.json'}")
    output.document(card)
