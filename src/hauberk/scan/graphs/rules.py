"""What the scan of ONNX files may find."""

from __future__ import annotations

from hauberk.scan.report import Outcome, Rule, Severity

_SECURITY = "https://github.com/onnx/onnx/blob/main/docs/Security.md"
_ENCODING = "https://protobuf.dev/programming-guides/encoding/"
_IR = "https://github.com/onnx/onnx/blob/main/docs/IR.md"
_EXHAUSTION = "https://cwe.mitre.org/data/definitions/400.html"


def _unsafe(id: str, title: str, severity: Severity, why: str, reference: str = "") -> Rule:  # noqa: A002
    return Rule(id, title, severity, Outcome.UNSAFE, why, reference)


def _unknown(id: str, title: str, severity: Severity, why: str, reference: str = "") -> Rule:  # noqa: A002
    return Rule(id, title, severity, Outcome.UNKNOWN, why, reference)


# The message itself.

BROKEN = _unknown(
    "onnx-broken",
    "damaged or cut short",
    Severity.LOW,
    "It ends, or makes no sense, before its own lengths say so; what a reader takes from it is not certain.",
    _ENCODING,
)
AMBIGUOUS = _unsafe(
    "onnx-ambiguous",
    "readers do not agree on what it says",
    Severity.MEDIUM,
    "Readers of protobuf differ on how this is read (fields given twice, numbers longer than they are, groups, texts"
    " that are none), so what one checks is not what another loads. No exporter writes such files.",
    _ENCODING,
)
UNKNOWN_FIELD = _unknown(
    "onnx-unknown-field",
    "a field that ONNX does not define",
    Severity.LOW,
    "A reader that knows the field may do something that the scan did not look at.",
    "https://github.com/onnx/onnx/blob/main/onnx/onnx.proto",
)
TOO_LARGE = _unknown(
    "onnx-too-large",
    "more parts than are followed",
    Severity.MEDIUM,
    "It holds more nodes, tensors or text than any detector; the rest was not looked at.",
    _EXHAUSTION,
)
NESTED = _unsafe(
    "onnx-nesting",
    "graphs or types nested without reason",
    Severity.HIGH,
    "Readers go down such nesting by calling themselves, and exhaust their stack.",
    "https://cwe.mitre.org/data/definitions/674.html",
)
INVALID = _unknown(
    "onnx-invalid",
    "not a valid model",
    Severity.LOW,
    "It breaks a rule that ONNX sets for every model, so runtimes reject it or guess what it means.",
    _IR,
)
TEXT_FORMAT = _unknown(
    "onnx-text",
    "a model written as text",
    Severity.LOW,
    "The scan reads models in ONNX's binary form only. Save it in that form and scan the result.",
    "https://onnx.ai/onnx/api/serialization.html",
)
RUNTIME_FORMAT = _unknown(
    "onnx-ort-format",
    "a model in the format of ONNX Runtime",
    Severity.LOW,
    "The scan reads models in ONNX's own form only; this one is a memory image made for one runtime, whose reader"
    " trusts it more than it trusts ONNX files. Scan and use the ONNX model that it was made of.",
    "https://onnxruntime.ai/docs/performance/model-optimizations/ort-format-models.html",
)
TRAINING = _unknown(
    "onnx-training",
    "graphs for training",
    Severity.LOW,
    "No detector needs them, and what they cost was not estimated. Save the model without training_info.",
    _IR,
)
RUNTIME_SETTINGS = _unsafe(
    "onnx-runtime-settings",
    "settings for the runtime",
    Severity.HIGH,
    "ONNX Runtime takes settings of its sessions from this metadata where the environment variable"
    " ORT_LOAD_CONFIG_FROM_MODEL allows it: threads, optimisation, files to write. Remove the metadata 'ort_config'.",
    "https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/session/inference_session_utils.h",
)

# Tensors.

TENSOR_SIZE = _unsafe(
    "onnx-tensor-size",
    "a tensor whose data do not fit its shape",
    Severity.HIGH,
    "Readers that trust the shape read or write beyond the data; readers that trust the data differ from them.",
    "https://nvd.nist.gov/vuln/detail/CVE-2024-27319",
)
NEGATIVE = _unsafe(
    "onnx-negative-dimension",
    "a dimension below zero or beyond any memory",
    Severity.HIGH,
    "Sizes computed from it wrap around, and memory is taken for another size than is written.",
    "https://cwe.mitre.org/data/definitions/190.html",
)
SPARSE_INDEX = _unsafe(
    "onnx-sparse-index",
    "a sparse tensor with indices outside its shape",
    Severity.HIGH,
    "Whoever makes it dense writes where the index points, outside the memory that the shape asks for.",
    "https://cwe.mitre.org/data/definitions/787.html",
)
TENSOR_KIND = _unknown(
    "onnx-tensor-type",
    "a tensor of an unknown type",
    Severity.LOW,
    "Its size cannot be told, so its data cannot be checked.",
    _IR,
)

