"""Imports point one way, and nothing but a backend knows a framework."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    "padiff_rpc": ROOT / "padiff_rpc",
    "padiff_servers": ROOT / "servers" / "padiff_servers",
    "padiff_clients": ROOT / "clients" / "padiff_clients",
}
FORBIDDEN = {
    "padiff_rpc": ("padiff_servers", "padiff_clients"),
    "padiff_servers": ("padiff_clients",),
    "padiff_clients": ("padiff_servers",),
    "padiff_rpc.model": (
        "padiff_rpc.tape",
        "padiff_rpc.align",
        "padiff_rpc.remote",
        "padiff_rpc.wire",
        "padiff_rpc.v1",
        "grpc",
    ),
    "padiff_rpc.remote": ("padiff_rpc.align", "padiff_rpc.compare", "padiff_rpc.report"),
    "padiff_rpc.wire": ("padiff_rpc.align", "padiff_rpc.remote", "padiff_rpc.compare", "padiff_rpc.report"),
    "padiff_rpc.align": (
        "padiff_rpc.tape",
        "padiff_rpc.remote",
        "padiff_rpc.wire",
        "padiff_rpc.v1",
        "padiff_rpc.report",
        "grpc",
    ),
    "padiff_rpc.tape": (
        "padiff_rpc.align",
        "padiff_rpc.compare",
        "padiff_rpc.remote",
        "padiff_rpc.wire",
        "padiff_rpc.report",
        "padiff_rpc.v1",
        "grpc",
    ),
    "padiff_rpc.interface": ("padiff_rpc.wire", "padiff_rpc.v1", "padiff_rpc.report", "grpc"),
    "padiff_rpc.compare": ("padiff_rpc.align", "padiff_rpc.remote", "padiff_rpc.wire", "padiff_rpc.v1", "grpc"),
    "padiff_rpc.report": ("padiff_rpc.align", "padiff_rpc.remote", "padiff_rpc.wire", "padiff_rpc.v1", "grpc"),
}
# `doctor` has other Pythons run this file to say what they hold; nothing imports it.
PROBE = "clients/padiff_clients/probe.py"
MAY_IMPORT = {
    "torch": ("padiff_rpc/model/backends/torch/", PROBE),
    "paddle": ("padiff_rpc/model/backends/paddle/", PROBE),
}
# Frameworks must see the system's zlib and gRPC first (libpaddle exports an old zlib), so its backend loads gRPC too.
ALLOWED = {("padiff_rpc/model/backends/paddle/import_paddle.py", "grpc")}


def python_files() -> list[tuple[str, Path]]:
    files = [
        (".".join((package, *path.relative_to(folder).with_suffix("").parts)), path)
        for package, folder in SOURCES.items()
        for path in sorted(folder.rglob("*.py"))
    ]
    return [(module, path) for module, path in files if ".v1." not in module]


@cache
def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_imports_point_one_way() -> None:
    broken = [
        f"{module} imports {name}"
        for module, path in python_files()
        for package, forbidden in FORBIDDEN.items()
        if within(module, package)
        for name in imports_of(path)
        for other in forbidden
        if within(name, other) and (path.relative_to(ROOT).as_posix(), other) not in ALLOWED
    ]
    assert [] == broken


def test_only_the_package_itself_and_the_command_line_import_padiffs_interface() -> None:
    importers = {
        module
        for module, path in python_files()
        if not within(module, "padiff_rpc.interface")
        and any(within(name, "padiff_rpc.interface") for name in imports_of(path))
    }
    assert {"padiff_rpc.__init__", "padiff_clients.check"} == importers


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_only_its_backend_imports_a_framework(framework: str) -> None:
    broken = [
        module
        for module, path in python_files()
        if any(within(name, framework) for name in imports_of(path))
        and not path.relative_to(ROOT).as_posix().startswith(MAY_IMPORT[framework])
    ]
    assert [] == broken


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_the_coordinator_environment_holds_no_framework(framework: str) -> None:
    assert importlib.util.find_spec(framework) is None


@pytest.mark.processes
def test_importing_the_library_loads_no_framework() -> None:
    code = (
        "import sys, padiff_rpc, padiff_servers, padiff_clients.cli\n"
        "print([name for name in ('torch', 'paddle', 'jax', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout
