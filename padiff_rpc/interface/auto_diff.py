"""auto_diff and assign_weight, as PaDiff documents them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from padiff_rpc.align.align import align
from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.settings import AlignSettings, DiffPhase
from padiff_rpc.compare.rules import PADIFF_RTOL, CompareMode, CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.assign_failure import show_assign_failure
from padiff_rpc.interface.messages import DEFAULT_TOLERANCES, log, show_options
from padiff_rpc.interface.show_result import Shown, show_result
from padiff_rpc.interface.side_models import SideModel, map_between, pair_of, side_of
from padiff_rpc.interface.switches import api_check
from padiff_rpc.interface.user_inputs import inputs_for
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import Native

_OPTIONS = ("atol", "rtol", "auto_init", "compare_mode", "diff_phase", "single_step", "steps")


def auto_diff(
    base_model: Any,
    raw_model: Any,
    inputs: Sequence[Any],
    loss_fns: Sequence[Any] | None = None,
    optimizers: Sequence[Any] | None = None,
    *,
    atol: float | None = None,
    rtol: float | None = None,
    auto_init: bool = True,
    compare_mode: CompareMode = "mean",
    diff_phase: DiffPhase = "both",
    single_step: bool = False,
    steps: int = 1,
    **unknown: Any,
) -> bool:
    """Align raw_model to base_model and return whether they agree; what is found is printed and logged as PaDiff does it.

    Models: torch.nn.Module, paddle.nn.Layer, a proxy of create_model (whose lists and layer map then hold), or what
    launch() and connect() return. inputs: (base's, raw's) dicts of forward's keyword arguments: tensors or arrays.
    loss_fns: (base's, raw's) functions of the model's output, or names where a model lives elsewhere; the mean of the
    output by default. optimizers: (base's, raw's) optimisers or functions without arguments, or names such as
    "SGD(lr=0.1)"; without them no step is taken. atol, rtol: 0 and 1e-7 (in the mode "scaled": from the table).
    single_step with diff_phase "both" runs the models twice: once to sync the forward, once to sync the backward.
    Raises PadiffError where the comparison cannot be made: BAD_CONFIG for options that make no sense.
    """
    _refuse_unknown(unknown)
    _check_kind("auto_init", auto_init, bool, "True or False")
    _check_kind("single_step", single_step, bool, "True or False")
    _check_kind("steps", steps, int, "a number of 1 or more")
    base_loss, raw_loss = pair_of(loss_fns, "loss_fns") if loss_fns is not None else (None, None)
    base_optimizer, raw_optimizer = pair_of(optimizers, "optimizers") if optimizers is not None else (None, None)
    given = pair_of(inputs, "inputs")
    if optimizers is not None and diff_phase == "forward":
        log("  Diff_phase is `forward`, optimizer will not be used.")
        base_optimizer = raw_optimizer = None
    if steps > 1 and diff_phase == "forward":
        log("  Diff_phase is `forward`, steps is set to `1`.")
        steps = 1
    base = side_of(base_model, "base", base_loss, base_optimizer)
    raw = side_of(raw_model, "raw", raw_loss, raw_optimizer)
    if _native(base) is not None and _native(base) is _native(raw):
        raise PadiffError(
            "base_model and raw_model are the same model: there is nothing to compare",
            reason=Reason.BAD_CONFIG,
            hint="build each side by itself",
        )
    settings = AlignSettings(
        compare=CompareRules(mode=compare_mode, atol=atol, rtol=rtol),
        assign=auto_init,
        diff_phase=diff_phase,
        single_step=single_step,
        steps=steps,
        base_loss=base.loss,
        raw_loss=raw.loss,
        base_optimizer=base.optimizer,
        raw_optimizer=raw.optimizer,
        layer_map=map_between(base, raw),
        base_selection=base.selection,
        raw_selection=raw.selection,
        api_calls=api_check(),
    )
    show_options(
        {
            "atol": settings.compare.atol or 0,
            "auto_init": auto_init,
            "single_step": single_step,
            "use_loss": loss_fns is not None,
            "use_opt": base.optimizer is not None,
            "rtol": PADIFF_RTOL if rtol is None else rtol,
            "compare_mode": compare_mode,
            "diff_phase": diff_phase,
            "steps": steps,
        }
    )
    phases = ("forward", "backward") if single_step and diff_phase == "both" else (diff_phase,)
    with _kept_randomness(base), _kept_randomness(raw):
        for phase in phases:
            if phase != phases[0]:
                log("The forward agrees. Now the backward, each step of it synced:")
            if not _run(base, raw, given, _of_phase(settings, phase)):
                log("FAILED !!!")
                return False
    log("SUCCESS !!!")
    return True


def assign_weight(base_model: Any, raw_model: Any) -> bool:
    """Copy base_model's parameters and buffers into raw_model, in raw_model's layout; nothing is written on failure.

    Returns False, prints which layer and parameter do not correspond, and logs the marked trees, where they do not.
    """
    base, raw = side_of(base_model, "base"), side_of(raw_model, "raw")
    layer_map = map_between(base, raw)
    try:
        descriptions = base.model.describe(), raw.model.describe()
        assign_weights(base.model, raw.model, match_models(*descriptions, layer_map, {}, base.selection, raw.selection))
    except PadiffError as err:
        if err.reason is not Reason.MODELS_DO_NOT_MATCH:
            raise
        show_assign_failure(base, raw, layer_map, err)
        return False
    log("Assign weight success !!!")
    return True


def _run(base: SideModel, raw: SideModel, given: tuple[Any, Any], settings: AlignSettings) -> bool:
    """Align once and show what was found."""
    base_inputs, raw_inputs = inputs_for(base.model, given[0], "base"), inputs_for(raw.model, given[1], "raw")
    try:
        result = align(base.model, raw.model, base_inputs, raw_inputs, settings)
    except PadiffError as err:
        if err.reason is not Reason.MODELS_DO_NOT_MATCH:
            raise
        show_assign_failure(base, raw, settings.layer_map, err)
        return False
    if settings.assign:
        log("Assign weight success !!!")
    left_out = set(settings.base_selection.left_out), set(settings.raw_selection.left_out)
    show_result(result, Shown(base.name, raw.name, settings.compare), left_out)
    rules = settings.compare
    if not result.aligned and rules.atol is None and rules.rtol is None and rules.mode != "scaled":
        log(DEFAULT_TOLERANCES)
    return result.aligned


def _of_phase(settings: AlignSettings, phase: str) -> AlignSettings:
    """Settings of one of the runs. An optimiser steps after a backward only."""
    if phase != "forward":
        return replace(settings, diff_phase=phase)
    return replace(settings, diff_phase="forward", base_optimizer=None, raw_optimizer=None)


def _refuse_unknown(unknown: dict[str, Any]) -> None:
    if not unknown:
        return
    known = ("loss_fns", "optimizers", *_OPTIONS)
    name = next(iter(unknown))
    nearest = difflib.get_close_matches(name, known, n=1)
    raise PadiffError(
        f"auto_diff has no option {name!r}",
        reason=Reason.BAD_CONFIG,
        hint=(f"did you mean {nearest[0]!r}? " if nearest else "") + f"there are {', '.join(known)}",
    )


def _check_kind(name: str, value: object, kind: type, allowed: str) -> None:
    """Refuse an option of another type: the text "False" would be taken for True."""
    if type(value) is not kind:
        raise PadiffError(f"{name} is {value!r}, it must be {allowed}", reason=Reason.BAD_CONFIG)


def _kept_randomness(side: SideModel) -> AbstractContextManager[None]:
    """Let the seeding of each step be over with it: in this process the generators are the user's."""
    return side.model.backend.kept_randomness() if isinstance(side.model, HostedModel) else nullcontext()


def _native(side: SideModel) -> Any:
    return side.model.model if isinstance(side.model, Native) else None
