"""Describe the machine and the versions that the figures belong to."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from typing import Any

from benchmarks.cases import FRAMEWORKS
from benchmarks.memory import machine_bytes
from benchmarks.processes import python_of

_VERSIONS = "import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
_PACKAGES = {
    "torch": ["torch", "numpy", "grpcio", "protobuf"],
    "paddle": ["paddlepaddle", "numpy", "grpcio", "protobuf"],
}


def describe_machine() -> dict[str, Any]:
    """Return cores, memory and the versions in each framework's environment."""
    return {
        "taken_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": machine_bytes(),
        "python": platform.python_version(),
        **{framework: _versions(str(python_of(framework)), _PACKAGES[framework]) for framework in FRAMEWORKS},
    }


def _versions(python: str, names: list[str]) -> dict[str, str]:
    done = subprocess.run([python, "-c", _VERSIONS.format(names=names)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
