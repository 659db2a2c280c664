"""One harness for every change to a model: it runs before and after on the same inputs and holds them to a contract.

`hauberk.graph.verify.verify` feeds it a core's records, `GraphVerifier` the inputs of any ONNX graph. In this order,
and the first that fails decides:

1. names, dtypes and declared shapes of inputs and outputs;
2. whether the graph can be verified at all: it draws no random numbers, and runs on at least one input;
3. outputs on every trial, at several sizes of every free dimension;
4. outputs on the points that a search for differences finds.

An `Exact` step is compared bit for bit with both graphs run as they are written, node by node, extremes included; then
once more as ONNX Runtime fuses them when they are deployed, where its own fusions may round and `DEPLOYED` is asked.
Under `Close`, what differs by more than the contract is judged again with the first graph's own distance from double
precision allowed for (`hauberk.graph.precise`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import onnx

from hauberk.artifact import Artifact, OnnxArtifact, Verdict
from hauberk.errors import InputError
from hauberk.graph import feeds, hunt
from hauberk.graph.compare import Finding, Outputs, Tally, breaches
from hauberk.graph.integers import unbounded
from hauberk.graph.model import RANDOM, describe, nodes, onnx_only, parse, signature_of
from hauberk.graph.precise import Yardstick, rejudge, yardstick
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Answers, Broken, Level, Opener, Runner, Trial, ask, compare, opener, runs_on
from hauberk.recipe import Close, Context, Contract, Exact, Lossy
from hauberk.tensors import Signature, TensorSpec

DEPLOYED = Close()
"""What is asked of an `Exact` step where ONNX Runtime fuses the nodes before and after it differently."""

_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})

Hunter = Callable[[Runner, Runner], Sequence[Trial]]
"""Looks for inputs on which two loaded models differ."""


@dataclass(frozen=True)
class Subject:
    """A model under examination.

    Attributes:
        open: Loads it.
        outputs: What it declares of its outputs.
        exact: Builds its yardstick; `None` where there is none (a torch module, a very large graph).
        levels: Ways in which it can be run. A model whose weights must not be copied runs as it is written only.
        recurrent: Whether it has an LSTM, GRU or RNN: ONNX Runtime 1.31 ends the process when one meets an empty
            sequence or batch, so that neither can be tried.
    """

    open: Opener
    outputs: tuple[TensorSpec, ...]
    exact: Callable[[], Yardstick] | None = None
    recurrent: bool = False
    levels: tuple[Level, ...] = ("as written", "optimised")

    @property
    def names(self) -> tuple[str, ...]:
        """Of its outputs."""
        return tuple(spec.name for spec in self.outputs)


def subject_of(artifact: Artifact) -> Subject:
    """An artifact under examination."""
    outputs = artifact.signature.outputs
    if not isinstance(artifact, OnnxArtifact):
        return Subject(opener(artifact), outputs)
    model = artifact.model
    try:
        recurrent = is_recurrent(parse(model))
    except InputError:
        recurrent = False  # it does not load either, which is said when it is tried
    return Subject(opener(artifact), outputs, exact=lambda: yardstick(model), recurrent=recurrent)


def is_recurrent(model: onnx.ModelProto) -> bool:
    """Whether a model has an LSTM, GRU or RNN, at any depth; see `Subject.recurrent`."""
    return any(node.op_type in _RECURRENT for node in nodes(model))


def survived(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that a recurrent model can be given without ending the process: those with no empty input."""
    return [trial for trial in trials if all(array.size for array in trial.feeds.values())]


@dataclass
class Examination:
    """What comparing two models showed.

    Attributes:
        compared: Every trial of the first comparison with both models' answers.
        tally: Of the contract itself.
        deployed: Of an `Exact` contract's second comparison.
        skipped: Trials that were not compared, because the first model itself fails on them.
    """

    contract: Contract
    tally: Tally
    deployed: Tally
    compared: list[tuple[Trial, Outputs, Outputs]] = field(default_factory=list)
    skipped: int = 0

    @property
    def reason(self) -> str:
        """What broke, on which input, by how much; empty where nothing did."""
        if self.tally.fault is not None:
            return f"{self.tally.fault}; contract {show(self.contract)}"
        if self.deployed.fault is not None:
            fused = f"{self.deployed.fault} once ONNX Runtime has fused the graph"
            return f"{fused}; contract {show(self.contract)}, there {show(DEPLOYED)}"
        return ""

    @property
    def fault(self) -> Finding | None:
        """The worst breach."""
        return self.tally.fault or self.deployed.fault

    def verdict(self, agreement: float, reason: str) -> Verdict:
        """The verdict; `reason` is empty where the contract holds."""
        worst = self.fault or self.tally.worst
        return Verdict(
            holds=not reason,
            compared=self.tally.compared,
            agreement=agreement,
            max_difference=self.tally.worst.difference if self.tally.worst else 0.0,
            worst_input=worst.where if worst else "",
            reason=reason,
            skipped=self.skipped,
        )


