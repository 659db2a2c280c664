"""Findings as a hardening run would give them, and the awkward ones."""

import hashlib

import pytest
from msgspec import structs

from hauberk.artifact import StepRecord, Verdict
from hauberk.evaluate.quality import ClassFigures
from hauberk.evaluate.robustness.figures import AttackFigures
from hauberk.measurement import Estimate, Machine, Measurement
from hauberk.requirements import Outcome
from hauberk.search.findings import CandidateFindings, DataFindings, Findings, ThresholdFindings

DETECTION = "detection_rate@fpr=1%"
P99 = "latency.p99 is 6.72 µs (95 % bound 6.85 µs), required {}"
MINUS = "{} minus baseline is {} (95 % bound {}), required >= {}"
HOSTILE = "</title><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;'"


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def rate(name, value, half=0.011, *, difference=None, note=""):
    paired = None if difference is None else Estimate(difference, difference - 0.004, difference + 0.004)
    return Measurement(
        name, value, "fraction", 1000, max(0.0, value - half), min(1.0, value + half), difference=paired, note=note
    )


def seconds(name, value, ratio=None):
    paired = None if ratio is None else Estimate(ratio, ratio * 0.985, ratio * 1.015)
    return Measurement(name, value, "s", 60, value * 0.98, value * 1.02, ratio=paired)


def measured(latency, size, detection, robust, training=0.0, *, base=False):
    ratio = None if base else latency / 7.42e-6
    figures = [
        seconds("latency.p50", latency, ratio),
        seconds("latency.p99", latency * 1.31, ratio),
        Measurement("throughput", 256 / (latency * 23), "records/s", 60, 250 / (latency * 23), 262 / (latency * 23)),
        Measurement(
            "size", size, "bytes", 1, ratio=None if base else Estimate(size / 302_113, size / 302_113, size / 302_113)
        ),
    ]
    if detection is not None:
        shift = None if base else detection - 0.9312
        figures += [
            rate(DETECTION, detection, difference=shift),
            rate("accuracy", detection + 0.031, 0.008, difference=shift),
        ]
        figures += [Measurement("training_time", training, "s", 1, note="training that making the candidate took")]
    if robust is not None:
        shift = None if base else robust - 0.7143
        note = "no gradient masking found" if base else ""
        figures.append(rate("robust_accuracy", robust, 0.028, difference=shift, note=note))
    return {figure.name: figure for figure in figures}


def step(name, before, after, *, contract=None, kept=True, verdict="holds", took=0.21):
    contract = contract or {"contract": "close", "rtol": 1e-4, "atol": 1e-5}
    if verdict == "holds":
        verdict = Verdict(
            holds=True, compared=2560, agreement=1.0, max_difference=3.2e-6, worst_input="boundary record 17"
        )
    return StepRecord(
        step=name,
        parameters={"step": name, "seed": 0},
        contract=contract,
        before=digest(before),
        after=digest(after if kept else before),
        kept=kept,
        verdict=verdict,
        seconds=took,
    )


BROKEN = Verdict(
    holds=False,
    compared=2560,
    agreement=0.941,
    max_difference=4.75,
    worst_input="real record 1204",
    reason="agreement 94.10 % on real records, at least 99 % asked for; worst on real record 1204",
)

HISTORY = (
    step("admit-safetensors", "file", "module", contract={"contract": "exact"}, verdict=None, took=0.004),
    step("export-onnx", "module", "graph", took=3.8),
    step("clean-up", "graph", "clean"),
    step("strip-metadata", "clean", "bare", contract={"contract": "exact"}),
    step(
        "quantize-static",
        "bare",
        "bare",
        contract={"contract": "lossy", "agreement": 0.99, "rms": 0.05},
        kept=False,
        verdict=BROKEN,
    ),
    step("distil", "bare", "student", contract={"contract": "lossy", "agreement": 0.98, "rms": None}, took=31.4),
    step("merge", "student", "merged", took=0.05),
)


def candidate(name, summary, status, reason, measurements, history=HISTORY[:4]):
    return CandidateFindings(name, summary, {"name": name, "steps": []}, status, (reason,), measurements, history)


def attacks(level):
    return (
        AttackFigures("fgsm", "white-box", rate("robust_accuracy", level + 0.061, 0.027), 0),
        AttackFigures("pgd", "white-box", rate("robust_accuracy", level + 0.004, 0.028), 0),
        AttackFigures("pgd", "transfer", rate("robust_accuracy", level + 0.032, 0.028), 0),
        AttackFigures("square", "scores", rate("robust_accuracy", level + 0.057, 0.027), 1000),
    )


