"""What a conversion found, as plain data: the command prints it, nothing computes from it."""

from __future__ import annotations

import msgspec

from hauberk.tensors import TensorSpec


class FamilyFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How source and result compare on inputs of one kind.

    Attributes:
        name: "real", "zeros", "boundary", "thresholds", "missing", "random", "uniform", "lattice", "sizes", "extreme".
        records: Compared.
        skipped: Calls that the source framework itself refuses.
        largest: Largest absolute difference of an output; what is not finite on both sides counts as 0.
        outside: Records with an output outside the contract.
        labels: Share of records with the same label, in [0, 1]; `None` where outputs decide nothing.
        judged: Whether they count for the verdict. Extremes of networks are told, not judged: there float32 overflows
            earlier or later as sums are ordered.
    """

    name: str
    records: int
    skipped: int
    largest: float
    outside: int
    labels: float | None
    judged: bool


class Difference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record on which source and result differ by more than the contract allows.

    Attributes:
        where: Family, number of the call within it, and index of the record, as in `thresholds-0[12]`.
        source: The outputs of the source framework for it, as text.
        result: Those of the result.
        inputs: The record, by input; the first 64 numbers of each, as text so that NaN and infinities survive JSON.
    """

    where: str
    source: tuple[str, ...]
    result: tuple[str, ...]
    inputs: dict[str, tuple[str, ...]]


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How source and result compare.

    Attributes:
        framework: Who answered for the source, with its version.
        contract: What was asked for, in words.
        families: By kind of input.
        largest: Largest absolute difference over the families that are judged.
        labels: Share of equal labels over them; `None` where outputs decide nothing.
        holds: Whether every judged output lies within the contract.
        differing: The first records outside it, judged or not.
    """

    framework: str
    contract: str
    families: tuple[FamilyFigures, ...]
    largest: float
    labels: float | None
    holds: bool
    differing: tuple[Difference, ...] = ()


class ConvertedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file: its name, its format, its size in bytes and its SHA-256 (hex)."""

    path: str
    format: str
    size: int
    sha256: str


class Conversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a conversion did.

    Attributes:
        source: The file that was converted.
        result: The file that was written.
        verdict: What the scan said of the source.
        inputs: Of the result; empty for safetensors.
        outputs: Likewise.
        opset: Of the result's standard domain; `None` for safetensors.
        tensors: Number of tensors; `None` for ONNX.
        comparison: How the two compare.
        notes: What a reader should know, one sentence each.
        seconds: Wall-clock time of all of it.
    """

    source: ConvertedFile
    result: ConvertedFile
    verdict: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int | None
    tensors: int | None
    comparison: Comparison
    notes: tuple[str, ...]
    seconds: float
