"""ONNX Runtime as sessions with limits.

Only settings with a proven effect are used (docs/reference/runtime-hardening.md). What is never used: profiling, an
optimised-model path, operator libraries, settings from the model. It computes on the processor unless the options name
another provider, and never falls back from one to another in silence.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from hauberk.backends.admission import admit
from hauberk.backends.interface import RunnableSession, buffer
from hauberk.backends.options import SessionOptions
from hauberk.backends.watchdog import Watch
from hauberk.errors import HauberkError, InputError, LimitError, RefusedModelError, one_line
from hauberk.tensors import Signature, TensorSpec

_OPTIMIZATION = {
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_SEVERITY = {"verbose": 0, "info": 1, "warning": 2, "error": 3, "fatal": 4}

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

_STRICT = {
    "session.load_model_format": "ONNX",
    "session.strict_shape_type_inference": "1",
    # A weight that the graph computes from constants may be this large; what is larger is computed at every run.
    "optimization.constant_folding_max_output_size_in_bytes": str(1 << 28),
}

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
}

# What ONNX Runtime says when the arena, or the process, is at its limit.
_OUT_OF_MEMORY = ("Available memory of", "Failed to allocate memory", "bad_alloc")

# Between registering an arena and building the session that takes it, no other session may be built.
_arena_lock = threading.Lock()


class Session(RunnableSession):
    """A model, loaded and ready to run. Threads may share it.

    Args:
        model: A serialised `onnx.ModelProto` with its weights inside. No reference to it is kept.
        options: Threads, limits, strictness.

    Raises:
        InputError: This ONNX Runtime, or this machine, lacks the provider that the options name.
        RefusedModelError: The model reaches outside its graph, is not valid, or ONNX Runtime cannot load it.
        LimitError: Loading it needs more memory than the process may have.
    """

    def __init__(self, model: bytes, options: SessionOptions | None = None) -> None:
        self.options = SessionOptions() if options is None else options
        if self.options.validate:
            admit(model)
        session = _load(model, self.options)
        self._session: onnxruntime.InferenceSession | None = session
        self.signature = Signature(
            inputs=tuple(_spec(node) for node in session.get_inputs()),
            outputs=tuple(_spec(node) for node in session.get_outputs()),
        )
        self._output_names = [output.name for output in self.signature.outputs]
        # Runs that are not under way, to be used again: building one costs more than starting it.
        self._idle: list[_Run] = []

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the graph.

        Args:
            feeds: One array an input, of the dtype and shape that `signature` gives.

        Returns:
            Fresh arrays, one an output, in the order of `signature.outputs`.

        Raises:
            InputError: An input is missing, unknown, or has the wrong dtype or shape.
            LimitError: The run took too long or needed more memory than allowed.
            HauberkError: The session is closed.
        """
        session, idle = self._open(), self._idle
        try:
            run = idle.pop()
        except IndexError:
            run = _Run(self.options)
        results: list[NDArray[Any]] = run(session.run, self._output_names, feeds)
        idle.append(run)
        return results

    def fixed_batch(self, records: int) -> FixedBatch:
        """Buffers for runs of always the same number of records, faster than `run` for small ones.

        Raises:
            InputError: An input or output is free in another dimension than the first.
            HauberkError: The session is closed.
        """
        return FixedBatch(self._open(), self.signature, self.options, records)

    def close(self) -> None:
        """Free the model once the runs under way are done. Closing twice is allowed."""
        self._session = None
        self._idle = []

    def _open(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            raise HauberkError("the session is closed; open it again to run it")
        return self._session


class FixedBatch:
    """One model, one number of records, the same memory for every run. Not for two threads at once.

    ONNX Runtime reads from and writes to the arrays below without a copy; write the inputs, `run`, read the outputs.
    It keeps the model in memory when the session is closed, so drop it then.

    Attributes:
        inputs: One array an input, of its dtype and shape.
        outputs: One array an output; the next run overwrites it.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, signature: Signature, options: SessionOptions, records: int
    ) -> None:
        self.inputs = {spec.name: buffer(spec, records) for spec in signature.inputs}
        self.outputs = {spec.name: buffer(spec, records) for spec in signature.outputs}
        self._binding = session.io_binding()
        for name, array in self.inputs.items():
            self._binding.bind_cpu_input(name, array)
        for name, array in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._start = session.run_with_iobinding
        self._run = _Run(options)

    def run(self) -> None:
        """Compute `outputs` from `inputs`.

        Raises:
            LimitError: The run took too long or needed more memory than allowed.
        """
        self._run(self._start, self._binding)


class _Run:
    """Runs one after another, under the limits of a session."""

    def __init__(self, options: SessionOptions) -> None:
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = _SEVERITY[options.log_severity]
        # "No capture" is what a processor does anyway; where the entry is missing, `run_with_iobinding` finds out by
        # catching an exception, which takes longer (37 µs) than a small model.
        self._options.add_run_config_entry("gpu_graph_id", "-1")
        self._limit = options.time_limit
        self._watch = None if options.time_limit is None else Watch(options.time_limit, self._options)

    def __call__(self, start: Any, *arguments: Any) -> Any:
        watch = self._watch
        if watch is not None:
            watch.begin()
        problem: Exception | None = None
        try:
            result = start(*arguments, self._options)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no base class
            problem = error
        # A run that finished too late, inside one long operator, is over its limit too.
        if watch is not None and watch.end():
            raise LimitError(f"the model was stopped: one run took more than {self._limit:g} s") from problem
        if problem is not None:
            raise _translated(problem) from problem
        return result


def _load(model: bytes, options: SessionOptions) -> onnxruntime.InferenceSession:
    providers = _providers(options.provider)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads
    settings.inter_op_num_threads = options.inter_op_threads
    mode = onnxruntime.ExecutionMode
    settings.execution_mode = mode.ORT_PARALLEL if options.parallel else mode.ORT_SEQUENTIAL
    settings.graph_optimization_level = _OPTIMIZATION[options.graph_optimization]
    settings.enable_cpu_mem_arena = options.memory_arena
    settings.log_severity_level = _SEVERITY[options.log_severity]
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
    settings.add_session_config_entry("session.inter_op.allow_spinning", str(int(options.spinning)))
    if options.validate:
        for key, value in _STRICT.items():
            settings.add_session_config_entry(key, value)
    if options.arena_limit is None:
        return _build(model, settings, providers)
    settings.add_session_config_entry("session.use_env_allocators", "1")
    with _arena_lock:
        _register_arena(options.arena_limit)
        return _build(model, settings, providers)


def _register_arena(limit: int) -> None:
    """Make an arena that the next session takes.

    There is one registered arena a process, and registering another replaces it without a word; but a session keeps the
    one that it was built with. So every session gets its own, as long as nobody builds another one in between.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # Strategy 1 asks for as much as is needed; 0 would double each time and hit the limit at half of it.
    settings = onnxruntime.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(memory, settings)


def _providers(provider: str) -> list[str]:
    """The provider of that name, and the processor for what it lacks."""
    wanted, available = _PROVIDERS[provider], onnxruntime.get_available_providers()
    if wanted not in available:
        raise InputError(
            f"session option provider is {provider!r}, but this ONNX Runtime has only {', '.join(available)}; install"
            " onnxruntime-gpu in place of onnxruntime, or use 'cpu'"
        )
    return list(dict.fromkeys([wanted, _PROVIDERS["cpu"]]))


def _build(model: bytes, settings: onnxruntime.SessionOptions, providers: list[str]) -> onnxruntime.InferenceSession:
    try:
        # Without enable_fallback=0 a failure is printed and tried again.
        session = onnxruntime.InferenceSession(model, settings, providers=providers, enable_fallback=0)
    except Exception as error:
        if _is_out_of_memory(error):
            raise LimitError(f"loading the model needs more memory than allowed: {one_line(error)}") from error
        raise RefusedModelError(f"ONNX Runtime does not load the model: {one_line(error)}") from error
    # Where its libraries or its card are missing, ONNX Runtime leaves a provider out and says so in its log only.
    if session.get_providers()[0] != providers[0]:
        raise InputError(
            f"{providers[0]} does not start on this machine; check its driver and libraries, or use the provider 'cpu'"
        )
    # It would hold the serialised model, in the clear, for as long as it lives.
    session._model_bytes = None  # noqa: SLF001
    return session


def _translated(error: Exception) -> HauberkError:
    if _is_out_of_memory(error):
        return LimitError(f"the model was stopped: it needs more memory than allowed: {one_line(error)}")
    return InputError(f"ONNX Runtime cannot run the model on this input: {one_line(error)}")


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def _spec(node: Any) -> TensorSpec:
    dtype = _DTYPES.get(node.type, node.type.removeprefix("tensor(").removesuffix(")"))
    shape = tuple("any" if dimension is None else dimension for dimension in node.shape)
    return TensorSpec(name=node.name, dtype=dtype, shape=shape)
