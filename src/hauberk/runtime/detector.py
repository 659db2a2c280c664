"""The detector of an opened bundle."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hauberk.backends import Session
from hauberk.bundle import Manifest
from hauberk.errors import BundleError, HauberkError
from hauberk.runtime.one_record import OneRecord
from hauberk.schema.coding import Coded, Coder
from hauberk.schema.record import RecordSchema
from hauberk.tensors import TensorSpec

_FLOAT32, _INT64 = np.dtype(np.float32), np.dtype(np.int64)

_MOST_AT_ONCE = 1024
"""Records a run: enough to keep the processor busy, and a bound on the memory of a large batch."""


class Prediction(NamedTuple):
    """What a detector answers.

    Numbers so large that the model's arithmetic overflows may leave it without an answer (NaN). Such a record raises an
    alert, with the score 1: otherwise whoever may choose the numbers could pass unseen.

    Attributes:
        scores: Float32 [N], in [0, 1]: how likely each record is an attack, in the model's opinion.
        labels: Int64 [N]: 1 where the score reaches the threshold, an alert; 0 elsewhere.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


class Detector:
    """An open detector; `hauberk.open` makes it. Threads may share it.

    Args:
        manifest: What the bundle says of itself.
        schema: The records that it takes.
        threshold: The score from which on a record raises an alert.
        session: The merged graph: `numeric` and `codes` in, `scores` and `labels` out. The detector closes it.

    Raises:
        BundleError: The graph does not take the records of the schema.
    """

    def __init__(self, manifest: Manifest, schema: RecordSchema, threshold: float, session: Session) -> None:
        self.manifest = manifest
        self.schema = schema
        self.threshold = threshold
        _check_graph(session, schema)
        self._session = session
        self._coder = Coder(schema)
        self._closed = False
        self._shapes_of_one = ((1, len(schema.numbers)), (1, len(schema.categoricals)))
        # A list is a stack that threads can share: each takes a place for its record, or makes one, and puts it back.
        self._places: list[OneRecord] = []

    @property
    def name(self) -> str:
        """Name of the detector."""
        return self.manifest.name

    def predict(self, records: Any) -> Prediction:
        """Score records.

        Args:
            records: One dict; a list of dicts; a numpy array [N, F] of numbers in schema order, where the schema has no
                categoricals; a pandas or polars frame; or tensors that are coded already (`hauberk.schema.Coded`), the
                fastest way.

        Returns:
            Scores and labels, one a record, in their order.

        Raises:
            SchemaError: A record does not fit the schema; the message names its index and the column.
            LimitError: The model took too long or needed more memory than allowed.
            HauberkError: The detector is closed.
        """
        if self._closed:
            raise HauberkError(f"detector {self.name!r} is closed; open the bundle again")
        is_checked = type(records) is not Coded
        coded = self._coder.code(records) if is_checked else records
        if self._is_one_record(coded):
            return self._predict_one(coded, is_checked=is_checked)
        return self._predict_many(coded if is_checked else self._coder.check(coded))

    def _is_one_record(self, coded: Coded) -> bool:
        """Whether shapes and dtypes are right for one record; anything else goes the general way."""
        numeric, codes = coded
        return (
            type(numeric) is np.ndarray
            and type(codes) is np.ndarray
            and (numeric.shape, codes.shape) == self._shapes_of_one
            and numeric.dtype == _FLOAT32
            and codes.dtype == _INT64
        )

    def _predict_one(self, coded: Coded, *, is_checked: bool) -> Prediction:
        places = self._places
        try:
            place = places.pop()
        except IndexError:
            place = OneRecord(self._session, self.schema)
        place.load(coded)
        if not is_checked and not place.is_plainly_valid():
            self._coder.check(place.coded)
        prediction = Prediction(*place.predict())
        places.append(place)
        return prediction

    def _predict_many(self, coded: Coded) -> Prediction:
        count = len(coded.numeric)
        scores, labels = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.int64)
        names = [spec.name for spec in self._session.signature.inputs]
        for first in range(0, count, _MOST_AT_ONCE):
            part = slice(first, first + _MOST_AT_ONCE)
            feeds = {name: getattr(coded, name)[part] for name in names}
            scores[part], labels[part] = self._session.run(feeds)
        unanswered = np.isnan(scores)
        scores[unanswered] = labels[unanswered] = 1
        return Prediction(scores, labels)

    def close(self) -> None:
        """Free the model once the predictions under way are done. Closing twice is allowed."""
        self._closed = True
        self._places = []
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Detector({self.name!r}{', closed' if self._closed else ''})"


def _check_graph(session: Session, schema: RecordSchema) -> None:
    """Refuse a graph that is not the merged graph of the schema."""
    inputs = {("numeric", "float32", len(schema.numbers)), ("codes", "int64", len(schema.categoricals))}
    wanted = {spec for spec in inputs if spec[-1]}, [("scores", "float32"), ("labels", "int64")]
    signature = session.signature
    found = {_summary(spec) for spec in signature.inputs}, [_summary(spec) for spec in signature.outputs]
    if found != wanted:
        raise BundleError(f"the model takes and gives {found}; the schema asks for {wanted}")


def _summary(spec: TensorSpec) -> tuple[object, ...]:
    return (spec.name, spec.dtype, *spec.shape[1:])
