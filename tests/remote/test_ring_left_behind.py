"""Whoever is killed while tensors move, nothing of the ring is left, and a worker serves the next coordinator."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.launch import launch
from padiff_rpc.tensors.tensor import collect_all
from padiff_rpc.wire.ring import MEMFD_NAME
from tests.servers.harness import DEADLINE_S, ROOT, numpy_spec, wait_until

pytestmark = pytest.mark.processes

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "servers")])}
READING = """
import sys
from padiff_rpc.remote.connect import connect
model = connect(sys.argv[1])
names = [info.name for info in model.describe().parameters]
print(model.transport, flush=True)
while True:
    for stream in model.read_parameters(names):
        stream.collect()
    model.write_parameters(model.read_parameters(names))
"""


def rings_of(pid: int) -> list[str]:
    """What a process has of a ring: open descriptors and mappings."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            continue
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [text for text in [*found, *maps] if MEMFD_NAME in text]


def test_a_coordinator_that_is_killed_leaves_nothing_and_the_worker_serves_the_next() -> None:
    before = sorted(os.listdir("/dev/shm"))
    command = [sys.executable, "-m", "padiff_servers", numpy_spec("mlp"), "--listen", "127.0.0.1:0", "--lease", "2"]
    worker = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert worker.stdout is not None
        (address,) = re.findall(r"grpc://[\d.]+:\d+", worker.stdout.readline())
        coordinator = subprocess.Popen(
            [sys.executable, "-c", READING, address], env=ENV, stdout=subprocess.PIPE, text=True
        )
        assert coordinator.stdout is not None
        assert "shared memory\n" == coordinator.stdout.readline()
        assert [] != rings_of(worker.pid)
        assert [] != rings_of(coordinator.pid)
        coordinator.kill()
        coordinator.wait(DEADLINE_S)
        coordinator.stdout.close()
        wait_until(lambda: rings_of(worker.pid) == [], "the worker lets go of the ring")
        with connect(address) as model:
            assert "shared memory" == model.transport
            names = [info.name for info in model.describe().parameters]
            assert names == list(collect_all(model.read_parameters(names)))
        wait_until(lambda: rings_of(worker.pid) == [], "the worker lets go of the second ring")
    finally:
        worker.terminate()
        worker.wait(DEADLINE_S)
        if worker.stdout is not None:
            worker.stdout.close()
    assert before == sorted(os.listdir("/dev/shm"))


def test_a_worker_that_is_killed_leaves_nothing() -> None:
    before = sorted(os.listdir("/dev/shm"))
    with launch(numpy_spec("mlp"), env={"PYTHONPATH": ENV["PYTHONPATH"]}) as model:
        assert "shared memory" == model.transport
        names = [info.name for info in model.describe().parameters]
        streams = model.read_parameters(names)
        next(streams)
        os.kill(model.info().pid, signal.SIGKILL)
        with pytest.raises(PadiffError) as caught:
            collect_all(model.read_parameters(names))
        assert Reason.WORKER_DIED is caught.value.reason
        del streams, caught  # the error knows what was being read
    gc.collect()
    wait_until(lambda: rings_of(os.getpid()) == [], "nothing of the ring is left here")
    assert before == sorted(os.listdir("/dev/shm"))