def figures_of_class(name, records, right, *, attack=True, seen=True):
    share = Measurement(
        "rate", right / records, "fraction", records, max(0, right / records - 0.06), min(1, right / records + 0.04)
    )
    return ClassFigures(name, attack, records, right if attack else records - right, share, seen)


CLASSES = (
    figures_of_class("normal", 9711, 9609, attack=False),
    figures_of_class("neptune", 4657, 4655),
    figures_of_class("guess_passwd", 1231, 402),
    figures_of_class("mscan", 996, 881, seen=False),
    figures_of_class("warezmaster", 944, 611),
    figures_of_class("apache2", 737, 698, seen=False),
    figures_of_class("satan", 735, 731),
    figures_of_class("snmpguess", 331, 0, seen=False),
    figures_of_class("rootkit", 13, 4),
)


def usual():
    """A run with one candidate that wins, several that lose, and one that was undone."""
    beaten = "meets every requirement; slower than distilled-64-32"
    distilled = "a network of {} hidden units, distilled from the detector"
    slow = "slower than optimised float32: latency.p50 8.94 µs, 1.20 times the time"
    weak = (
        "misses 'detection_rate@fpr=1% >= baseline - 0.5pt': detection_rate@fpr=1% minus baseline is -4.11 % "
        "(95 % bound -4.51 %), required >= -0.50 %"
    )
    candidates = (
        candidate(
            "float32",
            "the optimised float32 graph",
            "baseline",
            beaten,
            measured(7.42e-6, 302_113, 0.9312, 0.7143, base=True),
        ),
        candidate(
            "int8-dynamic",
            "INT8 weights, activations quantized as they come",
            "refused",
            slow,
            measured(8.94e-6, 91_204, None, None),
        ),
        candidate(
            "int8-static",
            "INT8 weights and activations, per channel, calibrated on training records",
            "refused",
            BROKEN.reason,
            {},
            HISTORY[:5],
        ),
        candidate(
            "float16",
            "weights and arithmetic in half precision",
            "accepted",
            beaten,
            measured(7.51e-6, 152_998, 0.9308, 0.7131),
        ),
        candidate(
            "distilled-128-64",
            distilled.format("128 and 64"),
            "accepted",
            beaten,
            measured(6.21e-6, 118_420, 0.9297, 0.7212, 38.7),
        ),
        candidate(
            "distilled-64-32",
            distilled.format("64 and 32"),
            "recommended",
            "the fastest of those that meet every requirement",
            measured(5.13e-6, 52_310, 0.9288, 0.7195, 31.4),
        ),
        candidate(
            "distilled-16",
            distilled.format("16"),
            "refused",
            weak,
            measured(4.52e-6, 18_020, 0.8901, 0.6633, 27.9),
        ),
    )
    return Findings(
        detector="flow-detector",
        created="2026-11-21T09:14:03Z",
        machine=Machine(
            "AMD EPYC 9B45",
            2,
            25_274_789_888,
            "Linux x86_64",
            "3.11.2",
            {"numpy": "2.4.6", "onnxruntime": "1.31.1"},
        ),
        data=DataFindings("nsl-kdd", digest("data"), 20_156, 5_036, 22_544, 0, unseen=True),
        threat="The adversary knows the model and moves every mutable number by at most 0.05; 1,000 records.",
        threshold=ThresholdFindings(0.8731, 1.9288, 0.01, "at most 1 % false positives on validation data"),
        verdict="distilled-64-32 is recommended: every requirement holds, 0.69 times the time of the baseline.",
        met=True,
        outcomes=(
            Outcome("latency.p99 <= 50us", holds=True, reason=P99.format("<= 50 µs")),
            Outcome(
                "robust_accuracy >= baseline - 1pt",
                holds=True,
                reason=MINUS.format("robust_accuracy", "0.52 %", "0.12 %", "-1.00 %"),
            ),
            Outcome(
                "detection_rate@fpr=1% >= baseline - 0.5pt",
                holds=True,
                reason=MINUS.format(DETECTION, "-0.09 %", "-0.49 %", "-0.50 %"),
            ),
        ),
        recommended="distilled-64-32",
        candidates=candidates,
        test={
            DETECTION: rate(DETECTION, 0.7712, 0.0075, difference=-0.0009),
            "accuracy": rate("accuracy", 0.8034, 0.0052, difference=0.0011),
            "auroc": rate("auroc", 0.9541, 0.0031, difference=-0.0006, note="at no particular threshold"),
            "robust_accuracy": rate("robust_accuracy", 0.6931, 0.0286, difference=0.0052),
        },
        test_baseline={
            DETECTION: rate(DETECTION, 0.7721, 0.0075),
            "accuracy": rate("accuracy", 0.8023, 0.0052),
            "auroc": rate("auroc", 0.9547, 0.0031),
            "robust_accuracy": rate("robust_accuracy", 0.6879, 0.0287),
        },
        classes=CLASSES,
        attacks={
            found.name: attacks(found.measurements["robust_accuracy"].value)
            for found in candidates
            if "robust_accuracy" in found.measurements
        },
        origin=digest("file"),
        history=HISTORY,
        seconds=161.4,
    )


