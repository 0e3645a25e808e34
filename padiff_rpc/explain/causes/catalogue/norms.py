"""Another normalisation of the same tensor: another epsilon, no affine part, RMS for mean and variance, the other statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import TwoFits, best_two, told_share
from padiff_rpc.result import Cause

_EPSILONS = (1e-5, 1e-6, 1e-12, 1e-3, 1e-8, 1.1920929e-07, 1e-4, 0.0)
"""The usual ones; the smallest step of float32 is what torch's RMSNorm takes for eps=None."""
_ELEMENTS = 1 << 15
"""Rows are normalised by themselves: so many elements show the formula."""
_MOST = 1 << 18
"""Batch statistics need the whole tensor, so that greater ones are not tried."""
_GROUPS = (32, 16, 8, 4, 2)


@dataclass(frozen=True)
class _Formula:
    """One normalisation, in parts that are told each by itself."""

    kind: str
    affine: str
    epsilon: float


def norms(evidence: Evidence) -> Sequence[Cause]:
    """Normalise each tensor that the layer took in the known ways, and find the way of either side."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim < 2:
        return ()
    base, raw = pair
    for name, source in list(evidence.sources.items())[-3:]:
        if source.shape != base.shape or not np.isfinite(source).all():
            continue
        rows = -(-base.size // _ELEMENTS)
        cut_base, cut_raw, cut = (array.reshape(-1, array.shape[-1])[::rows] for array in (base, raw, source))
        formulas: dict[str, _Formula] = {}
        fit = best_two(cut_base, cut_raw, _told(_by_rows(evidence, cut), formulas))
        if fit is None and base.size <= _MOST and "norm" in evidence.layers.base.class_name.lower():
            fit = best_two(base, raw, _told(_by_channels(evidence, source), formulas))
        if fit is not None:
            return (_cause(fit, formulas[fit.base], formulas[fit.raw], name),)
    return ()


def _cause(fit: TwoFits, base: _Formula, raw: _Formula, of: str) -> Cause:
    shown = f"computed anew from {of}, {base.kind} and {raw.kind} make the two sides; this {told_share(fit.share)}"
    if base.kind != raw.kind:
        statistics = {base.kind, raw.kind} == {"batch_norm of the batch", "batch_norm of the running statistics"}
        if statistics:
            words = f"base normalises by {base.kind[14:]}, raw by {raw.kind[14:]}: one trains and the other evaluates"
            return Cause("mode", words, shown, 0.99 * fit.share)
        words = f"base computes {base.kind}, raw computes {raw.kind}"
        return Cause("other normalisation", words, shown, 0.98 * fit.share)
    if base.affine != raw.affine:
        words = f"base's {base.kind} is {base.affine}, raw's is {raw.affine}"
        return Cause("other normalisation", words, shown, 0.98 * fit.share)
    words = f"base's {base.kind} has an epsilon of {base.epsilon:.6g}, raw's {raw.epsilon:.6g}"
    shown = f"computed anew from {of}, these make the two sides; this {told_share(fit.share)}"
    return Cause("epsilon", words, shown, 0.99 * fit.share)


def _told(
    made: Iterator[tuple[_Formula, np.ndarray]], formulas: dict[str, _Formula]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name each candidate, and remember what the name stands for."""
    for formula, array in made:
        name = f"{formula.kind}, {formula.affine}, {formula.epsilon!r}"
        formulas[name] = formula
        yield name, array


