"""Training and evaluation: a dropout that is active, one that scales in evaluation, two sides in different modes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence, SeenLayer
from padiff_rpc.explain.causes.fit import explained, told_share
from padiff_rpc.result import Cause

_RATES = ("p", "dropout", "dropout_p", "drop_prob", "drop_rate", "dropout_rate", "attn_dropout", "hidden_dropout_prob")
_FROM, _TO = 0.005, 0.95
"""Between these shares of zeros a dropout is looked for."""
_HEED_MODES = ("drop", "norm", "attention", "lstm", "gru")


def modes(evidence: Evidence) -> Sequence[Cause]:
    """Look for dropout's zeros and factors, then at the modes that the two layers ran in."""
    if evidence.stage not in ("forward", "backward"):
        return ()
    return (*_dropped(evidence), *_downscaled(evidence), *_unequal(evidence), *_draws(evidence))


def _dropped(evidence: Evidence) -> Iterator[Cause]:
    pair = evidence.pair
    if pair is None or pair[0].size < 32:
        return
    base, raw = pair
    for side, dropped, whole in (("raw", raw, base), ("base", base, raw)):
        zeros = (dropped == 0.0) & (whole != 0.0)
        rate = float(zeros.mean())
        if not _FROM < rate < _TO or float((whole == 0.0).mean()) > 0.5:
            continue
        kept = ~zeros
        size = float(np.vdot(whole[kept], whole[kept]))
        factor = float(np.vdot(whole[kept], dropped[kept])) / size if size else 0.0
        share = explained(whole, dropped, np.where(kept, factor * whole, 0.0))
        scales = math.isclose(factor, 1.0 / (1.0 - rate), rel_tol=0.1) and factor > 1.002
        named = any(_rate(layer) for layer in evidence.layers)
        if share >= 0.99 and (scales or (named and math.isclose(factor, 1.0, rel_tol=1e-3))):
            words = f"a dropout is active in {side} alone"
            shown = (
                f"{100 * rate:.1f} % of {side}'s elements are 0 where the other's are not, the rest is x {factor:.4f}"
            )
            yield Cause("active dropout", words, f"{shown}; this {told_share(share)}", 0.97)
            return
    ours, theirs = (base == 0.0), (raw == 0.0)
    rates = float(ours.mean()), float(theirs.mean())
    both = ~ours & ~theirs
    unlike = float((ours != theirs).mean())
    drawn = all(_FROM < rate < _TO for rate in rates) and unlike > 0.3 * min(rates) and both.any()
    if drawn and np.allclose(base[both], raw[both], rtol=1e-4, atol=0.0):
        shown = (
            f"{100 * rates[0]:.1f} % of base's elements are 0 and {100 * rates[1]:.1f} % of raw's, at other places; the rest "
            "agrees"
        )
        yield Cause("active dropout", "both sides drop elements, each by its own random numbers", shown, 0.96)


def _downscaled(evidence: Evidence) -> Iterator[Cause]:
    """Find the factor 1 - p of paddle's downscale_in_infer, which scales in evaluation where others scale in training."""
    pair = evidence.pair
    if pair is None or pair[0].size < 8:
        return
    base, raw = pair
    for side, small, large in (("raw", raw, base), ("base", base, raw)):
        size = float(np.vdot(large, large))
        factor = float(np.vdot(large, small)) / size if size else 0.0
        for layer in (*evidence.layers, *(layer for layers in evidence.enclosing[:1] for layer in layers)):
            rate = _rate(layer)
            if not rate or not math.isclose(factor, 1.0 - rate, rel_tol=1e-3):
                continue
            share = explained(large, small, factor * large)
            if share >= 0.99:
                words = f"{side} scales by 1 - p in evaluation: its dropout is downscale_in_infer"
                shown = f"{side} = {factor:.4f} x the other side, and 1 - p is {1 - rate:.4f}"
                yield Cause("downscale_in_infer", words, shown, 0.98)
                return


def _unequal(evidence: Evidence) -> Iterator[Cause]:
    base, raw = evidence.layers
    heeds = any(word in layer.class_name.lower() for layer in evidence.layers for word in _HEED_MODES)
    if base.training != raw.training and (heeds or any(_rate(layer) for layer in evidence.layers)):
        train, evaluate = ("base", "raw") if base.training else ("raw", "base")
        shown = f"{base.class_name} has training={base.training} in base and {raw.training} in raw"
        yield Cause("mode", f"{train} trains and {evaluate} evaluates", shown, 0.86)


def _draws(evidence: Evidence) -> Iterator[Cause]:
    """Tell that a layer draws random numbers, which by itself explains any difference of its output."""
    if evidence.shares_draw:
        return
    for side, layer in evidence.layers.items():
        rate = _rate(layer)
        if evidence.stage == "forward" and layer.training and rate and "drop" in layer.class_name.lower():
            shown = f"{layer.class_name} of {side} has a rate of {rate:g} and trains"
            yield Cause("active dropout", "the layer draws random numbers, other ones on each side", shown, 0.84)
            return


def _rate(layer: SeenLayer) -> float:
    for name in _RATES:
        value = layer.hyperparameters.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 < value < 1.0:
            return float(value)
    return 0.0
