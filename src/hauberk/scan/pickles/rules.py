"""What can be wrong with a pickle."""

from __future__ import annotations

from hauberk.scan.report import Outcome, Rule, Severity

_DOCUMENTATION = "https://docs.python.org/3/library/pickle.html"
_ADVICE = (
    "Loading a pickle imports and calls whatever it names. Only names on the allow-list are known to do nothing but"
    " rebuild data; save weights as safetensors or as a state dict instead."
)

CODE = Rule(
    "pickle-code",
    "a pickle that asks for a function that runs code",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "This function runs code or commands, opens files or connections, or reaches one that does: it is what malicious"
    " pickles call, and no model needs it.",
    "https://arxiv.org/abs/2508.19774",
)
IMPORT = Rule(
    "pickle-import",
    "a pickle that asks for a name that is not allowed",
    Severity.HIGH,
    Outcome.UNSAFE,
    _ADVICE,
    _DOCUMENTATION,
)
CALL = Rule(
    "pickle-call",
    "a pickle that calls what must not be called",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "The call runs while the file is loaded. Allowed names are called only with arguments that rebuild data.",
    _DOCUMENTATION,
)
BUILD = Rule(
    "pickle-build",
    "a pickle that sets a state that must not be set",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Setting state calls methods of the object, or replaces what Python looks up on it later.",
    "https://docs.python.org/3/library/pickle.html#object.__setstate__",
)
COMPUTED = Rule(
    "pickle-computed-name",
    "a pickle that computes the name that it asks for",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The name comes into being only while the file is loaded, which hides it from readers. No pickler writes that.",
    _DOCUMENTATION,
)
EXTENSION = Rule(
    "pickle-extension",
    "a pickle that asks for a registered extension",
    Severity.HIGH,
    Outcome.UNSAFE,
    "A number stands for a name that only the registry of the loading process knows, so nobody can say what it calls.",
    "https://docs.python.org/3/library/copyreg.html",
)
PERSISTENT = Rule(
    "pickle-persistent-id",
    "a pickle that refers to something outside it",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "What a persistent id stands for is up to the program that loads the pickle; only torch's storages are known.",
    "https://docs.python.org/3/library/pickle.html#pickle-persistent",
)
BUFFER = Rule(
    "pickle-buffer",
    "a pickle that needs buffers from outside it",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Data of it travel apart from the file (protocol 5, out of band); what they hold was not looked at.",
    "https://peps.python.org/pep-0574/",
)
EXHAUSTS = Rule(
    "pickle-exhausts",
    "a pickle that takes memory or time out of proportion",
    Severity.HIGH,
    Outcome.UNSAFE,
    "A few bytes make the loader reserve memory, or work, without end.",
    "https://github.com/python/cpython/issues/115952",
)
BOUNDS = Rule(
    "pickle-tensor-bounds",
    "a tensor or an array that reaches beyond its data",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The view is larger than what it looks at: the loader reads memory that is not its own, or makes room for it.",
    "https://nvd.nist.gov/vuln/detail/CVE-2026-24747",
)
MEMORY = Rule(
    "pickle-memory",
    "a description of data that breaks memory safety",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "With this description raw bytes of the file are taken for addresses of objects, which is as good as running code.",
    "https://numpy.org/doc/stable/reference/security.html",
)
FRAME = Rule(
    "pickle-frame",
    "frames that make readers disagree",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "A frame ends elsewhere than what lies in it; readers with and without frames then see different things.",
    "https://peps.python.org/pep-3154/#framing",
)
CROSSED = Rule(
    "pickle-frame-crossed",
    "an instruction that crosses the end of its frame",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Here CPython's unpickler in C drops the rest of the frame when it reads from a file, and goes on behind it; from"
    " memory it does not. So one file asks for different names, depending on who loads it. No pickler writes that.",
    "https://peps.python.org/pep-3154/#framing",
)
DISAGREE = Rule(
    "pickle-readers-disagree",
    "an instruction that readers take differently",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "One unpickler stops here where another goes on. The scan went on; no pickler writes this.",
    _DOCUMENTATION,
)
DAMAGED = Rule(
    "pickle-damaged",
    "a pickle that breaks off",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "What stands before the break runs all the same; nothing dangerous was found there, but the file is not what its"
    " writer wrote. Download or save it again.",
    "https://www.reversinglabs.com/blog/rl-identifies-malware-ml-model-hosted-on-hugging-face",
)
COMPLEX = Rule(
    "pickle-too-complex",
    "a pickle that is too intricate to follow",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It keeps more values at once than the scan follows; the rest was not looked at.",
)
UNCHECKED = Rule(
    "pickle-unchecked",
    "something that its loader does not check",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Whether it is harmless depends on data that the scan does not interpret.",
)
TRAILING = Rule(
    "pickle-trailing",
    "something behind the end of a pickle",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Most loaders stop before it, some go on. It is no format that the scan knows.",
)
EMBEDDED = Rule(
    "pickle-embedded",
    "a hostile pickle inside something else",
    Severity.HIGH,
    Outcome.UNSAFE,
    "A pickle that asks for refused names begins in the middle of the file; a loader that seeks to it runs it.",
    "https://blog.trailofbits.com/2024/06/11/exploiting-ml-models-with-pickle-file-attacks-part-1/",
)

RULES = (
    CODE, IMPORT, CALL, BUILD, COMPUTED, EXTENSION, PERSISTENT, BUFFER, EXHAUSTS, BOUNDS, MEMORY, FRAME, CROSSED,
    DISAGREE, DAMAGED, COMPLEX, UNCHECKED, TRAILING,
)  # fmt: skip
"""All that following a pickle may find."""
