"""The processes of a case: two bare ones, two workers, and the coordinator that drives the workers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


def python_of(framework: Framework) -> Path:
    """Return the Python of a framework's environment; BAD_CONFIG where there is none."""
    python = ROOT / ".venvs" / framework / "bin" / "python"
    if not python.exists():
        raise PadiffError(f"there is no {python}", reason=Reason.BAD_CONFIG, hint="`make env` makes the environments")
    return python


@contextmanager
def bare_processes(case: Case) -> Iterator[dict[Framework, Child]]:
    """Run a bare process of each framework, side by side; both hold their model when this returns."""
    with ExitStack() as stack:
        inputs = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "inputs.npz"
        np.savez(inputs, allow_pickle=False, **case.inputs())
        yield {framework: stack.enter_context(_bare(case, framework, inputs)) for framework in FRAMEWORKS}


@contextmanager
def workers(case: Case) -> Iterator[dict[Framework, Worker]]:
    """Run a worker of each framework. One pair serves every setting: models are large, and it stays warm."""
    with ExitStack() as stack:
        yield {framework: stack.enter_context(_worker(case, framework)) for framework in FRAMEWORKS}


def coordinator(case: Case, pair: dict[Framework, Worker]) -> Child:
    """Start the coordinator of a case in a process of its own, so that its memory is its own."""
    addresses = [pair[framework].address for framework in FRAMEWORKS]
    return Child(f"the coordinator of {case.name}", _module("benchmarks.coordinator", case.name, *addresses), cwd=ROOT)


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def _bare(case: Case, framework: Framework, inputs: Path) -> Child:
    program = ROOT / "benchmarks" / "bare.py"
    arguments = [framework, case.place(framework), json.dumps(case.arguments(framework)), str(inputs)]
    command = [str(python_of(framework)), "-I", str(program), *arguments]
    return Child(f"the bare {framework} process of {case.name}", command, cwd=ROOT)


@contextmanager
def _worker(case: Case, framework: Framework) -> Iterator[Worker]:
    """Run `python -m padiff_servers`; it ends with its stdin, also when this process is killed."""
    options = [
        text
        for name, value in case.arguments(framework).items()
        for text in ("--model-arg", f"{name}={json.dumps(value)}")
    ]
    command = [str(python_of(framework)), "-m", "padiff_servers", f"{framework}@{case.place(framework)}", *options]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", "--lifeline"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith(_READY):
                log.seek(0)
                text = log.read().decode(errors="replace").strip()
                raise PadiffError(f"the {framework} worker of {case.name}: {text}", reason=Reason.WORKER_DIED)
            yield Worker(line.removeprefix(_READY).split()[0], process.pid)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(_END_TIMEOUT_S)
            if process.stdout is not None:
                process.stdout.close()
