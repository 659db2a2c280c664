"""Coded records with their labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import SchemaError
from hauberk.schema import Coded, Label, RecordSchema


@dataclass(frozen=True)
class Dataset:
    """Records of one schema, coded, with their labels.

    Attributes:
        name: Name of the data set, for reports.
        schema: What the records look like; it has a label.
        coded: The records, `numeric` float32 [N, F] and `codes` int64 [N, C].
        labels: Int64 [N], index into `schema.label.classes`.
        rows: Int64 [N], ascending: the position of each record in the file that it came from. Windows of consecutive
            records are made by it. `None` where the records are the whole file.
    """

    name: str
    schema: RecordSchema
    coded: Coded
    labels: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None

    @property
    def label(self) -> Label:
        """The label column.

        Raises:
            SchemaError: The schema has none.
        """
        if self.schema.label is None:
            raise SchemaError(f"data set {self.name}: the schema has no label")
        return self.schema.label

    @property
    def targets(self) -> NDArray[np.int64]:
        """Int64 [N]: 0 for the benign class, 1 for every other one."""
        label = self.label
        targets: NDArray[np.int64] = (self.labels != label.classes.index(label.benign)).astype(np.int64)
        return targets

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """The records of these indices, in their order."""
        coded = Coded(self.coded.numeric[indices], self.coded.codes[indices])
        rows = indices if self.rows is None else self.rows[indices]
        return replace(self, coded=coded, labels=self.labels[indices], rows=rows)
