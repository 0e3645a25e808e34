"""Compare what two dumped models hold, without running them: parameters, buffers, parameter gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.sides import Sides, Traffic
from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.stages.findings import StepFindings
from padiff_rpc.align.stages.running_variance import judge_variances
from padiff_rpc.align.verdict.assemble import assemble, blame_of
from padiff_rpc.match.match import match_models
from padiff_rpc.match.scope import Scope, scope_of, without_unrecorded
from padiff_rpc.model.model import Model, ModelDescription, What
from padiff_rpc.result import Pair, Result

Seen = Callable[[], Mapping[str, int]]
"""Tells the fewest values per channel that base's layers saw in a call, by route."""


def compare_held(base: Model, raw: Model, settings: AlignSettings, whats: Sequence[What], seen: Seen = dict) -> Result:
    """Compare values, gradients or both of all parameters that two dumps hold and that correspond, and with values the buffers.

    Of the settings count: compare, the maps and the selections. seen: asked where running variances differ. Where values
    are compared, gradients that neither side has are no failure, and noted. Raises PadiffError as align does.
    """
    traffic = Traffic()
    sides = Sides(base, raw, settings.compare, False, traffic)
    described = base.describe(), raw.describe()
    matching = match_models(
        *described, settings.layer_map, settings.parameter_map, settings.base_selection, settings.raw_selection
    )
    matching = without_unrecorded(matching, *described)
    scope = scope_of(*described, matching, settings.selections, dumped=True)
    comparer = ParameterComparer(sides, SideThreads(in_turn=True), *described)
    found = [pair for what in whats for pair in _compare(comparer, described, scope, what, seen)]
    findings = StepFindings(0, [], [], found, {})
    divergences = blame_of(described, matching, scope).divergences(findings, False)
    skipped = [pair for pair in scope.skipped if pair.stage == "weights_before"]
    notes = [*scope.notes, *matching.notes]
    lacking: list[str] = []
    for what in whats if scope.links else ():
        if any(pair.status != "skipped" and _is_of(pair, what) for pair in found):
            continue
        if what == "gradient" and "value" in whats:
            notes.append("no gradient was compared, for there is none in common: no backward was run")
        else:
            kind = "gradient" if what == "gradient" else "parameter or buffer"
            lacking.append(f"no {kind} was compared, so this is no pass")
    if not scope.links:
        lacking.append("there is no parameter to compare, so this is no pass")
    figures = {"bytes_moved": traffic.bytes_moved}
    return assemble(sides, described, matching, settings, divergences, [*skipped, *found], notes, lacking, figures)


def _compare(
    comparer: ParameterComparer,
    described: tuple[ModelDescription, ModelDescription],
    scope: Scope,
    what: What,
    seen: Seen,
) -> list[Pair]:
    parameters = [link for link in scope.links if link.kind == "parameter"]
    if what == "gradient":
        return comparer.compare(0, "grads", parameters, what).pairs
    buffers = [link for link in scope.links if link.kind == "buffer"]
    weights = comparer.compare(0, "weights", parameters, what).pairs
    states = comparer.compare(0, "buffers", buffers, what).pairs
    if any(pair.failure == "values" for pair in states):
        states = judge_variances(states, buffers, comparer, *described, seen())
    return [*weights, *states]


def _is_of(pair: Pair, what: What) -> bool:
    return (pair.stage == "grads") == (what == "gradient")
