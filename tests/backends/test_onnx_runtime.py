"""Sessions: every setting by its effect, because ONNX Runtime takes unknown keys and absurd values in silence."""

from __future__ import annotations

import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from hauberk.backends import Session, SessionOptions
from hauberk.errors import InputError, LimitError, RefusedModelError

LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
MEGABYTE = 1 << 20


def threads() -> set[str]:
    """The threads of this process, those of ONNX Runtime included."""
    return {entry.name for entry in Path("/proc/self/task").iterdir()}


def added_threads(model: bytes, options: SessionOptions) -> int:
    before = len(threads())
    with Session(model, options):
        return len(threads()) - before


def zeros(session: Session, megabytes: int) -> None:
    """Ask the bomb for that much memory."""
    session.run({"shape": np.array([megabytes * 250_000])})


class TestFixedBatch:
    def test_is_under_the_time_limit(self, graphs):
        options = SessionOptions(time_limit=0.1)
        with Session(graphs.endless_loop(), options) as session, pytest.raises(LimitError, match=r"0\.1 s"):
            session.fixed_batch(1).run()


class TestProvider:
    def test_the_processor_computes_by_default(self, graphs):
        with Session(graphs.linear()) as session:
            assert session._session.get_providers() == ["CPUExecutionProvider"]

    @pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
    def test_one_that_is_absent_is_refused(self, graphs, provider):
        if {"cuda": "CUDA", "tensorrt": "Tensorrt"}[
            provider
        ] + "ExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this ONNX Runtime has it")
        with pytest.raises(InputError, match=f"'{provider}', but this ONNX Runtime has only .*onnxruntime-gpu"):
            Session(graphs.linear(), SessionOptions(provider=provider))


@LINUX
class TestThreads:
    @pytest.mark.parametrize("threads", [1, 2, 4])
    def test_intra_op_threads(self, graphs, threads):
        assert added_threads(graphs.linear(), SessionOptions(intra_op_threads=threads)) == threads - 1

    def test_parallel_execution_has_inter_op_threads(self, graphs):
        one_by_one = added_threads(graphs.linear(), SessionOptions())
        parallel = added_threads(graphs.linear(), SessionOptions(parallel=True, inter_op_threads=3))
        assert (one_by_one, parallel) == (0, 2)

    def test_idle_threads_sleep_unless_spinning(self, graphs):
        batch = np.ones((64, 512), np.float32)

        def naps(*, spinning: bool) -> int:
            """How often the worker thread went to sleep during 300 runs."""
            before = threads()
            options = SessionOptions(intra_op_threads=2, spinning=spinning, time_limit=None)
            with Session(graphs.linear(512, 512), options) as session:
                (worker,) = threads() - before
                for _ in range(300):
                    session.predict(batch)
                status = Path(f"/proc/self/task/{worker}/status").read_text()
            return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

        # How often depends on the load of the machine; a thread that spins goes to sleep hardly ever.
        assert naps(spinning=False) > 10 * max(naps(spinning=True), 3)


class TestOptimization:
    @pytest.mark.parametrize(
        ("level", "expected"), [("disabled", np.inf), ("basic", 30), ("extended", 30), ("all", 30)]
    )
    def test_factors_are_merged_unless_disabled(self, graphs, level, expected):
        with Session(graphs.scaled_convolution(), SessionOptions(graph_optimization=level)) as session:
            assert session.predict(np.full((1, 1, 1, 1), 10, np.float32)).item() == pytest.approx(expected)

    def test_each_level_runs_more_rewrites(self, graphs, run_python):
        rewrites = []
        for level in ("disabled", "basic", "extended", "all"):
            done = run_python(
                f"Session(model, SessionOptions(graph_optimization={level!r}, log_severity='verbose'))", graphs.linear()
            )
            names = {line.split("GraphTransformer ")[1].split()[0] for line in done.stderr.splitlines()
                     if "GraphTransformer " in line and "modified" in line}  # fmt: skip
            rewrites.append(names)
        assert len(rewrites[0]) < len(rewrites[1]) < len(rewrites[2]) < len(rewrites[3])


