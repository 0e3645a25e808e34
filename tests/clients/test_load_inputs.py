"""Inputs from files and functions, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from padiff_clients.load_inputs import load_inputs, load_targets, model_inputs

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType, Tensor


def refusal(*sources: str) -> PadiffError:
    with pytest.raises(PadiffError) as caught:
        load_inputs(*sources)
    assert caught.value.reason == Reason.BAD_INPUTS
    return caught.value


def function(tmp_path: Path, body: str) -> str:
    path = tmp_path / f"inputs_{tmp_path.name}.py"  # a name of its own: a file that stands imported is not read again
    path.write_text(f"import numpy as np\n\n\ndef make():\n    {body}\n")
    return f"{path}:make"


def test_an_npz_gives_both_sides_its_arrays(tmp_path: Path):
    np.savez(tmp_path / "in.npz", x=np.arange(3.0), mask=np.array([True, False]))
    source = str(tmp_path / "in.npz")

    base, raw = load_inputs(source, source)

    assert base is raw
    assert sorted(base) == ["mask", "x"]
    assert base["x"].tolist() == [0.0, 1.0, 2.0]


def test_each_side_may_have_its_own_file(tmp_path: Path):
    np.savez(tmp_path / "a.npz", a=np.zeros(1))
    np.savez(tmp_path / "b.npz", b=np.ones(1))

    base, raw = load_inputs(str(tmp_path / "a.npz"), str(tmp_path / "b.npz"))

    assert (list(base), list(raw)) == (["a"], ["b"])


def test_a_function_is_called_once_for_both_sides(tmp_path: Path):
    source = function(tmp_path, "return {'x': np.random.default_rng().random(4)}")

    base, raw = load_inputs(source, source)

    assert np.array_equal(base["x"], raw["x"])


def test_a_function_may_return_a_pair(tmp_path: Path):
    source = function(tmp_path, "return {'ids': np.zeros(1)}, {'input_ids': np.ones(1)}")

    base, raw = load_inputs(source, source)

    assert (list(base), list(raw)) == (["ids"], ["input_ids"])


def test_a_function_may_import_what_lies_beside_its_file(tmp_path: Path):
    (tmp_path / f"beside_{tmp_path.name}.py").write_text("SIZE = 5\n")
    source = function(tmp_path, f"import beside_{tmp_path.name} as b; return {{'x': np.zeros(b.SIZE)}}")

    assert load_inputs(source, source)[0]["x"].shape == (5,)


def test_nests_and_plain_values_become_tensors_and_stay_plain():
    values = model_inputs(
        {"x": [np.zeros((2, 1), np.float32)], "n": np.int64(3), "flag": None, "s": "a"}, "f", float64=False
    )

    assert isinstance(values["x"][0], Tensor)
    assert values["x"][0].spec.shape == (2, 1)
    assert (values["n"], values["flag"], values["s"]) == (3, None, "a")


@pytest.mark.parametrize(
    ("dtype", "expected"), [("f4", DType.F64), ("f2", DType.F64), ("i4", DType.I32), ("?", DType.BOOL)]
)
def test_only_floating_inputs_are_cast_for_float64(dtype: str, expected: DType):
    assert model_inputs({"x": np.zeros(2, dtype)}, "f", float64=True)["x"].spec.dtype == expected


def test_without_float64_nothing_is_cast():
    assert model_inputs({"x": np.zeros(2, "f2")}, "f", float64=False)["x"].spec.dtype == DType.F16


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"x": {"y": object()}}, "['x']['y'] is a builtins.object"),
        ({"x": [np.array(["text"])]}, "['x'][0]: no tensor type corresponds"),
        ({"x": np.array([object()])}, "['x'] is an array of Python objects"),
        ({"x": {1: np.zeros(1)}}, "['x'] has the key 1"),
    ],
)
def test_a_value_that_cannot_be_sent_is_named_by_its_key(value: dict, expected: str):
    with pytest.raises(PadiffError) as caught:
        model_inputs(value, "in.py:make", float64=False)

    assert caught.value.reason == Reason.BAD_INPUTS
    assert caught.value.message.startswith(f"in.py:make{expected}")


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path):
    np.savez(tmp_path / "in.npz", x=np.array([{"a": 1}], dtype=object))

    assert "array 'x' cannot be read" in refusal(*[str(tmp_path / "in.npz")] * 2).message


def test_files_that_are_none_are_said(tmp_path: Path):
    (tmp_path / "text.npz").write_text("no zip")
    np.save(tmp_path / "single.npy", np.zeros(1))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    np.savez(tmp_path / "empty.npz")

    assert "is no .npz file" in refusal(*[str(tmp_path / "text.npz")] * 2).message
    assert "holds a single array" in refusal(*[str(tmp_path / "single.npz")] * 2).message
    assert "holds no arrays" in refusal(*[str(tmp_path / "empty.npz")] * 2).message
    assert "No such file" in refusal(*[str(tmp_path / "none.npz")] * 2).message
    assert "cannot read inputs from 'in.csv'" in refusal("in.csv", "in.csv").message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 3", "returned a int"),
        ("return {}", "returned an empty dict"),
        ("return {}, {}, {}", "returned a tuple"),
    ],
)
def test_a_function_that_returns_something_else_is_named(tmp_path: Path, body: str, expected: str):
    source = function(tmp_path, body)

    assert f"{source!r} {expected}" in refusal(source, source).message


def test_a_function_that_raises_shows_its_own_frames_only(tmp_path: Path):
    source = function(tmp_path, "return {'x': 1 / 0}")

    err = refusal(source, source)

    assert "ZeroDivisionError" in err.message
    assert "1 / 0" in err.metadata["traceback"]
    assert "padiff_clients" not in err.metadata["traceback"]


def test_a_file_that_needs_a_missing_package_says_where_to_install_it(tmp_path: Path):
    source = function(tmp_path, "pass")
    path = Path(source.rpartition(":")[0])
    path.write_text("import no_such_package\n" + path.read_text())

    err = refusal(source, source)

    assert "no_such_package" in err.message
    assert "install it in this Python" in err.hint


def test_a_missing_function_or_file_is_named(tmp_path: Path):
    source = function(tmp_path, "pass")

    assert "has no function 'maek'" in refusal(*[source.replace(":make", ":maek")] * 2).message
    assert "there is no file" in refusal(*[f"{tmp_path}/none.py:f"] * 2).message


def test_a_pair_for_one_side_only_is_refused(tmp_path: Path):
    np.savez(tmp_path / "a.npz", a=np.zeros(1))
    source = function(tmp_path, "return {'a': np.zeros(1)}, {'b': np.zeros(1)}")

    assert "source of one side only" in refusal(source, str(tmp_path / "a.npz")).message


def test_targets_come_from_an_npz(tmp_path: Path):
    np.savez(tmp_path / "t.npz", target=np.zeros(2))

    assert list(load_targets(str(tmp_path / "t.npz"))) == ["target"]
    with pytest.raises(PadiffError, match="cannot read targets"):
        load_targets("t.py:f")
