"""Names that run code: for the wording and the severity of findings only. The verdict never rests on this list.

Source: the gadgets of arXiv 2508.19774 and the advisories on scanners that work by lists.
"""

from __future__ import annotations

_PACKAGES = frozenset(
    {
        "os", "posix", "nt", "posixpath", "ntpath", "subprocess", "sys", "runpy", "pty", "commands", "popen2",
        "platform", "shutil", "tempfile", "pathlib", "io", "socket", "ssl", "http", "urllib", "requests", "httplib",
        "ftplib", "smtplib", "poplib", "imaplib", "telnetlib", "nntplib", "xmlrpc", "asyncio", "multiprocessing",
        "concurrent", "threading", "_thread", "signal", "ctypes", "_ctypes", "cffi", "imp", "importlib", "pkgutil",
        "zipimport", "code", "codeop", "codecs", "pdb", "bdb", "timeit", "trace", "cProfile", "profile", "pstats",
        "doctest", "unittest", "idlelib", "lib2to3", "distutils", "setuptools", "pip", "ensurepip", "venv", "site",
        "webbrowser", "pydoc", "antigravity", "types", "functools", "operator", "marshal", "pickle", "_pickle",
        "cPickle", "cloudpickle", "dill", "shelve", "inspect", "gc", "builtins", "__builtin__", "sqlite3", "logging",
        "turtledemo", "test", "nose", "pytest", "IPython", "numpy.f2py", "numpy.testing", "numpy.distutils",
        "torch.hub", "torch.utils", "torch.distributed", "torch._dynamo", "torch._inductor", "torch.jit",
        "torch.serialization", "torch.package", "torch.storage", "torch.testing", "torch.fx", "tensorflow", "pandas",
        "joblib", "_posixsubprocess", "_testcapi", "_io", "compileall", "py_compile", "pyclbr", "modulefinder",
        "linecache", "crypt", "rlcompleter", "readline", "smtpd", "uuid", "zipapp",
    }
)  # fmt: skip


def runs_code(module: str, name: str) -> bool:
    """Whether a name that is not allowed is known for running code, files or connections."""
    parts = f"{module}.{name}".split(".")
    return any(".".join(parts[:count]) in _PACKAGES for count in (1, 2))
