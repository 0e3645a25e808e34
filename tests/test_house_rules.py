"""One name for one thing, short functions with few parameters, and abilities asked for by type."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT / "padiff_rpc", ROOT / "servers" / "padiff_servers", ROOT / "clients" / "padiff_clients")

LONGEST_FUNCTION = 60
MOST_PARAMETERS = 8

TWIN_MODULES = {
    "__init__": "Python's name",
    "__main__": "Python's name: each of the two programs has one",
    "backend": "one for each framework, and the Protocol that they implement",
    "api_calls": "one for each framework",
    "hyperparameters": "one for each framework that has such differences",
    "autograd": "how paddle's is listened to, and that of the small framework",
    "tensor": "one for each framework, and our own in tensors/",
    "training": "one for each framework",
    "optimizers": "one for each framework",
    "align": "the package, and in it the function of that name",
    "match": "the package, and in it the function that matches two models",
    "model": "the package, and in it the Model seam",
    "store": "the package, and in it the Store",
}
TWIN_CLASSES = {
    "Tensor": "ours in tensors/, and that of the small framework, which names its things as frameworks do",
}
PUBLIC_DOORS = {
    "padiff_rpc/interface/auto_diff.py:auto_diff": "PaDiff's signature",
    "padiff_rpc/remote/launch.py:launch": "each option is its own keyword for users",
    "padiff_rpc/tape/write_tape.py:record": "each option is its own keyword for users",
}
"""Functions that users call with keywords, and that may have more parameters."""


@cache
def sources() -> list[tuple[str, ast.Module]]:
    """Return the path below the repository, and the syntax tree, of every module that is not generated."""
    paths = [path for package in PACKAGES for path in sorted(package.rglob("*.py")) if "v1" not in path.parts]
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in paths]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def twins(named: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that stand in several places, with these."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, place in named:
        places[name].append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def classes(tree: ast.Module) -> Iterator[str]:
    """Give a module's public classes and type aliases."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name) and is_type_name(each.id))


def is_type_name(name: str) -> bool:
    return name[0].isupper() and not name.isupper() and "_" not in name


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = node.args
    everything = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    receiver = bool(given.args) and given.args[0].arg in ("self", "cls")
    return len(everything) - receiver + (given.vararg is not None) + (given.kwarg is not None)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_class_name_stands_twice() -> None:
    named = [(name, path) for path, tree in sources() for name in classes(tree) if not name.startswith("_")]
    typevars = {name for name, _ in named if len(name) == 1}
    assert set(TWIN_CLASSES) == set(twins(each for each in named if each[0] not in typevars))


def test_no_module_name_stands_twice() -> None:
    named = [(Path(path).stem, path) for path, _ in sources()]
    named += [
        (folder.name, folder.as_posix()) for package in PACKAGES for folder in package.rglob("*") if is_package(folder)
    ]
    found = twins(named)
    assert set(found) <= set(TWIN_MODULES)
    assert set(TWIN_MODULES) <= set(found), "what no longer stands twice leaves the list"


def is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def test_functions_are_short() -> None:
    long = [
        f"{path}:{node.name} has {length(node)} lines"
        for path, tree in sources()
        for node in functions(tree)
        if length(node) > LONGEST_FUNCTION
    ]
    assert [] == long


def test_functions_take_few_parameters() -> None:
    many = {
        f"{path}:{node.name}"
        for path, tree in sources()
        for node in functions(tree)
        if parameters(node) > MOST_PARAMETERS
    }
    assert set(PUBLIC_DOORS) == many


def test_no_positional_bundle_of_what_a_comparison_goes_by() -> None:
    starred = [
        f"{path}:{node.lineno}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Starred) and isinstance(node.value, ast.Name) and node.value.id == "judged"
    ]
    assert [] == starred


@pytest.mark.parametrize("package", ["align", "match", "compare", "interface", "report", "tape", "sequential.py"])
def test_what_a_model_can_do_is_asked_by_type(package: str) -> None:
    """Beside the backends, which handle objects of other people's frameworks, no attribute is looked up by a string."""
    assert [] == [
        f"{path}:{node.lineno}"
        for path, tree in sources()
        if path.startswith(f"padiff_rpc/{package}")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and is_lookup(node)
    ]


def is_lookup(call: ast.Call) -> bool:
    by_name = isinstance(call.func, ast.Name) and call.func.id == "getattr"
    return by_name and len(call.args) > 1 and isinstance(call.args[1], ast.Constant)


# -- the rules find what they are for -------------------------------------------------------------------------------------
def test_a_long_function_and_one_of_many_parameters_are_seen() -> None:
    body = "\n".join("    x = 1" for _ in range(60))
    (node,) = functions(ast.parse(f"def f(self, a, b=1, *c, d, **e):\n{body}\n"))
    assert (61, 5) == (length(node), parameters(node))


def test_a_lookup_by_a_string_is_seen() -> None:
    (call,) = (node for node in ast.walk(ast.parse("getattr(model, 'memory', None)")) if isinstance(node, ast.Call))
    assert is_lookup(call)


def test_twins_are_seen() -> None:
    trees = [ast.parse("class Place: ..."), ast.parse("Place = tuple[int, int]")]
    assert {"Place": ["0", "1"]} == twins((name, str(at)) for at, tree in enumerate(trees) for name in classes(tree))
