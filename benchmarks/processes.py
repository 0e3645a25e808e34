"""The processes of a case: two bare ones, two workers, and the coordinator that drives the workers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cases import FRAMEWORKS, ROOT, Case, Framework
from benchmarks.child import Child
from padiff_rpc.errors import PadiffError, Reason

_READY = "padiff-rpc worker ready at "
_END_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Worker:
    """A worker on 127.0.0.1, and the process that it is."""

    address: str
    pid: int


@dataclass(frozen=True)
class Running:
    """A case with all its processes up. `bare` is empty where nothing is compared with plain steps."""

    case: Case
    bare: Mapping[Framework, Child]
    workers: Mapping[Framework, Worker]
    coordinator: Child


def python_of(framework: Framework) -> Path:
    """Return the Python of a framework's environment; BAD_CONFIG where there is none."""
    python = ROOT / ".venvs" / framework / "bin" / "python"
    if not python.exists():
        raise PadiffError(f"there is no {python}", reason=Reason.BAD_CONFIG, hint="`make env` makes the environments")
    return python


@contextmanager
def running(case: Case, with_bare: bool = True) -> Iterator[Running]:
    """Start them all; every model is built when this returns. One pair of workers serves every setting, and stays warm."""
    with ExitStack() as stack:
        bare: dict[Framework, Child] = {}
        if with_bare:
            bare = {framework: stack.enter_context(bare_process(case, framework)) for framework in FRAMEWORKS}
        workers: dict[Framework, Worker] = {
            framework: stack.enter_context(worker(case, framework)) for framework in FRAMEWORKS
        }
        addresses = [workers[framework].address for framework in FRAMEWORKS]
        command = [sys.executable, "-m", "benchmarks.coordinator", case.name, *addresses]
        yield Running(
            case, bare, workers, stack.enter_context(Child(f"the coordinator of {case.name}", command, cwd=ROOT))
        )


@contextmanager
def bare_process(case: Case, framework: Framework) -> Iterator[Child]:
    """Run a bare process, which holds the model and none of our code."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, allow_pickle=False, **case.inputs())
        program = ROOT / "benchmarks" / "bare.py"
        arguments = [framework, case.place(framework), json.dumps(case.arguments(framework)), str(inputs)]
        command = [str(python_of(framework)), "-I", str(program), *arguments]
        with Child(f"the bare {framework} process of {case.name}", command, cwd=ROOT) as child:
            yield child


@contextmanager
def worker(case: Case, framework: Framework) -> Iterator[Worker]:
    """Run `python -m padiff_servers` at a port of 127.0.0.1; it ends with its stdin, also when this process is killed."""
    command = [str(python_of(framework)), "-m", "padiff_servers", f"{framework}@{case.place(framework)}"]
    for name, value in case.arguments(framework).items():
        command += ["--model-arg", f"{name}={json.dumps(value)}"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", "--lifeline"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith(_READY):
                log.seek(0)
                text = log.read().decode(errors="replace").strip()
                raise PadiffError(f"the {framework} worker of {case.name}: {text}", reason=Reason.WORKER_DIED)
            yield Worker(line.removeprefix(_READY).split()[0], process.pid)
        finally:
            process.stdin.close()
            process.wait(_END_TIMEOUT_S)
            process.stdout.close()
