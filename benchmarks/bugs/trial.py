"""Run one pair through the tool, and through torch.testing's tolerances."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.bugs.bases import Base
from benchmarks.bugs.bug import Found
from benchmarks.bugs.pairs import Run, training_file
from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.errors import PadiffError
from padiff_rpc.model.hosting.hosted import HostedModel, Placement
from padiff_rpc.model.model import LossSpec, OptimizerSpec
from padiff_rpc.result import Metrics, Pair, Result

_TESTING = {
    "float64": (1e-7, 1e-7),
    "float32": (1.3e-6, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float16": (1e-3, 1e-5),
}
"""dtype -> (rtol, atol) of torch.testing.assert_close."""


def found(run: Run, base: Base, seed: int, tolerance: str) -> Found:
    """Align a pair with one tolerance ("" for the tool's default), and return what the tool says."""
    try:
        result = _aligned(run, base, seed, _settings(run, tolerance))
    except PadiffError as err:
        return Found("refused", why=f"{err.reason.name}: {err.message.splitlines()[0]}")
    except Exception as err:  # noqa: BLE001 - the tool's own fault, which is told like any other verdict
        return Found("crashed", why=f"{type(err).__name__}: {err}".strip().splitlines()[0])
    worst, worst_at = _largest(result.pairs, _of_allowed)
    ratio, ratio_at = _largest(result.pairs, _of_floor)
    first = result.first_divergence
    if result.aligned or first is None:
        verdict = "aligned" if result.aligned else "differs"
        return Found(
            verdict, why="; ".join(result.lacking), worst=worst, worst_at=worst_at, ratio=ratio, ratio_at=ratio_at
        )
    why = f"{first.tensor}: {first.why}"
    cause = _first_cause(result) or why
    return Found("differs", first.stage, first.raw.route, why, cause, worst, worst_at, ratio, ratio_at)


def testing_finds(run: Run, base: Base, seed: int) -> bool:
    """Tell whether an output of the model is outside torch.testing's tolerances for its dtype."""
    rtol, atol = _TESTING[run.dtype]
    rules = CompareRules(mode="strict", rtol=rtol, atol=atol)
    settings = AlignSettings(compare=rules, training=run.training, diff_phase="forward", depth=0, held=False)
    try:
        return not _aligned(run, base, seed, settings).aligned
    except PadiffError:
        return True


def _settings(run: Run, tolerance: str) -> AlignSettings:
    more: dict[str, Any] = {"tolerance": tolerance} if tolerance else {}
    if run.loss:
        more |= {"base_loss": LossSpec(run.loss), "raw_loss": LossSpec(run.raw_loss)}
    if run.optimizer:
        more |= {"base_optimizer": OptimizerSpec(run.optimizer), "raw_optimizer": OptimizerSpec(run.raw_optimizer)}
    return AlignSettings(training=run.training, steps=run.steps, **more)


def _aligned(run: Run, base: Base, seed: int, settings: AlignSettings) -> Result:
    base.put_back(seed)
    places = training_file(run.raw)
    raw = HostedModel.from_spec(
        run.spec(run.raw),
        model_args=run.full_args[1],
        placement=None if run.dtype == "float32" else Placement(dtype=run.dtype),
        losses={run.raw_loss: f"{places}:{run.raw_loss}"} if run.raw_loss else None,
        optimizers={run.raw_optimizer: f"{places}:{run.raw_optimizer}"} if run.raw_optimizer else None,
    )
    inputs = run.inputs(seed)
    return align(base.model, raw, inputs, inputs, settings)


def _first_cause(result: Result) -> str:
    causes = getattr(result, "causes", None) or ()
    for cause in causes:
        fields = cause if isinstance(cause, dict) else dataclasses.asdict(cause)
        return f"{fields['words']} ({fields.get('evidence', '')})"
    return ""


def _largest(pairs: Iterable[Pair], ratio: Callable[[Metrics], float | None]) -> tuple[float, str]:
    """Return the largest ratio among comparisons, and where it is."""
    most, place = 0.0, ""
    for pair in pairs:
        value = ratio(pair.metrics) if pair.metrics is not None else None
        if value is not None and value > most:
            most, place = value, f"{pair.stage} {pair.raw_route or 'the model'} {pair.tensor}"
    return most, place


def _of_allowed(metrics: Metrics) -> float | None:
    return metrics.measured / metrics.allowed if metrics.allowed > 0 else None


def _of_floor(metrics: Metrics) -> float | None:
    return getattr(metrics, "ratio", None)
