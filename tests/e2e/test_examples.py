"""The examples on their real inputs: ResNet-50 and MiniLM, healthy in every mode and dtype, and with planted bugs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.model.model import Inputs
from padiff_rpc.result import Result
from tests.e2e.workers import ROOT, SharedWorkers, start

pytestmark = pytest.mark.e2e
EXAMPLES = ROOT / "examples"
INPUTS = {"resnet50": "photographs", "minilm": "sentences"}


def inputs_of(example: str, dtype: str | None = None) -> Inputs:
    spec = importlib.util.spec_from_file_location(f"{example}_inputs", EXAMPLES / example / "inputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[[], dict[str, Any]] = getattr(module, INPUTS[example])
    arrays = make()
    if dtype == "float64":
        arrays = {name: array.astype("f8") if array.dtype.kind == "f" else array for name, array in arrays.items()}
    return as_inputs(arrays)


Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Return a function: align an example's pair. Workers without a bug are shared."""
    shared = SharedWorkers()
    yield partial(aligned, shared)
    shared.close()


def aligned(
    shared: SharedWorkers,
    example: str,
    raw: str = "paddle",
    dtypes: tuple[str | None, str | None] = (None, None),
    raw_args: dict[str, Any] | None = None,
    optimizer: str | None = "SGD(lr=0.01)",
    **settings: Any,
) -> Result:
    step = optimizer and parse_optimizer(optimizer)
    asked = AlignSettings(base_optimizer=step or None, raw_optimizer=step or None, **settings)
    folder = EXAMPLES / example
    lend = (
        shared.lend if "training" in settings else start
    )  # else the mode is the model's own, and a shared one keeps its last
    with (
        lend(folder / "torch_model.py", "torch", dtype=dtypes[0]) as base_model,
        (start if raw_args else lend)(
            folder / "paddle_model.py", raw, dtype=dtypes[1], model_args=raw_args or {}
        ) as raw_model,
    ):
        inputs = inputs_of(example, dtypes[0])
        return align(base_model, raw_model, inputs, inputs, asked)


def failing(result: Result, but: tuple[str, ...] = ()) -> list[Any]:
    return [pair for pair in result.pairs if pair.status == "fail" and pair.stage not in but]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("example", ["minilm", "resnet50"])
def test_the_pair_is_aligned_in_float32(run: Run, example: str, training: bool) -> None:
    result = run(example, training=training)
    assert [] == failing(result)
    assert result.aligned
    passed = {pair.stage for pair in result.pairs if pair.status == "pass"}
    assert {"weights_before", "forward", "loss", "backward", "grads", "weights"} <= passed
    if example == "resnet50":
        # Running means and variances: assigned before, compared after.
        buffers = [(pair.stage, pair.status) for pair in result.pairs if pair.tensor in ("_mean", "_variance")]
        assert [("weights_before", "pass")] * 106 + [("buffers", "pass")] * 106 == buffers


def test_minilm_agrees_to_1e_8_in_float64(run: Run) -> None:
    result = run("minilm", dtypes=("float64", "float64"), training=True, compare=CompareRules(rtol=1e-8))
    assert [] == failing(result)
    assert result.aligned


def test_resnet_agrees_to_1e_8_in_float64_but_for_what_paddle_computes_in_float32(run: Run) -> None:
    rules = CompareRules(rtol=1e-8)
    result = run("resnet50", dtypes=("float64", "float64"), training=True, compare=rules)
    # Paddle keeps the scale of an average pooling's backward and the momentum of batch norm in float32 (docs/frameworks.md).
    assert [] == failing(result, but=("backward", "grads", "buffers"))
    rest = [pair.metrics.rel_l2 for pair in failing(result) if pair.metrics is not None]
    assert max(rest, default=0.0) < 1e-6


def test_minilm_in_bfloat16_agrees_with_paddle_in_float32_when_the_difference_is_allowed(run: Run) -> None:
    rules = CompareRules(allow_dtype_difference=True)
    result = run("minilm", dtypes=("bfloat16", None), training=True, compare=rules)
    assert [] == failing(result)
    assert result.aligned


def test_minilm_in_bfloat16_is_a_difference_of_dtype_otherwise(run: Run) -> None:
    result = run("minilm", dtypes=("bfloat16", None), diff_phase="forward", optimizer=None)
    assert not result.aligned
    assert "dtype" in {pair.failure for pair in result.pairs}


def test_minilm_is_aligned_on_paddle_2_6(run: Run) -> None:
    result = run("minilm", raw="paddle-old", training=True)
    assert [] == failing(result)
    assert result.aligned


PLANTED = [
    ("minilm", {"plant": "layernorm_eps"}, "encoder.layer.3.attention.output.LayerNorm"),
    ("resnet50", {"plant": "relu6"}, "layer2.1.relu"),
]


@pytest.mark.parametrize(("example", "raw_args", "layer"), PLANTED)
def test_in_single_step_the_planted_bug_is_the_only_one_named(
    run: Run, example: str, raw_args: dict[str, Any], layer: str
) -> None:
    result = run(example, raw_args=raw_args, training=True, single_step=True, optimizer=None)
    assert [layer] == [divergence.raw.route for divergence in result.divergences]


@pytest.mark.parametrize(
    ("run_file", "layer"),
    [
        ("minilm/diff_layernorm.toml", "encoder.layer.3.attention.output.LayerNorm"),
        ("resnet50/diff_relu6.toml", "layer2.1.relu"),
    ],
)
def test_the_command_line_finds_the_planted_bug(run_file: str, layer: str, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "padiff_clients", "diff", str(EXAMPLES / run_file), "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 1 == done.returncode, done.stderr
    result = json.loads(out.read_text())
    assert not result["aligned"]
    assert layer == result["first_divergence"]["raw"]["route"]
    assert layer.rpartition(".")[2] in done.stdout
