"""OpenVINO: every setting by its effect, because what it says it does and what it does are two things."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hauberk.backends import OpenVinoOptions, OpenVinoSession
from hauberk.errors import InputError, LimitError, MissingExtraError

openvino = pytest.importorskip("openvino", reason="the openvino extra is not installed")
LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")


def has_bfloat16() -> bool:
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class TestPrecision:
    features = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)

    def error(self, graphs, options: OpenVinoOptions) -> float:
        """Largest error of a wide layer, relative to the size of its answers."""
        weight = np.random.default_rng(0).normal(size=(256, 64)).astype(np.float32)
        exact = self.features.astype(np.float64) @ weight
        with OpenVinoSession(graphs.linear(256, 64), options) as session:
            return float(np.abs(session.predict(self.features) - exact).max() / exact.std())

    def test_is_float32_unless_asked(self, graphs):
        assert self.error(graphs, OpenVinoOptions()) < 1e-5

    def test_packed_weights_leave_activations_alone(self, graphs):
        """OpenVINO's default quantizes them at run time, which is an error of 4e-1 here."""
        rng = np.random.default_rng(3)
        codes = rng.integers(-127, 128, size=(512, 256)).astype(np.int8)
        scale = rng.uniform(0.01, 0.03, size=256).astype(np.float32)
        features = rng.normal(size=(4, 512)).astype(np.float32)
        with OpenVinoSession(graphs.packed_weights(codes, scale)) as session:
            difference = session.predict(features) - features.astype(np.float64) @ (codes * scale.astype(np.float64))
        assert np.abs(difference).max() < 1e-3

    @pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16")
    def test_bfloat16_has_eight_bits_of_precision(self, graphs):
        assert 1e-4 < self.error(graphs, OpenVinoOptions(precision="bfloat16")) < 3 * 2**-8

    @pytest.mark.skipif(has_bfloat16(), reason="the processor has bfloat16")
    def test_bfloat16_is_refused_where_the_processor_lacks_it(self, graphs):
        with pytest.raises(InputError, match="this processor does not compute in"):
            OpenVinoSession(graphs.linear(), OpenVinoOptions(precision="bfloat16"))


@LINUX
class TestThreads:
    @pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core only")
    @pytest.mark.parametrize(("threads", "helped"), [(1, False), (2, True)])
    def test_that_share_a_run(self, graphs, threads, helped):
        def ticks() -> dict[str, int]:
            """Processor time of every thread but this one, in ticks of 10 ms."""
            own = str(threading_id())
            entries = (entry for entry in Path("/proc/self/task").iterdir() if entry.name != own)
            return {entry.name: sum(map(int, (entry / "stat").read_text().split()[13:15])) for entry in entries}

        with OpenVinoSession(graphs.identities(20, 700), OpenVinoOptions(threads=threads)) as session:
            batch = session.fixed_batch(700)
            batch.run()
            before = ticks()
            for _ in range(3):
                batch.run()
            worked = sum(after - before.get(name, 0) for name, after in ticks().items())
        assert (worked >= 5) is helped

    def test_are_not_pinned(self, graphs):
        allowed = os.sched_getaffinity(0)
        with OpenVinoSession(graphs.linear(), OpenVinoOptions(threads=2)) as session:
            session.predict(np.zeros((8, 4), np.float32))
            tasks = [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
            assert all(os.sched_getaffinity(task) == allowed for task in tasks)


class TestTimeLimit:
    features = np.zeros((3000, 500), np.float32)

    def test_stops_a_run_and_leaves_the_session_usable(self, graphs):
        with OpenVinoSession(graphs.identities(40, 500), OpenVinoOptions(time_limit=0.05)) as session:
            with pytest.raises(LimitError, match=r"0\.05 s"):
                session.predict(self.features)
            assert self.answered(session, self.features[:1]).shape == (1, 500)

    @staticmethod
    def answered(session, features):
        """What the session answers, once it gets enough of a processor that others use, too, to do so in time."""
        ends = time.monotonic() + 60
        while True:
            try:
                return session.predict(features)
            except LimitError:
                if time.monotonic() > ends:
                    raise

    def test_there_is_none_by_default(self, graphs):
        with OpenVinoSession(graphs.identities(40, 500)) as session:
            assert session.predict(self.features).shape == (3000, 500)

    def test_answers_in_time_are_the_same(self, graphs):
        features = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
        with (
            OpenVinoSession(graphs.linear()) as free,
            OpenVinoSession(graphs.linear(), OpenVinoOptions(time_limit=60)) as limited,
        ):
            np.testing.assert_array_equal(limited.predict(features), free.predict(features))


class TestSilence:
    USE = (
        "from hauberk.backends import OpenVinoSession\n"
        "with OpenVinoSession(model) as session: session.predict(np.zeros((1, 4), np.float32))\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )

    def test_nothing_is_written_and_the_reporter_not_loaded(self, graphs, run_python):
        done = run_python(self.USE, graphs.linear())
        assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
        assert list(run_python.folder.iterdir()) == []

    def test_the_room_does_not_load_openvino(self, graphs, run_python):
        done = run_python("print('openvino' in sys.modules)", graphs.linear())
        assert done.stdout == "False\n"


def test_without_the_package_the_extra_is_named(graphs):
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from hauberk.backends import OpenVinoSession\n"
        "OpenVinoSession(sys.stdin.buffer.read())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=graphs.linear(), capture_output=True, check=False, timeout=60)
    assert done.stderr.decode().splitlines()[-1].startswith(f"{MissingExtraError.__module__}.MissingExtraError")
    assert "pip install 'hauberk[openvino]'" in done.stderr.decode()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threads": 0}, "threads is 0"),
        ({"streams": 5000}, "streams is 5000"),
        ({"streams": 2}, "more than the 1 threads"),
        ({"precision": "bf16"}, "float32, bfloat16"),
        ({"time_limit": float("nan")}, "time_limit is nan"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        OpenVinoOptions(**options)


def threading_id() -> int:
    import threading

    return threading.get_native_id()
