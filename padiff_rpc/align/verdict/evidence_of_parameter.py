"""Read a parameter, a buffer or a gradient that differs, and what it was before the step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from padiff_rpc.align.assign.in_raw_layout import in_raw_layout
from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict.read_rows import Rows, read_rows
from padiff_rpc.align.verdict.run_again import Again, Lacking, check_alike
from padiff_rpc.explain.causes.evidence import Evidence, SeenStep
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import What
from padiff_rpc.per_side import SIDES, PerSide
from padiff_rpc.result import Divergence, Pair
from padiff_rpc.tensors.tensor import collect_all

_SMALL = 1 << 18
"""Elements of a parameter that is read beside the one that differs."""
_MOST_OTHERS = 64


def of_parameter(again: Again, step: StepResult, divergence: Divergence, facts: Evidence) -> Evidence:
    """Run the step once more up to its stage, and read the parameter or buffer, or its gradient, on both sides."""
    stage, models = divergence.stage, again.sides.models
    link, raw_name = link_of(again.prepared, divergence.found_at)
    facts = replace(facts, tied=_names(again.prepared, link, raw_name))
    before = gradient = None
    if stage in ("weights", "buffers"):
        before = _held(again, link, raw_name, "value")[0]
    others = _others(again, link) if stage == "weights" else []
    held = [_held(again, *other, "value")[0] for other in others]
    for side in SIDES:
        again.forward(side, None, ())
        if stage != "buffers" or again.settings.diff_phase != "forward":
            again.backward(step, side, None)
    if stage in ("grads", "weights"):
        gradient = _held(again, link, raw_name, "gradient")
    gradients = [_gradient(again, *other) for other in others]
    if stage == "grads":
        assert gradient is not None
        check_alike(divergence, *gradient)
        return replace(facts, base=gradient[0], raw=gradient[1], sources={})
    if stage == "weights":
        for side, optimizer in again.settings.optimizers.items():
            if optimizer is not None:
                models.of(side).optimizer_step(optimizer)
    base, raw = _held(again, link, raw_name, "value")
    steps: list[SeenStep] = []
    if before is not None and gradient is not None:
        steps.append(SeenStep(link.base[0], PerSide(base - before, raw - before), gradient[0], before))
    for other, was, slope in zip(others, held, gradients, strict=True):
        if slope is not None:
            moved = PerSide(*(one - was for one in _held(again, *other, "value")))
            steps.append(SeenStep(other[0].base[0], moved, slope, was))
    return replace(facts, base=base, raw=raw, before=before, gradient=gradient[0] if gradient else None, steps=steps)


def _others(again: Again, link: ParameterLink) -> list[tuple[ParameterLink, str]]:
    """Return the other parameters that are one tensor on either side and small, evenly spread over the model."""
    described = again.prepared.described.base
    small = [
        (one, one.raw[0])
        for one in again.prepared.scope.links
        if one is not link
        and one.kind == "parameter"
        and len(one.base) == len(one.raw) == 1
        and described.parameter(one.base[0]).spec.count <= _SMALL
    ]
    return small[:: max(1, -(-len(small) // _MOST_OTHERS))]


def _names(prepared: Prepared, link: ParameterLink, raw_name: str) -> PerSide[tuple[str, ...]]:
    """Return all names of a parameter on either side; none where base's is cut or joined, or raw's is a part."""
    base = prepared.described.base.parameter(link.base[0])
    raw = next((one for one in prepared.described.raw.parameters if raw_name in (one.name, *one.aliases)), None)
    if raw is None or len(link.base) != 1 or len(link.raw) != 1:
        return PerSide((), ())
    return PerSide((base.name, *base.aliases), (raw.name, *raw.aliases))


def _gradient(again: Again, link: ParameterLink, raw_name: str) -> np.ndarray | None:
    try:
        return _held(again, link, raw_name, "gradient")[0]
    except Lacking:
        return None


def link_of(prepared: Prepared, pair: Pair) -> tuple[ParameterLink, str]:
    """Return the link that a comparison of held tensors stands for, and raw's name in it."""
    name = f"{pair.raw_route}.{pair.tensor}" if pair.raw_route else pair.tensor
    for link in prepared.scope.links:
        for raw in link.raw:
            if raw == name or (link.raw_route == pair.raw_route and raw == pair.tensor):
                return link, raw
    raise Lacking("the parameter's partner is not known")


def _held(again: Again, link: ParameterLink, raw_name: str, what: What) -> tuple[np.ndarray, np.ndarray]:
    """Return base's tensor in raw's layout, and raw's."""
    sources = collect_all(again.sides.base.read_parameters(link.base, what))
    targets = collect_all(again.sides.raw.read_parameters([raw_name], what))
    if len(sources) < len(link.base) or raw_name not in targets:
        raise Lacking("one side has no such gradient")
    specs = [again.prepared.described.raw.parameter(name).spec for name in link.raw]
    made = dict(in_raw_layout(link, [sources[name] for name in link.base], specs))
    if raw_name not in made:
        raise Lacking("base's tensor has no counterpart in raw's layout")
    rows = Rows.of(targets[raw_name].spec)
    return read_rows(made[raw_name].stream(raw_name), rows), read_rows(targets[raw_name].stream(raw_name), rows)
