"""Compare two models, or copy one's weights into the other: auto_diff and assign_weight, as PaDiff documents them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

from padiff_rpc.align.align import align
from padiff_rpc.align.assign.assign_weights import assign_weights, refuse_extras
from padiff_rpc.align.settings import AlignSettings, DiffPhase
from padiff_rpc.compare.rules import PADIFF_RTOL, CompareMode, CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.assign_failure import show_assign_failure
from padiff_rpc.interface.messages import DEFAULT_TOLERANCES, log, show_options
from padiff_rpc.interface.show_result import Shown, show_result
from padiff_rpc.interface.side_models import SideModel, map_between, pair_of, side_of
from padiff_rpc.interface.switches import api_check
from padiff_rpc.interface.user_inputs import inputs_for
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.match.user_map import UserMap
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import Native
from padiff_rpc.per_side import PerSide


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
    """Align raw_model to base_model; print and log the findings as PaDiff does, and return True if the models agree.

    Args:
        base_model: a torch.nn.Module, a paddle.nn.Layer, a proxy of create_model (whose lists and layer map then hold), or a
            model that launch() or connect() returned.
        raw_model: the model to compare with base_model, likewise.
        inputs: two dicts of forward's keyword arguments, base's and raw's; the values are tensors or arrays.
        loss_fns: two functions of the model's output, base's and raw's, or names where a model lives in another process. By
            default the loss is the mean of the output.
        optimizers: two optimisers, base's and raw's; or functions without arguments, or names such as "SGD(lr=0.1)". Without
            optimisers no step is taken.
        atol: the absolute tolerance, 0 by default.
        rtol: the relative tolerance, by default 1e-7, in the mode "scaled" from the table.
        auto_init: True to copy base's weights to raw first.
        compare_mode: "mean", "abs_mean", "strict" or "scaled", see CompareRules.
        diff_phase: "forward", "backward" or "both".
        single_step: True to replace raw's tensors at each layer by base's, so that each layer's own error shows. With
            diff_phase "both" the models run twice: once to sync the forward, once to sync the backward.
        steps: how many steps to run on the same inputs.
        **unknown: not allowed; the error names the option that is nearest.

    Raises:
        PadiffError: the comparison cannot be made; BAD_CONFIG if the options make no sense.
    """
    _refuse_unknown(unknown)
    options = _Options(atol, rtol, auto_init, compare_mode, diff_phase, single_step, steps)
    _check_kinds(options)
    losses, own_optimizers = _pair_or_none(loss_fns, "loss_fns"), _pair_or_none(optimizers, "optimizers")
    given = pair_of(inputs, "inputs")
    if diff_phase == "forward":
        options = _forward_only(options, with_optimizers=optimizers is not None)
        own_optimizers = PerSide(None, None)
    sides = PerSide(
        side_of(base_model, "base", losses.base, own_optimizers.base),
        side_of(raw_model, "raw", losses.raw, own_optimizers.raw),
    )
    return _diff(sides, given, options, with_loss=loss_fns is not None)


def assign_weight(base_model: Any, raw_model: Any) -> bool:
    """Copy base_model's parameters and buffers into raw_model, in raw_model's layout, and return True.

    If they do not correspond, return False and write nothing into raw_model: the first layer and parameter that do not correspond
    are printed, and the trees of both models, with these marked, go into log files.

    Args:
        base_model: the model to copy from, as in auto_diff.
        raw_model: the model to copy into, as in auto_diff.

    Raises:
        PadiffError: BAD_CONFIG for an argument that is no model, or for layer maps of two lengths; else as a model raises it.
    """
    base, raw = side_of(base_model, "base"), side_of(raw_model, "raw")
    layer_map = map_between(base, raw)
    try:
        matching = _fully_matched(base, raw, layer_map)
        assign_weights(base.model, raw.model, matching)
    except PadiffError as err:
        if err.reason is not Reason.MODELS_DO_NOT_MATCH:
            raise
        show_assign_failure(base, raw, layer_map, err)
        return False
    for guess in matching.guesses:
        log(f"{guess} (assign_weight runs no model, so that this was not tried)")
    log("Assign weight success !!!")
    return True


@dataclass(frozen=True)
class _Options:
    """The options of auto_diff, as the user gave them."""

    atol: float | None
    rtol: float | None
    auto_init: bool
    compare_mode: CompareMode
    diff_phase: DiffPhase
    single_step: bool
    steps: int


def _pair_or_none(values: Any, name: str) -> PerSide[Any]:
    return PerSide(None, None) if values is None else pair_of(values, name)


def _forward_only(options: _Options, *, with_optimizers: bool) -> _Options:
    """Return the options for a forward alone, which has no use for optimisers and further steps; say so if there are any."""
    if with_optimizers:
        log("  Diff_phase is `forward`, optimizer will not be used.")
    if options.steps > 1:
        log("  Diff_phase is `forward`, steps is set to `1`.")
        return replace(options, steps=1)
    return options


def _diff(sides: PerSide[SideModel], given: PerSide[Any], options: _Options, *, with_loss: bool) -> bool:
    """Show the options, run all phases, and return True if the models agree in each. given: each side's inputs."""
    _refuse_one_model(*sides)
    settings = _settings(sides, options)
    show_options(
        {
            "atol": options.atol or 0,
            "auto_init": options.auto_init,
            "single_step": options.single_step,
            "use_loss": with_loss,
            "use_opt": sides.base.optimizer is not None,
            "rtol": PADIFF_RTOL if options.rtol is None else options.rtol,
            "compare_mode": options.compare_mode,
            "diff_phase": options.diff_phase,
            "steps": options.steps,
        }
    )
    both = options.single_step and options.diff_phase == "both"
    phases = ("forward", "backward") if both else (options.diff_phase,)
    with _kept_randomness(sides.base), _kept_randomness(sides.raw):
        for phase in phases:
            if phase != phases[0]:
                log("The forward agrees. Now the backward, each step of it synced:")
            if not _run(sides, given, _of_phase(settings, phase)):
                log("FAILED !!!")
                return False
    log("SUCCESS !!!")
    return True


