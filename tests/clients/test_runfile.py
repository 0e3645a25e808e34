"""The run file: its keys, its paths, and what it says of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from padiff_clients.anchor_paths import anchored_spec
from padiff_clients.run_keys import RunFile
from padiff_clients.runfile import load_run_file, merge, validate

from padiff_rpc.errors import PadiffError, Reason


def load(tmp_path: Path, text: str) -> RunFile:
    (tmp_path / "run.toml").write_text(text)
    return load_run_file(tmp_path / "run.toml")


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(PadiffError) as caught:
        load(tmp_path, text)
    assert caught.value.reason == Reason.BAD_CONFIG
    return caught.value.message


def test_relative_paths_are_taken_from_the_run_files_folder(tmp_path: Path):
    run = load(
        tmp_path,
        """
        inputs = "in.py:make"
        targets = "../t.npz"
        json_file = "out/r.json"
        token_file = "/etc/token"
        [base]
        spec = "torch@models/m.py:build"
        python = "../.venvs/torch/bin/python"
        inputs = "base.npz"
        loss_fn = "loss.py:f"
        [raw]
        spec = "paddle@package.module:build"
        python = "python3.11"
        optimizer_fn = "package.optimizers:adam"
        """,
    )

    assert run.inputs == f"{tmp_path}/in.py:make"
    assert run.targets == f"{tmp_path.parent}/t.npz"
    assert run.json_file == f"{tmp_path}/out/r.json"
    assert run.token_file == "/etc/token"
    assert run.base.spec == f"torch@{tmp_path}/models/m.py:build"
    assert run.base.python == f"{tmp_path.parent}/.venvs/torch/bin/python"
    assert run.base.inputs == f"{tmp_path}/base.npz"
    assert run.base.loss_fn == f"{tmp_path}/loss.py:f"
    assert run.raw.spec == "paddle@package.module:build"
    assert run.raw.python == "python3.11"
    assert run.raw.optimizer_fn == "package.optimizers:adam"


def test_a_python_that_is_a_link_stays_one(tmp_path: Path):
    (tmp_path / "real").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(tmp_path / "real")

    run = load(tmp_path, '[base]\npython = "bin/python"')

    assert run.base.python == f"{tmp_path}/bin/python"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("unix:w.sock", "unix:/f/w.sock"),
        ("unix:/run/w.sock", "unix:/run/w.sock"),
        ("tape:dump", "tape:/f/dump"),
        ("grpc://host:5000", "grpc://host:5000"),
        ("torch@m.py:build", "torch@/f/m.py:build"),
        ("torch@pkg.m:build", "torch@pkg.m:build"),
        ("nonsense", "nonsense"),
    ],
)
def test_only_paths_in_a_spec_are_anchored(spec: str, expected: str):
    assert anchored_spec(spec, "/f") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[base]\nspek = 1", "unknown key 'spek' in [base]: did you mean 'spec'?"),
        ("single_stp = true", "unknown key 'single_stp' at the top level: did you mean 'single_step'?"),
        ("rtol = 1.0", "unknown key 'rtol' at the top level: it belongs to [compare]"),
        ("[raw]\nsteps = 3", "unknown key 'steps' in [raw]: it belongs to the top level"),
        ("[bse]\nspec = 'x'", "unknown key 'bse' at the top level: did you mean 'base'?"),
        ("[compare]\nmodes = 'strict'", "unknown key 'modes' in [compare]: did you mean 'mode'?"),
        ("[store]\nzzz = 1", "unknown key 'zzz' in [store] (known there: memory, disk)"),
        (
            "[compare]\nmode = 'strct'",
            "key 'mode' in [compare]: input should be 'mean', 'abs_mean', 'strict' or 'scaled'",
        ),
        ("steps = 0", "key 'steps' at the top level: input should be greater than or equal to 1, got 0"),
        ("steps = true", "key 'steps' at the top level: input should be a valid integer, got True"),
        ("single_step = 1", "key 'single_step' at the top level: input should be a valid boolean, got 1"),
        ("[compare]\nrtol = nan", "key 'rtol' in [compare]: input should be a finite number, got nan"),
        ("[compare]\nrtol = -1.0", "key 'rtol' in [compare]: input should be greater than or equal to 0"),
        ("[base]\nloss = 'mse'\nloss_fn = 'l.py:f'", "[base] has both 'loss' and 'loss_fn'"),
        ("steps = 2\ninputs = in.npz", "is no valid TOML"),
    ],
)
def test_a_wrong_key_is_named_with_its_table_and_the_nearest_right_one(tmp_path: Path, text: str, expected: str):
    message = refusal(tmp_path, text)

    assert expected in message
    assert str(tmp_path / "run.toml") in message


def test_every_wrong_key_is_named_at_once(tmp_path: Path):
    message = refusal(tmp_path, "stepz = 1\n[raw]\npyton = 'x'")

    assert "'stepz'" in message
    assert "'pyton'" in message


def test_a_run_file_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(PadiffError, match="No such file"):
        load_run_file(tmp_path / "none.toml")


def test_options_go_before_keys_and_side_keys_before_those_for_both(tmp_path: Path):
    file = load(
        tmp_path,
        'dtype = "float32"\nsteps = 2\nloss = "mean"\n[base]\ndtype = "float64"\nargs = {a = 1, b = 2}\n[raw]\nloss = "sum"\n',
    )

    run = merge(file, validate({"base": {"args": {"b": 3}}, "steps": 5}, "options"))

    assert (run.base.dtype, run.raw.dtype) == ("float64", "float32")
    assert (run.base.loss, run.raw.loss) == ("mean", "sum")
    assert run.base.args == {"a": 1, "b": 3}
    assert run.steps == 5


def test_an_option_for_both_goes_before_a_sides_key_in_the_file(tmp_path: Path):
    file = load(tmp_path, '[base]\ndtype = "float64"\nloss_fn = "l.py:f"\n[raw]\nloss = "sum"')

    run = merge(file, validate({"dtype": "float32", "loss": "mse"}, "options"))

    assert (run.base.dtype, run.raw.dtype) == ("float32", "float32")
    assert (run.base.loss, run.base.loss_fn, run.raw.loss) == ("mse", None, "mse")


def test_a_sides_own_loss_function_goes_before_the_loss_for_both(tmp_path: Path):
    file = load(tmp_path, 'loss = "mean"')

    run = merge(file, validate({"base": {"loss_fn": "l.py:f"}}, "options"))

    assert (run.base.loss, run.base.loss_fn) == (None, "l.py:f")
    assert run.raw.loss == "mean"
