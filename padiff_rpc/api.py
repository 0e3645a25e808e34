"""PaDiff's entry points, under its names, defaults and meaning."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from padiff_rpc.align.align import align
from padiff_rpc.align.match import match_models
from padiff_rpc.align.settings import AlignSettings, DiffPhase
from padiff_rpc.align.weights import assign_weights
from padiff_rpc.compare.rules import CompareMode, CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.inputs import as_inputs
from padiff_rpc.model.model import LossSpec, Model, OptimizerSpec
from padiff_rpc.result import Result
from padiff_rpc.training import parse_loss, parse_optimizer

_log = logging.getLogger("padiff_rpc")


def auto_diff(
    base_model: Model,
    raw_model: Model,
    inputs: Sequence[Mapping[str, Any]],
    loss_fns: Sequence[str | LossSpec] | None = None,
    optimizers: Sequence[str | OptimizerSpec] | None = None,
    *,
    atol: float | None = None,
    rtol: float | None = None,
    auto_init: bool = True,
    compare_mode: CompareMode = "mean",
    diff_phase: DiffPhase = "both",
    single_step: bool = False,
    steps: int = 1,
) -> bool:
    """Align raw_model to base_model and return whether they agree; the findings are logged under `padiff_rpc`.

    inputs: (base's, raw's) keyword arguments of forward, NumPy arrays. loss_fns: (base's, raw's) losses, by a neutral
    name (`padiff_rpc.training.NEUTRAL_LOSSES`) or one that the worker offers; without them the mean of the output.
    optimizers: likewise, such as "SGD(lr=0.1)"; without them no step is taken. atol, rtol: 0 and 1e-7 unless given (in the mode
    "scaled": from the table). auto_init: copy base's weights and buffers
    into raw first. Raises PadiffError where the comparison cannot be made.
    """
    base_inputs, raw_inputs = _pair(inputs, "inputs")
    base_loss, raw_loss = _pair(loss_fns or ("mean", "mean"), "loss_fns")
    base_optimizer, raw_optimizer = _pair(optimizers or (None, None), "optimizers")
    settings = AlignSettings(
        compare=CompareRules(mode=compare_mode, atol=atol, rtol=rtol),
        assign=auto_init,
        diff_phase=diff_phase,
        single_step=single_step,
        steps=steps,
        base_loss=_loss(base_loss),
        raw_loss=_loss(raw_loss),
        base_optimizer=_optimizer(base_optimizer),
        raw_optimizer=_optimizer(raw_optimizer),
    )
    result = align(
        _model(base_model, "base_model"),
        _model(raw_model, "raw_model"),
        as_inputs(base_inputs),
        as_inputs(raw_inputs),
        settings,
    )
    _log_result(result)
    return result.aligned


def assign_weight(base_model: Model, raw_model: Model) -> bool:
    """Copy base_model's parameters and buffers into raw_model, in raw_model's layout; nothing is written on failure.

    Returns False, and logs which layers and parameters do not correspond, when the models do not match.
    """
    base, raw = _model(base_model, "base_model"), _model(raw_model, "raw_model")
    try:
        assign_weights(base, raw, match_models(base.describe(), raw.describe()))
    except PadiffError as err:
        if err.reason is not Reason.MODELS_DO_NOT_MATCH:
            raise
        _log.error("assign_weight failed: %s", err)
        return False
    return True


def _pair(values: Sequence[Any], name: str) -> tuple[Any, Any]:
    if isinstance(values, (str, Mapping)) or len(values) != 2:
        raise PadiffError(
            f"{name} is a pair (base's, raw's), got {type(values).__name__} of {len(values)}", reason=Reason.BAD_CONFIG
        )
    return values[0], values[1]


def _model(value: Any, name: str) -> Model:
    if not hasattr(value, "read_records") or not hasattr(value, "describe"):
        raise PadiffError(
            f"{name} is a {type(value).__module__}.{type(value).__qualname__}, not a model of padiff_rpc",
            reason=Reason.BAD_CONFIG,
            hint="pass what launch(SPEC) or connect(ADDRESS) returned",
        )
    return value


def _loss(value: Any) -> LossSpec:
    if isinstance(value, LossSpec):
        return value
    if isinstance(value, str):
        return parse_loss(value)
    raise PadiffError(
        f"a loss is given by name, got {value!r}",
        reason=Reason.BAD_CONFIG,
        hint="offer your function where the worker starts, launch(..., losses={NAME: 'file.py:function'}), and pass NAME",
    )


def _optimizer(value: Any) -> OptimizerSpec | None:
    if value is None or isinstance(value, OptimizerSpec):
        return value
    if isinstance(value, str):
        return parse_optimizer(value)
    raise PadiffError(
        f"an optimiser is given by name, got {value!r}",
        reason=Reason.BAD_CONFIG,
        hint="write for example 'Adam(lr=1e-3)', or offer your own where the worker starts and pass its name",
    )


def _log_result(result: Result) -> None:
    for note in result.notes:
        _log.warning("%s", note)
    failed = sum(pair.status == "fail" for pair in result.pairs)
    if result.aligned:
        _log.info("aligned: %d comparisons passed", sum(pair.status == "pass" for pair in result.pairs))
        return
    _log.error("differs: %d of %d comparisons failed", failed, len(result.pairs))
    for divergence in result.divergences:
        _log.error(
            "%s, step %d: %r (%s) against %r (%s), %s: %s",
            divergence.stage,
            divergence.step,
            divergence.base.route,
            divergence.base.class_name,
            divergence.raw.route,
            divergence.raw.class_name,
            divergence.tensor,
            divergence.why,
        )
    for side, items in (("base", result.unmatched_base), ("raw", result.unmatched_raw)):
        for item in items:
            if item.fails:
                _log.error("%s %r of %s has no counterpart: %s", item.what, item.name, side, item.why)
