"""What zip archives of torch may have wrong with them."""

from __future__ import annotations

from hauberk.scan.report import Outcome, Rule, Severity

_SERIALIZATION = "https://docs.pytorch.org/docs/stable/notes/serialization.html"
_EXPORT = "https://docs.pytorch.org/docs/stable/export/pt2_archive.html"
_SCRIPT_ADVICE = (
    "Save model.state_dict() and pass the architecture as code of your own, or convert it in an isolated process"
    " (hauberk convert)."
)

ROOT = Rule(
    "torch-root",
    "members outside the folder that torch reads",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Torch takes the folder of the first member for the model and ignores the others; other tools take another one.",
    _SERIALIZATION,
)
NO_PICKLE = Rule(
    "torch-no-pickle",
    "a checkpoint without its pickle",
    Severity.LOW,
    Outcome.UNKNOWN,
    "data.pkl says what the tensors are; without it nothing is loaded. Get the file again.",
    _SERIALIZATION,
)
RECORD = Rule(
    "torch-record",
    "a small record that is not what torch writes",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Version, byte order and alignment are a few characters; anything else makes readers fail or differ.",
    _SERIALIZATION,
)
STORAGE = Rule(
    "torch-storage",
    "a tensor storage that is missing or too short",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The pickle claims more bytes than the archive holds. Mapped loading takes its word and reads what lies behind.",
    "https://cwe.mitre.org/data/definitions/125.html",
)
STORAGE_LONGER = Rule(
    "torch-storage-longer",
    "a tensor storage with more bytes than tensors",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Torch writes storages exactly as long as it claims; what lies in the rest is no tensor's.",
    _SERIALIZATION,
)
COMPRESSED = Rule(
    "torch-compressed-storage",
    "a compressed tensor storage",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Torch stores tensors as they are. Mapped loading takes the compressed bytes for numbers, plain loading does not.",
    _SERIALIZATION,
)
STORAGE_NAME = Rule(
    "torch-storage-name",
    "a tensor storage with a name of its own",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Torch numbers storages. Under a name, other readers take one for a file of theirs, a module or a pickle.",
    _SERIALIZATION,
)
TRAILING = Rule(
    "torch-trailing",
    "something behind the pickle of a checkpoint",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Torch stops reading before it, so it is there for another reader.",
    _SERIALIZATION,
)
PACKAGE = Rule(
    "torch-package",
    "a package of torch, which holds Python code",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "torch.package takes modules from the archive before those that are installed, and runs them when an object is"
    " loaded, whatever its pickle asks for. Save the state dict instead.",
    "https://docs.pytorch.org/docs/stable/package.html",
)
TORCH_RULES = (
    ROOT, NO_PICKLE, RECORD, STORAGE, STORAGE_LONGER, COMPRESSED, STORAGE_NAME, TRAILING, PACKAGE,
)  # fmt: skip

SCRIPT = Rule(
    "torchscript-code",
    "a TorchScript archive, which holds code",
    Severity.LOW,
    Outcome.UNKNOWN,
    f"TorchScript is a program that runs when the file is loaded and used; no scan proves it safe. {_SCRIPT_ADVICE}",
    "https://docs.pytorch.org/docs/stable/jit.html",
)
SCRIPT_OPERATOR = Rule(
    "torchscript-operator",
    "TorchScript that reads or writes files, or calls other machines",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    f"The code names an operator that works on files or over the network, which no model needs. {_SCRIPT_ADVICE}",
    "https://www.offsec.com/blog/cve-2025-32434/",
)
SCRIPT_CUSTOM = Rule(
    "torchscript-custom-operator",
    "TorchScript that needs operators from elsewhere",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    f"What such an operator or class does is in a library that is not part of torch. {_SCRIPT_ADVICE}",
    "https://docs.pytorch.org/tutorials/advanced/torch_script_custom_ops.html",
)
SCRIPT_TEXT = Rule(
    "torchscript-text",
    "TorchScript that is no plain text",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Its code is not readable as text, or longer than is looked at. " + _SCRIPT_ADVICE,
)
SCRIPT_RULES = (SCRIPT, SCRIPT_OPERATOR, SCRIPT_CUSTOM, SCRIPT_TEXT)

JSON = Rule(
    "pt2-json",
    "a description that cannot be read",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It is no JSON, has a key twice, or is longer than is looked at, so what its reader makes of it cannot be told.",
    _EXPORT,
)
TARGET = Rule(
    "pt2-target",
    "an exported program that calls something that is no operator",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "The name is looked up in Python's torch, operator or math module, attribute by attribute, and called when the"
    " program runs: through torch's own imports it reaches everything, os.system included.",
    "https://cwe.mitre.org/data/definitions/470.html",
)
FILE_OPERATOR = Rule(
    "pt2-file-operator",
    "an exported program that reads or writes files",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "The operator opens a file that the program names, which no model needs.",
    "https://cwe.mitre.org/data/definitions/73.html",
)
CUSTOM_TARGET = Rule(
    "pt2-custom-operator",
    "an exported program that needs operators from elsewhere",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "What such an operator does is in a library that is not part of torch; look at that library first.",
    _EXPORT,
)
EXPRESSION = Rule(
    "pt2-expression",
    "a size that is more than arithmetic",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "Torch hands expressions of sizes to sympy, which evaluates them as Python code while the file is loaded.",
    "https://docs.sympy.org/latest/modules/core.html#sympy.core.sympify.sympify",
)
LONG_EXPRESSION = Rule(
    "pt2-long-expression",
    "a size that may take for ever to compute",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Torch hands expressions of sizes to sympy, which multiplies out and compares all parts of some: a line of text can"
    " keep it busy for years.",
    "https://cwe.mitre.org/data/definitions/1333.html",
)
GUARD = Rule(
    "pt2-guard",
    "a guard that is more than a comparison",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "Torch makes Python code of guards, and runs it with the program.",
    "https://cwe.mitre.org/data/definitions/94.html",
)
STRUCTURE = Rule(
    "pt2-structure",
    "a description of inputs that imports modules",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "Reading the structure of inputs and outputs imports the module that it names.",
    "https://cwe.mitre.org/data/definitions/470.html",
)
STRUCTURE_TYPE = Rule(
    "pt2-structure-type",
    "a container of inputs that is not a plain one",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Its type must have been registered by the program that loads the file, so what it does is not known.",
    _EXPORT,
)
NATIVE = Rule(
    "pt2-native-code",
    "compiled code (AOTInductor)",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "The package holds a library that is loaded and run as native code, or the source for one. Compile the model"
    " yourself from an exported program that was admitted.",
    "https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html",
)
OBJECT = Rule(
    "pt2-object",
    "an object of a class of its own",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Such a constant is rebuilt by code of a library that is not part of the file.",
    _EXPORT,
)
PLACE = Rule(
    "pt2-place",
    "a weight that is not where it should be",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "The description names a file that is not in its folder of the archive.",
    _EXPORT,
)
PT2_RULES = (
    JSON, TARGET, FILE_OPERATOR, CUSTOM_TARGET, EXPRESSION, LONG_EXPRESSION, GUARD, STRUCTURE, STRUCTURE_TYPE,
    NATIVE, OBJECT, PLACE,
)  # fmt: skip
