"""Random graphs through every pass: equal results, or a named, undone pass. Nothing may differ in silence.

    python benchmarks/fuzz_passes.py --graphs 2000 [--hypothesis] [--others] [--seed 0] [--out fuzz.json]

Each graph goes through all of our passes, one after the other, each verified by the harness: graphs of an even seed in
the default order, others in a random one, so that passes meet what clean-up would have tidied. With `--others` it also
goes through onnxslim, onnxsim and ONNX Runtime's offline optimisation, each on its own.

Then a judge that shares nothing with the harness but the double-precision evaluator compares the first graph with the
last: fresh inputs from another distribution and other sizes, ONNX Runtime with its optimisations off, and onnx's
reference implementation.

With `--hypothesis` every decision about a graph is hypothesis's, which also tries edges that dice rarely throw, and
shrinks a graph that fails before it is reported.

A chunk of graphs runs in a process of its own, because a library may end it; the graph and the pass are then named.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact
from hauberk.errors import HauberkError
from hauberk.graph.harness import GraphVerifier
from hauberk.graph.model import parse, signature_of
from hauberk.graph.passes import OPTIONAL, PASSES
from hauberk.graph.passes.choose_fastest import ChooseFastest
from hauberk.graph.passes.fix_batch import FixBatch
from hauberk.graph.passes.foreign import ForeignPass
from hauberk.graph.precise import double_runner
from hauberk.optimisation import OTHERS
from hauberk.recipe import Context, Step
from random_graphs import random_graph

OURS = (*PASSES, *(kind for kind in OPTIONAL if kind not in (ChooseFastest, FixBatch)))
"""Without the pass that only times others, and the one that changes what a graph takes."""

CHUNK = 50
_NOTHING = np.zeros(0, np.float32)
_RTOL, _ATOL = 1e-3, 1e-4
_BATCHES = (5, 1, 3)
_SHOWN = 30

_stopped: list[bool] = []
"""Filled by the first signal; the chunk at work is finished, then the summary is printed."""

Feeds = dict[str, NDArray[np.generic]]


@dataclass
class Report:
    """What happened to one graph.

    Attributes:
        seed: Of the graph.
        kept: Passes that changed it and held.
        undone: Passes that were undone, with the reason.
        crashed: Passes that raised something else than an error of ours.
        silent: Differences that the harness let through.
        nodes: Before and after our passes.
    """

    seed: int
    kept: list[str] = field(default_factory=list)
    undone: list[tuple[str, str]] = field(default_factory=list)
    crashed: list[tuple[str, str]] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    nodes: tuple[int, int] = (0, 0)


def fuzz(seed: int, *, others: bool, log: Path | None = None) -> Report:
    """The graph of a seed through all passes."""
    return fuzz_graph(random_graph(seed), seed, others=others, log=log)


def fuzz_graph(proto: onnx.ModelProto, seed: int, *, others: bool, log: Path | None = None) -> Report:
    """A graph through all passes; the seed decides their order and the inputs."""
    report = Report(seed)
    model = proto.SerializeToString()
    start = OnnxArtifact(model, signature_of(proto), "0" * 64)
    context = Context(calibration=_NOTHING, bounds=(_NOTHING, _NOTHING), seed=seed)

    def applied(kind: type[Step], before: OnnxArtifact) -> OnnxArtifact:
        step = kind()
        if log is not None:
            log.write_text(json.dumps({"seed": seed, "pass": step.name}))
        return _apply(step, before, context, report)

    current = start
    order = np.random.default_rng(seed).permutation(len(OURS)) if seed % 2 else range(len(OURS))
    for index in order:
        current = applied(OURS[index], current)
    report.nodes = len(proto.graph.node), len(parse(current.model).graph.node)
    report.silent += judge(start.model, current.model, seed, list(report.kept))
    for kind in OTHERS if others else ():
        after = applied(kind, start)
        if after is not start:
            report.silent += judge(start.model, after.model, seed, [report.kept[-1]])
    return report


def _apply(step: Step, before: OnnxArtifact, context: Context, report: Report) -> OnnxArtifact:
    try:
        if isinstance(step, ForeignPass):  # without a process of its own: this one is expendable
            model = step.rewritten(before.model)
            after = OnnxArtifact(model, signature_of(parse(model)), before.origin)
        else:
            result = step.apply(before, context)
            assert isinstance(result, OnnxArtifact)
            after = result
        if after.model == before.model:
            return before
        verdict = GraphVerifier()(before, after, step.contract, context)
    except HauberkError as error:
        report.undone.append((step.name, str(error)))
        return before
    except Exception as error:  # noqa: BLE001 - to be reported
        report.crashed.append((step.name, f"{type(error).__name__}: {error}"[:300]))
        return before
    if not verdict.holds:
        report.undone.append((step.name, verdict.reason))
        return before
    report.kept.append(step.name)
    return after


def judge(before: bytes, after: bytes, seed: int, passes: Sequence[str]) -> list[str]:
    """What differs between two graphs on fresh inputs, and is no rounding; one sentence each."""
    if before == after:
        return []
    old, new = _plain_session(before), _plain_session(after)
    try:
        exact = double_runner(before)
    except Exception:  # noqa: BLE001 - the judge does without it
        exact = None
    found = []
    for number, feeds in enumerate(_fresh_inputs(parse(before), seed)):
        try:
            was = old.run(None, feeds)
        except Exception:  # noqa: BLE001 - not even the original runs on it
            continue
        try:
            now = new.run(None, feeds)
        except Exception as error:  # noqa: BLE001 - to be reported
            found.append(f"{seed}: fails after {', '.join(passes)}: {error}"[:300])
            continue
        found += [
            f"{seed}: {fault} on input {number} after {', '.join(passes)}"
            for fault in _faults(was, now, feeds, exact, len(passes))
        ]
    return found


def _faults(
    was: Sequence[NDArray[np.generic]],
    now: Sequence[NDArray[np.generic]],
    feeds: Feeds,
    exact: object,
    count: int,
) -> Iterator[str]:
    truths: Sequence[NDArray[np.generic]] | None = None
    for index, (old, new) in enumerate(zip(was, now, strict=True)):
        if old.shape != new.shape or old.dtype != new.dtype:
            yield f"output {index} was {old.dtype} {old.shape} and is {new.dtype} {new.shape}"
            continue
        far = _far(old, new, count)
        if not far.any():
            continue
        if truths is None and callable(exact):
            try:
                truths = exact(feeds)
            except Exception:  # noqa: BLE001 - the reference does not know every operator
                truths = list(was)
        truth = old if truths is None else truths[index].reshape(old.shape)
        with np.errstate(all="ignore"):
            own = np.abs(old.astype(np.float64) - truth.astype(np.float64))
            own_error = np.nanmax(np.where(np.isfinite(own), own, 0.0), initial=0.0)
            theirs = np.abs(new.astype(np.float64) - truth.astype(np.float64))
            worse = far & ~(theirs <= 4 * count * own_error + _ATOL * count)
            if old.dtype.kind in "iub":
                worse &= old == truth
        if worse.any():
            place = int(np.argmax(worse))
            yield f"output {index} was {old.flat[place]} and is {new.flat[place]}, exactly {truth.flat[place]}"


def _far(old: NDArray[np.generic], new: NDArray[np.generic], count: int) -> NDArray[np.bool_]:
    """Where two answers differ by more than that many passes may add up to."""
    if old.dtype.kind in "iub":
        return np.asarray(old != new)
    with np.errstate(all="ignore"):
        same = np.isclose(
            new.astype(np.float64), old.astype(np.float64), rtol=_RTOL, atol=_ATOL * count, equal_nan=True
        )
    return np.asarray(~same)


def _plain_session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _fresh_inputs(proto: onnx.ModelProto, seed: int) -> Iterator[Feeds]:
    random = np.random.default_rng([seed, 77])
    for batch in _BATCHES:
        for scale, reach in ((1.0, (0, 3)), (5.0, (0, 3)), (0.01, (0, 3)), (1.0, (-(1 << 40), 1 << 40))):
            feeds: Feeds = {}
            for value in proto.graph.input:
                tensor = value.type.tensor_type
                shape = [dim.dim_value if dim.HasField("dim_value") else batch for dim in tensor.shape.dim]
                if tensor.elem_type == onnx.TensorProto.FLOAT:
                    feeds[value.name] = (scale * random.laplace(size=shape)).astype(np.float32)
                else:
                    feeds[value.name] = random.integers(*reach, shape)
            yield feeds


def run_chunk(first: int, count: int, *, others: bool, drawn: bool, out: Path) -> None:
    """What one process does: a line of JSON for each graph."""
    log = out.with_suffix(".now")
    with out.open("a") as lines:

        def write(report: Report) -> None:
            lines.write(json.dumps(asdict(report)) + "\n")
            lines.flush()

        if drawn:
            for report in drawn_reports(first, count, others=others, log=log):
                write(report)
            return
        for seed in range(first, first + count):
            write(fuzz(seed, others=others, log=log))


def drawn_reports(first: int, count: int, *, others: bool, log: Path | None = None) -> list[Report]:
    """Graphs that hypothesis draws; of those that fail, the smallest that it shrank them to comes last."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from random_draws import graphs

    reports: list[Report] = []

    @seeded(first)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(graphs())
    def each(proto: onnx.ModelProto) -> None:
        report = fuzz_graph(proto, first + min(len(reports), count - 1), others=others, log=log)
        reports.append(report)
        assert not failed([report])

    try:
        each()
    except AssertionError:  # what failed is in the reports, which is where it is looked for
        first_failure = next(index for index, report in enumerate(reports) if failed([report]))
        return [*reports[:first_failure], [report for report in reports if failed([report])][-1]]
    return reports


