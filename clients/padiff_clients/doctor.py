"""`padiff-rpc doctor`: say what each given Python can host, and what is missing."""

from __future__ import annotations

import glob
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from padiff_clients import probe
from padiff_clients.console import show
from padiff_clients.report_errors import ALIGNED, BAD_USAGE, handled
from padiff_rpc.report.layout import columns

PROBE_TIMEOUT_S = 120.0  # a first import of a framework from a cold disk takes tens of seconds

_FRAMEWORKS = ("torch", "paddle")


@dataclass(frozen=True)
class Diagnosis:
    """What one Python holds.

    Attributes:
        python: the program that was asked.
        error: says why it could not be asked; empty if it could.
        python_version: its version; empty after an error.
        packages: map each package that a worker needs to its version, or to None if it is missing.
        frameworks: map each framework to its `version` and `devices`, or to the `error` of its import; empty if not installed.
    """

    python: str
    error: str
    python_version: str
    packages: dict[str, str | None]
    frameworks: dict[str, dict[str, Any]]

    @property
    def missing(self) -> list[str]:
        """The packages that a worker needs and this Python lacks."""
        return [name for name, version in self.packages.items() if version is None]

    @property
    def hosts(self) -> list[str]:
        """The frameworks whose models this Python can host; `numpy` stands for the layers that come with padiff-rpc itself."""
        if self.error or self.missing:
            return []
        return [*(name for name in _FRAMEWORKS if self.frameworks[name].get("version")), "numpy"]


@click.command()
@click.argument("pythons", metavar="[PYTHON]...", nargs=-1)
@handled
def doctor(pythons: tuple[str, ...]) -> None:
    """Say what each Python can host and what is missing.

    Without arguments: this Python, and .venvs/*/bin/python. Exit status 2 where one of them can host nothing.
    """
    names = pythons or (sys.executable, *sorted(glob.glob(".venvs/*/bin/python")))
    found = [diagnose(name) for name in names]
    show(lambda console: _print(found, console))
    sys.exit(ALIGNED if all(one.hosts for one in found) else BAD_USAGE)


def diagnose(python: str) -> Diagnosis:
    """Ask a Python what it holds.

    It is asked in processes of its own, one for each framework, since two frameworks may not share a process.
    """
    packages = _ask(python, "packages")
    if "error" in packages:
        return Diagnosis(python, packages["error"], "", {}, {})
    frameworks = {name: _ask(python, name) for name in _FRAMEWORKS if packages["installed"][name]}
    return Diagnosis(
        python,
        "",
        packages["python"],
        packages["packages"],
        {name: frameworks.get(name, {}) for name in _FRAMEWORKS},
    )


def _ask(python: str, what: str) -> dict[str, Any]:
    code = Path(probe.__file__).read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [python, "-c", code, what], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except OSError as err:
        return {"error": f"cannot be run: {err.strerror or err}"}
    except subprocess.TimeoutExpired:
        return {"error": f"gave no answer within {PROBE_TIMEOUT_S:g} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if done.returncode < 0:
        return {"error": f"crashed with signal {-done.returncode}"}
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return {"error": f"failed with exit status {done.returncode}: {last}"}


def _print(found: list[Diagnosis], console: Console) -> None:
    for at, one in enumerate(found):
        if at:
            console.print()
        console.print(Text.assemble((one.python, "bold"), f"  Python {one.python_version}" if not one.error else ""))
        for line in columns([*_rows(one)], console.width, indent=2):
            console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _rows(one: Diagnosis) -> list[tuple[str, Text | str]]:
    if one.error:
        return [("hosts", Text("nothing", style="red")), ("error", one.error)]
    hosts = Text(", ".join(one.hosts), style="green") if one.hosts else Text("nothing", style="red")
    rows: list[tuple[str, Text | str]] = [
        ("hosts", hosts),
        (
            "has",
            ", ".join(f"{name} {version}" for name, version in one.packages.items() if version) or "nothing it needs",
        ),
    ]
    if one.missing:
        rows.append(("lacks", f"{', '.join(one.missing)}: {one.python} -m pip install padiff-rpc"))
    for name, about in one.frameworks.items():
        if about.get("version"):
            rows.append((name, f"{about['version']} on {', '.join(about['devices'])}"))
        elif about.get("error"):
            rows.append((name, Text(f"is installed, and its import {about['error']}", style="red")))
        else:
            rows.append((name, f"missing: {one.python} -m pip install 'padiff-rpc[{name}]'"))
    return rows
