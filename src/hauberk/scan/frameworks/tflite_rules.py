"""What may be found in a model of TensorFlow Lite."""

from __future__ import annotations

from hauberk.scan.report import Outcome, Rule, Severity

BOUNDS = Rule(
    "tflite-bounds",
    "an index or a size that leads outside the model",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The interpreter reads and writes memory that is not the model's.",
    "https://nvd.nist.gov/vuln/detail/CVE-2020-15211",
)
RECURSION = Rule(
    "tflite-recursion",
    "subgraphs that call themselves",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The interpreter calls them until its stack is used up.",
    "https://nvd.nist.gov/vuln/detail/CVE-2021-29591",
)
FLEX = Rule(
    "tflite-flex",
    "operations of TensorFlow in a TensorFlow Lite model",
    Severity.LOW,
    Outcome.UNKNOWN,
    "With the Flex delegate, the operation that a node's options describe runs, whatever its name says.",
    "https://www.tensorflow.org/lite/guide/ops_select",
)
CUSTOM = Rule(
    "tflite-custom-operation",
    "an operator of somebody's own",
    Severity.LOW,
    Outcome.UNKNOWN,
    "What it does is decided by the code that is registered under this name, or by a newer version.",
    "https://www.tensorflow.org/lite/guide/ops_custom",
)
UNCHECKED = Rule(
    "tflite-unchecked",
    "an operator whose reach is known only when it runs",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "The interpreter does not check how far this operator reaches, and that depends on what the model computes or on"
    " the size of its input.",
    "https://cwe.mitre.org/data/definitions/125.html",
)
COSTLY = Rule(
    "tflite-costly",
    "a model that takes more than the limits",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "One run takes more memory, or more operations, than the scan's limits allow; a small file can ask for any amount.",
    "https://cwe.mitre.org/data/definitions/400.html",
)
DAMAGED = Rule(
    "tflite-damaged",
    "a model of TensorFlow Lite that cannot be followed",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It is cut short, damaged, or has parts that this version of the format does not know.",
    "https://flatbuffers.dev/internals/",
)
RULES = (BOUNDS, RECURSION, FLEX, CUSTOM, UNCHECKED, COSTLY, DAMAGED)
