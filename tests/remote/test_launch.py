"""Workers launched in processes of their own: they start, say what is wrong, and never outlive their coordinator."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ForwardRequest, LossSpec, OptimizerSpec
from padiff_rpc.remote.launch import launch
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tensors.tensor import DType, Tensor, collect_all
from tests.servers.harness import DEADLINE_S, ROOT, numpy_model, numpy_spec, wait_until

pytestmark = pytest.mark.processes

VECTORS = Tensor.from_array(np.ones((4, 8), np.float32))
FACTORIES = """
import os, signal, sys
import padiff_rpc.numpy_framework.nn as nn

def build(size=2, **more):
    print("chatter")
    return nn.Linear(size, size)

def broken(secret=1):
    raise ValueError("no weights here")

def killed():
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def slow():
    import threading
    threading.Event().wait()

def where():
    assert os.environ["PADIFF_TEST_VARIABLE"] == "set"
    return nn.Linear(len(os.path.basename(os.getcwd())), 1)

class Frozen(nn.Linear):
    def forward(self, x):
        import threading
        threading.Event().wait()

def frozen():
    return Frozen(2, 2)

def my_loss(output):
    return (output * output).sum()

class Halve:
    def __init__(self, model):
        self.model = model
    def step(self):
        for tensor in self.model.parameters().values():
            tensor.data[...] *= 0.5

class Dying(nn.Linear):
    def forward(self, x):
        print("going down", file=sys.stderr, flush=True)
        os._exit(41)

def dying():
    return Dying(2, 2)
"""


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each test no socket folder and no process of ours is left."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert [] == list(folder.iterdir())
    assert [] == processes_with(str(folder))


@pytest.fixture
def factories(tmp_path: Path) -> str:
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    return f"numpy@{tmp_path}/my_factories.py"


def processes_with(text: str) -> list[int]:
    """Process ids whose command line holds a text; zombies have none."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            line = Path(path).read_bytes()
        except OSError:
            continue  # it ended while we looked
        if text.encode() in line:
            found.append(int(path.split("/")[2]))
    return found


def refused(spec: str, **options: object) -> PadiffError:
    with pytest.raises(PadiffError) as caught:
        launch(spec, **options).close()  # type: ignore[arg-type]
    return caught.value


def test_a_launched_worker_works_and_ends_with_the_with() -> None:
    with launch(numpy_spec("mlp")) as model:
        assert isinstance(model, RemoteModel)
        assert os.getpid() != model.info().pid
        assert numpy_model("mlp").describe() == model.describe()
        model.forward(ForwardRequest({"x": VECTORS}))
        model.backward(LossSpec("mean"))
    wait_until(lambda: not Path(f"/proc/{model.info().pid}").exists(), "the worker ends")


def test_the_options_reach_the_worker(factories: str, tmp_path: Path) -> None:
    place = factories.removeprefix("numpy@")
    with launch(
        f"{factories}:build",
        dtype="float64",
        model_args={"size": 3, "name": 'a "b" =', "nothing": None},
        losses={"square": f"{place}:my_loss"},
        optimizers={"halve": f"{place}:Halve"},
        store_memory_bytes=1 << 20,
        store_disk_bytes=0,
        threads=1,
    ) as model:
        info = model.info()
        assert (("square",), ("halve",), 1 << 20, 0) == (
            info.losses,
            info.optimizers,
            info.store_memory_bytes,
            info.store_disk_bytes,
        )
        assert DType.F64 is model.describe().parameters[0].spec.dtype
        assert (3, 3) == model.describe().parameters[0].spec.shape
        before = collect_all(model.read_parameters(["weight"]))["weight"].to_array()
        model.forward(ForwardRequest({"x": Tensor.from_array(np.ones((1, 3)))}))
        assert model.backward(LossSpec("square")).loss >= 0
        model.optimizer_step(OptimizerSpec("halve"))
        after = collect_all(model.read_parameters(["weight"]))["weight"].to_array()
        np.testing.assert_array_equal(before * 0.5, after)


def test_cwd_and_env_are_the_workers(factories: str, tmp_path: Path) -> None:
    (tmp_path / "abcdef").mkdir()
    with launch(f"{factories}:where", cwd=tmp_path / "abcdef", env={"PADIFF_TEST_VARIABLE": "set"}) as model:
        assert (1, 6) == model.describe().parameters[0].spec.shape
    with launch("numpy@my_factories.py:build", cwd=tmp_path):
        pass


def test_two_workers_start_at_the_same_time() -> None:
    with ThreadPoolExecutor() as pool:
        starting = [pool.submit(launch, numpy_spec("mlp"), model_args={"seed": seed}) for seed in (1, 2)]
        models = [each.result(DEADLINE_S) for each in starting]
        names = [info.name for info in models[0].describe().parameters]
        assert models[0].digest_parameters(names) != models[1].digest_parameters(names)
        for model in models:
            model.close()


def test_a_temporary_folder_with_a_long_path_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with launch(numpy_spec("mlp")) as model:
        folder = Path(model.address.removeprefix("unix:")).parent
        assert 0o700 == folder.stat().st_mode & 0o777
        model.describe()
    assert not folder.exists()
    assert [] == list(long.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))


