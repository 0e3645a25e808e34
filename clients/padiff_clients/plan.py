"""Turn a checked run into one plan for each side, which says how to open its model, and the settings of the alignment."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from padiff_clients.run_keys import RunFile, SideTable, settings_of
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_LOSSES, NEUTRAL_OPTIMIZERS, parse_loss, parse_optimizer
from padiff_rpc.model.model import LossSpec, OptimizerSpec
from padiff_rpc.model.spec import ModelSpec, parse_spec, split_place
from padiff_rpc.model.store.sizes import parse_size

_NEED_TARGETS = ("mse", "cross_entropy")
_LAUNCH_ONLY = ("python", "device", "dtype", "args", "loss_fn", "optimizer_fn", "threads")


@dataclass(frozen=True)
class SidePlan:
    """How to open one model.

    Attributes:
        name: "base" or "raw", or "the model" if there is one only; errors begin with it.
        spec: says where the model is.
        python: the Python to launch its worker in.
        device: the device that the model is moved to; None leaves it.
        dtype: the type that the model is cast to; None leaves it.
        args: the arguments of its factory.
        losses: map the names of losses that a launched worker is to offer to file.py:function.
        optimizers: map the names of optimisers likewise.
        threads: the CPU threads of one operation in a launched worker; None takes the framework's default.
        store_memory_bytes: how much a launched worker may keep in memory; None takes the default.
        store_disk_bytes: how much it may keep on disk; None takes the default.
        token: the access token of a worker that already runs.
        tls_ca: the file of the certificate authority to trust it by.
        connect_timeout_s: how long to try an address where nobody listens yet.
    """

    name: str
    spec: ModelSpec
    python: str
    device: str | None
    dtype: str | None
    args: Mapping[str, Any]
    losses: Mapping[str, str]
    optimizers: Mapping[str, str]
    threads: int | None
    store_memory_bytes: int | None
    store_disk_bytes: int | None
    token: str | None
    tls_ca: str | None
    connect_timeout_s: float | None

    def shown(self) -> dict[str, Any]:
        """Return what the settings of a result show of this side."""
        python = self.python if self.spec.kind == "factory" else None
        return {"spec": self.spec.text, "python": python, "dtype": self.dtype, "args": dict(self.args)}


def plan_one(run: RunFile) -> SidePlan:
    """Check a run of one model, which stands in the place of base, and return its plan."""
    return _side_plan("the model", run.base, run)


def plan_sides(run: RunFile) -> tuple[SidePlan, SidePlan]:
    """Check both sides of a run, and return base's plan and raw's.

    Raises:
        PadiffError: BAD_SPEC for a SPEC that does not parse; BAD_CONFIG for a setting that makes no sense, or that no launched
            worker takes.
    """
    base, raw = _side_plan("base", run.base, run), _side_plan("raw", run.raw, run)
    given = [key for key, value in (("threads", run.threads), ("store", run.store.memory or run.store.disk)) if value]
    if given and "factory" not in (base.spec.kind, raw.spec.kind):
        raise PadiffError(
            f"no worker is launched here: {', '.join(given)} cannot be set",
            reason=Reason.BAD_CONFIG,
            hint="set it where the workers are started, with `padiff-rpc serve`",
        )
    return base, raw


def align_settings(
    run: RunFile, base: SidePlan, raw: SidePlan, targets: Mapping[str, Mapping[str, Any]]
) -> AlignSettings:
    """Return the settings of the alignment.

    Args:
        run: the checked run.
        base: base's plan.
        raw: raw's plan.
        targets: map each side to the tensors, by name, that its loss compares with.

    Raises:
        PadiffError: BAD_CONFIG if the two sides contradict each other, or if no loss takes the targets.
    """
    losses = {plan.name: loss_of(plan, table, targets[plan.name]) for plan, table in ((base, run.base), (raw, run.raw))}
    if (run.base.loss or run.base.loss_fn) and not (run.raw.loss or run.raw.loss_fn) and raw.spec.kind != "tape":
        raise _lonely("base", "raw")
    if (run.raw.loss or run.raw.loss_fn) and not (run.base.loss or run.base.loss_fn) and base.spec.kind != "tape":
        raise _lonely("raw", "base")
    if any(targets.values()) and not any(loss.targets for loss in losses.values()):
        raise useless_targets(losses["base"].name)
    return AlignSettings(
        compare=CompareRules(**settings_of(run.compare)),
        base_loss=losses["base"],
        raw_loss=losses["raw"],
        base_optimizer=optimizer_of(base, run.base),
        raw_optimizer=optimizer_of(raw, run.raw),
        **map_settings(run),
        **settings_of(run),
    )


def map_settings(run: RunFile) -> dict[str, Any]:
    """Return the settings that the map of a run sets, by name."""
    return {
        "layer_map": run.map.layers,
        "parameter_map": run.map.parameters,
        "renames": run.map.renames,
        "aoa_statements": tuple(run.map.aoa_statements),
        "raw_statements": run.map.raw_statements,
    }


def loss_of(plan: SidePlan, table: SideTable, targets: Mapping[str, Any]) -> LossSpec:
    """Return the loss that the keys of a side ask for, with its targets; raise BAD_CONFIG if the side cannot have that loss."""
    if plan.losses:
        return LossSpec(next(iter(plan.losses)))
    loss = parse_loss(table.loss or "projection")
    _check_known(plan, "loss", loss.name, NEUTRAL_LOSSES, "loss_fn")
    if loss.name not in _NEED_TARGETS:
        return loss
    if not targets:
        raise PadiffError(
            f"the loss {loss.name!r} compares with targets, and none are given",
            reason=Reason.BAD_CONFIG,
            hint="give --targets FILE.npz with an array `target`",
        )
    return replace(loss, targets=dict(targets))


def optimizer_of(plan: SidePlan, table: SideTable) -> OptimizerSpec | None:
    """Return the optimiser that the keys of a side ask for, or None; raise BAD_CONFIG if the side cannot have it."""
    if plan.optimizers:
        return OptimizerSpec(next(iter(plan.optimizers)))
    if table.optimizer is None:
        return None
    optimizer = parse_optimizer(table.optimizer)
    _check_known(plan, "optimizer", optimizer.name, NEUTRAL_OPTIMIZERS, "optimizer_fn")
    return optimizer


def useless_targets(loss: str) -> PadiffError:
    """Return the error that targets are given to a loss that takes none."""
    return PadiffError(
        f"targets are given, and the loss {loss!r} takes none",
        reason=Reason.BAD_CONFIG,
        hint=f"choose --loss {' or '.join(_NEED_TARGETS)}, or leave the targets out",
    )


def _side_plan(name: str, side: SideTable, run: RunFile) -> SidePlan:
    if side.spec is None:
        raise PadiffError(
            f"{name} is not given",
            reason=Reason.BAD_CONFIG,
            hint=f"give --{name} SPEC, or `spec` in [{name}] of the run file",
        )
    spec = parse_spec(side.spec)
    launched = spec.kind == "factory"
    if not launched:
        _refuse_launch_only(name, side, spec)
    return SidePlan(
        name=name,
        spec=spec,
        python=side.python or sys.executable,
        device=side.device,
        dtype=side.dtype,
        args=side.args,
        losses=_offered(side.loss_fn, NEUTRAL_LOSSES),
        optimizers=_offered(side.optimizer_fn, NEUTRAL_OPTIMIZERS),
        threads=(side.threads or run.threads) if launched else None,
        store_memory_bytes=_size(run.store.memory) if launched else None,
        store_disk_bytes=_size(run.store.disk) if launched else None,
        token=_read_token(side.token_file),
        tls_ca=side.tls_ca,
        connect_timeout_s=run.connect_timeout_s,
    )


def _refuse_launch_only(name: str, side: SideTable, spec: ModelSpec) -> None:
    given = [key for key in _LAUNCH_ONLY if getattr(side, key)]
    if given:
        them = "it" if len(given) == 1 else "them"
        if spec.kind == "tape":
            what, cure = "is a dump on disk", f"leave {them} out: a dump is what it was when it was recorded"
        else:
            what, cure = "already runs", f"set {them} where the worker is started, with `padiff-rpc serve`"
        raise PadiffError(
            f"{name} is {spec.text!r}, which {what}: {', '.join(given)} cannot be set from here",
            reason=Reason.BAD_CONFIG,
            hint=cure,
        )


def _size(text: str | None) -> int | None:
    return None if text is None else parse_size(text)


def _read_token(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise PadiffError(f"cannot read the token file {path!r}: {err}", reason=Reason.BAD_CONFIG) from err
    if not token:
        raise PadiffError(f"the token file {path!r} is empty", reason=Reason.BAD_CONFIG)
    return token


def _offered(place: str | None, neutral: Mapping[str, Any]) -> dict[str, str]:
    if place is None:
        return {}
    _, function = split_place(place, place)
    return {f"{function}_fn" if function in neutral else function: place}  # a worker keeps the neutral names


def _check_known(plan: SidePlan, what: str, name: str, neutral: Mapping[str, Any], key: str) -> None:
    """Refuse a name that a worker launched here will not offer.

    A worker that already runs may offer more names than the neutral ones, so its names are not checked here.
    """
    if name in neutral or plan.spec.kind != "factory":
        return
    near = difflib.get_close_matches(name, neutral, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    option = f"--{key}" if plan.name == "the model" else f"--{plan.name}-{key}"
    raise PadiffError(
        f"there is no {what} {name!r}",
        reason=Reason.BAD_CONFIG,
        hint=f"{guess}known are {', '.join(neutral)}; bring your own with {option.replace('_', '-')} FILE.py:function",
    )


def _lonely(given: str, other: str) -> PadiffError:
    return PadiffError(
        f"{given} has a loss of its own and {other} has none, so their gradients could not agree",
        reason=Reason.BAD_CONFIG,
        hint=f"give {other} its own too, or --loss for both",
    )
