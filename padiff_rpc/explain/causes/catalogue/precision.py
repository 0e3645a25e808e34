"""Lower precision inside: values that a shorter type holds exactly, or a difference of just its rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import square
from padiff_rpc.result import Cause

_ALL, _FEW = 0.99, 0.5
"""The share of values that the shorter type holds: of the rounded side at least, of the other at most."""
_LEAST = 16
_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
_SHORTER = (("BF16", "bfloat16"), ("F16", "float16"), ("F32", "float32"))
_SINGLE = (1e-10, 1e-6)
"""Relative L2 errors between which a float64 run differs by what float32 rounds."""


def precision(evidence: Evidence) -> Sequence[Cause]:
    """Find a side whose values lie on the grid of a shorter type, or are as far off as its rounding."""
    pair = evidence.pair
    if pair is None or pair[0].size < _LEAST:
        return ()
    base, raw = pair
    found = list(_on_grid(evidence, base, raw))
    if found or set(evidence.dtypes) != {"F64"} or not base.any():
        return found
    apart = math.sqrt(square(raw - base) / square(base))
    if not _SINGLE[0] < apart < _SINGLE[1]:
        return ()
    shown = f"apart by {apart:.2g} relatively, the rounding of float32 (6e-08), in a run in float64"
    return (Cause("precision", "one side computes in float32 inside, or with float32 constants", shown, 0.7),)


def _on_grid(evidence: Evidence, base: np.ndarray, raw: np.ndarray) -> Iterator[Cause]:
    for dtype, name in _SHORTER:
        shares = {"base": _share(base, dtype), "raw": _share(raw, dtype)}
        for side, other in (("raw", "base"), ("base", "raw")):
            own = evidence.dtypes.raw if side == "raw" else evidence.dtypes.base
            if _BITS.get(own, 0) <= _BITS[dtype] or shares[side] < _ALL or shares[other] > _FEW:
                continue
            shown = f"{100 * shares[side]:.1f} % of {side}'s values are {name} numbers, {100 * shares[other]:.1f} % of {other}'s"
            yield Cause("precision", f"{side} computes in {name} here", shown, 0.9)
            return


def _share(array: np.ndarray, dtype: str) -> float:
    """Return the share of the values other than 0 and small whole numbers that a type holds exactly."""
    values = array.reshape(-1)
    values = values[(values != np.rint(values)) | (np.abs(values) > 256)]
    if values.size < _LEAST:
        return 0.0 if dtype == "F32" else 0.75  # too few to tell: neither on the grid nor off it
    single = values.astype(np.float32)
    if dtype == "F32":
        return float((single == values).mean())
    if dtype == "F16":
        return float((values.astype(np.float16).astype(np.float64) == values).mean())
    return float(((single == values) & (single.view(np.uint32) & 0xFFFF == 0)).mean())
