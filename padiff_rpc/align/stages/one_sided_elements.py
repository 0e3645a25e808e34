"""Find the elements of a parameter that have a gradient on one side only: a padding row that raw trains and base does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from padiff_rpc.align.stages.compare_parameters import NoiseScale, ParameterComparer
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.blocks import abreast
from padiff_rpc.tensors.float64 import to_float64

_LEAST = 1e-5
"""The relative error of gradients below which nothing is looked into; right float32 models without kinks stay below it."""
_MARGIN = 10.0
"""How many times above the computed noise an element's gradient stands out of it, as in update_elements.py."""
_SHARE = 0.5
"""The share of a difference (its square) that such elements hold. A flipped ReLU changes elements that both sides train."""


def judge_one_sided(
    comparer: ParameterComparer, grads: Sequence[Pair], links: Sequence[ParameterLink], noise: NoiseScale
) -> list[Pair]:
    """Fail gradients that pass by a wide tolerance, where elements that are zero on one side make up most of what differs.

    Args:
        comparer: reads both sides' gradients.
        grads: are their comparisons, in the links' order.
        links: say which parameters correspond.
        noise: bounds the rounding noise of an element.
    """
    names = [(name, link) for link in links for name in link.raw]
    return [_judge(comparer, pair, name, link, noise) for pair, (name, link) in zip(grads, names, strict=True)]


def _judge(comparer: ParameterComparer, pair: Pair, name: str, link: ParameterLink, noise: NoiseScale) -> Pair:
    if (
        pair.status != "pass"
        or pair.metrics is None
        or pair.metrics.measure != "rel_l2"
        or pair.metrics.rel_l2 <= _LEAST
    ):
        return pair
    floor = _MARGIN * comparer.noise_of(link, noise)
    counts, largest, alone, apart = {"base": 0, "raw": 0}, 0.0, 0.0, 0.0
    with comparer.abreast(link, name, "gradient") as (base, raw):
        for base_block, raw_block in abreast(base, raw):
            mine, other = to_float64(base_block, base.spec.dtype), to_float64(raw_block, raw.spec.dtype)
            difference = np.abs(mine - other)
            apart += float(difference @ difference)
            for side, there, zero in (("base", mine, other), ("raw", other, mine)):
                lone = difference[(zero == 0) & (np.abs(there) > floor)]
                counts[side] += lone.size
                largest = max(largest, float(lone.max(initial=0.0)))
                alone += float(lone @ lone)
    if not alone or alone < _SHARE * apart:
        return pair
    sides = " and ".join(f"{count} in {side} alone" for side, count in counts.items() if count)
    why = (
        f"{sides} of {pair.metrics.total} elements have a gradient, of up to {largest:.3g}, where the other side's is zero; "
        f"rounding leaves {floor:.2g} at most"
    )
    metrics = replace(pair.metrics, measure="max_abs", measured=largest, allowed=floor)
    return pair.judged_anew(Verdict("fail", "values", why, metrics))