def _settings(sides: PerSide[SideModel], options: _Options) -> AlignSettings:
    base, raw = sides
    return AlignSettings(
        compare=CompareRules(mode=options.compare_mode, atol=options.atol, rtol=options.rtol),
        assign=options.auto_init,
        diff_phase=options.diff_phase,
        single_step=options.single_step,
        steps=options.steps,
        base_loss=base.loss,
        raw_loss=raw.loss,
        base_optimizer=base.optimizer,
        raw_optimizer=raw.optimizer,
        layer_map=map_between(base, raw),
        base_selection=base.selection,
        raw_selection=raw.selection,
        api_calls=api_check(),
        explain=False,  # PaDiff's output has no causes, and the models stay as the run left them
    )


def _run(sides: PerSide[SideModel], given: PerSide[Any], settings: AlignSettings) -> bool:
    """Align once, show the findings, and return True if the models agree."""
    base, raw = sides
    base_inputs, raw_inputs = inputs_for(base.model, given.base, "base"), inputs_for(raw.model, given.raw, "raw")
    try:
        if settings.assign:
            _fully_matched(base, raw, settings.layer_map)
        result = align(base.model, raw.model, base_inputs, raw_inputs, settings)
    except PadiffError as err:
        if err.reason is not Reason.MODELS_DO_NOT_MATCH:
            raise
        show_assign_failure(base, raw, settings.layer_map, err)
        return False
    if settings.assign:
        log("Assign weight success !!!")
    left_out = settings.selections.map(lambda selection: set(selection.left_out))
    show_result(result, Shown(sides.map(lambda side: side.name), settings.compare), left_out)
    rules = settings.compare
    if not result.aligned and rules.atol is None and rules.rtol is None and rules.mode != "scaled":
        log(DEFAULT_TOLERANCES)
    return result.aligned


def _fully_matched(base: SideModel, raw: SideModel, layer_map: Mapping[str, str]) -> Matching:
    """Match the models; MODELS_DO_NOT_MATCH where raw has a tensor that base has no value for, which PaDiff refuses."""
    described = base.model.describe(), raw.model.describe()
    matching = match_models(*described, UserMap(layer_map), base.selection, raw.selection)
    refuse_extras(*described, matching)
    return matching


def _of_phase(settings: AlignSettings, phase: str) -> AlignSettings:
    """Return the settings of the run for one phase. An optimiser steps after a backward only."""
    if phase != "forward":
        return replace(settings, diff_phase=phase)
    return replace(settings, diff_phase="forward", base_optimizer=None, raw_optimizer=None)


def _refuse_unknown(unknown: dict[str, Any]) -> None:
    if not unknown:
        return
    known = ("loss_fns", "optimizers", *(option.name for option in fields(_Options)))
    name = next(iter(unknown))
    nearest = difflib.get_close_matches(name, known, n=1)
    raise PadiffError(
        f"auto_diff has no option {name!r}",
        reason=Reason.BAD_CONFIG,
        hint=(f"did you mean {nearest[0]!r}? " if nearest else "") + f"there are {', '.join(known)}",
    )


def _check_kinds(options: _Options) -> None:
    """Refuse an option of another type: the text "False" would be taken for True."""
    for name, kind, allowed in (
        ("auto_init", bool, "True or False"),
        ("single_step", bool, "True or False"),
        ("steps", int, "a number of 1 or more"),
    ):
        value = getattr(options, name)
        if type(value) is not kind:
            raise PadiffError(f"{name} is {value!r}, it must be {allowed}", reason=Reason.BAD_CONFIG)


def _refuse_one_model(base: SideModel, raw: SideModel) -> None:
    if _native(base) is not None and _native(base) is _native(raw):
        raise PadiffError(
            "base_model and raw_model are the same model: there is nothing to compare",
            reason=Reason.BAD_CONFIG,
            hint="build each side by itself",
        )


def _kept_randomness(side: SideModel) -> AbstractContextManager[None]:
    """Give the random generators back as they were at the end: in this process they are the user's."""
    return side.model.backend.kept_randomness() if isinstance(side.model, HostedModel) else nullcontext()


def _native(side: SideModel) -> Any:
    return side.model.model if isinstance(side.model, Native) else None
