"""Building a model from a SPEC, and what is said when that fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.numpy.backend import NumpyBackend
from padiff_rpc.model.hosting.factory import build_model, load_factory, load_function
from padiff_rpc.model.hosting.hosted import HostedModel, Placement
from padiff_rpc.model.spec import parse_spec

SOURCE = """
from padiff_rpc.numpy_framework.nn import Linear
import neighbour_of_net

COUNT = 0

def build(width=3):
    return Linear(width, neighbour_of_net.SIZE)

def build_broken(width=3):
    return deeper(width)

def deeper(width):
    raise KeyError(f"no width {width}")

def build_text():
    return "a model"

def build_exit():
    raise SystemExit(2)

def my_loss(outputs):
    return outputs.sum()
"""


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    folder = tmp_path / "user code"
    folder.mkdir()
    (folder / "net.py").write_text(SOURCE)
    (folder / "neighbour_of_net.py").write_text("SIZE = 5\n")
    return folder / "net.py"


def failure(text: str, **model_args: object) -> PadiffError:
    with pytest.raises(PadiffError) as raised:
        build_model(parse_spec(text), NumpyBackend(), model_args)
    return raised.value


def test_a_file_is_loaded_with_its_neighbours_and_called_with_the_arguments(net: Path) -> None:
    assert build_model(parse_spec(f"numpy@{net}:build"), NumpyBackend(), {"width": 2}).weight.shape == (5, 2)
    assert build_model(parse_spec(f"numpy@{net}:build"), NumpyBackend()).weight.shape == (5, 3)


def test_a_path_is_taken_from_the_current_folder(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(net.parents[1])
    assert load_factory(parse_spec("numpy@user code/net.py:build"))().weight.shape == (5, 3)


def test_a_dotted_module_is_looked_for_in_the_current_folder(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(net.parent)
    assert load_factory(parse_spec("numpy@net:build"))().weight.shape == (5, 3)


def test_a_file_runs_once_for_its_model_and_its_losses(net: Path) -> None:
    assert load_factory(parse_spec(f"numpy@{net}:build")).__globals__ is load_function(f"{net}:my_loss").__globals__


def test_two_files_of_one_name_do_not_mix(net: Path, tmp_path: Path) -> None:
    other = tmp_path / "net.py"
    other.write_text("def build():\n    return 'other'\n")
    load_factory(parse_spec(f"numpy@{net}:build"))
    assert load_function(f"{other}:build")() == "other"


def test_a_missing_file_is_named_in_full(tmp_path: Path) -> None:
    error = failure(f"numpy@{tmp_path / 'gone.py'}:build")
    assert error.reason is Reason.BAD_SPEC
    assert str(tmp_path / "gone.py") in error.message


@pytest.mark.parametrize("module", ["surely_not_here", "surely_not_here.net", "padiff_rpc.surely_not_here"])
def test_a_missing_module_is_named(module: str) -> None:
    error = failure(f"numpy@{module}:build")
    assert error.reason is Reason.BAD_SPEC
    assert "surely_not_here" in error.message


def test_a_missing_factory_lists_what_is_there(net: Path) -> None:
    error = failure(f"numpy@{net}:bild")
    assert error.reason is Reason.BAD_SPEC
    assert "did you mean 'build'?" in error.hint
    assert "build_broken" in error.hint
    assert "Linear" not in error.hint  # imported, not defined there
    assert failure(f"numpy@{net}:COUNT").reason is Reason.BAD_SPEC


def test_a_raising_factory_shows_the_users_frames_alone(net: Path) -> None:
    error = failure(f"numpy@{net}:build_broken", width=7)
    assert error.reason is Reason.FACTORY_FAILED
    assert "KeyError: 'no width 7'" in error.message
    assert f"{net}:14" in error.message
    trace = error.metadata["traceback"]
    assert [line.strip() for line in trace.splitlines() if line.strip().startswith("File")] == [
        f'File "{net}", line 11, in build_broken',
        f'File "{net}", line 14, in deeper',
    ]
    assert f"padiff_rpc{os.sep}" not in trace


def test_an_error_inside_the_library_blames_the_users_line(net: Path) -> None:
    net.write_text(SOURCE + "\ndef build_bad():\n    return Linear('x', 'y')\n")
    error = failure(f"numpy@{net}:build_bad")
    assert error.reason is Reason.FACTORY_FAILED
    assert f"{net}:26" in error.message


@pytest.mark.parametrize("factory", ["build_exit", "build_text"])
def test_a_factory_that_exits_or_returns_something_else_is_refused(net: Path, factory: str) -> None:
    error = failure(f"numpy@{net}:{factory}")
    assert error.reason is Reason.FACTORY_FAILED
    assert ("SystemExit" if factory == "build_exit" else "builtins.str, not a numpy model") in error.message


def test_arguments_that_the_factory_does_not_take_show_its_signature(net: Path) -> None:
    error = failure(f"numpy@{net}:build", widht=7)
    assert error.reason is Reason.BAD_CONFIG
    assert "widht" in error.message
    assert "build(width=3)" in error.hint


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def build(:\n", "SyntaxError"),
        ("x = 1\nraise ValueError('at import')\n", "ValueError: at import"),
        ("import surely_not_here_either\n", "ModuleNotFoundError: No module named 'surely_not_here_either'"),
        ("raise SystemExit('usage: ...')\n", "SystemExit"),
    ],
)
def test_a_file_that_raises_when_imported_says_where(net: Path, source: str, said: str) -> None:
    net.write_text(source)
    error = failure(f"numpy@{net}:build")
    assert error.reason is Reason.FACTORY_FAILED
    assert said in error.message
    line = 2 if "at import" in source else 1
    assert f"{net}:{line}" in error.message
    assert "importlib" not in error.metadata["traceback"]
    assert "net" not in sys.modules
    net.write_text(SOURCE)  # corrected, it loads
    assert load_factory(parse_spec(f"numpy@{net}:build"))().weight.shape == (5, 3)


@pytest.mark.parametrize("packaged", [True, False])
def test_a_file_that_imports_its_neighbours_relatively_is_to_be_named_as_a_module(
    net: Path, packaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = net.parent / "nets"
    (package / "small").mkdir(parents=True)
    for folder in (package, package / "small") if packaged else ():
        (folder / "__init__.py").touch()
    (package / "small" / "sizes.py").write_text("SIZE = 4\n")
    source = "from padiff_rpc.numpy_framework.nn import Linear\nfrom .sizes import SIZE\n"
    (package / "small" / "tiny.py").write_text(f"{source}def build():\n    return Linear(2, SIZE)\n")

    error = failure(f"numpy@{package / 'small' / 'tiny.py'}:build")

    root, module = (net.parent, "nets.small.tiny") if packaged else (package, "small.tiny")
    assert error.reason is Reason.FACTORY_FAILED
    assert error.hint.endswith(f"name the module: numpy@{module}:build")
    assert repr(str(root)) in error.hint
    monkeypatch.chdir(root)
    assert build_model(parse_spec(f"numpy@{module}:build"), NumpyBackend()).weight.shape == (4, 2)


def test_a_trace_is_cut_to_what_fits_on_the_wire(net: Path) -> None:
    net.write_text("def build(depth=300):\n    if depth: return build(depth - 1)\n    raise ValueError('x' * 5000)\n")
    error = failure(f"numpy@{net}:build")
    assert len(error.message) + len(error.metadata["traceback"]) < 3500
    assert "raise ValueError" in error.metadata["traceback"]


def test_a_hosted_model_is_built_from_a_spec_with_what_it_offers(net: Path) -> None:
    spec = f"numpy@{net}:build"
    model = HostedModel.from_spec(
        spec,
        model_args={"width": 2},
        placement=Placement(dtype="float64"),
        losses={"mine": f"{net}:my_loss"},
        optimizers={"own": f"{net}:build_text"},
    )
    info = model.info()
    assert (info.losses, info.optimizers, info.framework) == (("mine",), ("own",), "numpy")
    assert {each.spec.dtype.value for each in model.describe().parameters} == {"F64"}


@pytest.mark.parametrize("spec", ["grpc://localhost:1", "unix:/x", "tape:dir"])
def test_only_a_factory_can_be_hosted(spec: str) -> None:
    with pytest.raises(PadiffError) as raised:
        HostedModel.from_spec(spec)
    assert raised.value.reason is Reason.BAD_SPEC
