"""Finding a backend, with no framework installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends import detect_backend, load_backend
from padiff_rpc.numpy_framework.nn import Linear


@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_a_missing_framework_brings_the_exact_pip_lines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever this environment has, the framework is nowhere to be found.
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PadiffError) as raised:
        load_backend(name)
    assert raised.value.reason is Reason.FRAMEWORK_MISSING
    assert sys.executable in raised.value.message
    assert f"{sys.executable} -m pip install 'padiff-rpc[{name}]'" in raised.value.hint
    assert f"pip install {'paddlepaddle' if name == 'paddle' else 'torch'}" in raised.value.hint


def test_a_framework_that_does_not_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libthing.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for loaded in [name for name in sys.modules if name == "torch" or name.endswith("torch_backend")]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(PadiffError, match=r"libthing\.so") as raised:
        load_backend("torch")
    assert raised.value.reason is Reason.FRAMEWORK_MISSING


def test_an_unknown_framework_is_refused() -> None:
    with pytest.raises(PadiffError, match="'jax'") as raised:
        load_backend("jax")
    assert raised.value.reason is Reason.BAD_SPEC


def test_a_models_backend_is_detected() -> None:
    assert detect_backend(Linear(2, 2)).name == "numpy"


def test_an_object_of_no_framework_is_refused_by_its_class() -> None:
    with pytest.raises(PadiffError, match=r"pathlib.*Path") as raised:
        detect_backend(Path())
    assert raised.value.reason is Reason.BAD_CONFIG
