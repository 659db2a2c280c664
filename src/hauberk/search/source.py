"""A model as the user names it: file, card, own code; and that nothing is written over any of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hauberk.errors import InputError
from hauberk.ingest import find_card
from hauberk.models import WEIGHTS_FILE, ModelCard, read_any_card, read_card
from hauberk.search.prepare import ModelSource
from hauberk.train import PreprocessingKind


def find_source(
    model: Path,
    *,
    card: Path | None = None,
    arch: str | None = None,
    preprocessing: PreprocessingKind = "none",
    seed: int | None = None,
    records_only: bool = False,
) -> tuple[ModelSource, int]:
    """The model with its card, and the seed of everything.

    Args:
        model: A model file, or a folder that `hauberk train` wrote.
        card: Its model card; by default the one beside it.
        arch: `FILE.py:CALLABLE`, the user's own code that builds the network.
        preprocessing: What a model without a card expects its numbers to have gone through.
        seed: By default that of the card, so that records which the model was tested on stay unseen, else 0.
        records_only: Refuse the card of an image model.

    Raises:
        InputError: The card cannot be read, or is one of an image model where that is refused.
    """
    card_path = find_card(model, card)
    known = None if card_path is None else (read_card if records_only else read_any_card)(card_path)
    if seed is None:
        seed = known.training.split_seed if known and known.training else 0
    of_records = known if isinstance(known, ModelCard) else None
    return ModelSource(model, of_records, card_path, arch, preprocessing), seed


def require_apart(outputs: Collection[Path], source: ModelSource, others: Collection[Path | None]) -> None:
    """Refuse to write over what a result is made of: the model with its card and code, and other inputs.

    Raises:
        InputError: An output is one of these files.
    """
    own_code = Path(source.arch.rpartition(":")[0]) if source.arch else None
    inputs = (source.path, source.path / WEIGHTS_FILE, source.card_path, own_code, *others)
    taken = {path.resolve() for path in inputs if path is not None}
    for path in outputs:
        if path.resolve() in taken:
            raise InputError(f"{path}: the result is made of this file; write to another")
