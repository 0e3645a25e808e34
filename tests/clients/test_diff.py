"""diff, end to end on the NumPy layers: two workers, the verdict, the exit status, the JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.remote.connect import connect

FILE = Path(__file__).parents[1] / "models" / "numpy_models.py"
MODELS = f"numpy@{FILE}"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")


@pytest.fixture
def diff(cli, worker):
    """Return a function: factory of both sides, inputs, further options -> what the command did with running workers."""

    def run(factory: str, inputs: str, *options: object, raw: str = "", raw_args: Mapping[str, Any] | None = None):
        sides = ("--base", worker(factory), "--raw", worker(raw or factory, **(raw_args or {})))
        return cli("diff", *sides, "--inputs", f"{FILE}:{inputs}", *options)

    return run


@pytest.fixture
def launched_diff(cli):
    """Return a function as `diff` is, for workers that the command launches."""

    def run(factory: str, inputs: str, *options: object):
        sides = ("--base", f"{MODELS}:{factory}", "--raw", f"{MODELS}:{factory}")
        return cli("diff", *sides, "--inputs", f"{FILE}:{inputs}", *options)

    return run


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.mark.processes
def test_the_same_model_twice_is_aligned(launched_diff, tmp_path: Path):
    result = launched_diff("bert_like", "tokens", "--json", tmp_path / "r.json")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("ALIGNED  the two models agree\n")
    assert read(tmp_path / "r.json")["aligned"] is True
    assert read(tmp_path / "r.json")["settings"]["base"]["spec"] == f"{MODELS}:bert_like"


def test_weights_of_another_layout_are_assigned_and_aligned(diff):
    result = diff("bert_like", "tokens", "--optimizer", "Adam(lr=0.01)", raw_args={"layout": "io", "seed": 1})

    assert (result.exit_code, result.stderr) == (0, "")
    assert "  weights " in result.stdout


def test_a_wrong_epsilon_is_found_at_its_layer_with_the_hyperparameter(diff, tmp_path: Path):
    result = diff("bert_like", "tokens", "--json", tmp_path / "r.json", raw_args={"eps_at": 1})

    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.startswith("DIFFERS  first at encoder.1.norm1 (step 0, forward)\n")
    assert "  eps=1e-12  eps=0.1\n" in result.stdout
    assert "<--- HERE" in result.stdout
    assert (
        "Try next: give both layers one epsilon: base's layer_norm has an epsilon of 1e-12, raw's 0.1" in result.stdout
    )
    assert read(tmp_path / "r.json")["first_divergence"]["base"]["route"] == "encoder.1.norm1"


def test_a_bug_between_children_is_shown_at_the_parent(diff):
    result = diff("mlp", "vectors", raw="mlp_wrong_scale")

    assert result.exit_code == 1
    assert result.stdout.startswith("DIFFERS  first at body (step 0, forward)\n")
    assert "tensor    input.0 of body.act" in result.stdout
    assert "<--- seen here" in result.stdout


def test_single_step_names_both_planted_bugs_and_no_other(diff):
    result = diff("bert_like", "tokens", "--single-step", raw_args={"no_scale_at": 0, "eps_at": 1})

    assert result.exit_code == 1
    assert result.stdout.startswith("DIFFERS  first at encoder.0.attention (step 0, forward), and at 1 more layer\n")
    further = result.stdout.partition("Further layers that add a difference of their own\n")[2].partition("\n\n")[0]
    assert further.startswith("  encoder.1.norm1  forward")


@pytest.mark.processes
def test_another_dtype_needs_to_be_allowed(launched_diff):
    strictly = launched_diff("mlp", "vectors", "--raw-dtype", "float64")
    allowed = launched_diff("mlp", "vectors", "--raw-dtype", "float64", "--allow-dtype-difference")

    assert (strictly.exit_code, allowed.exit_code) == (1, 0)
    assert "--allow-dtype-difference" in strictly.stdout


@pytest.mark.processes
def test_float64_casts_models_and_inputs_and_agrees_to_1e_8(launched_diff, tmp_path: Path):
    result = launched_diff(
        "mlp",
        "vectors",
        "--dtype",
        "float64",
        "--raw-arg",
        'layout="io"',
        "--rtol",
        "1e-8",
        "--json",
        tmp_path / "r.json",
    )

    assert (result.exit_code, result.stderr) == (0, "")
    assert read(tmp_path / "r.json")["settings"]["raw"]["dtype"] == "float64"


def test_quiet_prints_the_verdict_alone(diff):
    result = diff("mlp", "vectors", "--quiet", "--phase", "forward")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "ALIGNED  the two models agree"
    assert result.stdout.splitlines()[1].endswith(" skipped")
    assert "By stage" not in result.stdout


@pytest.mark.processes
def test_a_run_file_holds_all_of_it_and_options_go_before_it(cli, tmp_path: Path):
    np.savez(tmp_path / "in.npz", x=np.ones((2, 8), np.float32))
    np.savez(tmp_path / "t.npz", target=np.zeros((2, 4), np.float32))
    (tmp_path / "run.toml").write_text(
        f"""
        inputs = "in.npz"
        targets = "t.npz"
        loss = "mse"
        optimizer = "SGD(lr=0.1)"
        steps = 2
        json_file = "r.json"
        [base]
        spec = "{MODELS}:mlp"
        [raw]
        spec = "{MODELS}:mlp"
        args = {{ scale = 1.5 }}
        [map]
        layers = {{ "body.fc1" = "body.fc1" }}
        """
    )

    as_written, overridden = (
        cli("diff", tmp_path / "run.toml"),
        cli("diff", tmp_path / "run.toml", "--raw-arg", "scale=1.0"),
    )

    assert (as_written.exit_code, overridden.exit_code) == (1, 0)
    assert read(tmp_path / "r.json")["settings"]["steps"] == 2
    assert {pair["step"] for pair in read(tmp_path / "r.json")["pairs"]} == {0, 1}


def test_a_worker_that_is_taken_is_said(cli, worker):
    address = worker("mlp")
    with connect(address):
        result = cli(
            "diff", "--base", worker("mlp"), "--raw", address, "--inputs", f"{FILE}:vectors", "--connect-timeout", 1
        )

    assert result.exit_code == 3
    assert "error [WORKER_BUSY]" in result.stderr


@pytest.mark.parametrize(
    ("options", "status", "expected"),
    [
        (["--base", "grpc://127.0.0.1:1", "--connect-timeout", "0.2"], 3, "error [WORKER_UNREACHABLE]"),
        (["--inputs", "none.npz"], 2, "error [BAD_INPUTS]: cannot read 'none.npz'"),
        (["--json", "/none/r.json"], 2, "cannot write '/none/r.json'"),
        (["--pair", "body"], 2, "cannot read --pair 'body'"),
        (["--stesp", "2"], 2, "No such option"),
        (["--phase", "backward"], 2, "error [BAD_CONFIG]"),
        (["--inputs", f"{FILE}:tokens"], 2, "error [BAD_INPUTS]"),
    ],
)
def test_what_goes_wrong_is_said_with_its_exit_status_and_nothing_on_stdout(cli, worker, options, status, expected):
    sides = ("--base", worker("mlp"), "--raw", worker("mlp"))
    result = cli("diff", *sides, "--inputs", f"{FILE}:vectors", *options)

    assert (result.exit_code, result.stdout) == (status, "")
    assert expected in result.stderr


def test_models_that_do_not_match_are_refused(diff):
    result = diff("bert_like", "vectors", raw="mlp")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "error [MODELS_DO_NOT_MATCH]" in result.stderr


def test_a_side_that_is_not_given_is_said(cli):
    result = cli("diff", "--raw", f"{MODELS}:mlp", "--inputs", f"{FILE}:vectors")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "base is not given" in result.stderr


@pytest.mark.processes
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--base", f"{MODELS}:none"], "has no function 'none'"),
        (["--base", f"{MODELS}:mlp", "--base-python", "/none/python"], "/none/python"),
        (["--base", f"{MODELS}:mlp", "--base-arg", "depth=1"], "error [BAD_CONFIG]"),
    ],
)
def test_what_cannot_be_launched_is_said(cli, worker, options, expected):
    result = cli("diff", "--raw", worker("mlp"), "--inputs", f"{FILE}:vectors", *options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr


@pytest.mark.processes
def test_a_factory_that_raises_shows_its_own_frames(cli, worker, tmp_path: Path):
    (tmp_path / "bad.py").write_text("def build():\n    return {}['weights']\n")

    result = cli(
        "diff", "--base", f"numpy@{tmp_path}/bad.py:build", "--raw", worker("mlp"), "--inputs", f"{FILE}:vectors"
    )

    assert result.exit_code == 2
    assert "error [FACTORY_FAILED]" in result.stderr
    assert "    return {}['weights']\n" in result.stderr
    assert "padiff_rpc" not in result.stderr


def test_no_inputs_is_said_before_anything_is_launched(cli):
    result = cli("diff", "--base", f"{MODELS}:mlp", "--raw", f"{MODELS}:mlp")

    assert result.exit_code == 2
    assert "no inputs are given" in result.stderr


def test_optimisers_whose_steps_differ_are_told_in_a_valid_result(diff, tmp_path: Path):
    (tmp_path / "run.toml").write_text('[base]\noptimizer = "SGD(lr=1e-5)"\n[raw]\noptimizer = "SGD(lr=2e-5)"\n')
    result = diff("mlp", "vectors", tmp_path / "run.toml", "--json", tmp_path / "r.json")

    assert (result.exit_code, result.stderr) == (1, "")
    failing = [pair for pair in read(tmp_path / "r.json")["pairs"] if pair["status"] == "fail"]
    assert ("weights", "step_l2") in {(pair["stage"], pair["metrics"]["measure"]) for pair in failing}
