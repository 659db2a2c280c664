"""`hauberk train --data … --out FOLDER`: train a reference detector."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.models import ModelCard


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", required=True, help="spambase, nsl-kdd, or a .csv, .tsv, .parquet or .npz file")
    parser.add_argument("--label", metavar="COLUMN", help="label column (default: by name, else the last)")
    parser.add_argument("--benign", metavar="CLASS", help="the class that is no attack (default: by name)")
    parser.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="leave a column out; repeatable")
    parser.add_argument("--schema", type=Path, metavar="FILE", help="record schema (default: inferred from the data)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where model and card are written")
    network = parser.add_argument_group("network")
    network.add_argument("--widths", default="256,128,64", help="units of the hidden layers (default: %(default)s)")
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
    training.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of matrix products")


def run(options: argparse.Namespace, output: Output) -> int:
    """Train, save, and say how it went."""
    from hauberk.data import load_splits
    from hauberk.schema import read_schema
    from hauberk.train import TrainingOptions, prepare_folder, save_detector, train_detector

    widths = _widths(options.widths)
    training_options = TrainingOptions(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        patience=options.patience,
        class_weights=not options.no_class_weights,
        seed=options.seed,
        threads=options.threads,
        device=options.device,
        precision=options.precision,
    )
    splits = load_splits(
        options.data,
        label=options.label,
        benign=options.benign,
        schema=read_schema(options.schema) if options.schema else None,
        drop=options.drop,
        seed=options.seed,
    )
    prepare_folder(options.out)  # an unwritable folder is found out before the training, not after
    with output.progress() as progress:
        trained = train_detector(
            splits,
            widths=widths,
            options=training_options,
            preprocessing_kind=options.preprocessing,
            progress=progress,
        )
    save_detector(trained, options.out)
    _show(trained.card, options.out, output)
    return 0


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise InputError(f"--widths {text!r}: expected whole numbers with commas, as in 256,128,64") from None


def _show(card: ModelCard, folder: Path, output: Output) -> None:
    record = card.training
    if record is not None:
        accuracy = record.figures["accuracy"]
        output.text(
            f"trained {record.epochs} epochs in {record.seconds:.1f} s, kept the weights of epoch {record.best_epoch}"
        )
        output.text(
            f"validation loss {record.validation_loss:.4f}, accuracy {100 * accuracy.value:.2f} % of {accuracy.samples}"
        )
    output.text(f"model  {folder / 'detector.safetensors'}\ncard   {folder / 'detector.json'}")
    output.document(card)