class TestMemory:
    @LINUX
    @pytest.mark.parametrize(("arena", "kept"), [(True, True), (False, False)])
    def test_the_arena_keeps_memory(self, graphs, resident, arena, kept):
        with Session(graphs.bomb(), SessionOptions(memory_arena=arena)) as session:
            zeros(session, 1)
            before = resident()
            zeros(session, 300)
            gc.collect()
            assert (resident() - before > 200) is kept

    def test_the_limit_stops_a_bomb(self, graphs):
        with Session(graphs.bomb(), SessionOptions(arena_limit=64 * MEGABYTE)) as session:
            zeros(session, 40)
            with pytest.raises(LimitError, match="memory"):
                zeros(session, 200)
            zeros(session, 40)

    def test_every_session_has_its_own_limit(self, graphs):
        limits = {"small": 64, "large": 512, "small again": 64}
        sessions = {
            name: Session(graphs.bomb(), SessionOptions(arena_limit=limit * MEGABYTE)) for name, limit in limits.items()
        }
        for name, limit in limits.items():
            zeros(sessions[name], limit // 2)
            with pytest.raises(LimitError):
                zeros(sessions[name], 2 * limit)
        for session in sessions.values():
            session.close()

    def test_a_session_without_a_limit_is_not_limited_by_another(self, graphs):
        with Session(graphs.bomb(), SessionOptions(arena_limit=64 * MEGABYTE)), Session(graphs.bomb()) as free:
            zeros(free, 200)

    def test_weights_do_not_count(self, graphs):
        with Session(graphs.linear(2000, 2000), SessionOptions(arena_limit=4 * MEGABYTE)) as session:
            session.predict(np.ones((10, 2000), np.float32))

    def test_the_limit_of_the_process_is_a_limit_error_too(self, graphs, run_python):
        code = (
            "import resource\n"
            "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
            "try: Session(model).run({'shape': np.array([10 ** 9])})\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        assert run_python(code, graphs.bomb()).stdout.startswith("LimitError the model was stopped")

    def test_the_clear_model_is_not_kept(self, graphs):
        model = graphs.linear()
        before = sys.getrefcount(model)
        with Session(model):
            assert sys.getrefcount(model) == before

    @LINUX
    def test_closing_frees_the_weights(self, graphs, resident):
        model = graphs.linear(5000, 5000)
        session = Session(model)
        loaded = resident()
        session.close()
        gc.collect()
        assert loaded - resident() > 80


class TestTimeLimit:
    def test_stops_an_endless_loop(self, graphs):
        started = time.monotonic()
        session = Session(graphs.endless_loop(), SessionOptions(time_limit=0.2))
        with session, pytest.raises(LimitError, match=r"more than 0\.2 s"):
            session.run({"x": np.zeros(1, np.float32)})
        assert time.monotonic() - started >= 0.2

    def test_the_session_goes_on_after_it(self, graphs):
        with Session(graphs.counted_loop(), SessionOptions(time_limit=0.3)) as session:
            for _ in range(3):
                with pytest.raises(LimitError):
                    session.run({"times": np.array(2**62)})
                assert session.run({"times": np.array(5)})[0].tolist() == [5.0]

    def test_short_runs_are_left_alone_however_many(self, graphs):
        ends = time.monotonic() + 0.4
        with Session(graphs.counted_loop(), SessionOptions(time_limit=0.1)) as session:
            while time.monotonic() < ends:
                session.run({"times": np.array(3)})

    def test_a_run_beside_the_stopped_one_is_left_alone(self, graphs):
        with Session(graphs.counted_loop(), SessionOptions(time_limit=0.3)) as session, ThreadPoolExecutor(1) as pool:
            endless = pool.submit(session.run, {"times": np.array(2**62)})
            while not endless.done():
                session.run({"times": np.array(3)})
            assert isinstance(endless.exception(), LimitError)

    def test_one_long_operator_is_not_interrupted_but_its_answer_is_refused(self, graphs):
        session = Session(graphs.linear(1500, 1500), SessionOptions(time_limit=0.001))
        with session, pytest.raises(LimitError, match=r"0\.001 s"):
            session.predict(np.ones((1500, 1500), np.float32))

    def test_none_is_no_limit_and_needs_no_thread(self, graphs, run_python):
        code = (
            "import threading\n"
            "Session(model, SessionOptions(time_limit=None)).predict(np.zeros((1, 4), np.float32))\n"
            "print(threading.active_count())\n"
            "Session(model).predict(np.zeros((1, 4), np.float32))\n"
            "print(threading.active_count())\n"
        )
        assert run_python(code, graphs.linear()).stdout.split() == ["1", "2"]


class TestSilence:
    WARNS = "Session(model, SessionOptions(validate=False, log_severity={severity!r}))"
    FAILS = (
        "session = Session(model, SessionOptions(arena_limit=1 << 20, log_severity={severity!r}))\n"
        "try: session.run({{'shape': np.array([10 ** 8])}})\n"
        "except Exception as error: print(type(error).__name__)"
    )

    @pytest.mark.parametrize(("severity", "heard"), [("warning", True), ("error", False)])
    def test_warnings_when_loading(self, graphs, run_python, severity, heard):
        done = run_python(self.WARNS.format(severity=severity), graphs.wrong_shape())
        assert done.returncode == 0
        assert ("MergeShapeInfo" in done.stderr) is heard

    @pytest.mark.parametrize(("severity", "heard"), [("error", True), ("fatal", False)])
    def test_errors_when_running(self, graphs, run_python, severity, heard):
        done = run_python(self.FAILS.format(severity=severity), graphs.bomb())
        assert done.stdout == "LimitError\n"
        assert ("ConstantOfShape" in done.stderr) is heard

    def test_nothing_is_printed_by_default(self, graphs, run_python):
        done = run_python("try: Session(model)\nexcept Exception: pass", graphs.wrong_shape())
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_nothing_is_written(self, graphs, run_python):
        code = "with Session(model) as session: session.predict(np.zeros((1, 4), np.float32))"
        assert run_python(code, graphs.linear()).returncode == 0
        assert list(run_python.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["enable_model_validation", "enable_memory_arena", "max_mem"])
def test_what_articles_name_does_not_exist(name):
    with pytest.raises(AttributeError):
        setattr(onnxruntime.SessionOptions(), name, 1)


class TestValidation:
    """What is refused, and that it is `validate` which refuses it."""

    lenient = SessionOptions(validate=False)

    def test_contradicting_shapes(self, graphs):
        with pytest.raises(RefusedModelError, match="infer"):
            Session(graphs.wrong_shape())
        Session(graphs.wrong_shape(), self.lenient).close()

    def test_the_format_of_optimised_models(self, graphs, tmp_path):
        settings = onnxruntime.SessionOptions()
        settings.optimized_model_filepath = str(tmp_path / "model.ort")
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        onnxruntime.InferenceSession(graphs.linear(), settings, providers=["CPUExecutionProvider"])
        optimised = (tmp_path / "model.ort").read_bytes()
        with pytest.raises(RefusedModelError):
            Session(optimised)
        Session(optimised, self.lenient).close()

    def test_settings_in_the_model_are_refused(self, graphs, run_python):
        count = (
            "session = Session(model, SessionOptions(validate={validate}))\nprint(len(os.listdir('/proc/self/task')))"
        )
        environment = {"ORT_LOAD_CONFIG_FROM_MODEL": "1"}
        obeyed = run_python(count.format(validate=False), graphs.with_runtime_settings(), **environment)
        ignored = run_python(count.format(validate=False), graphs.linear(), **environment)
        refused = run_python(count.format(validate=True), graphs.with_runtime_settings(), **environment)
        assert int(obeyed.stdout) > int(ignored.stdout)
        assert "RefusedModelError: the model brings settings" in refused.stderr

    @LINUX
    @pytest.mark.skipif(
        tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 31), reason="older versions may ignore the key"
    )
    def test_constants_that_blow_up_when_folded(self, graphs, resident):
        def grown(options: SessionOptions) -> float:
            before = resident()
            with Session(graphs.folding_bomb(400), options):
                return resident() - before

        strict, lenient = grown(SessionOptions()), grown(self.lenient)
        assert strict < 100 < lenient

    def test_data_in_another_file(self, graphs, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("weights.bin").write_bytes(np.ones(4, np.float32).tobytes())
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
        node = helper.make_node("Add", ["x", "weight"], ["y"])
        graph = helper.make_graph([node], "graph", [x], [y], [graphs.external_tensor()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
        with pytest.raises(RefusedModelError, match="'weight' lies in another file"):
            Session(model)
        with pytest.raises(RefusedModelError, match="model_path"):
            Session(model, self.lenient)

    def unreleased(self) -> bytes:
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", [x], [y])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 99)], ir_version=9)
        return model.SerializeToString()

    def test_an_unreleased_operator_set(self):
        with pytest.raises(RefusedModelError, match=r"[oO]pset"):
            Session(self.unreleased())

    @pytest.mark.parametrize("value", ["0", "1"])
    def test_the_session_key_for_that_has_no_effect(self, value):
        """Why we do not set it: with either value the model is refused all the same."""
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        settings.add_session_config_entry("session.allow_released_opsets_only", value)
        with pytest.raises(Exception, match=r"[oO]pset"):
            onnxruntime.InferenceSession(
                self.unreleased(), settings, providers=["CPUExecutionProvider"], enable_fallback=0
            )

    @pytest.mark.parametrize("model", [b"", b"garbage", b"\x08\x09" * 1000])
    @pytest.mark.parametrize("validate", [True, False])
    def test_what_is_no_model_is_one_line(self, capfd, model, validate):
        with pytest.raises(RefusedModelError) as raised:
            Session(model, SessionOptions(validate=validate)).close()
        assert "\n" not in str(raised.value)
        assert capfd.readouterr() == ("", "")


def test_sessions_may_be_built_in_many_threads_with_limits_of_their_own(graphs):
    """Arenas are registered with the process: a session must not get the one of its neighbour."""
    outcomes: dict[int, bool] = {}

    def build(number: int) -> None:
        limit = 16 if number % 2 else 256
        with Session(graphs.bomb(), SessionOptions(arena_limit=limit * MEGABYTE)) as session:
            try:
                zeros(session, 60)
                outcomes[number] = True
            except LimitError:
                outcomes[number] = False

    threads = [threading.Thread(target=build, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {number: number % 2 == 0 for number in range(16)}
