"""A constant factor, an offset, a sign: of the whole tensor, or channel by channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import ENOUGH, explained, square, told_factor, told_share
from padiff_rpc.result import Cause

_COLLINEAR = 0.999
"""The correlation from which on two tensors count as one but for a factor: two that hardly vary are like that by chance."""
_BY_CHANNEL = 0.95
"""The share that constants of channels have to explain: they are many."""
_LEAST = 8
"""Elements for each constant that is fitted; with fewer, chance explains too much."""


def constants(evidence: Evidence) -> Sequence[Cause]:
    """Fit raw by base times a constant, and by base and a constant, over the whole tensor, then over each channel."""
    moves = evidence.moves if evidence.stage in ("weights", "buffers") else None
    pair = moves or evidence.pair
    if pair is None or pair[0].size < _LEAST:
        return ()
    base, raw = pair
    what = "what the step changed in raw" if moves else "raw"
    whose = "what it changed in base" if moves else "base"
    found = [*_factor(evidence, base, raw, what, whose), *_offset(base, raw, what, whose)]
    return found or list(_by_channel(evidence, base, raw, what, whose))


def _factor(evidence: Evidence, base: np.ndarray, raw: np.ndarray, what: str, whose: str) -> Iterator[Cause]:
    size = float(np.vdot(base, base))
    factor = float(np.vdot(base, raw)) / size if size else 0.0
    share = explained(base, raw, factor * base)
    if share < ENOUGH or abs(factor) < 1e-12:
        return
    r = float(np.vdot(base, raw)) / math.sqrt(size * float(np.vdot(raw, raw)))
    if abs(r) < _COLLINEAR:
        return
    shown = f"{what} = {told_factor(factor)} x {whose}, r = {r:.6f}"
    if abs(factor + 1) < 1e-3:
        yield Cause("sign", "the sign is the other one", shown, 0.95 * share)
        return
    known = (
        "" if any(math.isclose(factor, each, rel_tol=1e-3) for each in (2.0, 0.5)) else _known_factor(evidence, factor)
    )
    words = "a constant factor lies between the two"
    if abs(factor - 2) < 1e-3 and evidence.stage in ("backward", "grads"):
        words = "the gradient counts twice in raw"
    elif abs(factor - 0.5) < 5e-4 and evidence.stage in ("backward", "grads"):
        words = "the gradient counts twice in base"
    yield Cause("constant factor", words, f"{shown}{known}", (0.92 if known else 0.88) * share)


def _known_factor(evidence: Evidence, factor: float) -> str:
    """Say what number of the layer or the tensor a factor is made of; "" where none is found."""
    assert evidence.base is not None
    numbers: dict[str, float] = {}
    if evidence.base.ndim > 1:
        numbers[f"the last axis, {evidence.base.shape[-1]}"] = float(evidence.base.shape[-1])
    if evidence.stage in ("backward", "grads") and evidence.sources:
        numbers["the batch size"] = float(next(iter(evidence.sources.values())).shape[0])
    for layers in (evidence.layers, *evidence.enclosing[:1]):
        for layer in layers:
            for name, value in layer.hyperparameters.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                    numbers.setdefault(f"{name}={value:g}", float(value))
    for name, number in numbers.items():
        powers = (("", 1.0), ("the root of ", 0.5), ("one over ", -1.0), ("one over the root of ", -0.5))
        for words, power in powers:
            value = number**power
            if value != 1.0 and math.isclose(value, factor, rel_tol=2e-4):
                return f", which is {words}{name}"
    return ""


def _offset(base: np.ndarray, raw: np.ndarray, what: str, whose: str) -> Iterator[Cause]:
    offset = float(np.mean(raw - base))
    share = explained(base, raw, base + offset)
    if share >= ENOUGH:
        yield Cause(
            "offset",
            "a constant is added on one side",
            f"{what} = {whose} {offset:+.4g} everywhere; this {told_share(share)}",
            0.88 * share,
        )


def _by_channel(evidence: Evidence, base: np.ndarray, raw: np.ndarray, what: str, whose: str) -> Iterator[Cause]:
    for axis in sorted({base.ndim - 1, 1} if base.ndim > 1 else ()):
        channels = base.shape[axis]
        if channels < 2 or base.size < _LEAST * channels:
            continue
        others = tuple(at for at in range(base.ndim) if at != axis)
        offsets = (raw - base).mean(axis=others, keepdims=True)
        share = explained(base, raw, base + offsets)
        if share >= _BY_CHANNEL:
            named = _as_parameter(evidence, offsets.reshape(-1))
            yield Cause(
                "offset",
                named[0] or f"each index of axis {axis} has an offset of its own, as a bias has",
                named[1] or f"{what} = {whose} + one number for each of {channels}; this {told_share(share)}",
                (0.95 if named[0] else 0.82) * share,
            )
            return
        sizes = (base * base).sum(axis=others, keepdims=True)
        factors = (base * raw).sum(axis=others, keepdims=True) / np.where(sizes > 0, sizes, 1.0)
        share = explained(base, raw, base * factors)
        collinear = square(raw - base * factors) <= (1.0 - _COLLINEAR**2) * square(raw)
        if share >= _BY_CHANNEL and collinear:
            yield Cause(
                "factor by channel",
                f"each index of axis {axis} has a factor of its own, as a scale has",
                f"{what} = {whose} x one number for each of {channels}, from {factors.min():.4g} to {factors.max():.4g}; "
                f"this {told_share(share)}",
                0.82 * share,
            )
            return


def _as_parameter(evidence: Evidence, offsets: np.ndarray) -> tuple[str, str]:
    """Name the parameter that an offset by channel is, and say so; two empty texts where it is none."""
    for name, value in evidence.parameters.items():
        size = float(np.vdot(value, value))
        if value.shape != offsets.shape or not size:
            continue
        times = float(np.vdot(value, offsets)) / size
        left = offsets - times * value
        if abs(times) > 1e-3 and float(np.vdot(left, left)) <= 1e-4 * float(np.vdot(offsets, offsets)):
            if abs(times + 1) < 1e-2:
                return f"raw does not add {name!r}", f"raw = base - {name}"
            return f"{name!r} is added another number of times", f"raw = base {times:+.3f} x {name}"
    return "", ""
