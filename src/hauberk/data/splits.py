"""Training, validation and test records: split once, by label or in blocks, reproducibly from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hauberk.data.dataset import Dataset


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set.

    Attributes:
        training: What models are fitted on; the only part that an inferred schema saw.
        validation: What training stops by, candidates are chosen by and the threshold is set by.
        test: What is looked at once, at the end.
        digest: SHA-256 (hex) of the source file; for several files, of their listing as `sha256sum` writes it.
        seed: Seed of the split.
        name: Name of the data set.
        block: Consecutive records that the split kept together.
    """

    training: Dataset
    validation: Dataset
    test: Dataset
    digest: str
    seed: int
    name: str
    block: int = 1


def stratified_split(labels: NDArray[np.int64], shares: Sequence[float], seed: int) -> tuple[NDArray[np.int64], ...]:
    """Split rows so that every class has its share in each part.

    A class too small to be shared out (one or two records at 60/20/20) stays in the first part whole.

    Args:
        labels: Int64 [N].
        shares: Share of each part, adding up to 1; the first part takes what rounding leaves.
        seed: Decides which rows go where, together with the order of the rows and nothing else.

    Returns:
        Ascending row indices, int64, for each part.
    """
    generator = np.random.default_rng(seed)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in shares]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        sizes = [int(share * len(rows) + 0.5) if len(rows) > 2 else 0 for share in shares[1:]]
        pieces = np.split(rows, np.cumsum([len(rows) - sum(sizes), *sizes])[:-1])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return tuple(np.sort(np.concatenate(part)).astype(np.int64) for part in parts)


def block_split(records: int, shares: Sequence[float], block: int, seed: int) -> tuple[NDArray[np.int64], ...]:
    """Split rows in blocks of consecutive ones, so that windows of them can be made and no window lies in two parts.

    Classes have their shares only as far as blocks happen to have them.

    Args:
        records: N.
        shares: Share of each part, adding up to 1; the first part takes what rounding leaves.
        block: Rows of a block; the last one may be shorter.
        seed: Decides which blocks go where.

    Returns:
        Ascending row indices, int64, for each part.
    """
    blocks = np.random.default_rng(seed).permutation(-(-records // block))
    sizes = [int(share * len(blocks) + 0.5) for share in shares[1:]]
    pieces = np.split(blocks, np.cumsum([len(blocks) - sum(sizes), *sizes])[:-1])
    part_of_block = np.empty(len(blocks), dtype=np.int64)
    for part, piece in enumerate(pieces):
        part_of_block[piece] = part
    part_of_row = np.repeat(part_of_block, block)[:records]
    return tuple(np.flatnonzero(part_of_row == part).astype(np.int64) for part in range(len(shares)))
