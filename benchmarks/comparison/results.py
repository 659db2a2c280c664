"""What the comparison measures, as plain data that is kept between runs."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from hauberk.measurement import Machine

Kind = Literal["reference", "ours", "peer"]
Steps = tuple[dict[str, Any], ...]
"""Steps of a recipe with their parameters, as its JSON has them: `{"step": "codebook", "bits": 4, …}`."""


class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that one method made of a detector.

    Attributes:
        method: Name of the recipe or of the peer.
        kind: Who made it.
        file: Name in the detector's folder; empty where the method failed.
        engines: What runs it.
        key: Digest of everything that decides the file.
        steps: The steps that were kept, for our recipes.
        undone: The steps that broke their contract and were undone.
        note: Why it failed or what a reader must know; empty otherwise.
        seconds: How long it took.
        settled: False where it failed by the clock or the network, so that another run may end otherwise.
    """

    method: str
    kind: Kind
    file: str
    engines: tuple[str, ...]
    key: str
    steps: Steps = ()
    undone: Steps = ()
    note: str = ""
    seconds: float = 0.0
    settled: bool = True


class Fidelity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well a model decides on one split.

    Attributes:
        quality: Share of records decided right, in [0, 1].
        agreement: Share of records decided as the optimised float32 graph decides them, in [0, 1].
        error: Root mean square of the difference of logits from that graph's, as a fraction of theirs.
        records: How many there were.
        otherwise: Which of them, by position, it decides otherwise than that graph.
    """

    quality: float
    agreement: float
    error: float
    records: int
    otherwise: tuple[int, ...] = ()


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long one call takes, in seconds, and its paired ratio to the optimised float32 graph on ONNX Runtime."""

    p50: float
    p99: float
    ratio: float
    ratio_low: float
    ratio_high: float


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One method on one engine.

    Attributes:
        method: Name of the recipe or of the peer.
        kind: Who made the model.
        engine: What runs it.
        steps: The steps that were kept, for our recipes.
        undone: The steps that were undone.
        size: Bytes of the file; 0 where there is none.
        macs: Multiply-accumulate operations for one record; `None` where they cannot be counted.
        note: Why it failed or what a reader must know.
        validation: On the records that recommendations are chosen by; `None` where the method failed.
        test: On the split that final figures come from.
        elsewhere: On made-up records, columns of one in another; they have no labels, so its `quality` means nothing.
            `None` where there are none (images) or the method failed.
        one: One record a call.
        many: One batch a call.
        one_again: The same once more, for the rows that a target speaks of: timed after the choice, among themselves.
        many_again: As `one_again`.
    """

    method: str
    kind: Kind
    engine: str
    steps: Steps = ()
    undone: Steps = ()
    size: int = 0
    macs: int | None = None
    note: str = ""
    validation: Fidelity | None = None
    test: Fidelity | None = None
    elsewhere: Fidelity | None = None
    one: Timing | None = None
    many: Timing | None = None
    one_again: Timing | None = None
    many_again: Timing | None = None

    @property
    def name(self) -> str:
        """Method and engine, unique in a result."""
        return f"{self.method} · {self.engine}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the steps that were kept."""
        return tuple(step["step"] for step in self.steps)


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about one detector.

    Attributes:
        model: Name of the detector.
        data: What it was trained on.
        batch: Records in a batch.
        rows: The optimised float32 graph on ONNX Runtime (`BASELINE`) is among them.
        noise_one: How far the ratio of the baseline to itself strays from 1, one record a call.
        noise_many: The same, one batch a call.
        rounds: Rounds that were timed, for one record and for a batch.
        machine: Where.
        load: Load average before timing, the benchmark's own share included.
        taken: Date, ISO 8601.
        key: Digest of everything that decides the result; empty where another run may end otherwise.
    """

    model: str
    data: str
    batch: int
    rows: tuple[Row, ...]
    noise_one: float
    noise_many: float
    rounds: tuple[int, int]
    machine: Machine
    load: float
    taken: str
    key: str

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


TORCH, ORT, OPENVINO, OPENVINO_BF16 = "PyTorch", "ORT", "OpenVINO", "OpenVINO bf16"
"""What runs models: eager PyTorch, ONNX Runtime, OpenVINO in float32, OpenVINO in bfloat16 (its own default)."""

EAGER, PLAIN, OPTIMISED = "eager", "float32, as exported", "float32, optimised"
"""The methods that change no number: the module, its export, and the export after the default passes."""

BASELINE = f"{OPTIMISED} · {ORT}"