def missed():
    """The least bad is recommended and misses a requirement."""
    findings = usual()
    outcome = Outcome("latency.p99 <= 3us", holds=False, reason=P99.format("<= 3 µs"))
    return structs.replace(
        findings,
        met=False,
        outcomes=(*findings.outcomes, outcome),
        verdict="No candidate meets every requirement; distilled-64-32 misses least: 'latency.p99 <= 3us'.",
    )


def alone():
    """Nothing but the baseline, no requirement, nobody attacked."""
    findings = usual()
    only = structs.replace(findings.candidates[0], measurements=measured(7.42e-6, 302_113, 0.9312, None, base=True))
    return structs.replace(
        findings,
        outcomes=(),
        recommended="float32",
        candidates=(only,),
        attacks={},
        verdict="float32 is recommended.",
        history=(),
        classes=(),
        test={},
        test_baseline={},
    )


def unmeasured():
    """Nothing could be measured at all."""
    findings = alone()
    return structs.replace(findings, candidates=(structs.replace(findings.candidates[0], measurements={}),))


def spread():
    """Candidates of which one is thousands of times slower, as dynamic INT8 is on convolutions."""
    findings = usual()
    slow = candidate(
        "int8-convolutions",
        "ConvInteger has no fast kernel",
        "refused",
        "slower",
        measured(135e-3, 11_000_000, 0.93, 0.5),
    )
    return structs.replace(findings, candidates=(*findings.candidates, slow))


def crowded():
    """Forty classes, twelve candidates on one spot."""
    findings = usual()
    classes = tuple(
        figures_of_class(f"attack family number {number}", 50 + number, number, seen=number % 3 > 0)
        for number in range(39)
    )
    twins = tuple(
        structs.replace(
            findings.candidates[3],
            name=f"float16-variant-{number}",
            measurements=measured(7.5e-6 + number * 1e-8, 150_000, 0.93, 0.71),
        )
        for number in range(12)
    )
    return structs.replace(findings, classes=(CLASSES[0], *classes), candidates=(*findings.candidates, *twins))


def long_names():
    """Names as long as people make them, with and without places to break."""
    findings = usual()
    name = "a-network-with-a-very-long-name-" * 4 + "x" * 80
    candidates = tuple(
        structs.replace(found, name=f"{name}{number}", summary=f"{found.summary} {name}")
        for number, found in enumerate(findings.candidates)
    )
    classes = tuple(structs.replace(found, name=f"{found.name}-{name}") for found in CLASSES)
    return structs.replace(
        findings,
        detector=name,
        candidates=candidates,
        classes=classes,
        recommended=candidates[5].name,
        attacks={candidates[0].name: attacks(0.7)},
    )


def hostile():
    """Markup in everything that comes from outside."""
    findings = usual()
    found = structs.replace(findings.candidates[0], name=HOSTILE, summary=HOSTILE, reasons=(HOSTILE,))
    history = (
        structs.replace(HISTORY[1], step=HOSTILE, parameters={HOSTILE: HOSTILE}, contract=HOSTILE, before=HOSTILE),
    )
    return structs.replace(
        findings,
        detector=HOSTILE,
        created=HOSTILE,
        threat=HOSTILE,
        verdict=HOSTILE,
        machine=structs.replace(findings.machine, processor=HOSTILE, versions={HOSTILE: HOSTILE}),
        data=structs.replace(findings.data, name=HOSTILE, digest=HOSTILE),
        threshold=structs.replace(findings.threshold, rule=HOSTILE),
        outcomes=(Outcome(HOSTILE, holds=True, reason=HOSTILE),),
        candidates=(found, *findings.candidates[1:]),
        classes=(structs.replace(CLASSES[0], name=HOSTILE),),
        attacks={HOSTILE: (structs.replace(attacks(0.7)[0], attack=HOSTILE),)},
        origin=HOSTILE,
        history=history,
    )


SAMPLES = {
    sample.__name__: sample for sample in (usual, missed, alone, unmeasured, spread, crowded, long_names, hostile)
}


@pytest.fixture(params=SAMPLES)
def any_findings(request):
    return SAMPLES[request.param]()


@pytest.fixture(scope="session")
def sample():
    return lambda name: SAMPLES[name]()
