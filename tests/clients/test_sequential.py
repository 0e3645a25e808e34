"""diff --sequential: the same result as side by side, base's process gone before raw's begins, and no tape left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from padiff_rpc.tape import tensor_files
from tests.servers.harness import wait_until

FILE = Path(__file__).parents[1] / "models" / "numpy_models.py"
MODELS = f"numpy@{FILE}"

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR, for this process and for those that it starts."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def refused(result: Result, *texts: str, status: int = 2) -> None:
    assert (status, "") == (result.exit_code, result.stdout)
    assert [] == [text for text in texts if text not in result.stderr]


RUNS: list[tuple[str, str, dict[str, Any], list[object]]] = [
    ("bert_like", "tokens", {}, []),
    ("bert_like", "tokens", {"eps_at": 1}, []),
    ("bert_like", "tokens", {"eps_at": 1}, ["--single-step"]),
    ("bert_like", "tokens", {}, ["--single-step", "--phase", "backward"]),
    ("bert_like", "tokens", {}, ["--steps", 2, "--optimizer", "Adam(lr=0.01)", "--train", "--seed", 3]),
    ("bert_like", "tokens", {}, ["--steps", 2, "--optimizer", "Adam(lr=0.01)", "--single-step"]),
    ("conv_net", "images", {"momentum": 0.9}, []),
    ("conv_net", "images", {}, ["--phase", "forward", "--eval"]),
    ("calls", "vectors", {"gate": "tanh"}, ["--api-calls"]),
    ("mlp", "vectors", {"scale": 1.5}, ["--loss", "mean", "--mode", "mean"]),
    ("mlp", "vectors", {"seed": 1}, ["--no-assign"]),
]


@pytest.mark.parametrize(("factory", "inputs", "raw_args", "options"), RUNS)
def test_the_result_is_that_of_a_run_side_by_side(
    cli: Run,
    worker: Callable[..., str],
    tmp_path: Path,
    scratch: Path,
    factory: str,
    inputs: str,
    raw_args: dict[str, Any],
    options: list[object],
) -> None:
    told = []
    for further in ((), ("--sequential",)):
        sides = ("--base", worker(factory), "--raw", worker(factory, **raw_args))
        result = cli("diff", *sides, "--inputs", f"{FILE}:{inputs}", "--json", tmp_path / "r.json", *options, *further)
        assert "" == result.stderr
        told.append((result.exit_code, json.loads((tmp_path / "r.json").read_text())))
    (status, live), (sequential_status, sequential) = told
    assert status == sequential_status
    # What base's optimiser keeps and tells is not on its tape.
    live["pairs"] = [pair for pair in live["pairs"] if "(mom" not in pair["tensor"]]
    live["figures"].pop("optimizers", None)
    sequential["figures"].pop("optimizers", None)
    for key in ("aligned", "pairs", "unmatched", "trees", "paired_routes", "divergences"):
        assert live[key] == sequential[key]
    for side in (live, sequential):  # the two runs had workers of their own, at other addresses
        side["settings"].pop("base")
        side["settings"].pop("raw")
        for told_of in side["environment"].values():
            told_of.pop("store_disk_bytes")  # a part of what is free, which a tape changes
    assert live["settings"] == sequential["settings"]
    assert live["environment"] == sequential["environment"]
    assert live["figures"].keys() < sequential["figures"].keys()
    assert [*live["notes"], sequential["notes"][-1]] == sequential["notes"]
    assert "one after the other" in sequential["notes"][-1]
    assert sequential["figures"]["tape_bytes"] > 0
    assert [] == list(scratch.iterdir())


PAIR = """
import os, sys
from pathlib import Path
sys.path.insert(0, {models!r})
import numpy_models

HERE = Path({here!r})

def base():
    (HERE / "base").write_text(str(os.getpid()))
    assert not (HERE / "raw").exists()
    return numpy_models.mlp()

def raw():
    (HERE / "raw").write_text(str(os.getpid()))
    pid = int((HERE / "base").read_text())
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return numpy_models.mlp(seed=1)
    raise RuntimeError("base still runs")