@pytest.mark.parametrize(
    ("factory", "options", "reason", "text"),
    [
        ("broken", {}, Reason.FACTORY_FAILED, "ValueError: no weights here"),
        ("absent", {}, Reason.BAD_SPEC, "no function 'absent'"),
        ("build", {"model_args": {"size": "x"}}, Reason.FACTORY_FAILED, "raised"),
        ("broken", {"model_args": {"bogus": 1}}, Reason.BAD_CONFIG, "bogus"),
        ("build", {"dtype": "int4"}, Reason.BAD_CONFIG, "int4"),
        ("build", {"threads": 0}, Reason.BAD_CONFIG, "at least 1"),
        ("build", {"losses": {"mean": "x.py:f"}}, Reason.BAD_SPEC, "x.py"),
        ("build", {"cwd": "/no/such/folder"}, Reason.BAD_CONFIG, "'/no/such/folder'"),
        ("build", {"python": "/no/such/python"}, Reason.BAD_CONFIG, "cannot start Python '/no/such/python'"),
        ("build", {"model_args": {"size": object()}}, Reason.BAD_CONFIG, "JSON cannot express"),
    ],
)
def test_what_cannot_be_launched_is_said(
    factories: str, factory: str, options: dict[str, object], reason: Reason, text: str
) -> None:
    error = refused(f"{factories}:{factory}", **options)
    assert (reason, True) == (error.reason, text in str(error)), str(error)


def test_a_broken_factory_shows_the_users_frames_only(factories: str) -> None:
    error = refused(f"{factories}:broken")
    assert "in broken" in error.metadata["traceback"]
    assert "padiff_servers" not in error.metadata["traceback"]


@pytest.mark.parametrize("spec", ["grpc://127.0.0.1:1", "unix:/w", "tape:dir", "nonsense"])
def test_only_a_factory_can_be_launched(spec: str) -> None:
    assert Reason.BAD_SPEC is refused(spec).reason


def test_a_missing_framework_names_the_pip_line() -> None:
    error = refused("torch@anything.py:build")
    assert Reason.FRAMEWORK_MISSING is error.reason
    assert f"{sys.executable} -m pip install" in error.hint


def test_a_python_without_padiff_rpc_names_the_pip_line(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    error = refused(numpy_spec("mlp"), python=bare / "bin" / "python", cwd=tmp_path)
    assert Reason.BAD_CONFIG is error.reason
    assert f"{bare}/bin/python -m pip install padiff-rpc" in error.hint


def test_a_worker_that_dies_while_it_starts_leaves_its_last_words(factories: str) -> None:
    error = refused(f"{factories}:killed")
    assert Reason.WORKER_DIED is error.reason
    assert "SIGKILL" in error.message
    assert "last words" in error.message


def test_a_worker_that_is_never_ready_times_out(factories: str) -> None:
    error = refused(f"{factories}:slow", start_timeout_s=1.5)
    assert Reason.TIMED_OUT is error.reason
    assert "not ready after 1.5 s" in error.message


def test_a_worker_killed_in_the_middle_of_a_step_died(factories: str) -> None:
    with launch(f"{factories}:frozen") as model, ThreadPoolExecutor() as pool:
        x = Tensor.from_array(np.ones((1, 2), np.float32))
        running = pool.submit(model.forward, ForwardRequest({"x": x}))
        os.kill(model.info().pid, signal.SIGKILL)
        error = running.exception(DEADLINE_S)
        assert isinstance(error, PadiffError)
        assert Reason.WORKER_DIED is error.reason
        assert "SIGKILL" in error.message
        assert "-9" == error.metadata["exit_status"]
        with pytest.raises(PadiffError) as caught:
            model.describe()
        assert Reason.WORKER_DIED is caught.value.reason


def test_a_worker_that_exits_by_itself_died_with_its_last_words(factories: str) -> None:
    with launch(f"{factories}:dying") as model:
        with pytest.raises(PadiffError) as caught:
            model.forward(ForwardRequest({"x": Tensor.from_array(np.ones((1, 2), np.float32))}))
        assert Reason.WORKER_DIED is caught.value.reason
        assert "exit status 41" in caught.value.message
        assert "going down" in caught.value.message


def test_closing_ends_a_worker_whose_model_hangs(factories: str) -> None:
    with launch(f"{factories}:frozen") as model, ThreadPoolExecutor() as pool:
        x = Tensor.from_array(np.ones((1, 2), np.float32))
        running = pool.submit(model.forward, ForwardRequest({"x": x}))
        wait_until(running.running, "the step is on its way")
        model.close()
        assert isinstance(running.exception(DEADLINE_S), PadiffError)
    assert not Path(f"/proc/{model.info().pid}").exists()


COORDINATOR = """
import signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored
from padiff_rpc.remote.launch import launch
model = launch(sys.argv[1])
print(model.info().pid, flush=True)
if sys.argv[2] == "wait":
    threading.Event().wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_worker_ends_with_a_coordinator_that_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    worker, process = coordinator("wait", tmp_path)
    process.send_signal(number)
    process.communicate(timeout=DEADLINE_S)
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the worker ends")
    wait_until(lambda: [] == list((tmp_path / "t").iterdir()), "the socket's folder is removed")


def test_a_worker_ends_with_a_coordinator_that_forgets_to_close_it(tmp_path: Path) -> None:
    worker, process = coordinator("end", tmp_path)
    process.communicate(timeout=DEADLINE_S)
    assert 0 == process.returncode
    assert not Path(f"/proc/{worker}").exists()


def coordinator(what: str, tmp_path: Path) -> tuple[int, subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, numpy_spec("mlp"), what],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "t")},
    )
    assert process.stdout is not None
    return int(process.stdout.readline()), process


def test_no_thread_is_left_after_close() -> None:
    before = set(threading.enumerate())
    with launch(numpy_spec("mlp")):
        pass
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert set() == left & {"lease", "worker stderr"}
