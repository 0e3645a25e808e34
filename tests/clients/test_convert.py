"""convert: base's weights in a checkpoint of raw, where an aligned run has verified the map, or nobody has asked for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from padiff_rpc.tensors.tensor import Tensor, collect_all
from tests.servers.harness import numpy_model

FILE = Path(__file__).parents[1] / "models" / "numpy_models.py"
Convert = Callable[..., Result]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def convert(cli: Any, worker: Any, tmp_path: Path) -> Convert:
    """Return a function: further options, and the arguments of raw's factory -> what the command did; it writes m.safetensors."""

    def run(*options: object, factory: str = "bert_like", **raw_args: Any) -> Result:
        sides = ("--base", worker(factory), "--raw", worker(factory, **raw_args))
        return cli("convert", *sides, "-o", tmp_path / "m.safetensors", *options)

    return run


def with_inputs(name: str = "tokens") -> tuple[str, str]:
    return "--inputs", f"{FILE}:{name}"


def values(factory: str, **model_args: Any) -> dict[str, Tensor]:
    model = numpy_model(factory, **model_args)
    return collect_all(model.read_parameters([info.name for info in model.describe().parameters]))


def read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return a safetensors file's metadata, and its float32 tensors by name."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__")
    body = data[8 + size :]
    return metadata, {
        name: np.frombuffer(body[slice(*told["data_offsets"])], np.float32).reshape(told["shape"])
        for name, told in header.items()
        if told["dtype"] == "F32"
    }


def test_the_file_holds_bases_weights_in_raws_names_and_layouts(convert: Convert, tmp_path: Path) -> None:
    result = convert(*with_inputs(), layout="io", seed=1)

    base, raw = values("bert_like"), values("bert_like", layout="io", seed=1)
    metadata, tensors = read(tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    assert "ALIGNED" in result.stdout
    assert f"wrote {tmp_path / 'm.safetensors'}: {len(raw)} tensors" in result.stdout
    assert "verified by this run" in result.stdout
    assert metadata["verified"] == "true"
    assert {name: array.shape for name, array in tensors.items()} == {
        name: tensor.spec.shape for name, tensor in raw.items() if tensor.spec.dtype.value == "F32"
    }
    expected = {name: base[name].to_array() for name in tensors}
    kept = {name for name, array in tensors.items() if np.array_equal(array, expected[name])}
    turned = {name for name, array in tensors.items() if np.array_equal(array, expected[name].T)} - kept
    assert kept | turned == set(tensors)
    assert {"encoder.0.attention.q.weight", "encoder.1.output.weight"} <= turned


def test_an_optimiser_of_the_verifying_run_leaves_no_mark_in_the_file(convert: Convert, tmp_path: Path) -> None:
    result = convert(*with_inputs(), "--train", "--optimizer", "Adam(lr=0.1)", seed=1)

    assert result.exit_code == 0, result.output
    base = values("bert_like")
    for name, array in read(tmp_path / "m.safetensors")[1].items():
        np.testing.assert_array_equal(array, base[name].to_array(), err_msg=name)


def test_models_that_differ_leave_the_old_file_as_it_was(convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_text("old")

    result = convert(*with_inputs(), eps_at=1)

    assert result.exit_code == 1
    assert "DIFFERS  first at encoder.1.norm1" in result.stdout
    assert f"{tmp_path / 'm.safetensors'} was not written: the models differ" in result.stdout
    assert (tmp_path / "m.safetensors").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(
    ("options", "why"), [((), "no run has compared the models"), (with_inputs(), "the models differ")]
)
def test_an_unverified_file_says_so(convert: Convert, tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    result = convert("--unverified", *options, eps_at=1)

    assert result.exit_code == 0, result.output
    assert f"NOT VERIFIED: {why}" in result.stdout
    assert read(tmp_path / "m.safetensors")[0]["verified"] == "false"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "no inputs are given"),
        ((*with_inputs(), "--layers", "encoder*"), "--layers would leave a part unverified"),
        ((*with_inputs(), "--depth", "1"), "--depth would leave a part unverified"),
        ((*with_inputs(), "--no-assign"), "--no-assign would leave a part unverified"),
        ((*with_inputs(), "--sequential"), "leave --sequential out"),
        ((*with_inputs(), "-o", "/gone/m.pt"), "No such file or directory"),
        ((*with_inputs(), "-o", "m.bin"), "has not the suffix of a checkpoint"),
    ],
)
def test_what_cannot_verify_or_be_written_is_refused_before_anything_is(
    convert: Convert, tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    result = convert(*options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr
    assert list(tmp_path.iterdir()) == []
