"""inspect: layers, parameters, buffers, ties and hyper-parameters, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

MODELS = f"numpy@{Path(__file__).parents[1]}/models/numpy_models.py"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_a_models_tree_is_shown_with_ties_and_hyperparameters(cli, worker):
    result = cli("inspect", worker("tied"))

    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        "4 layers, 3 parameters (168 elements), 0 buffers (0 elements)",
        "",
        "Tied",
        "├╴table  Embedding  num_embeddings=12, embedding_dim=8",
        "      weight  F32[12, 8]  tied to projection.weight",
        "├╴fc  Linear  in_features=8, out_features=8, bias=True",
        "      weight  F32[8, 8]",
        "      bias  F32[8]",
        "└╴projection  Linear  in_features=8, out_features=12, bias=False",
        "      weight  F32[12, 8]  tied to table.weight",
    ]


def test_buffers_are_told_from_parameters(cli, worker):
    result = cli("inspect", worker("conv_net"))

    assert "      running_mean  F32[6]  buffer" in result.stdout.splitlines()


@pytest.mark.processes
def test_the_factorys_arguments_and_the_dtype_arrive(cli):
    result = cli("inspect", f"{MODELS}:deep", "--model-arg", "depth=3", "--dtype", "float64")

    assert "├╴1  Residual" in result.stdout
    assert "3  Residual" not in result.stdout
    assert "F64[8, 8]" in result.stdout


def test_json_carries_the_description(cli, worker, tmp_path: Path):
    result = cli("inspect", worker("tied"), "--json", tmp_path / "model.json")

    read = json.loads((tmp_path / "model.json").read_text())
    assert result.exit_code == 0
    assert read["schema"] == "padiff-rpc/description/1"
    assert read["info"]["framework"] == "numpy"
    assert [layer["route"] for layer in read["model"]["layers"]] == ["", "table", "fc", "projection"]
    assert read["model"]["parameters"][0]["aliases"] == ["projection.weight"]
    assert read["model"]["parameters"][0]["spec"] == {"dtype": "F32", "shape": [12, 8]}


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["nonsense"], 2, "error [BAD_SPEC]"),
        ([f"{MODELS}:deep", "--model-arg", "depth=three"], 2, "cannot read --model-arg 'depth=three'"),
        ([f"{MODELS}:deep", "--dtype", "float31"], 2, "Invalid value for '--dtype'"),
        (["unix:/none", "--dtype", "float64"], 2, "already runs: dtype cannot be set from here"),
        (["unix:/none", "--connect-timeout", "0.1"], 3, "error [WORKER_UNREACHABLE]"),
        ([f"{MODELS}:deep", "--json", "/none/x.json"], 2, "cannot write '/none/x.json'"),
    ],
)
def test_what_goes_wrong_is_said_with_its_exit_status(cli, arguments, status, expected):
    result = cli("inspect", *arguments)

    assert result.exit_code == status
    assert expected in result.stderr
    assert result.stdout == ""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([f"{MODELS}:none"], "error [BAD_SPEC]"),
        ([f"{MODELS}:deep", "--model-arg", "deep=3"], "error [BAD_CONFIG]"),
    ],
)
def test_what_a_launched_worker_reports_is_said(cli, arguments, expected):
    result = cli("inspect", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr
