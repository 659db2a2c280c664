"""One record at a time, for where every microsecond counts."""

from __future__ import annotations

import math
from operator import le

import numpy as np

from hauberk.backends import Session
from hauberk.schema.coding import Coded
from hauberk.schema.record import RecordSchema


class OneRecord:
    """Memory for one record and its answer, bound to the model once. Not for two threads at once.

    ONNX Runtime takes 3 to 4 µs of a call for wrapping inputs and making outputs; with memory that is bound
    beforehand they are saved, and spent on checking the record.

    Args:
        session: The merged graph.
        schema: Its records.

    Attributes:
        coded: The record's tensors, float32 [1, F] and int64 [1, C]; the next `load` overwrites them.
    """

    def __init__(self, session: Session, schema: RecordSchema) -> None:
        self._batch = session.fixed_batch(1)
        inputs, outputs = self._batch.inputs, self._batch.outputs
        numeric = inputs.get("numeric", np.zeros((1, 0), dtype=np.float32))
        codes = inputs.get("codes", np.zeros((1, 0), dtype=np.int64))
        self.coded = Coded(numeric, codes)
        self._numbers, self._codes = numeric[0], codes[0]
        self._highest_codes = [len(feature.categories) for feature in schema.categoricals]
        self._scores, self._labels = outputs["scores"], outputs["labels"]

    def load(self, coded: Coded) -> None:
        """Copy a record in; dtypes and shapes must be right already."""
        self.coded.numeric[...] = coded.numeric
        self.coded.codes[...] = coded.codes

    def is_plainly_valid(self) -> bool:
        """Whether the record is surely valid; False means that a slower look must decide."""
        # The sum of squares is not finite if a number is not, or if it overflows.
        if not math.isfinite(np.vdot(self._numbers, self._numbers)):
            return False
        codes: list[int] = self._codes.tolist()
        return not codes or (min(codes) >= 0 and all(map(le, codes, self._highest_codes)))

    def predict(self) -> tuple[np.ndarray, np.ndarray]:
        """Score the record.

        Returns:
            Fresh arrays: score float32 [1], label int64 [1].

        Raises:
            LimitError: The run took too long or needed more memory than allowed.
        """
        self._batch.run()
        scores, labels = self._scores.copy(), self._labels.copy()
        if math.isnan(scores.item()):
            scores[0] = labels[0] = 1  # as in Prediction
        return scores, labels