def _epsilons(evidence: Evidence) -> list[float]:
    """Return the layers' own epsilons first, then the usual ones."""
    own = [
        float(value)
        for layer in evidence.layers
        for name, value in layer.hyperparameters.items()
        if "eps" in name.lower() and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    return list(dict.fromkeys([*own, *_EPSILONS]))


def _by_rows(evidence: Evidence, rows: np.ndarray) -> Iterator[tuple[_Formula, np.ndarray]]:
    """Yield layer norms and RMS norms over the last axis of a matrix, with each epsilon and kind of affine part."""
    width = rows.shape[-1]
    weights = [value for name, value in evidence.parameters.items() if value.shape == (width,) and "bias" not in name]
    biases = [value for name, value in evidence.parameters.items() if value.shape == (width,) and "bias" in name]
    weight, bias = (weights or [None])[0], (biases or [None])[0]
    centred = rows - rows.mean(axis=-1, keepdims=True)
    statistics = {
        "layer_norm": (centred, (centred**2).mean(axis=-1, keepdims=True)),
        "rms_norm": (rows, (rows**2).mean(axis=-1, keepdims=True)),
        "layer_norm of the unbiased variance": (centred, (centred**2).sum(axis=-1, keepdims=True) / max(width - 1, 1)),
        "division by the L2 norm": (rows, (rows**2).sum(axis=-1, keepdims=True)),
    }
    for kind, (above, variance) in statistics.items():
        for epsilon in _epsilons(evidence):
            normal = above / np.sqrt(variance + epsilon)
            for affine, array in _affine(normal, weight, bias):
                yield _Formula(kind, affine, epsilon), array
        if kind == "layer_norm":  # the root of the variance, and the epsilon added to that
            for epsilon in (1e-5, 1e-6):
                normal = above / (np.sqrt(variance) + epsilon)
                for affine, array in _affine(normal, weight, bias):
                    yield _Formula("layer_norm with the epsilon outside the root", affine, epsilon), array


def _affine(normal: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    shift = 0.0 if bias is None else bias
    if weight is not None:
        yield "with its affine part", normal * weight + shift
        yield "scaled by 1 + weight", normal * (1.0 + weight) + shift
        if bias is not None:
            yield "scaled and not shifted", normal * weight
    yield "without an affine part", normal


def _by_channels(evidence: Evidence, source: np.ndarray) -> Iterator[tuple[_Formula, np.ndarray]]:
    """Yield the normalisations of images and the like: by batch, by running statistics, by instance, by group."""
    channels = source.shape[1]
    others = (0, *range(2, source.ndim))
    across = (1, channels, *[1] * (source.ndim - 2))
    held = {
        name.lstrip("_"): value.reshape(across)
        for name, value in evidence.parameters.items()
        if value.shape == (channels,)
    }
    weight, bias = held.get("weight", held.get("scale")), held.get("bias")
    running = held.get("running_mean", held.get("mean")), held.get("running_var", held.get("variance"))
    statistics: dict[str, tuple[np.ndarray, np.ndarray]] = {
        "batch_norm of the batch": (source.mean(axis=others, keepdims=True), source.var(axis=others, keepdims=True))
    }
    if running[0] is not None and running[1] is not None:
        statistics["batch_norm of the running statistics"] = running[0], running[1]
    if source.ndim > 2:
        inner = tuple(range(2, source.ndim))
        statistics["instance_norm"] = source.mean(axis=inner, keepdims=True), source.var(axis=inner, keepdims=True)
    for kind, (mean, variance) in statistics.items():
        for epsilon in _epsilons(evidence):
            for affine, array in _affine((source - mean) / np.sqrt(variance + epsilon), weight, bias):
                yield _Formula(kind, affine, epsilon), array
    for groups in _groups(evidence, channels):
        grouped = source.reshape(source.shape[0], groups, -1)
        centred = grouped - grouped.mean(axis=-1, keepdims=True)
        for epsilon in _epsilons(evidence)[:3]:
            normal = (centred / np.sqrt(grouped.var(axis=-1, keepdims=True) + epsilon)).reshape(source.shape)
            for affine, array in _affine(normal, weight, bias):
                yield _Formula(f"group_norm of {groups} groups", affine, epsilon), array


def _groups(evidence: Evidence, channels: int) -> list[int]:
    own = [layer.hyperparameters.get("num_groups") for layer in evidence.layers]
    tried = [*(each for each in own if isinstance(each, int)), *_GROUPS, 1]
    return [each for each in dict.fromkeys(tried) if channels % each == 0]