# Data in other files.

EXTERNAL_PATH = _unsafe(
    "onnx-external-path",
    "weights that lie outside the model's folder",
    Severity.HIGH,
    "Loading the model reads (and saving it again overwrites) a file of its choice, and the content comes out as"
    " weights: CVE-2022-25882, CVE-2024-27318, CVE-2025-51480. Weights belong beside the model, under a plain name.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-51480",
)
EXTERNAL_MEMORY = _unsafe(
    "onnx-external-memory",
    "weights at an address in memory",
    Severity.CRITICAL,
    "The name is ONNX Runtime's own mark for weights that lie in memory already; versions that take it from a file"
    " read from whatever address the model names.",
    "https://github.com/microsoft/onnxruntime/pull/28709",
)
EXTERNAL_LINK = _unsafe(
    "onnx-external-link",
    "weights behind a link",
    Severity.HIGH,
    "A symbolic or hard link in the place of weights makes the reader open another file: CVE-2026-27489 and"
    " CVE-2026-34446. Copy the file itself there.",
    "https://nvd.nist.gov/vuln/detail/CVE-2026-34446",
)
EXTERNAL_SELF = _unsafe(
    "onnx-external-self",
    "weights that are the model file itself",
    Severity.MEDIUM,
    "The bytes of the message are taken for weights; saving the model overwrites it while it is read.",
    _SECURITY,
)
EXTERNAL_RANGE = _unsafe(
    "onnx-external-range",
    "weights beyond the end of their file, or of another size",
    Severity.HIGH,
    "Readers that map the file read past its end and die, others allocate what the model asks for.",
    _SECURITY,
)
EXTERNAL_KEY = _unsafe(
    "onnx-external-key",
    "an entry about weights that ONNX does not define",
    Severity.HIGH,
    "Older readers set attributes of their own objects by the names that the file gives them (CVE-2026-34445), and"
    " entries given twice or numbers in odd spellings are read in different ways.",
    "https://nvd.nist.gov/vuln/detail/CVE-2026-34445",
)
EXTERNAL_MISSING = _unknown(
    "onnx-external-missing",
    "weights that are not there",
    Severity.LOW,
    "The file that should hold weights does not exist, or was not handed in with the model; it was not looked at.",
    _SECURITY,
)
EXTERNAL_OVERLAP = _unknown(
    "onnx-external-overlap",
    "weights that overlap",
    Severity.MEDIUM,
    "Tensors share some of their bytes but not all; no exporter writes this, and writing one changes the other.",
    _SECURITY,
)
EXTERNAL_INDICES = _unknown(
    "onnx-external-indices",
    "indices of a sparse tensor in another file",
    Severity.MEDIUM,
    "Whoever makes it dense writes where the index points, and the indices were not looked at. No exporter puts them"
    " there.",
    _SECURITY,
)
EXTERNAL_PREPACKED = _unknown(
    "onnx-external-prepacked",
    "weights laid out for one processor's kernels",
    Severity.LOW,
    "ONNX Runtime hands these bytes to its kernels as they lie; what they mean cannot be checked.",
    "https://onnxruntime.ai/docs/reference/",
)

# Operators.

EXTENSION = _unsafe(
    "onnx-operator-code",
    "an operator that runs code or reads files",
    Severity.CRITICAL,
    "Where its library is installed, this operator runs Python, opens files or talks to the network as the model says.",
    "https://github.com/microsoft/onnxruntime-extensions/blob/main/docs/custom_ops.md",
)
EP_CONTEXT = _unknown(
    "onnx-ep-context",
    "a compiled program for an accelerator",
    Severity.MEDIUM,
    "EPContext nodes carry or name a binary that a driver executes; nobody can tell from outside what it does.",
    "https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html",
)
EP_CONTEXT_PATH = _unsafe(
    "onnx-ep-context-path",
    "a compiled program outside the model's folder",
    Severity.CRITICAL,
    "An EPContext node names a file to be handed to a driver, and it is not a plain file beside the model.",
    "https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html",
)
CUSTOM_DOMAIN = _unknown(
    "onnx-custom-operator",
    "an operator of a library",
    Severity.MEDIUM,
    "What it does is decided by a library that the scan has not seen. Export the model with standard operators only.",
    "https://onnxruntime.ai/docs/reference/operators/add-custom-op.html",
)
OPERATOR = _unknown(
    "onnx-operator-unknown",
    "an operator that is not known",
    Severity.LOW,
    "Neither ONNX nor ONNX Runtime, as far as this release knows them, has it; what it does cannot be told.",
    "https://onnx.ai/onnx/operators/",
)
BLANK_NAME = _unsafe(
    "onnx-blank-name",
    "an operator with a gap in its list of inputs or outputs",
    Severity.HIGH,
    "ONNX allows a blank name only for what may be left out, which the parts of a list may not. ONNX Runtime dies of it"
    " while it loads or runs the model.",
    "https://cwe.mitre.org/data/definitions/476.html",
)
OPSET = _unknown(
    "onnx-opset-unknown",
    "operators of a version that is not known",
    Severity.LOW,
    "The meaning of operators may have changed since this release was made.",
    "https://github.com/onnx/onnx/blob/main/docs/Versioning.md",
)

