"""Judge the two losses, and warn of a loss that is too weak to judge gradients by."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.sides import Sides
from padiff_rpc.compare.judge import compare_digests, compare_streams
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.model.model import BackwardResult, ForwardResult, Record
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Digest, DType, Tensor, told

_OUTPUT_ERROR = 64.0
"""Relative error of a healthy deep model's outputs, in units of epsilon (ResNet-50 in float32: 34)."""


def judge_loss(
    sides: Sides,
    step: int,
    settings: AlignSettings,
    forward: PerSide[ForwardResult],
    backward: PerSide[BackwardResult],
) -> Pair:
    """Compare the two losses, unless a dump does not tell its own; sums that cancel are judged against their summands."""
    unknown = [side for side, result in backward.items() if "loss" in result.unrecorded]
    if unknown:
        why = f"{' and '.join(unknown)}: the dump does not tell its loss"
        return _pair(step, Verdict.skip(why))
    dtype = np.float64 if _all_float64(forward) else np.float32
    base, raw = backward.map(lambda result: Tensor.from_array(np.array(result.loss, dtype)))
    base_digest, raw_digest = _digest(base), _digest(raw)
    scale = _noise(settings, [record for result in forward for record in result.outputs])
    standard = sides.standard("loss", scale)
    verdict = compare_digests(base.spec, base_digest, raw.spec, raw_digest, standard)
    if verdict is None:
        verdict = compare_streams(base.stream("loss"), raw.stream("loss"), base_digest, raw_digest, standard)
    return _pair(step, verdict)


def weak_loss_notes(peaks: Collection[float], grads: Sequence[Pair], settings: AlignSettings) -> list[str]:
    """Warn when most gradients are too small to be judged, since any error in them would pass.

    A gradient is too small where it lies below the absolute tolerance, or below the rounding noise.

    Args:
        peaks: are the greatest magnitudes in each of base's parameter gradients.
        grads: are the comparisons of these gradients.
        settings: give the tolerance and the mode.
    """
    atol = settings.compare.atol or 0.0
    below = sum(peak <= atol for peak in peaks)
    noisy = sum(
        pair.status == "pass" and pair.metrics is not None and pair.metrics.measure == "max_abs" for pair in grads
    )
    blind, limit = (noisy, "rounding noise") if settings.compare.mode == "scaled" else (below, f"atol={atol:g}")
    if not peaks or 2 * blind < len(peaks):
        return []
    return [
        f"{blind} of {len(peaks)} parameter gradients are no larger than {limit}, so that errors in them cannot be "
        f"seen: the loss {settings.base_loss.name!r} is too weak; use the loss 'projection', or a smaller atol"
    ]


def _digest(tensor: Tensor) -> Digest:
    return digest(np.frombuffer(tensor.data, np.uint8), tensor.spec)


def _pair(step: int, verdict: Verdict) -> Pair:
    return Pair.of(verdict, step=step, stage="loss", base_route="", raw_route="", tensor="loss")


def _noise(settings: AlignSettings, outputs: Sequence[Record]) -> float:
    floating = [record for record in outputs if record.spec.dtype.is_floating]
    if settings.compare.mode != "scaled" or not floating:
        return 0.0  # no other mode asks for it
    epsilon = max(EPSILON[record.spec.dtype] for record in floating)
    size = {
        "projection": max(told(record.digest.norm) for record in floating),
        "mean": max(told(record.digest.abs_mean) for record in floating),
        "sum": max(told(record.digest.abs_mean) * record.digest.count for record in floating),
    }.get(settings.base_loss.name, 0.0)
    noise = _OUTPUT_ERROR * epsilon * size
    return noise if np.isfinite(noise) else 0.0


def _all_float64(forward: PerSide[ForwardResult]) -> bool:
    floating = [r.spec.dtype for result in forward for r in result.outputs if r.spec.dtype.is_floating]
    return bool(floating) and all(dtype is DType.F64 for dtype in floating)
