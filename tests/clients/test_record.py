"""record, and diff with what it wrote: tapes as base, as raw, on both sides, and what is refused of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from padiff_rpc.tape.recorded_model import RecordedModel
from tests.servers.harness import wait_until
from tests.tape.tapes import PADIFF_DUMPS

FILE = Path(__file__).parents[1] / "models" / "numpy_models.py"
MODELS = f"numpy@{FILE}"
VECTORS = ("--inputs", f"{FILE}:vectors")

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def taped(cli: Run, worker: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """Return a function: options of record -> the SPEC of a tape of `mlp`, by a worker that runs in this process."""

    def record(*options: object, name: str = "tape", factory: str = "mlp", **model_args: Any) -> str:
        result = cli("record", worker(factory, **model_args), *VECTORS, "-o", tmp_path / name, *options)
        assert (0, "") == (result.exit_code, result.stderr)
        return f"tape:{tmp_path / name}"

    return record


@pytest.fixture
def raw_dump(taped: Callable[..., str]) -> str:
    """A dump that is no tape: it tells of no inputs."""
    return f"{taped(name='raw_dump')}/step_0/rank_0"


def refused(result: Result, *texts: str, status: int = 2) -> None:
    assert (status, "") == (result.exit_code, result.stdout)
    assert [] == [text for text in texts if text not in result.stderr]


# -- record -------------------------------------------------------------------------------------------------------
@pytest.mark.processes
def test_a_launched_model_is_recorded(cli: Run, tmp_path: Path) -> None:
    result = cli(
        "record", f"{MODELS}:mlp", *VECTORS, "-o", tmp_path / "tape", "--steps", 2, "--optimizer", "SGD(lr=0.1)"
    )
    assert (0, f"recorded 2 steps in {tmp_path / 'tape'}\n", "") == (result.exit_code, result.stdout, result.stderr)
    assert ["inputs", "step_0", "step_1", "tape.json"] == sorted(path.name for path in (tmp_path / "tape").iterdir())
    manifest = RecordedModel(tmp_path / "tape").recorded
    assert manifest is not None
    assert ("Mlp", 2, 0) == (manifest.model_name, manifest.steps, manifest.seed)


def test_a_tape_holds_what_it_was_recorded_with(taped: Callable[..., str], tmp_path: Path) -> None:
    taped("--seed", 7, "--eval", "--loss", "mean", "--optimizer", "Adam(lr=0.01)")
    manifest = RecordedModel(tmp_path / "tape").recorded
    assert manifest is not None
    assert (1, 7, False) == (manifest.steps, manifest.seed, manifest.training)
    assert "mean" == (manifest.loss and manifest.loss.name)
    assert ("Adam", 0.01) == (manifest.optimizer and (manifest.optimizer.name, manifest.optimizer.options["lr"]))


def test_a_forward_alone_is_recorded(taped: Callable[..., str], cli: Run, worker: Callable[..., str]) -> None:
    tape = taped("--phase", "forward")
    result = cli("diff", "--base", tape, "--raw", worker("mlp"))
    assert (0, "") == (result.exit_code, result.stderr)
    assert "  backward " not in result.stdout
    refused(cli("diff", "--base", tape, "--raw", worker("mlp"), "--phase", "both"), "holds no backward")


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ([], ["no inputs are given", "give --inputs FILE.npz"]),
        ([*VECTORS, "--loss", "mse"], ["compares with targets", "--targets"]),
        ([*VECTORS, "--loss", "maen"], ["there is no loss 'maen'", "did you mean 'mean'?"]),
        ([*VECTORS, "--optimizer", "SGDD(lr=1)"], ["there is no optimizer 'SGDD'"]),
        ([*VECTORS, "--phase", "forward", "--optimizer", "SGD(lr=1)"], ["an optimiser needs gradients"]),
        ([*VECTORS, "--steps", "0"], ["--steps"]),
        (["--inputs", "none.npz"], ["cannot read 'none.npz'"]),
    ],
)
def test_what_cannot_be_recorded_is_said_before_a_worker_starts(
    cli: Run, tmp_path: Path, options: list[Any], texts: list[str]
) -> None:
    """A test that starts a process without the mark fails."""
    refused(cli("record", f"{MODELS}:mlp", "-o", tmp_path / "tape", *options), *texts)
    assert [] == list(tmp_path.iterdir())


def test_targets_that_no_loss_takes_are_refused(cli: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "targets.npz", target=np.zeros((4, 4), np.float32))
    options = (*VECTORS, "--targets", tmp_path / "targets.npz", "-o", tmp_path / "tape")
    refused(cli("record", f"{MODELS}:mlp", *options), "targets are given, and the loss 'projection' takes none")


def test_a_folder_that_holds_something_is_refused_before_a_worker_starts(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "tape").mkdir()
    (tmp_path / "tape" / "mine.txt").write_text("mine")
    refused(cli("record", f"{MODELS}:mlp", *VECTORS, "-o", tmp_path / "tape"), "is there already, and is not empty")
    assert "mine" == (tmp_path / "tape" / "mine.txt").read_text()


def test_an_empty_folder_is_taken(taped: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "tape").mkdir()
    taped()
    assert (tmp_path / "tape" / "tape.json").is_file()


@pytest.mark.processes
def test_a_model_that_fails_leaves_no_half_tape(cli: Run, tmp_path: Path) -> None:
    result = cli("record", f"{MODELS}:mlp", "--inputs", f"{FILE}:tokens", "-o", tmp_path / "tape")
    refused(result, "error [BAD_INPUTS]: forward of Mlp does not take the inputs input_ids, mask")
    (tmp_path / "bad.py").write_text(
        f"import sys\nsys.path.insert(0, {str(FILE.parent)!r})\nimport numpy_models\n\n\n"
        "class Bad(numpy_models.Mlp):\n"
        "    def forward(self, x):\n        super().forward(x)\n        raise RuntimeError('half way')\n\n\n"
        "def build():\n    return Bad('oi', 1.0)\n"
    )
    result = cli("record", f"numpy@{tmp_path}/bad.py:build", *VECTORS, "-o", tmp_path / "tape")
    refused(result, "half way", status=result.exit_code)
    assert result.exit_code in (2, 3)
    assert ["bad.py"] == [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"]


@pytest.mark.processes
def test_ctrl_c_leaves_no_half_tape(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        f"import sys, time\nsys.path.insert(0, {str(FILE.parent)!r})\nimport numpy_models\n\n\n"
        "class Slow(numpy_models.Mlp):\n"
        "    def forward(self, x):\n"
        f"        open({str(tmp_path / 'running')!r}, 'w').close()\n        time.sleep(60)\n\n\n"
        "def build():\n    return Slow('oi', 1.0)\n"
    )
    # A shell's background jobs are started with SIGINT ignored, and so would be what they start.
    start = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from padiff_clients.cli import main\nsys.exit(main())"
    )
    command = [sys.executable, "-c", start, "record", f"numpy@{tmp_path}/slow.py:build", *VECTORS, "-o", "tape"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "running").exists, "the model runs")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (130, "interrupted\n") == (process.returncode, err)
    assert {"running", "slow.py"} == {path.name for path in tmp_path.iterdir()} - {"__pycache__"}


# -- a tape as base -----------------------------------------------------------------------------------------------
def test_inputs_loss_optimiser_steps_seed_and_mode_come_from_the_tape(
    taped: Callable[..., str], cli: Run, worker: Callable[..., str], tmp_path: Path
) -> None:
    settings = ("--steps", 2, "--optimizer", "SGD(lr=0.1)", "--loss", "mean", "--seed", 7, "--eval")
    tape = taped(*settings)
    result = cli("diff", "--base", tape, "--raw", worker("mlp", seed=1), "--json", tmp_path / "r.json")
    assert (0, "") == (result.exit_code, result.stderr)
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["aligned"] is True
    assert {0, 1} == {pair["step"] for pair in told["pairs"]}
    kept = told["settings"]
    assert (2, 7, False) == (kept["steps"], kept["seed"], kept["training"])
    assert ["mean"] * 2 == [kept[f"{side}_loss"]["name"] for side in ("base", "raw")]
    assert ["SGD"] * 2 == [kept[f"{side}_optimizer"]["name"] for side in ("base", "raw")]
    assert ["the tape's own"] * 2 == kept["inputs"]
    assert tape == kept["base"]["spec"]
    assert told["environment"]["base"]["recorded"] is True


def test_what_the_tape_was_recorded_with_may_be_said_again(
    taped: Callable[..., str], cli: Run, worker: Callable[..., str]
) -> None:
    settings = ("--steps", 2, "--optimizer", "SGD(lr=0.1)", "--loss", "mean", "--seed", 7, "--eval")
    result = cli("diff", "--base", taped(*settings), "--raw", worker("mlp"), *settings, *VECTORS)
    assert (0, "") == (result.exit_code, result.stderr)


@pytest.mark.parametrize(
    ("option", "texts"),
    [
        (["--loss", "sum"], ["the loss sum over the outputs 0", "recorded with the loss mean over the outputs 0"]),
        (["--optimizer", "SGD(lr=0.2)"], ["SGD(lr=0.2, ", "recorded with SGD(lr=0.1, "]),
        (["--seed", "3"], ["seed=3", "recorded with seed=7"]),
        (["--train"], ["training=True", "recorded with training=False"]),
        (["--steps", "3"], ["3 steps are asked for, base's dump holds 2", "--steps 2 or fewer"]),
        (["--base-device", "cpu"], ["which is a dump on disk: device cannot be set", "leave it out"]),
        (["--base-python", "python"], ["which is a dump on disk: python cannot be set"]),
        (["--base-dtype", "float64"], ["which is a dump on disk: dtype cannot be set"]),
        (["--base-arg", "seed=1"], ["which is a dump on disk: args cannot be set"]),
    ],
)
def test_what_contradicts_the_tape_is_refused_with_both_values(
    taped: Callable[..., str], cli: Run, worker: Callable[..., str], option: list[str], texts: list[str]
) -> None:
    tape = taped("--steps", 2, "--optimizer", "SGD(lr=0.1)", "--loss", "mean", "--seed", 7, "--eval")
    refused(cli("diff", "--base", tape, "--raw", worker("mlp"), *option), *texts)


def test_fewer_steps_than_the_tape_holds_are_said(
    taped: Callable[..., str], cli: Run, worker: Callable[..., str]
) -> None:
    result = cli("diff", "--base", taped("--steps", 3), "--raw", worker("mlp"), "--steps", 1)
    assert 0 == result.exit_code
    assert "base's dump holds 3 steps, of which 1 were compared: --steps 3 compares all" in result.stdout


def test_a_fault_is_found_against_the_tape(
    taped: Callable[..., str], cli: Run, worker: Callable[..., str], tmp_path: Path
) -> None:
    tape = taped()
    result = cli("diff", "--base", tape, "--raw", worker("mlp_wrong_scale"), "--json", tmp_path / "r.json")
    assert 1 == result.exit_code
    assert result.stdout.startswith("DIFFERS  first at body (step 0, forward)\n")
    assert "body" == json.loads((tmp_path / "r.json").read_text())["first_divergence"]["base"]["route"]
    assert (
        "DIFFERS  first at body"
        in cli("diff", "--base", tape, "--raw", worker("mlp_wrong_scale"), "--single-step").stdout
    )


def test_single_step_takes_a_tape_as_base_only(taped: Callable[..., str], cli: Run, worker: Callable[..., str]) -> None:
    tape = taped()
    assert 0 == cli("diff", "--base", tape, "--raw", worker("mlp", seed=1), "--single-step").exit_code
    refused(
        cli("diff", "--base", worker("mlp"), "--raw", tape, "--single-step"),
        "raw is a dump, and single step hands base's tensors to raw's layers",
    )


def test_other_inputs_than_the_tapes_are_a_difference(
    taped: Callable[..., str], cli: Run, worker: Callable[..., str], tmp_path: Path
) -> None:
    np.savez(tmp_path / "other.npz", x=np.ones((4, 8), np.float32))
    result = cli("diff", "--base", taped(), "--raw", worker("mlp"), "--inputs", tmp_path / "other.npz")
    assert 1 == result.exit_code
    assert "the inputs given to the two models differ" in result.stdout


def test_a_loss_of_its_own_is_to_be_brought_by_the_other_side(
    cli: Run, taped: Callable[..., str], worker: Callable[..., str], tmp_path: Path
) -> None:
    taped()
    manifest = tmp_path / "tape" / "tape.json"
    content = json.loads(manifest.read_text())
    content["loss"]["name"] = "own_loss"
    manifest.write_text(json.dumps(content))
    result = cli("diff", "--base", f"tape:{tmp_path / 'tape'}", "--raw", worker("mlp"))
    refused(result, "recorded with a loss of its worker's own, 'own_loss', and raw has none", "--raw-loss-fn")


# -- a tape as raw, and dumps that are no tapes -------------------------------------------------------------------
def test_nothing_is_assigned_to_a_tape(taped: Callable[..., str], cli: Run, worker: Callable[..., str]) -> None:
    tape = taped()
    assert 0 == cli("diff", "--base", worker("mlp"), "--raw", tape).exit_code
    other_weights = cli("diff", "--base", worker("mlp", seed=1), "--raw", tape)
    assert 1 == other_weights.exit_code
    assert "weights_before" in other_weights.stdout
    refused(
        cli("diff", "--base", worker("mlp"), "--raw", tape, "--assign"),
        "raw is a dump, and base's weights cannot be assigned to it",
    )


def test_two_tapes_are_compared_without_a_model(taped: Callable[..., str], cli: Run) -> None:
    base, raw = taped("--steps", 2), taped("--steps", 2, "--seed", 9, name="other")
    result = cli("diff", "--base", base, "--raw", raw)
    assert (0, "") == (result.exit_code, result.stderr)
    assert "base was recorded with seed=0, raw with seed=9" in result.stdout
    differing = cli("diff", "--base", base, "--raw", taped("--steps", 2, name="wrong", scale=1.5))
    assert (1, "DIFFERS  first at body (step 0, forward)") == (differing.exit_code, differing.stdout.splitlines()[0])


def test_two_tapes_that_contradict_each_other_are_refused_with_both_values(taped: Callable[..., str], cli: Run) -> None:
    base = taped("--steps", 2)
    longer = taped("--steps", 3, name="longer")
    refused(cli("diff", "--base", base, "--raw", longer), "base's dump holds 2 steps, raw's 3", "give --steps 2")
    assert 0 == cli("diff", "--base", base, "--raw", longer, "--steps", 2).exit_code
    other = taped("--steps", 2, "--loss", "mean", name="other")
    refused(cli("diff", "--base", base, "--raw", other), "recorded with the loss projection(seed=0), raw with mean")
    assert 0 == cli("diff", "--base", base, "--raw", other, "--phase", "forward").exit_code


def test_a_dump_that_holds_no_inputs_says_so(raw_dump: str, cli: Run, worker: Callable[..., str]) -> None:
    refused(
        cli("diff", "--base", raw_dump, "--raw", worker("mlp")),
        "no inputs are given, and base's dump",
        "holds none (a tape of `padiff-rpc record` does)",
        "what the recorded model was run on",
    )
    assert 0 == cli("diff", "--base", raw_dump, "--raw", worker("mlp"), *VECTORS).exit_code


def test_a_dump_beside_a_tape_takes_the_tapes_settings(raw_dump: str, taped: Callable[..., str], cli: Run) -> None:
    assert 0 == cli("diff", "--base", raw_dump, "--raw", taped()).exit_code
    assert 0 == cli("diff", "--base", f"tape:{Path(raw_dump[5:]).parents[2] / 'tape'}", "--raw", raw_dump).exit_code


def test_all_steps_of_two_dumps_of_padiffs_are_compared(cli: Run) -> None:
    good, bad = (
        cli("diff", "--base", f"tape:{PADIFF_DUMPS}/torch_{one}", "--raw", f"tape:{PADIFF_DUMPS}/paddle_{one}")
        for one in ("good", "bad")
    )
    assert 0 == good.exit_code
    assert (1, "DIFFERS  first at fc1 (step 1, forward)") == (bad.exit_code, bad.stdout.splitlines()[0])


def test_a_damaged_tape_is_an_error_that_names_the_file(
    taped: Callable[..., str], cli: Run, worker: Callable[..., str], tmp_path: Path
) -> None:
    tape = taped()
    (tmp_path / "tape" / "step_0" / "rank_0" / "tensors" / "tensor_1.npy").unlink()
    refused(cli("diff", "--base", tape, "--raw", worker("mlp")), "error [DATA_LOSS]: ", "tensor_1.npy' is missing")


def test_a_tape_that_is_not_there_is_said(cli: Run, tmp_path: Path) -> None:
    refused(cli("diff", "--base", f"tape:{tmp_path}/none", "--raw", f"{MODELS}:mlp"), "there is no folder")


def test_a_tape_is_inspected_as_a_model(taped: Callable[..., str], cli: Run) -> None:
    result = cli("inspect", taped())
    assert (0, "") == (result.exit_code, result.stderr)
    assert "6 layers, 6 parameters (484 elements), 0 buffers (0 elements)" in result.stdout
    assert "fc1  Linear  in_features=8, out_features=16, bias=True" in result.stdout