def run_all(first: int, count: int, *, others: bool, drawn: bool, keep: Path | None) -> list[Report]:
    """All graphs, chunk by chunk; a graph that ends its process is reported as a crash of the pass that was at work.

    Interrupted, it returns what there is; `keep` takes every report as soon as its chunk is done.
    """
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "reports.jsonl")
        while len(reports) < count and not _stopped:
            at = first + len(reports)
            size = min(CHUNK, first + count - at)
            out.write_text("")
            command = [sys.executable, __file__, "--chunk", str(at), str(size), str(out)]
            command += [flag for flag, wanted in (("--others", others), ("--hypothesis", drawn)) if wanted]
            done = subprocess.run(command, check=False, capture_output=True)
            made = [Report(**json.loads(line)) for line in out.read_text().splitlines()]
            reports += made
            if done.returncode:
                last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
                now = json.loads(out.with_suffix(".now").read_text())
                reason = f"process left with {done.returncode}: {last}"
                reports.append(Report(now["seed"], crashed=[(now["pass"], reason)]))
            if keep is not None:
                keep.write_text(json.dumps([asdict(report) for report in reports], indent=1))
            print(f"{len(reports)} of {count}", file=sys.stderr)
    return reports


def show(reports: Sequence[Report]) -> None:
    """The summary for people."""
    kept = Counter(name for report in reports for name in report.kept)
    undone = Counter(name for report in reports for name, _ in report.undone)
    crashed = Counter(name for report in reports for name, _ in report.crashed)
    print(f"{len(reports)} graphs, {sum(report.nodes[0] for report in reports)} nodes before,", end=" ")
    print(f"{sum(report.nodes[1] for report in reports)} after our passes\n")
    print(f"{'pass':<32}{'kept':>6}{'undone':>8}{'crashed':>9}")
    for kind in (*OURS, *OTHERS):
        name = str(kind.__struct_config__.tag)
        print(f"{name:<32}{kept[name]:>6}{undone[name]:>8}{crashed[name]:>9}")
    for title, entries in (("undone", "undone"), ("crashed", "crashed")):
        listed = [(report.seed, *entry) for report in reports for entry in getattr(report, entries)]
        if listed:
            print(f"\n{title}:")
        for seed, name, reason in listed[:_SHOWN]:
            print(f"  graph {seed}: {name}: {reason}")
    silent = [sentence for report in reports for sentence in report.silent]
    print(f"\nsilent differences: {len(silent)}")
    for sentence in silent:
        print(f"  {sentence}")


def failed(reports: Sequence[Report]) -> bool:
    """Whether anything differed in silence, or crashed. What was undone is no failure: the harness is there for it."""
    return any(report.silent or report.crashed for report in reports)


def main() -> int:
    """Run, print, and fail where anything differed in silence or crashed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--graphs", type=int, default=2000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first graph")
    parser.add_argument("--hypothesis", action="store_true", help="graphs that hypothesis draws, and shrinks")
    parser.add_argument("--others", action="store_true", help="other libraries' passes too")
    parser.add_argument("--out", type=Path, help="write every report there as JSON")
    parser.add_argument("--chunk", nargs=3, metavar=("FIRST", "COUNT", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.chunk:
        first, count, out = options.chunk
        run_chunk(int(first), int(count), others=options.others, drawn=options.hypothesis, out=Path(out))
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _stopped.append(True))
    reports = run_all(options.seed, options.graphs, others=options.others, drawn=options.hypothesis, keep=options.out)
    show(reports)
    return 1 if failed(reports) else 0


if __name__ == "__main__":
    sys.exit(main())