def examine(
    before: Subject,
    after: Subject,
    contract: Contract,
    trials: Sequence[Trial],
    hunter: Hunter | None = None,
) -> Examination:
    """Run both models and collect what differs.

    Args:
        before: The step's input.
        after: Its output, with the same inputs and outputs.
        contract: What the step promised.
        trials: What to run.
        hunter: Looks for more to run once nothing was found; it needs both models loaded at once.

    Raises:
        Broken: The second model does not load, fails where the first does not, or returns other shapes or dtypes; or
            the first answers the same input in two ways.
        InputError: The first model does not load, or answers no trial with anything but empty tensors: those are
            equal whatever the step did.
    """
    examination = Examination(contract, Tally(contract), Tally(DEPLOYED))
    if before.recurrent or after.recurrent:
        kept = survived(trials)
        examination.skipped, trials = len(trials) - len(kept), kept
    levels = tuple(level for level in before.levels if level in after.levels)
    for level, tally, chosen in _comparisons(examination, trials, levels):
        compared, answers = _compare(before, after, level, chosen, tally)
        if not any(array.size for _, old, _ in compared for array in old):
            why = answers.failure or "its answers are empty"
            raise InputError(f"the model before the step runs on none of {len(chosen)} inputs: {why}")
        if tally is examination.tally:
            examination.compared = compared
            examination.skipped += answers.skipped
        _excuse(examination, tally, before, compared)
        if examination.fault is not None:
            return examination
    if hunter is not None and not isinstance(contract, Lossy):
        level = next(_comparisons(examination, trials, levels))[0]
        found = hunter(before.open(level), after.open(level))
        compared, answers = _compare(before, after, level, found, examination.tally)
        examination.skipped += answers.skipped
        _excuse(examination, examination.tally, before, compared)
    return examination


def _comparisons(
    examination: Examination, trials: Sequence[Trial], levels: tuple[Level, ...]
) -> Iterator[tuple[Level, Tally, Sequence[Trial]]]:
    """How the models are run, by what they are judged, and on which trials."""
    if isinstance(examination.contract, Exact):
        yield levels[0], examination.tally, trials
        plain = [trial for trial in trials if not trial.family.startswith("extreme")]
        if plain and len(levels) > 1:
            yield levels[1], examination.deployed, plain
    else:
        yield levels[-1], examination.tally, trials


def _compare(
    before: Subject, after: Subject, level: Level, trials: Sequence[Trial], tally: Tally
) -> tuple[list[tuple[Trial, Outputs, Outputs]], Answers]:
    """One model after the other, so that never both are in memory."""
    run = before.open(level)
    answers = ask(run, trials)
    _check_repeatable(run, trials, answers)
    del run
    try:
        run = after.open(level)
    except InputError as error:
        raise Broken(f"the result does not load: {error}") from error
    compared = compare(run, trials, answers, before.names, tally)
    for trial, _, new in compared:
        _check_declared(before.outputs, after.outputs, new, trial.where)
    return compared, answers


def _check_declared(before: Sequence[TensorSpec], after: Sequence[TensorSpec], answer: Outputs, where: str) -> None:
    """Where the second model declares a size that the first left open, its answers have that size.

    Raises:
        Broken: They have another.
    """
    for was, now, array in zip(before, after, answer, strict=True):
        for axis, (open_, size) in enumerate(zip(was.shape, now.shape, strict=True)):
            if isinstance(open_, str) and isinstance(size, int) and array.shape[axis : axis + 1] != (size,):
                raise Broken(f"output {describe(now)} has shape {list(array.shape)} on {where}")


def _check_repeatable(run: Runner, trials: Sequence[Trial], answers: Answers) -> None:
    """The first trial that has an answer has the same answer again."""
    for trial, old in zip(trials, answers.outputs, strict=True):
        if old is not None and any(array.size for array in old):
            again = run(trial.feeds)
            if any(breaches(was, now, Exact()).any() for was, now in zip(old, again, strict=True)):
                raise Broken("cannot be verified: the model before the step answers the same input in two ways")
            return


def _excuse(
    examination: Examination, tally: Tally, before: Subject, compared: Sequence[tuple[Trial, Outputs, Outputs]]
) -> None:
    """Replace a tally by the one that allows for the first model's own rounding errors, where there is one."""
    if tally.fault is None or not isinstance(tally.contract, Close) or before.exact is None:
        return
    again = rejudge(before.exact, compared, before.names, tally)
    if tally is examination.tally:
        examination.tally = again
    else:
        examination.deployed = again


@dataclass(frozen=True)
class GraphVerifier:
    """Verifies any ONNX graph by itself; a `hauberk.recipe.Verifier` for models that come without records.

    Attributes:
        samples: Real inputs and the range of each. Without them, floats are taken to lie within ±100 of 0.
        narrowed: Accept that dimensions which were free became numbers; the two are then compared at these sizes.
    """

    samples: Samples = field(default_factory=Samples)
    narrowed: bool = False

    def __call__(self, before: Artifact, after: Artifact, contract: Contract, context: Context) -> Verdict:
        """Say whether `contract` holds between two graphs.

        Args:
            before: The step's input, with any inputs and outputs that are tensors.
            after: Its output.
            contract: What was promised. Under `Lossy` only shapes and finiteness are looked at.
            context: Only `seed` is read.

        Returns:
            The verdict. A graph that draws random numbers, or runs on no input that was tried, cannot be verified; its
            verdict says so and does not hold, so that the graph is left alone.
        """
        old, new = onnx_only(before, "verification"), onnx_only(after, "verification")

        def examined() -> Examination:
            subject = subject_of(old)
            trials = feeds.trials(
                new.signature,
                runs_on(subject.open("optimised")),
                self.samples,
                extremes=isinstance(contract, Exact),
                seed=context.seed,
                unbounded=unbounded(parse(old.model), parse(new.model)),
            )
            return examine(subject, subject_of(new), contract, trials, self._hunter(old, new, trials, context.seed))

        return judged(old, new, examined, narrowed=self.narrowed)

    def _hunter(self, before: OnnxArtifact, after: OnnxArtifact, trials: Sequence[Trial], seed: int) -> Hunter:
        def look(old: Runner, new: Runner) -> Sequence[Trial]:
            starts = [trial for trial in trials if trial.family in {"real-0", "random-0", "uniform-1", "lattice-2"}]
            try:
                return hunt.by_gradient_of_calls(before, after, starts[:2], self.samples, seed)
            except InputError:
                return hunt.by_climbing(old, new, starts, self.samples, seed)

        return look


def judged(
    before: OnnxArtifact, after: OnnxArtifact, examined: Callable[[], Examination], *, narrowed: bool = False
) -> Verdict:
    """The verdict on a change to any graph: of what `examined` finds, once the two are seen to be comparable.

    Args:
        before: The step's input.
        after: Its output.
        examined: Compares them.
        narrowed: Accept that dimensions which were free became numbers.
    """
    try:
        check_verifiable(parse(before.model))
        check_signature(_narrowed(before.signature, after.signature) if narrowed else before.signature, after)
        examination = examined()
    except Broken as broken:
        return refused(str(broken))
    except InputError as error:
        return refused(f"cannot be verified: {error}")
    return examination.verdict(0.0 if examination.reason else 1.0, examination.reason)


def _narrowed(before: Signature, after: Signature) -> Signature:
    """The first signature with the second one's numbers where it leaves dimensions open."""

    def fixed(wanted: tuple[TensorSpec, ...], got: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        if [len(spec.shape) for spec in wanted] != [len(spec.shape) for spec in got]:
            return wanted
        return tuple(
            msgspec.structs.replace(
                old, shape=tuple(b if isinstance(a, str) else a for a, b in zip(old.shape, new.shape, strict=True))
            )
            for old, new in zip(wanted, got, strict=True)
        )

    return Signature(fixed(before.inputs, after.inputs), fixed(before.outputs, after.outputs))


def refused(reason: str) -> Verdict:
    """The verdict on what could not even be compared."""
    return Verdict(holds=False, compared=0, agreement=0.0, max_difference=0.0, worst_input="", reason=reason)


def check_verifiable(model: onnx.ModelProto) -> None:
    """See that a graph computes the same from the same inputs.

    Raises:
        Broken: It has an operator that draws random numbers, at any depth; the message names it.
    """
    for node in nodes(model):
        if node.op_type in RANDOM and node.domain in {"", "ai.onnx"}:
            name = node.name or ", ".join(node.output)
            raise Broken(f"cannot be verified: {node.op_type} (node {name!r}) draws random numbers")


def check_signature(expected: Signature, after: Artifact) -> None:
    """See that a step kept names, dtypes and shapes; for a graph, what the graph itself declares counts too.

    Raises:
        Broken: It did not.
    """
    found = [after.signature]
    if isinstance(after, OnnxArtifact):
        try:
            found.append(signature_of(parse(after.model)))
        except InputError as error:
            raise Broken(f"the result does not load: {error}") from error
    for signature in found:
        for kind, wanted, got in (
            ("inputs", expected.inputs, signature.inputs),
            ("outputs", expected.outputs, signature.outputs),
        ):
            if list(map(_fixed, wanted)) != list(map(_fixed, got)):
                was, now = (", ".join(map(describe, specs)) or "none" for specs in (wanted, got))
                raise Broken(f"{kind} were {was} and became {now}")


def show(contract: Contract) -> str:
    """The contract as it stands in recipes: `exact`, `close(rtol=…, atol=…)`, …."""
    fields = {name: getattr(contract, name) for name in contract.__struct_fields__}
    shown = ", ".join(f"{name}={value:g}" for name, value in fields.items() if value is not None)
    return f"{contract.__struct_config__.tag}({shown})" if shown else str(contract.__struct_config__.tag)


def _fixed(spec: TensorSpec) -> tuple[str, str, tuple[int | None, ...]]:
    """What must not change: the names that free dimensions happen to have may."""
    return spec.name, spec.dtype, tuple(size if isinstance(size, int) else None for size in spec.shape)
