"""Read the tensor that differs at a layer's boundary, and the tensors that the layer made it from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.run.judged_boundary import BoundaryPlace, Judged
from padiff_rpc.align.run.pairing import pair_records
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict.read_rows import Rows, read_rows
from padiff_rpc.align.verdict.run_again import Again, Keeper, Lacking, check_alike
from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.model.model import Boundary
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import Divergence, Pair

_MOST_SOURCES = 12
_MOST_PARAMETERS = 32


def at_boundary(again: Again, step: StepResult, divergence: Divergence, facts: Evidence) -> Evidence:
    """Return the evidence with the tensors at the place of a divergence in the forward or the backward.

    Raises:
        Lacking: the step that is run once more does not come to the tensor, or does not differ there as the run did.
    """
    place = _judged_at(step, divergence)
    called = _called(step, divergence)
    kept: dict[SideName, list[Boundary]] = {}
    inside = directly_inside(again.prepared, step, PerSide(divergence.base.route, divergence.raw.route))
    for side, at in place.places.items():
        model = again.sides.models.of(side)
        layer = divergence.base if side == "base" else divergence.raw
        keeper = Keeper(model, (at.route, at.call), (layer.route, called.of(side)))
        recorded = [layer.route, *(routes.of(side) for routes in inside)]
        if not at.api:
            recorded.append(at.route)
        again.forward(side, keeper, list(dict.fromkeys(recorded)), api_calls=at.api)
        if divergence.stage == "backward":
            again.backward(step, side, keeper)
        kept[side] = keeper.kept
    boundaries = PerSide(kept["base"], kept["raw"])
    picked = PerSide(_pick(boundaries.base, place.base, divergence), _pick(boundaries.raw, place.raw, divergence))
    return _read_boundaries(again, step, divergence, facts, boundaries, picked, called)


def _judged_at(step: StepResult, divergence: Divergence) -> Judged:
    """Return the judged boundary that the divergence was found at."""
    pair = divergence.found_at
    every = (*step.calls.judged, *step.forward) if divergence.stage == "forward" else step.backward
    for one in every:
        if any(each is pair or each == pair for each in one.pairs):
            return one
    raise Lacking("the tensor's place in the run is not known")


def _called(step: StepResult, divergence: Divergence) -> PerSide[int]:
    """Return the number of the call of the layer at fault on each side; the sides may count their calls differently."""
    for one in (*step.forward, *step.backward):
        if (one.base.route, one.base.call) == (divergence.base.route, divergence.call):
            return PerSide(one.base.call, one.raw.call)
    return PerSide(divergence.call, divergence.call)


def directly_inside(prepared: Prepared, step: StepResult, routes: PerSide[str]) -> list[PerSide[str]]:
    """Return the recorded pairs of layers that lie inside a pair of layers, and in no other such pair.

    A container that is not called itself, as a list of layers is, does not count.
    """
    called = {one.base.route for one in step.forward}
    every = [pair for pair in prepared.scope.layers if pair.base in called or not called]
    below = [PerSide(pair.base, pair.raw) for pair in every if _is_below(pair.base, routes.base)]
    return [one for one in below if not any(_is_below(one.base, other.base) for other in below)]


def _is_below(route: str, above: str) -> bool:
    return route != above and (not above or route.startswith(f"{above}."))


def _pick(kept: Sequence[Boundary], at: BoundaryPlace, divergence: Divergence) -> Boundary:
    """Return the boundary at a place; in the backward the one of the divergence's tensor."""
    phase = "backward" if divergence.stage == "backward" else "forward"
    here = [
        one
        for one in kept
        if one.phase == phase and (one.route, one.call, one.side) == (at.route, at.call, at.side) and one.records
    ]
    if phase == "forward":
        here = here[:1]
    name = _record_name(divergence.found_at)
    found = next((one for one in here if one.records[0].name == name), here[0] if len(here) == 1 else None)
    if found is None:
        raise Lacking("the step that was run once more did not come to the tensor")
    return found


def _record_name(pair: Pair) -> str:
    """Return the record's name in a pair's tensor, which is `output.0` or `grad of input.0`."""
    return pair.tensor.removeprefix("grad of ").partition(".")[2]