"""


def launched(tmp_path: Path, text: str = PAIR) -> tuple[str, ...]:
    (tmp_path / "pair.py").write_text(text.format(models=str(FILE.parent), here=str(tmp_path)))
    sides = [f"numpy@{tmp_path / 'pair.py'}:{side}" for side in ("base", "raw")]
    return ("--base", sides[0], "--raw", sides[1], "--inputs", f"{FILE}:vectors", "--sequential")


@pytest.mark.processes
def test_bases_process_has_ended_before_raws_begins(cli: Run, tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "run.toml").write_text("sequential = true\n")
    result = cli("diff", tmp_path / "run.toml", *launched(tmp_path)[:-1])
    assert (0, "") == (result.exit_code, result.stderr)
    assert "the models ran one after the other" in result.stdout
    assert [] == list(scratch.iterdir())
    for name in ("base", "raw"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / name).read_text()), 0)


@pytest.mark.processes
def test_what_raw_is_not_able_to_do_leaves_no_tape(cli: Run, tmp_path: Path, scratch: Path) -> None:
    text = PAIR.replace("return numpy_models.mlp(seed=1)", "raise RuntimeError('no raw today')")
    result = cli("diff", *launched(tmp_path, text))
    assert 2 == result.exit_code
    assert "no raw today" in result.stderr
    assert [] == list(scratch.iterdir())


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, {models!r})
import numpy_models

class Slow(numpy_models.Mlp):
    def forward(self, x):
        Path({here!r}, "running").touch()
        time.sleep(60)

def base():
    return numpy_models.mlp() if SIDE == "raw" else Slow("oi", 1.0)

def raw():
    return Slow("oi", 1.0)
"""


@pytest.mark.processes
@pytest.mark.parametrize("side", ["base", "raw"])
@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_leaves_no_tape_and_no_process(
    tmp_path: Path, scratch: Path, side: str, number: int, status: int, said: str
) -> None:
    options = launched(tmp_path, SLOW.replace("SIDE", repr(side)))
    # A shell's background jobs are started with SIGINT ignored, and so would be what they start.
    start = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from padiff_clients.cli import main\nsys.exit(main())"
    )
    command = [sys.executable, "-c", start, "diff", *options]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "running").exists, "the model runs")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    own = "".join(line for line in err.splitlines(keepends=True) if "chttp2_transport" not in line)  # gRPC's own log
    assert (status, said) == (process.returncode, own)
    assert [] == list(scratch.iterdir())


def test_a_disk_without_room_is_said_before_the_model_runs(
    cli: Run, worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    sides = ("--base", worker("mlp"), "--raw", worker("mlp"), "--inputs", f"{FILE}:vectors", "--sequential")
    refused(
        cli("diff", *sides), "error [BAD_CONFIG]: the tape of base takes", f"'{scratch}' has 0.00 GiB free", "TMPDIR"
    )
    assert [] == list(scratch.iterdir())


def test_a_disk_that_fills_up_is_said_and_nothing_stays(
    cli: Run, worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    def full(path: Path, stream: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    base, raw = worker("mlp"), worker("mlp")
    sides = ("--base", base, "--raw", raw, "--inputs", f"{FILE}:vectors", "--sequential")
    with monkeypatch.context() as patched:
        patched.setattr(tensor_files, "write_npy", full)
        refused(cli("diff", *sides), "error [BAD_CONFIG]: base's records", str(scratch), "No space left", "TMPDIR")
    assert [] == list(scratch.iterdir())
    assert 0 == cli("diff", *sides).exit_code


@pytest.mark.parametrize("side", ["base", "raw"])
def test_a_dump_is_refused_before_anything_is_launched(cli: Run, tmp_path: Path, side: str) -> None:
    other = "raw" if side == "base" else "base"
    (tmp_path / "tape").mkdir()
    options = (f"--{side}", f"tape:{tmp_path / 'tape'}", f"--{other}", f"{MODELS}:mlp")
    refused(
        cli("diff", *options, "--inputs", f"{FILE}:vectors", "--sequential"), f"{side} is ", "a dump", "--sequential"
    )


@pytest.mark.parametrize(
    "option", [["--phase", "backward"], ["--phase", "forward", "--optimizer", "SGD(lr=1)"], ["--loss", "mse"]]
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_launched(
    cli: Run, option: list[str]
) -> None:
    """A test that starts a process without the mark fails."""
    options = ("--base", f"{MODELS}:mlp", "--raw", f"{MODELS}:mlp", "--inputs", f"{FILE}:vectors", "--sequential")
    assert 2 == cli("diff", *options, *option).exit_code
