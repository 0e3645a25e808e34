"""Compare the parameters, buffers and parameter gradients of two dumped models, without running these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from padiff_rpc.align.prepare import Prepared, prepare_dumps
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.running_variance import judge_variances
from padiff_rpc.align.trying.tell_decisions import notes_on_choices, told
from padiff_rpc.align.trying.try_choices import settle_by_values
from padiff_rpc.align.verdict.assemble import assemble, blame_of
from padiff_rpc.model.model import Model, What
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Result

Seen = Callable[[], Mapping[str, int]]
"""Returns the fewest values per channel that each of base's layers saw in a call, by route."""


def compare_held(base: Model, raw: Model, settings: AlignSettings, whats: Sequence[What], seen: Seen = dict) -> Result:
    """Compare values, gradients or both of the corresponding parameters of two dumps, and with the values those of the buffers.

    Gradients that neither side has are noted, and are no failure where values are compared as well.

    Args:
        base: is the dump that serves as the reference.
        raw: is the dump under test.
        settings: give the rules of comparison, the maps and the selections; all else in them is ignored.
        whats: say whether to compare values, gradients, or both.
        seen: is asked where running variances differ.

    Raises:
        PadiffError: as align() does.
    """
    threads = SideThreads(in_turn=True)
    prepared, decisions = settle_by_values(prepare_dumps(PerSide(base, raw), settings), threads)
    scope = prepared.scope
    comparer = ParameterComparer(prepared.sides, threads, prepared.described)
    found = [pair for what in whats for pair in _compare(comparer, prepared, what, seen)]
    divergences = blame_of(prepared).divergences(StepResult(0, others=found), single_step=False)
    skipped = [pair for pair in scope.skipped if pair.stage == "weights_before"]
    notes = [*notes_on_choices(decisions, prepared.matching.guessed_routes), *scope.notes, *prepared.matching.notes]
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
    figures: dict[str, Any] = {"bytes_moved": prepared.sides.traffic.bytes_moved}
    if decisions:
        figures["tried"] = [told(decision) for decision in decisions]
    return assemble(prepared, divergences, [*skipped, *found], prepared.extras, notes, lacking, figures)


def _compare(comparer: ParameterComparer, prepared: Prepared, what: What, seen: Seen) -> list[Pair]:
    links = prepared.scope.links
    parameters = [link for link in links if link.kind == "parameter"]
    if what == "gradient":
        return comparer.compare(0, "grads", parameters, what).pairs
    buffers = [link for link in links if link.kind == "buffer"]
    weights = comparer.compare(0, "weights", parameters, what).pairs
    states = comparer.compare(0, "buffers", buffers, what).pairs
    if any(pair.failure == "values" for pair in states):
        states = judge_variances(states, buffers, comparer, prepared.described, seen())
    return [*weights, *states]


def _is_of(pair: Pair, what: What) -> bool:
    return (pair.stage == "grads") == (what == "gradient")
