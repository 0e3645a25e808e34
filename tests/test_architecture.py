"""Imports point one way: an allow-list over every package and loose module, and the modules that a process really loads."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    "padiff_rpc": ROOT / "padiff_rpc",
    "padiff_servers": ROOT / "servers" / "padiff_servers",
    "padiff_clients": ROOT / "clients" / "padiff_clients",
}

# Each room -> what it may import besides the standard library: our rooms, then packages of others. A room is a package
# with all that lies in it, but for the rooms inside it that are listed by themselves. The order is that of the arrows: a
# room imports only rooms above it.
ALLOWED: dict[str, set[str]] = {
    "padiff_rpc.errors": set(),
    "padiff_rpc.version": set(),
    "padiff_rpc.per_side": set(),
    "padiff_rpc.v1": {"google.protobuf", "grpc"},
    "padiff_rpc.result": {"padiff_rpc.per_side"},
    "padiff_rpc.system": set(),
    "padiff_rpc.tensors": {"padiff_rpc.errors", "numpy", "xxhash"},
    "padiff_rpc.numpy_framework": {"padiff_rpc.errors", "padiff_rpc.tensors", "numpy"},
    "padiff_rpc.model": {"padiff_rpc.errors", "padiff_rpc.tensors", "numpy"},
    "padiff_rpc.model.backends": {"padiff_rpc.errors", "padiff_rpc.model", "padiff_rpc.tensors", "numpy"},
    "padiff_rpc.model.backends.numpy": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.backends",
        "padiff_rpc.numpy_framework",
        "padiff_rpc.tensors",
        "numpy",
    },
    "padiff_rpc.model.backends.torch": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.backends",
        "padiff_rpc.tensors",
        "numpy",
        "torch",
    },
    # grpc: paddle must see the system's zlib and gRPC first (libpaddle exports an old zlib).
    "padiff_rpc.model.backends.paddle": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.backends",
        "padiff_rpc.tensors",
        "grpc",
        "numpy",
        "paddle",
    },
    "padiff_rpc.model.store": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.system",
        "padiff_rpc.tensors",
        "numpy",
    },
    "padiff_rpc.model.recording": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.backends",
        "padiff_rpc.model.store",
        "padiff_rpc.system",
        "padiff_rpc.tensors",
    },
    "padiff_rpc.model.hosting": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.backends",
        "padiff_rpc.model.recording",
        "padiff_rpc.model.store",
        "padiff_rpc.tensors",
        "padiff_rpc.version",
        "numpy",
    },
    "padiff_rpc.wire": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.store",
        "padiff_rpc.system",
        "padiff_rpc.tensors",
        "padiff_rpc.v1",
        "grpc",
        "numpy",
        "tenacity",
    },
    "padiff_rpc.remote": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.store",
        "padiff_rpc.tensors",
        "padiff_rpc.v1",
        "padiff_rpc.wire",
        "grpc",
    },
    "padiff_rpc.tape": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.recording",
        "padiff_rpc.system",
        "padiff_rpc.tensors",
        "numpy",
        "xxhash",
    },
    "padiff_rpc.compare": {"padiff_rpc.errors", "padiff_rpc.result", "padiff_rpc.tensors", "numpy"},
    "padiff_rpc.match": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
        "numpy",
    },
    "padiff_rpc.checkpoint": {"padiff_rpc.errors", "padiff_rpc.system", "padiff_rpc.tensors"},
    # What all of an alignment stands on.
    "padiff_rpc.align.progress": set(),
    "padiff_rpc.align.settings": {"padiff_rpc.compare", "padiff_rpc.model", "padiff_rpc.per_side"},
    "padiff_rpc.align.sides": {
        "padiff_rpc.compare",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
    },
    "padiff_rpc.align.preconditions": {
        "padiff_rpc.align.settings",
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
    },
    "padiff_rpc.align.prepare": {
        "padiff_rpc.align.preconditions",
        "padiff_rpc.align.settings",
        "padiff_rpc.align.sides",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
    },
    "padiff_rpc.align.assign": {
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
        "numpy",
    },
    "padiff_rpc.align.run": {
        "padiff_rpc.align.settings",
        "padiff_rpc.align.sides",
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.system",
        "padiff_rpc.tensors",
    },
    "padiff_rpc.explain": {
        "padiff_rpc.align.assign",
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
        "numpy",
    },
    "padiff_rpc.align.stages": {
        "padiff_rpc.align.assign",
        "padiff_rpc.align.prepare",
        "padiff_rpc.align.progress",
        "padiff_rpc.align.run",
        "padiff_rpc.align.settings",
        "padiff_rpc.align.sides",
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
        "numpy",
    },
    "padiff_rpc.align.trying": {
        "padiff_rpc.align.assign",
        "padiff_rpc.align.prepare",
        "padiff_rpc.align.run",
        "padiff_rpc.align.stages",
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
    },
    "padiff_rpc.align.verdict": {
        "padiff_rpc.align.assign",
        "padiff_rpc.align.prepare",
        "padiff_rpc.align.run",
        "padiff_rpc.align.settings",
        "padiff_rpc.align.sides",
        "padiff_rpc.align.stages",
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.explain",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
        "numpy",
    },
    "padiff_rpc.align.second_look": {
        "padiff_rpc.align.assign",
        "padiff_rpc.align.prepare",
        "padiff_rpc.align.progress",
        "padiff_rpc.align.run",
        "padiff_rpc.align.sides",
        "padiff_rpc.align.stages",
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
        "numpy",
    },
    # The doors: align.py and compare_dumps.py.
    "padiff_rpc.align": {
        "padiff_rpc.align.second_look",
        "padiff_rpc.align.assign",
        "padiff_rpc.align.preconditions",
        "padiff_rpc.align.prepare",
        "padiff_rpc.align.progress",
        "padiff_rpc.align.run",
        "padiff_rpc.align.settings",
        "padiff_rpc.align.stages",
        "padiff_rpc.align.trying",
        "padiff_rpc.align.verdict",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
    },
    "padiff_rpc.report": {
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.system",
        "rich",
    },
    "padiff_rpc.sequential": {
        "padiff_rpc.align",
        "padiff_rpc.align.preconditions",
        "padiff_rpc.align.progress",
        "padiff_rpc.align.settings",
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.result",
        "padiff_rpc.tape",
    },
    "padiff_rpc.convert_checkpoint": {
        "padiff_rpc.align",
        "padiff_rpc.align.assign",
        "padiff_rpc.align.prepare",
        "padiff_rpc.align.settings",
        "padiff_rpc.checkpoint",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tensors",
        "padiff_rpc.version",
    },
    "padiff_rpc.interface": {
        "padiff_rpc.align",
        "padiff_rpc.align.assign",
        "padiff_rpc.align.settings",
        "padiff_rpc.align.stages",
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.model.backends",
        "padiff_rpc.model.hosting",
        "padiff_rpc.model.recording",
        "padiff_rpc.model.store",
        "padiff_rpc.per_side",
        "padiff_rpc.result",
        "padiff_rpc.tape",
        "padiff_rpc.tensors",
        "numpy",
    },
    # The front door only; it loads what is named when it is named.
    "padiff_rpc": {
        "padiff_rpc.align",
        "padiff_rpc.align.settings",
        "padiff_rpc.compare",
        "padiff_rpc.errors",
        "padiff_rpc.interface",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.remote",
        "padiff_rpc.result",
        "padiff_rpc.sequential",
        "padiff_rpc.tape",
        "padiff_rpc.version",
    },
    "padiff_servers": {
        "padiff_rpc.errors",
        "padiff_rpc.model",
        "padiff_rpc.model.hosting",
        "padiff_rpc.model.store",
        "padiff_rpc.system",
        "padiff_rpc.tensors",
        "padiff_rpc.v1",
        "padiff_rpc.wire",
        "grpc",
    },
    # Other Pythons run this file to say what they hold; nothing of ours may be needed for that.
    "padiff_clients.probe": {"paddle", "torch"},
    "padiff_clients": {
        "padiff_clients.probe",
        "padiff_rpc.align",
        "padiff_rpc.align.prepare",
        "padiff_rpc.align.progress",
        "padiff_rpc.align.settings",
        "padiff_rpc.checkpoint",
        "padiff_rpc.compare",
        "padiff_rpc.convert_checkpoint",
        "padiff_rpc.errors",
        "padiff_rpc.interface",
        "padiff_rpc.match",
        "padiff_rpc.model",
        "padiff_rpc.model.hosting",
        "padiff_rpc.model.store",
        "padiff_rpc.per_side",
        "padiff_rpc.remote",
        "padiff_rpc.report",
        "padiff_rpc.result",
        "padiff_rpc.sequential",
        "padiff_rpc.system",
        "padiff_rpc.tape",
        "padiff_rpc.tensors",
        "padiff_rpc.version",
        "annotated_types",
        "click",
        "numpy",
        "pydantic",
        "rich",
        "tomli",
    },
}

STANDARD_LIBRARY = sys.stdlib_module_names
LAZY_ROOTS = {"padiff_rpc"}
"""Packages whose `__init__` imports what lies below it for type checkers alone, and otherwise on first use."""


def python_files() -> list[tuple[str, Path]]:
    return [
        (module_name(package, path.relative_to(folder)), path)
        for package, folder in SOURCES.items()
        for path in sorted(folder.rglob("*.py"))
    ]


def module_name(package: str, path: Path) -> str:
    parts = [package, *path.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(source: str, known: frozenset[str]) -> set[str]:
    """Return the modules that a source imports, wherever in it; of `from a import b` a.b where that is a module of ours."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, "imports are absolute"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names.update(name if name in known else str(node.module) for name in full)
    return names


