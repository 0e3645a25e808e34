"""Align two models: match, assign, run steps on both sides, compare, and give the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.preconditions import check_dumps, check_settings, refuse_shared_memory, share_a_process
from padiff_rpc.align.progress import Progress
from padiff_rpc.align.run.fail_fast import StoppedAt
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.run.verify_probe import ProbeFinding, verify_probe
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.sides import Sides, Traffic
from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.stages.findings import StepFindings, StepOutcome
from padiff_rpc.align.stages.step import StepRunner
from padiff_rpc.align.verdict.assemble import assemble, blame_of, divergences_of, peak_bytes, store_of
from padiff_rpc.align.verdict.not_compared import not_compared
from padiff_rpc.align.verdict.notes import notes_on
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.attention import attention_routes
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.match.scope import Scope, as_asked, scope_of, without_unrecorded
from padiff_rpc.model.model import Inputs, LossSpec, Model, ModelDescription, RecordOptions
from padiff_rpc.per_side import SideName
from padiff_rpc.result import Result

T = TypeVar("T")
OnProgress = Callable[[Progress], None]


def align(
    base: Model,
    raw: Model,
    base_inputs: Inputs,
    raw_inputs: Inputs,
    settings: AlignSettings,
    progress: OnProgress | None = None,
) -> Result:
    """Align raw to base and return what was found; a numeric difference is a result, not an error.

    `progress` is told of boundaries in a thread of ours where the models are in other processes, of all else in the caller's.

    Raises PadiffError: BAD_CONFIG for settings that contradict each other, MODELS_DO_NOT_MATCH when weights cannot be
    assigned, and whatever the models raise.
    """
    check_settings(settings)
    if base is raw:
        raise PadiffError(
            "base and raw are the same model: there is nothing to compare",
            reason=Reason.BAD_CONFIG,
            hint="launch or connect to each side by itself",
        )
    begun = time.monotonic()
    tell = progress or _quiet
    traffic = Traffic()
    together = share_a_process(base, raw)
    threads = SideThreads(in_turn=together)
    try:
        if together:
            refuse_shared_memory(base, raw)
        threads.both(base.reset, raw.reset)
        described = threads.both(base.describe, raw.describe)
        check_dumps(base, raw, described, settings)
        matching = match_models(
            *described, settings.layer_map, settings.parameter_map, settings.base_selection, settings.raw_selection
        )
        matching = without_unrecorded(matching, *described)
        asked = settings
        selections = as_asked(asked.selections, asked.layers, asked.depth, *described, matching)
        settings = replace(asked, base_selection=selections.base, raw_selection=selections.raw)
        settings, unable = _without_gradients(*described, settings)
        scope = scope_of(*described, matching, selections)
        if not settings.held:
            scope = replace(scope, links=())
        attention = attention_routes(*described, scope.layers) - {""}
        sides = Sides(base, raw, settings.compare, settings.single_step, traffic, attention)
        probes = _verify_probes(sides, threads, scope, base_inputs, raw_inputs, settings)
        timed = _run_steps(sides, threads, described, matching, scope, base_inputs, raw_inputs, settings, tell)
        outcomes = timed.outcomes
        stopped = outcomes[-1].stopped
        if stopped is not None:
            threads.both(base.reset, raw.reset)  # of what the models had recorded beyond that, nobody will ask
    except (KeyboardInterrupt, SystemExit):
        threads.close(wait=False)  # a step may take minutes; closing the models ends it
        raise
    finally:
        threads.close()
    blame = blame_of(described, matching, scope)
    divergences = divergences_of(blame, [outcome.findings for outcome in outcomes], settings.single_step)
    if stopped is not None:
        divergences = divergences[:1]
    pairs = [*scope.skipped, *(pair for outcome in outcomes for pair in outcome.pairs)]
    notes = [*scope.notes, *unable, *matching.notes, *notes_on(*described, matching, settings, pairs)]
    for outcome in outcomes:
        notes.extend(note for note in outcome.notes if note not in notes)
    figures: dict[str, Any] = {
        "wall_s": round(time.monotonic() - begun, 3),
        "bytes_moved": traffic.bytes_moved,
        "coordinator_peak_bytes": peak_bytes(),
        "store": {"base": store_of(base), "raw": store_of(raw)},
        "transport": {"base": getattr(base, "transport", None), "raw": getattr(raw, "transport", None)},
        "assign_s": round(timed.assign_s, 4),
        "weights_before_s": round(timed.weights_before_s, 4),
        "step_s": [round(seconds, 4) for seconds in timed.step_s],
        "base_forward_s": [
            round(outcome.wall_s["base"]["forward"], 4) for outcome in outcomes if outcome.wall_s["base"]
        ],
        "raw_forward_s": [round(outcome.wall_s["raw"]["forward"], 4) for outcome in outcomes if outcome.wall_s["raw"]],
    }
    if stopped is None:
        lacking = not_compared(pairs, scope, settings, outcomes)
    else:
        lacking = [stopped.words(settings)]
        figures["stopped_at"] = asdict(stopped)
    for side, finding in probes.items():
        (notes if finding.proved else lacking).append(f"{side}: {finding.words()}")
        figures.setdefault("probe", {})[side] = asdict(finding)
    return assemble(sides, described, matching, asked, divergences, pairs, notes, lacking, figures)


def _verify_probes(
    sides: Sides, threads: SideThreads, scope: Scope, base_inputs: Inputs, raw_inputs: Inputs, settings: AlignSettings
) -> dict[SideName, ProbeFinding]:
    """Verify the recording of each side that runs, where that is asked for."""
    if not settings.verify_probe:
        return {}
    backward = settings.diff_phase != "forward"

    def verify(model: Model, inputs: Inputs, loss: LossSpec, routes: Iterable[str]) -> ProbeFinding | None:
        if model.info().recorded:
            return None
        options = RecordOptions(routes=tuple(routes), gradients=backward, api_calls=settings.api_calls)
        given = loss if backward else None
        return verify_probe(model, inputs, training=settings.training, seed=settings.seed, loss=given, options=options)

    base, raw = threads.both(
        lambda: verify(sides.base, base_inputs, settings.base_loss, (pair.base for pair in scope.layers)),
        lambda: verify(sides.raw, raw_inputs, settings.raw_loss, (pair.raw for pair in scope.layers)),
    )
    findings: dict[SideName, ProbeFinding | None] = {"base": base, "raw": raw}
    return {side: finding for side, finding in findings.items() if finding is not None}


@dataclass(frozen=True)
class _TimedSteps:
    """What the steps brought, and the seconds that went into them. assign_s: all assignments, 0 where there was none."""

    outcomes: list[StepOutcome]
    assign_s: float
    weights_before_s: float
    step_s: list[float]


def _run_steps(
    sides: Sides,
    threads: SideThreads,
    described: tuple[ModelDescription, ModelDescription],
    matching: Matching,
    scope: Scope,
    base_inputs: Inputs,
    raw_inputs: Inputs,
    settings: AlignSettings,
    tell: OnProgress,
) -> _TimedSteps:
    comparer = ParameterComparer(sides, threads, *described)
    assign_s = 0.0
    if settings.assign:
        tell(Progress(0, "assign", 0, len(matching.links), ""))
        assign_s += _seconds(lambda: assign_weights(sides.base, sides.raw, matching))[1]
    tell(Progress(0, "weights_before", 0, len(scope.links), ""))
    before, weights_before_s = _seconds(lambda: comparer.compare(0, "weights_before", scope.links, "value").pairs)
    if settings.fail_fast and any(pair.status == "fail" for pair in before):
        stopped = StoppedAt(0, "weights_before", midway=False)
        alone = StepOutcome(StepFindings(0, [], [], before, {}), (), {"base": {}, "raw": {}}, stopped=stopped)
        return _TimedSteps([alone], assign_s, weights_before_s, [])
    runner = StepRunner(sides, threads, comparer, described, scope, settings, tell)
    outcomes: list[StepOutcome] = []
    step_s: list[float] = []
    for step in range(settings.steps):
        if step and settings.single_step:
            assign_s += _seconds(lambda: assign_weights(sides.base, sides.raw, matching))[1]
        outcome, took_s = _seconds(partial(runner.run, step, base_inputs, raw_inputs))
        outcomes.append(outcome)
        step_s.append(took_s)
        if outcome.stopped is not None:
            break
    first = outcomes[0]
    outcomes[0] = replace(first, findings=replace(first.findings, others=[*before, *first.findings.others]))
    return _TimedSteps(outcomes, assign_s, weights_before_s, step_s)


def _seconds(work: Callable[[], T]) -> tuple[T, float]:
    """Return what the work returns, and how long it took."""
    begun = time.monotonic()
    done = work()
    return done, time.monotonic() - begun


def _without_gradients(
    base: ModelDescription, raw: ModelDescription, settings: AlignSettings
) -> tuple[AlignSettings, list[str]]:
    """Run the forward alone where neither model has a parameter that a gradient or an optimiser could reach, and say so."""
    holds = any(info.kind == "parameter" for model in (base, raw) for info in model.parameters)
    holds = holds or "tensors" in (base.unrecorded, raw.unrecorded)  # such a dump does not tell whether there were any
    if holds or not settings.held or settings.diff_phase != "both":
        return settings, []
    forward = replace(settings, diff_phase="forward", base_optimizer=None, raw_optimizer=None)
    return forward, ["neither model has parameters: only the forward was compared"]


def _quiet(progress: Progress) -> None:
    """Show nothing."""
