"""A pair of which one side takes more than half of the machine's memory, aligned with `--sequential`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import FRAMEWORKS, ROOT, Case, wide_case
from benchmarks.figures import Figure, Tell
from benchmarks.memory import machine_bytes, tree_bytes
from benchmarks.processes import bare_process, python_of
from padiff_rpc.errors import PadiffError, Reason

_SHARE = 0.55
"""Of the machine's memory, for the parameters and gradients of one side."""
_SAMPLE_S = 0.05
_LOG_TAIL_CHARS = 2000
_ALIGNED, _DIFFERS = 0, 1


def measure_sequential(rounds: int, tell: Tell, memory_bytes: int | None = None) -> list[Figure]:
    """Once, whatever the rounds. `memory_bytes`: take it for this machine's memory, to try with small models."""
    machine = memory_bytes or machine_bytes()
    case = wide_case(parameters=int(machine * _SHARE / 8))  # 4 bytes each, and as many for its gradient
    bare = {}
    for framework in FRAMEWORKS:
        with bare_process(case, framework) as child:
            bare[framework] = child.ask(do="step")["peak_bytes"]
        tell(f"sequential: a bare step of {framework} takes {bare[framework] / 1e9:.1f} GB")
    peak, status, result, wall_s = _run(case)
    one = max(bare.values())
    store = max(side["store_memory_bytes"] for side in result["environment"].values())
    tell("sequential: done")
    figures = [
        _figure(case, "smaller side", min(bare.values()) / machine, "x machine's memory", at_least=0.5),
        _figure(
            case,
            "process tree",
            peak / (one + store),
            "x one model and its store",
            at_most=1.0,
            note=f"{peak / 1e9:.2f} GB; the greater bare step {one / 1e9:.2f}, the store's budget {store / 1e9:.2f}",
        ),
    ]
    compared = sum(pair["status"] != "skipped" for pair in result["pairs"])
    note = f"{compared} compared in {wall_s:.0f} s"
    return [*figures, _figure(case, "aligned", float(status == _ALIGNED), "", at_least=1.0, note=note)]


def _run(case: Case) -> tuple[int, int, dict[str, Any], float]:
    """Run the command, and sample the memory of its process and all its workers: peak, exit status, result, seconds."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        inputs, out = Path(folder) / "inputs.npz", Path(folder) / "result.json"
        np.savez(inputs, allow_pickle=False, **case.inputs())
        begun = time.monotonic()
        process = subprocess.Popen(_command(case, inputs, out), cwd=ROOT, stdout=log, stderr=log)
        peak = 0
        try:
            while process.poll() is None:
                peak = max(peak, tree_bytes(process.pid))
                time.sleep(_SAMPLE_S)
        finally:
            process.kill()
            process.wait()
        wall_s = time.monotonic() - begun
        if process.returncode not in (_ALIGNED, _DIFFERS):
            log.seek(0)
            tail = log.read().decode(errors="replace")[-_LOG_TAIL_CHARS:].strip()
            raise PadiffError(f"padiff-rpc diff ended with status {process.returncode}: {tail}", reason=Reason.INTERNAL)
        return peak, process.returncode, json.loads(out.read_text()), wall_s


def _command(case: Case, inputs: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "padiff_clients", "diff", "--sequential", "--train"]
    for side, framework in zip(("base", "raw"), FRAMEWORKS, strict=True):
        command += [f"--{side}", f"{framework}@{case.place(framework)}"]
        command += [f"--{side}-python", str(python_of(framework))]
        for name, value in case.arguments(framework).items():
            command += [f"--{side}-arg", f"{name}={json.dumps(value)}"]
    return [*command, "--inputs", str(inputs), "--json", str(out)]


def _figure(case: Case, name: str, value: float, unit: str, **more: Any) -> Figure:
    return Figure("one after the other", case.name, name, value, unit, **more)
