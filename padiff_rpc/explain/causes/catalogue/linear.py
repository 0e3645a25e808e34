"""A product with the layer's own matrix: taken transposed, or without its bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import best_two, told_share
from padiff_rpc.result import Cause

_ROWS_ELEMENTS = 1 << 16
"""So many elements of the source show which product it is."""


def linear(evidence: Evidence) -> Sequence[Cause]:
    """Multiply what the layer took by its matrices, and find the product that each side is."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim < 1:
        return ()
    base, raw = pair
    for name, source in list(evidence.sources.items())[-3:]:
        if source.ndim != base.ndim or source.shape[:-1] != base.shape[:-1] or not np.isfinite(source).all():
            continue
        every = -(-source.size // _ROWS_ELEMENTS)
        cut_base, cut_raw, cut = (array.reshape(-1, array.shape[-1])[::every] for array in (base, raw, source))
        fit = best_two(cut_base, cut_raw, _products(evidence, cut, cut_base.shape[-1]))
        if fit is not None:
            words = f"base computes {fit.base}, raw computes {fit.raw}"
            shown = f"computed anew from {name}, these make the two sides; this {told_share(fit.share)}"
            return (Cause("other product", words, shown, 0.98 * fit.share),)
    return ()


def _products(evidence: Evidence, rows: np.ndarray, width: int) -> Iterator[tuple[str, np.ndarray]]:
    biases = {name: value for name, value in evidence.parameters.items() if value.shape == (width,)}
    for name, matrix in evidence.parameters.items():
        if matrix.ndim != 2:
            continue
        for form, one in ((name, matrix), (f"{name} transposed", matrix.T)):
            if one.shape != (rows.shape[-1], width):
                continue
            product = rows @ one
            for bias, value in biases.items():
                yield f"x @ {form} + {bias}", product + value
            yield f"x @ {form}", product
            for bias, value in biases.items():
                yield f"x @ {form} + 2 {bias}", product + 2.0 * value
