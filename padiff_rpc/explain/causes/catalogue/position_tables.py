"""Tables of sines and cosines of positions: another theta, other rates, shifted positions, rates or angles in a short type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import best_two, told_share
from padiff_rpc.explain.causes.round_to import rounded_to
from padiff_rpc.result import Cause

_THETAS = (1e4, 5e5, 1e6, 1e3, 1e5, 1e2)
_TYPES = ("bfloat16", "float16", "float32")
_NEAR = 1e-3
"""How far a table may be from one of sines and cosines at any element, for its layout to be taken."""
_ROWS = 256


def position_tables(evidence: Evidence) -> Sequence[Cause]:
    """Compute tables of sines and cosines anew, and find which one either side is."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim < 2:
        return ()
    width, length = pair[0].shape[-1], pair[0].shape[-2]
    if width < 4 or width % 2 or length < 2 or length * width != pair[0].size:
        return ()
    if float(np.abs(pair[0]).max()) > 1.0 + _NEAR or float(np.abs(pair[1]).max()) > 1.0 + _NEAR:
        return ()
    base, raw = (array.reshape(length, width)[:_ROWS] for array in pair)
    for told, places in _places(evidence, length):
        for layout in _LAYOUTS:
            fit = best_two(base, raw, _tables(places[:_ROWS], width, layout))
            if fit is not None:
                words = f"the positions' table of {layout} has {fit.base} in base, {fit.raw} in raw"
                if any(kind in fit.base + fit.raw for kind in _TYPES):
                    words = f"{words}: lower precision inside"
                shown = f"computed anew from {told}, these make the two sides; this {told_share(fit.share)}"
                return (Cause("position table", words, shown, 0.98 * fit.share),)
    return ()


_LAYOUTS = (
    "cosines, twice",
    "sines, twice",
    "cosines then sines",
    "sines then cosines",
    "sines and cosines in turn",
    "cosines and sines in turn",
    "cosines, each twice",
    "sines, each twice",
)


def _places(evidence: Evidence, length: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the positions that the rows may stand for."""
    for name, source in evidence.sources.items():
        if source.size == length and source.any():
            yield name, source.reshape(-1)
    start = evidence.layers.base.hyperparameters.get("start")
    if isinstance(start, int) and not isinstance(start, bool) and start:
        yield f"positions from {start}", np.arange(start, start + length, dtype=np.float64)
    yield "positions from 0", np.arange(length, dtype=np.float64)


def _tables(places: np.ndarray, width: int, layout: str) -> Iterator[tuple[str, np.ndarray]]:
    half = width // 2
    at = np.arange(half, dtype=np.float64)
    for theta in _THETAS:
        yield _usual(theta), _table(np.outer(places, theta ** -(at / half)), layout)
    for theta in _THETAS:
        usual = _usual(theta)
        powers = {
            f"{usual} whose last is 1 / theta": at / max(half - 1, 1),
            f"{usual} for a size of {width + 2}": 2 * at / (width + 2),
            f"{usual} for a size of {2 * width}": at / width,
            f"{usual} for a size of {half}": 2 * at / half,
        }
        for told, power in powers.items():
            yield told, _table(np.outer(places, theta**-power), layout)
        rates = theta ** -(at / half)
        for by in (1, -1, 2):
            yield f"{usual} at positions {by:+d}", _table(np.outer(places + by, rates), layout)
        for by in (2.0, 4.0, 8.0, 0.5):
            yield f"{usual} at positions / {by:g}", _table(np.outer(places / by, rates), layout)
        for dtype in _TYPES:
            yield f"{usual} in {dtype}", _table(np.outer(places, rounded_to(rates, dtype)), layout)
            rounded = rounded_to(np.outer(places, rates), dtype)
            yield f"{usual}, the angles in {dtype}", _table(rounded, layout)
            both = rounded_to(np.outer(rounded_to(places, dtype), rounded_to(rates, dtype)), dtype)
            yield f"{usual}, rates, positions and angles in {dtype}", _table(both, layout)
            apart = np.outer(rounded_to(places, dtype), rounded_to(rates, dtype))
            yield f"{usual}, rates and positions in {dtype}", _table(apart, layout)


def _usual(theta: float) -> str:
    return f"rates (frequencies) of theta {theta:g}"


def _table(angles: np.ndarray, layout: str) -> np.ndarray:
    cos, sin = np.cos(angles), np.sin(angles)
    one, _, other = layout.partition(" then ")
    if other or layout.endswith(", twice"):
        first, second = ((cos if each.startswith("cos") else sin) for each in (one, other or one))
        return np.concatenate([first, second], axis=1)
    if layout.endswith(", each twice"):
        return np.repeat(cos if layout.startswith("cos") else sin, 2, axis=1)
    return np.stack([sin, cos] if layout.startswith("sin") else [cos, sin], axis=2).reshape(len(angles), -1)
