"""Layers that run in another order: what one side has run before a tensor came, and the other has not."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.result import Cause


def order_of_calls(evidence: Evidence) -> Sequence[Cause]:
    """Find that the layers inside, which ran before the tensor came, are other ones on the two sides."""
    base, raw = evidence.before_it
    sooner, later = [name for name in raw if name not in base], [name for name in base if name not in raw]
    if evidence.stage != "forward" or not (base or raw) or not (sooner or later):
        return ()
    told = [f"{side} alone has run {', '.join(names)}" for side, names in (("raw", sooner), ("base", later)) if names]
    words = "the layers inside run in another order"
    place = evidence.tensor.partition(" of ")[2].strip("'").rpartition(".")[2]
    classes = {layers.base.route.rpartition(".")[2]: layers.base.class_name for layers in evidence.inside}
    moved = [place, *sooner, *later]
    norms = [name for name in moved if "norm" in f"{name} {classes.get(name, '')}".lower()]
    if norms:
        words = f"{words}: the norm {norms[0]} comes at another place (before or after the other layers)"
    return (Cause("order of calls", words, f"before the tensor comes, {' and '.join(told)}", 0.93),)
