"""Take from the tapes among the sides of a `diff` the inputs and settings that the run itself does not give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from padiff_clients.plan import SidePlan
from padiff_clients.run_keys import RunFile
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_LOSSES, NEUTRAL_OPTIMIZERS
from padiff_rpc.model.model import Inputs, LossSpec, OptimizerSpec
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tensors.tensor import DType, Tensor

Tapes = tuple[RecordedModel | None, RecordedModel | None]
"""Base's and raw's dumps; None for a model that runs."""


def tapes_of(base: SidePlan, raw: SidePlan) -> Tapes:
    """Open those of the two sides that are dumps."""
    mine, other = (RecordedModel(plan.spec.target) if plan.spec.kind == "tape" else None for plan in (base, raw))
    return mine, other


def recorded_inputs(tapes: Tapes, plan: SidePlan) -> Inputs | None:
    """Return the inputs that base's tape was recorded with, or else raw's; None if neither side is a tape.

    The floating inputs are cast to float64 for a side that runs in float64.
    """
    tape = next((tape.recorded for tape in tapes if tape and tape.recorded), None)
    if tape is None:
        return None
    return _widened(tape.inputs) if plan.dtype == "float64" else tape.inputs


def as_recorded(settings: AlignSettings, run: RunFile, base: SidePlan, raw: SidePlan, tapes: Tapes) -> AlignSettings:
    """Return the settings with what the run leaves open taken from a tape: mode, seed, steps, phase, loss and optimiser.

    A dump cannot be written to. If raw is a dump, nothing is assigned, unless the run asks for it, which align() then refuses.

    Raises:
        PadiffError: BAD_CONFIG if the run asks for what a dump does not hold, or if two dumps contradict each other.
    """
    kept: dict[str, Any] = {}
    if tapes[1] is not None and run.assign is None:
        kept["assign"] = False
    for plan, tape in zip((base, raw), tapes, strict=True):
        if tape is not None:
            kept[f"{plan.name}_selection"] = tape.selection
    kept["steps"] = _steps(run, tapes)
    mine, other = (tape and tape.recorded for tape in tapes)
    manifest = mine or other
    if manifest is None:
        return replace(settings, **kept)
    # Between two dumps nothing runs that a mode or a seed could change.
    alone = None in tapes
    if run.train is None:
        kept["training"] = manifest.training if alone else None
    if run.seed is None:
        kept["seed"] = manifest.seed if alone else None
    if run.phase is None and manifest.loss is None:
        kept["diff_phase"] = "forward"
    for plan, table, own in ((base, run.base, mine), (raw, run.raw, other)):
        if not (table.loss or table.loss_fn) and manifest.loss is not None:
            kept[f"{plan.name}_loss"] = (own and own.loss) or _shared_loss(plan, manifest.loss)
        if not (table.optimizer or table.optimizer_fn) and manifest.optimizer is not None:
            kept[f"{plan.name}_optimizer"] = (own and own.optimizer) or _shared_optimizer(plan, manifest.optimizer)
    settings = replace(settings, **kept)
    if mine is not None and other is not None and settings.diff_phase != "forward":
        _refuse_unlike(settings)
    return settings


def notes_on(settings: AlignSettings, tapes: Tapes) -> list[str]:
    """Return notes on the steps of a dump that were not compared, and on how two tapes were recorded differently."""
    notes = [
        f"{side}'s dump holds {_forwards(tape)} steps, of which {settings.steps} were compared: "
        f"--steps {_forwards(tape)} compares all"
        for side, tape in zip(("base", "raw"), tapes, strict=True)
        if tape is not None and _forwards(tape) > settings.steps
    ]
    mine, other = (tape and tape.recorded for tape in tapes)
    if mine and other:
        notes += [
            f"base was recorded with {what}={ours}, raw with {what}={theirs}"
            for what, ours, theirs in (("seed", mine.seed, other.seed), ("training", mine.training, other.training))
            if ours != theirs
        ]
    return notes


def _steps(run: RunFile, tapes: Tapes) -> int:
    """Return how many steps to compare: as many as the run says, or else as a tape or two dumps hold, or else one."""
    held = {side: _forwards(tape) for side, tape in zip(("base", "raw"), tapes, strict=True) if tape is not None}
    if run.steps is not None:
        for side, count in held.items():
            if run.steps > count:
                raise PadiffError(
                    f"{run.steps} steps are asked for, {side}'s dump holds {count}",
                    reason=Reason.BAD_CONFIG,
                    hint=f"give --steps {count} or fewer, or record more",
                )
        return run.steps
    if len(set(held.values())) > 1:
        raise PadiffError(
            f"base's dump holds {held['base']} steps, raw's {held['raw']}",
            reason=Reason.BAD_CONFIG,
            hint=f"give --steps {min(held.values())} to compare those that both have",
        )
    if len(held) == 2 or any(tape and tape.recorded for tape in tapes):
        return next(iter(held.values()))
    return 1  # what came between the steps of a dump that is no tape, a model that runs cannot repeat


def _forwards(tape: RecordedModel) -> int:
    return tape.steps if tape.recorded else len(tape.runs)


def _refuse_unlike(settings: AlignSettings) -> None:
    """Refuse two tapes of unlike neutral losses or optimisers: their numbers could not agree."""
    for what, mine, other, neutral in (
        ("loss", settings.base_loss, settings.raw_loss, NEUTRAL_LOSSES),
        ("optimiser", settings.base_optimizer, settings.raw_optimizer, NEUTRAL_OPTIMIZERS),
    ):
        names = [one.name if one else None for one in (mine, other)]
        if mine != other and all(name is None or name in neutral for name in names):
            shown = [_called(one.name, one.options) if one else "none" for one in (mine, other)]
            raise PadiffError(
                f"base was recorded with the {what} {shown[0]}, raw with {shown[1]}",
                reason=Reason.BAD_CONFIG,
                hint="record both alike, or compare the forward alone (--phase forward)",
            )


def _called(name: str, options: Mapping[str, float]) -> str:
    return f"{name}({', '.join(f'{key}={value:g}' for key, value in options.items())})" if options else name


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