def _read_boundaries(
    again: Again,
    step: StepResult,
    divergence: Divergence,
    facts: Evidence,
    kept: PerSide[list[Boundary]],
    picked: PerSide[Boundary],
    called: PerSide[int],
) -> Evidence:
    name = _record_name(divergence.found_at)
    records = next(
        (
            PerSide(mine, other)
            for mine, other in pair_records(*picked)
            if mine is not None and other is not None and (mine.name == name or divergence.stage == "backward")
        ),
        None,
    )
    if records is None:
        raise Lacking("the step that was run once more lacks the tensor on one side")
    rows = Rows.of(records.base.spec)
    base, raw = (_read(again, side, record.id, rows) for side, record in records.items())
    check_alike(divergence, base, raw)
    ids = _sources(kept.base, (divergence.base.route, called.base), picked.base)
    read = {name: _read(again, "base", id, rows) for name, id in ids.items()}
    return replace(
        facts,
        base=base,
        raw=raw,
        sources=read,
        parameters=_parameters(again, step, divergence),
        before_it=_before(again.prepared, divergence, kept, picked, called),
        ids=_cut_ids(facts.ids, rows),
    )


def _sources(kept: Sequence[Boundary], parent: tuple[str, int], until: Boundary) -> dict[str, int]:
    """Return the records that the tensor may be made from: the layer's inputs, then what the calls inside it returned.

    In the backward they are the gradients that reached the layer's outputs and those that the calls inside it sent back.
    """
    found: dict[str, int] = {}
    backward = until.phase == "backward"
    for boundary in kept:
        if boundary.phase != until.phase or boundary is until or boundary.seq > until.seq:
            continue
        own = (boundary.route, boundary.call) == parent
        gives = boundary.side == (("output" if own else "input") if backward else ("input" if own else "output"))
        if gives and (own or boundary.caller == parent):
            inside = boundary.route.removeprefix(f"{parent[0]}.") if parent[0] else boundary.route
            call = f" (call {boundary.call})" if boundary.call and not own else ""
            for record in boundary.records:
                label = f"{boundary.side}.{record.name}" if own else f"{inside}'s {boundary.side}.{record.name}{call}"
                found[label] = record.id
    inputs = [name for name in found if name.startswith(("input.", "output."))][:2]
    rest = [name for name in found if name not in inputs][-(_MOST_SOURCES - len(inputs)) :]
    return {name: found[name] for name in (*inputs, *rest)}


def _before(
    prepared: Prepared,
    divergence: Divergence,
    kept: PerSide[list[Boundary]],
    picked: PerSide[Boundary],
    called: PerSide[int],
) -> PerSide[tuple[str, ...]]:
    """Return the calls directly inside the layer that had returned when the tensor came, by base's names in the layer."""
    to_base = {pair.raw: pair.base for pair in prepared.scope.layers}
    prefix = f"{divergence.base.route}." if divergence.base.route else ""

    def of(side: SideName) -> tuple[str, ...]:
        layer = divergence.base if side == "base" else divergence.raw
        parent = (layer.route, called.of(side))
        routes = [
            one.route
            for one in kept.of(side)
            if (one.phase, one.side) == ("forward", "output") and one.caller == parent and one.seq < picked.of(side).seq
        ]
        return tuple((each if side == "base" else to_base.get(each, each)).removeprefix(prefix) for each in routes)

    return PerSide(of("base"), of("raw")) if picked.base.phase == "forward" else PerSide((), ())


def _read(again: Again, side: SideName, id: int, rows: Rows) -> np.ndarray:
    with again.sides.traffic.single(again.sides.models.of(side).read_activations([id])) as stream:
        return read_rows(stream, rows)


def _cut_ids(ids: Mapping[str, np.ndarray], rows: Rows) -> dict[str, np.ndarray]:
    return {name: rows.cut(array) for name, array in ids.items()}


def _parameters(again: Again, step: StepResult, divergence: Divergence) -> dict[str, np.ndarray]:
    """Return base's parameters and buffers that the layer holds itself or uses without a call of their own layer.

    Those that are too large are left out.
    """
    described = again.prepared.described.base
    layer = described.layer(divergence.base.route)
    prefix = f"{layer.route}." if layer.route else ""
    called = {one.base.route for one in step.forward}
    own = [layer, *(one for one in described.layers if _is_below(one.route, layer.route) and one.route not in called)]
    infos = [described.parameter(name) for one in own if one is layer or layer.route for name in one.parameters]
    names = [info.name for info in infos if Rows.of(info.spec).every == 1 and info.spec.dtype.is_floating]
    return {
        stream.name.removeprefix(prefix): read_rows(stream, Rows.of(stream.spec))
        for stream in again.sides.base.read_parameters(list(dict.fromkeys(names))[:_MOST_PARAMETERS])
    }