# Functions and names.

FUNCTION_RECURSION = _unsafe(
    "onnx-function-recursion",
    "a function that uses itself",
    Severity.HIGH,
    "Runtimes expand functions where they are used; this one never ends.",
    "https://cwe.mitre.org/data/definitions/674.html",
)
FUNCTION_BOMB = _unsafe(
    "onnx-function-bomb",
    "functions that expand without measure",
    Severity.HIGH,
    "A few functions that use one another several times each become millions of nodes when they are expanded.",
    "https://cwe.mitre.org/data/definitions/776.html",
)
FUNCTION_TWICE = _unsafe(
    "onnx-function-twice",
    "a function that is defined twice, or hides an operator",
    Severity.MEDIUM,
    "Readers differ on which definition counts, so what was checked need not be what runs.",
    _IR,
)
DUPLICATE = _unsafe(
    "onnx-duplicate-name",
    "two values of one name",
    Severity.MEDIUM,
    "Readers differ on which of them a node gets, so what was checked need not be what runs.",
    _IR,
)
CYCLE = _unsafe(
    "onnx-cycle",
    "nodes that wait for one another",
    Severity.MEDIUM,
    "No order exists in which they could run; readers that do not look go round for ever.",
    "https://cwe.mitre.org/data/definitions/835.html",
)
UNSORTED = Rule(
    "onnx-unsorted",
    "nodes are not in the order of running",
    Severity.NOTE,
    Outcome.NOTE,
    "ONNX asks for nodes in an order in which they can run; ONNX Runtime sorts them, other readers reject the model.",
    _IR,
)

# What running it costs.

MEMORY_BOMB = _unsafe(
    "onnx-memory-bomb",
    "running it takes more memory than allowed",
    Severity.HIGH,
    "By its shapes alone, this model needs more memory than the limit for one run; a few bytes of file can ask for"
    " any amount. Raise the limit only for a model that is known to be that large.",
    _EXHAUSTION,
)
OPERATION_BOMB = _unsafe(
    "onnx-operation-bomb",
    "running it takes longer than allowed",
    Severity.HIGH,
    "By its shapes and loops alone, one run of this model needs more operations than the limit.",
    _EXHAUSTION,
)
DIVISION = _unsafe(
    "onnx-division-by-zero",
    "whole numbers divided by zero",
    Severity.HIGH,
    "Processors stop a process that divides whole numbers by zero, and runtimes do not look before they divide.",
    "https://cwe.mitre.org/data/definitions/369.html",
)
DIVISION_OVERFLOW = _unsafe(
    "onnx-division-overflow",
    "the least whole number divided by -1",
    Severity.HIGH,
    "The quotient does not fit its type, and processors stop a process that asks for it, as for a division by zero."
    " ONNX Runtime divides what the file holds while it loads it.",
    "https://cwe.mitre.org/data/definitions/190.html",
)
TREE = _unsafe(
    "onnx-tree",
    "a tree whose nodes do not lead to leaves",
    Severity.HIGH,
    "Readers walk trees as their lists say: children that form a cycle keep some of them for ever, and children,"
    " leaves, features or classes that are not there make them read outside their tables. ONNX Runtime looks at these,"
    " other readers and older versions do not.",
    "https://cwe.mitre.org/data/definitions/125.html",
)
TREE_DEPTH = _unsafe(
    "onnx-tree-depth",
    "a tree deeper than a reader's stack",
    Severity.HIGH,
    "ONNX Runtime goes down a tree by calling itself while it loads a model, and dies of one with some ten thousand"
    " levels.",
    "https://cwe.mitre.org/data/definitions/674.html",
)
ENDLESS_LOOP = _unsafe(
    "onnx-endless-loop",
    "a loop without an end",
    Severity.HIGH,
    "Neither a count nor its condition ever ends this loop.",
    "https://cwe.mitre.org/data/definitions/835.html",
)
UNBOUNDED_LOOP = _unknown(
    "onnx-unbounded-loop",
    "a loop whose end depends on data",
    Severity.MEDIUM,
    "How often it runs is decided by values that only a run knows; nothing bounds it before.",
    "https://cwe.mitre.org/data/definitions/834.html",
)
UNBOUNDED_SIZE = _unknown(
    "onnx-unbounded-size",
    "a tensor whose size depends on data",
    Severity.MEDIUM,
    "An operator that can make tensors of any size takes the size from values that only a run knows.",
    "https://cwe.mitre.org/data/definitions/789.html",
)
UNMODELLED = _unknown(
    "onnx-cost-unknown",
    "an operator whose cost cannot be told",
    Severity.LOW,
    "The scan knows this operator but not what it takes to run, or not for these inputs.",
    "https://onnx.ai/onnx/operators/",
)

RULES = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