def room_of(name: str, rooms: Iterable[str] = tuple(ALLOWED)) -> str | None:
    """Return the innermost room that a module of ours lies in."""
    within = [room for room in rooms if name == room or name.startswith(f"{room}.")]
    return max(within, key=len, default=None)


def package_of(name: str) -> str:
    """Return what the list calls a module: a room of ours, or a package of others."""
    room = room_of(name)
    if room is not None:
        return room
    return "google.protobuf" if name.startswith("google.protobuf") else name.partition(".")[0]


def crossings(module: str, source: str, modules: frozenset[str]) -> set[str]:
    """Return what a module imports from outside its own room, by the names of the list."""
    packages = {package_of(name) for name in imports_of(source, modules)}
    return {name for name in packages if name != room_of(module) and name not in STANDARD_LIBRARY}


def wrong_imports(module: str, source: str, modules: frozenset[str]) -> list[str]:
    """Say which imports of a module the list does not allow."""
    room = room_of(module)
    assert room is not None
    return [
        f"{module} imports {name}" for name in sorted(crossings(module, source, modules)) if name not in ALLOWED[room]
    ]


MODULES = frozenset(module for module, _ in python_files())


def test_imports_point_one_way() -> None:
    assert [] == [
        wrong for module, path in python_files() for wrong in wrong_imports(module, path.read_text(), MODULES)
    ]


