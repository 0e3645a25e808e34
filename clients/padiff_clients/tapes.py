"""What a tape among the sides of a `diff` decides: inputs and settings that the run does not give itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from padiff_clients.plan import SidePlan
from padiff_clients.runfile import RunFile
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Inputs, LossSpec, OptimizerSpec
from padiff_rpc.tape.manifest import Manifest
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tensor import DType, Tensor
from padiff_rpc.training import NEUTRAL_LOSSES, NEUTRAL_OPTIMIZERS


def manifest_of(plan: SidePlan) -> Manifest | None:
    """Return with what a side was recorded; None for a model that runs, and for a dump that does not tell."""
    return RecordedModel(plan.spec.target).recorded if plan.spec.kind == "tape" else None


def recorded_inputs(tapes: tuple[Manifest | None, Manifest | None], plan: SidePlan) -> Inputs | None:
    """Return the inputs that a tape was recorded with, base's before raw's; in float64 for a side that runs in it."""
    tape = tapes[0] or tapes[1]
    if tape is None:
        return None
    return _widened(tape.inputs) if plan.dtype == "float64" else tape.inputs


def as_recorded(
    settings: AlignSettings, run: RunFile, base: SidePlan, raw: SidePlan, tapes: tuple[Manifest | None, Manifest | None]
) -> AlignSettings:
    """Take from a tape what the run leaves open: mode, seed, steps, phase, loss and optimiser.

    A dump cannot be written to: with one as raw nothing is assigned, unless the run insists, which is then refused.
    """
    if raw.spec.kind == "tape" and run.assign is None:
        settings = replace(settings, assign=False)
    for plan in (base, raw):
        if plan.spec.kind == "tape":
            settings = replace(settings, **{f"{plan.name}_selection": RecordedModel(plan.spec.target).selection})
    tape = tapes[0] or tapes[1]
    if tape is None:
        return settings
    kept: dict[str, Any] = {}
    if run.train is None:
        kept["training"] = tape.training
    if run.seed is None:
        kept["seed"] = tape.seed
    if run.steps is None:
        kept["steps"] = tape.steps
    if run.phase is None and tape.loss is None:
        kept["diff_phase"] = "forward"
    for plan, table, own in ((base, run.base, tapes[0]), (raw, run.raw, tapes[1])):
        if not (table.loss or table.loss_fn) and tape.loss is not None:
            kept[f"{plan.name}_loss"] = (own and own.loss) or _shared_loss(plan, tape.loss)
        if not (table.optimizer or table.optimizer_fn) and tape.optimizer is not None:
            kept[f"{plan.name}_optimizer"] = (own and own.optimizer) or _shared_optimizer(plan, tape.optimizer)
    return replace(settings, **kept)


def _shared_loss(plan: SidePlan, loss: LossSpec) -> LossSpec:
    if loss.name in NEUTRAL_LOSSES:
        return loss
    raise _own(plan, "loss", loss.name)


def _shared_optimizer(plan: SidePlan, optimizer: OptimizerSpec | None) -> OptimizerSpec | None:
    if optimizer is None or optimizer.name in NEUTRAL_OPTIMIZERS:
        return optimizer
    raise _own(plan, "optimizer", optimizer.name)


def _own(plan: SidePlan, what: str, name: str) -> PadiffError:
    return PadiffError(
        f"the tape was recorded with a {what} of its worker's own, {name!r}, and {plan.name} has none",
        reason=Reason.BAD_CONFIG,
        hint=f"bring the same one in {plan.name}'s framework: --{plan.name}-{what}-fn FILE.py:function",
    )


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor) and value.spec.dtype in (DType.F32, DType.F16):
        return Tensor.from_array(value.to_array().astype(np.float64))
    if isinstance(value, dict):
        return {key: _widened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_widened(item) for item in value])
    return value
