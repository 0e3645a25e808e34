"""A converted checkpoint, loaded by the other framework alone, makes a model that is aligned as it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.align.align import OnAssigned, align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.convert_checkpoint import convert_checkpoint
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Result
from tests.e2e.workers import MODELS, start

pytestmark = pytest.mark.e2e
INPUTS = as_inputs({"ids": np.random.RandomState(0).randint(0, 50, (2, 12))})
LOADING = {
    ".pdparams": "state = paddle.load({file!r})\n    missing, unexpected = model.set_state_dict(state)",
    ".pt": "state = torch.load({file!r}, weights_only=True)\n    missing, unexpected = model.load_state_dict(state)",
}


@pytest.mark.parametrize(
    ("base", "raw", "suffix"),
    [("torch", "paddle", ".pdparams"), ("paddle", "torch", ".pt"), ("torch", "paddle-old", ".pdparams")],
)
def test_a_converted_gpt_is_aligned_without_any_assignment(tmp_path: Path, base: str, raw: str, suffix: str) -> None:
    files = PerSide(base, raw).map(lambda environment: MODELS / f"gpt_{environment.partition('-')[0]}.py")
    checkpoint = tmp_path / f"gpt{suffix}"
    settings = AlignSettings()
    with start(files.base, base) as base_model:
        with start(files.raw, raw, model_args={"seed": 1}) as raw_model:

            def verify(assigned: OnAssigned) -> Result:
                return align(base_model, raw_model, INPUTS, INPUTS, settings, assigned=assigned)

            made = convert_checkpoint(PerSide(base_model, raw_model), checkpoint, settings, verify)
        loader = tmp_path / "loaded.py"
        loader.write_text(_loading(files.raw, raw, checkpoint))
        with start(loader, raw) as loaded:
            result = align(base_model, loaded, INPUTS, INPUTS, AlignSettings(assign=False))

    assert made.is_written
    assert made.kept == ()
    assert result.aligned, result.divergences


def _loading(file: Path, environment: str, checkpoint: Path) -> str:
    """Return a factory that builds a model with other weights and loads a checkpoint into it, which must fit exactly."""
    framework = environment.partition("-")[0]
    return f"""
import importlib.util
import {framework}

spec = importlib.util.spec_from_file_location("gpt", {str(file)!r})
gpt = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gpt)


def build():
    model = gpt.build(seed=2)
    {LOADING[checkpoint.suffix].format(file=str(checkpoint))}
    assert not missing and not unexpected, (missing, unexpected)
    assert set(state) == set(model.state_dict())
    return model
"""