def test_the_list_allows_nothing_that_is_not_used() -> None:
    used: dict[str, set[str]] = {room: set() for room in ALLOWED}
    for module, path in python_files():
        room = room_of(module)
        assert room is not None
        used[room] |= crossings(module, path.read_text(), MODULES)
    assert used == ALLOWED


def test_the_rooms_are_listed_in_the_order_of_their_arrows() -> None:
    order = list(ALLOWED)
    upward = [
        f"{room} imports {other}, which comes after it"
        for room, allowed in ALLOWED.items()
        for other in allowed
        if other in ALLOWED and other != room and order.index(other) > order.index(room)
    ]
    assert [] == upward


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("padiff_rpc.match.match", "from padiff_rpc.align.settings import AlignSettings"),
        ("padiff_rpc.compare.judge", "import padiff_rpc.wire.serde"),
        ("padiff_rpc.model.model", "from padiff_rpc.model.hosting import hosted"),
        ("padiff_rpc.align.run.phase", "from padiff_rpc.align.verdict.blame import Blame"),
        ("padiff_rpc.tape.header", "import torch"),
        ("padiff_servers.session", "def late():\n    from padiff_rpc.align.align import align"),
        ("padiff_rpc.numpy_framework.nn", "import scipy.special"),
    ],
)
def test_an_import_the_wrong_way_is_found(module: str, planted: str) -> None:
    source = dict(python_files())[module].read_text()
    assert [] == wrong_imports(module, source, MODULES)
    assert 1 == len(wrong_imports(module, f"{source}\n{planted}\n", MODULES))


def test_no_two_modules_import_each_other() -> None:
    graph = {
        module: imports_of(path.read_text(), MODULES) & MODULES - LAZY_ROOTS
        for module, path in python_files()
        if module not in LAZY_ROOTS
    }
    assert [] == circle(graph)


def test_a_circle_is_found() -> None:
    assert {"a", "b"} == set(circle({"a": {"b"}, "b": {"c", "a"}, "c": set()}))


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports, [] where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        return list(err.args[1])
    return []


def test_align_has_at_most_eight_files_at_its_top() -> None:
    assert 8 >= len(list((ROOT / "padiff_rpc" / "align").glob("*.py")))


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_the_coordinator_environment_holds_no_framework(framework: str) -> None:
    assert importlib.util.find_spec(framework) is None


# -- what a process really loads ----------------------------------------------------------------------------------------
def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh Python has loaded after some code."""
    program = f"{code}\nimport sys\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def below(names: Iterable[str], *packages: str) -> list[str]:
    return sorted(name for name in names for package in packages if name == package or name.startswith(f"{package}."))


@pytest.mark.processes
def test_importing_the_library_loads_nothing_else() -> None:
    loaded = loaded_by("import padiff_rpc")
    assert ["padiff_rpc", "padiff_rpc.version"] == below(loaded, "padiff_rpc")
    assert [] == below(loaded, "grpc", "numpy", "google")


@pytest.mark.processes
def test_matching_loads_no_grpc_and_nothing_that_runs_a_model() -> None:
    loaded = loaded_by("import importlib, pkgutil, padiff_rpc.match\n" + ALL_BELOW.format(package="padiff_rpc.match"))
    assert [] == below(
        loaded, "grpc", "padiff_rpc.align", "padiff_rpc.wire", "padiff_rpc.v1", "padiff_rpc.model.hosting"
    )


ALL_BELOW = """
for found in pkgutil.walk_packages({package}.__path__, "{package}."):
    importlib.import_module(found.name)
"""


@pytest.mark.processes
def test_importing_the_library_loads_no_framework() -> None:
    loaded = loaded_by("import padiff_servers, padiff_clients.cli")
    assert [] == below(loaded, "torch", "paddle", "jax", "tensorflow")


MODEL = """
import sys
from pathlib import Path

import numpy as np

from padiff_rpc.numpy_framework import nn


class Telling(nn.Layer):
    def __init__(self, path):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self._path = path

    def forward(self, x):
        Path(self._path).write_text("\\n".join(sys.modules))
        return self.linear(x)
"""


@pytest.mark.processes
def test_a_worker_loads_nothing_of_the_coordinators(tmp_path: Path) -> None:
    import numpy as np

    from padiff_rpc import as_inputs, launch
    from padiff_rpc.model.model import ForwardRequest, LossSpec, RecordOptions

    (tmp_path / "telling.py").write_text(MODEL)
    told = tmp_path / "modules"
    with launch(f"numpy@{tmp_path / 'telling.py'}:Telling", model_args={"path": str(told)}) as model:
        model.describe()
        inputs = as_inputs({"x": np.ones((2, 4), np.float32)})
        for _ in range(2):  # the second forward tells what the first, and a backward, have loaded
            model.forward(ForwardRequest(inputs=inputs, gradients=True, record=RecordOptions(gradients=True)))
            model.backward(LossSpec("projection"))
    loaded = told.read_text().split("\n")
    assert "padiff_servers.service" in loaded
    coordinators = (
        "padiff_rpc.align",
        "padiff_rpc.match",
        "padiff_rpc.interface",
        "padiff_rpc.report",
        "padiff_rpc.compare",
        "padiff_rpc.explain",
    )
    assert [] == below(loaded, *coordinators, "padiff_rpc.tape", "padiff_rpc.remote", "padiff_clients")


# -- the front door -----------------------------------------------------------------------------------------------------
def test_every_public_name_is_there_and_listed() -> None:
    import padiff_rpc

    assert set(padiff_rpc.__all__) <= set(dir(padiff_rpc))
    assert set(padiff_rpc.__all__) == set(padiff_rpc._MODULES)
    for name in padiff_rpc.__all__:
        assert getattr(padiff_rpc, name).__module__ == f"padiff_rpc.{padiff_rpc._MODULES[name]}"


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    import padiff_rpc

    with pytest.raises(AttributeError, match="module 'padiff_rpc' has no attribute 'aline'"):
        _ = padiff_rpc.aline  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.processes
def test_align_is_the_function_whatever_was_imported_before_it() -> None:
    code = "import padiff_rpc.align.settings, padiff_rpc\nfrom padiff_rpc import align\nassert callable(align)"
    assert "padiff_rpc.align.align" in loaded_by(f"{code}\nassert padiff_rpc.align is align")
