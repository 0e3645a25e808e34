"""Align two models: match, assign, run steps on both sides, compare, and give the verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.preconditions import check_settings, refuse_one_model, refuse_shared_memory, share_a_process
from padiff_rpc.align.prepare import Prepared, prepare
from padiff_rpc.align.progress import OnProgress, Progress, quiet
from padiff_rpc.align.run.fail_fast import StoppedAt
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.run.verify_probe import ProbeFinding, verify_probe
from padiff_rpc.align.run.watch_flow import watch_flow
from padiff_rpc.align.second_look.repeat_step import repeat_step
from padiff_rpc.align.second_look.take_second_look import take_second_look
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.stages.extra_tensors import ExtraTensors
from padiff_rpc.align.stages.findings import StepResult, StepsRun
from padiff_rpc.align.stages.own_buffers import OwnBuffers, compare_own_buffers
from padiff_rpc.align.stages.step import StepRunner
from padiff_rpc.align.trying.decide import Decision
from padiff_rpc.align.trying.tell_decisions import notes_on_choices, told
from padiff_rpc.align.trying.try_choices import try_choices
from padiff_rpc.align.verdict.assemble import assemble, blame_of, divergences_of, peak_bytes, store_of, transport_of
from padiff_rpc.align.verdict.explain_first import explain_first
from padiff_rpc.align.verdict.guesses import notes_on_guesses, open_guesses
from padiff_rpc.align.verdict.healing import set_aside_what_heals
from padiff_rpc.align.verdict.judge_first import judge_first
from padiff_rpc.align.verdict.not_compared import not_compared
from padiff_rpc.align.verdict.notes import notes_on
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.follow_flow import Passage
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.scope import parameter_holders
from padiff_rpc.model.model import Inputs, LossSpec, Model, ModelDescription, RecordOptions
from padiff_rpc.model.place_inputs import place_inputs
from padiff_rpc.per_side import OTHER_SIDE, PerSide, SideName
from padiff_rpc.result import Result

T = TypeVar("T")
Probes = dict[SideName, ProbeFinding]
OnAssigned = Callable[[Matching], None]
"""Is told the map by which base's weights have been put into raw."""


def align(
    base: Model,
    raw: Model,
    base_inputs: Inputs,
    raw_inputs: Inputs,
    settings: AlignSettings,
    progress: OnProgress | None = None,
    assigned: OnAssigned | None = None,
) -> Result:
    """Align raw to base and return the result; a numeric difference is a result, not an error.

    Args:
        base: is the model that serves as the reference.
        raw: is the model under test.
        base_inputs: are the arguments of base's forward, by name, or else by position (see place_inputs()); a note says so.
        raw_inputs: are the arguments of raw's forward, likewise.
        settings: say what is run and compared, and how.
        progress: is told how far the alignment has come. Of layer boundaries it is told in a thread of ours where the models
            are in other processes, and of all else in the caller's thread.
        assigned: is called once, when raw has base's weights and neither model has run with them, with the map that put them so.

    Raises:
        PadiffError: BAD_CONFIG for settings that contradict each other, MODELS_DO_NOT_MATCH when weights cannot be assigned, and
            whatever the models raise.
    """
    check_settings(settings)
    begun = time.monotonic()
    models, inputs = PerSide(base, raw), PerSide(base_inputs, raw_inputs)
    refuse_one_model(models)
    together = share_a_process(models)
    threads = SideThreads(in_turn=together)
    try:
        if together:
            refuse_shared_memory(models)
        threads.both(base.reset, raw.reset)
        described = threads.both(base.describe, raw.describe)
        inputs, placed = _placed_inputs(models, described, inputs)
        prepared = prepare(models, described, settings, partial(_watch_flows, models, threads, inputs, settings))
        probes = _verify_probes(prepared, threads, inputs)
        own = _own_buffers(prepared, threads)  # before anything is assigned
        prepared, decisions = try_choices(prepared, threads, inputs)
        run = _run_steps(prepared, threads, inputs, own, progress or quiet, assigned)
        second = take_second_look(prepared, threads, inputs, run)
        repeated = repeat_step(prepared, threads, inputs, run.steps[0]) if settings.repeat > 1 else None
        if run.stopped is not None:
            threads.both(base.reset, raw.reset)  # of what the models had recorded beyond that, nobody will ask
    except (KeyboardInterrupt, SystemExit):
        threads.close(wait=False)  # a step may take minutes; closing the models ends it
        raise
    finally:
        threads.close()
    result = _conclude(prepared, run, probes, decisions, begun)
    result.notes = [*placed, *result.notes, *second.notes]
    result.introduced = second.introduced
    if repeated is not None:
        result.notes += [one.words(side) for side, one in repeated.items()]
        result.figures["repeat"] = {side: one.figures() for side, one in repeated.items()}
    judge_first(result, prepared, inputs)
    explain_first(result, prepared, run.steps, inputs)
    return result


def _placed_inputs(
    models: PerSide[Model], described: PerSide[ModelDescription], inputs: PerSide[Inputs]
) -> tuple[PerSide[Inputs], list[str]]:
    """Return the inputs by the names of each side's forward, and notes on those that went by position. A dump takes none."""
    notes: list[str] = []
    signatures = described.map(lambda description: description.forward)

    def of(side: SideName) -> Inputs:
        if models.of(side).info().recorded:
            return inputs.of(side)
        given, note = place_inputs(side, inputs.of(side), signatures.of(side), signatures.of(OTHER_SIDE[side]))
        notes.extend([] if note is None else [note])
        return given

    return PerSide(of("base"), of("raw")), notes


def _watch_flows(
    models: PerSide[Model], threads: SideThreads, inputs: PerSide[Inputs], settings: AlignSettings
) -> PerSide[list[Passage]]:
    """Run a forward of both sides that is only watched; nothing is known of the flow where one raises.

    The run that follows raises the same, and tells what agreed until then.
    """
    try:
        return threads.both(
            lambda: watch_flow(models.base, inputs.base, settings.training, settings.seed),
            lambda: watch_flow(models.raw, inputs.raw, settings.training, settings.seed),
        )
    except PadiffError as err:
        if err.reason is not Reason.MODEL_FAILED:
            raise
        return PerSide([], [])


def _verify_probes(prepared: Prepared, threads: SideThreads, inputs: PerSide[Inputs]) -> Probes:
    """Verify the recording of each side that runs, where that is asked for."""
    settings, sides, layers = prepared.settings, prepared.sides, prepared.scope.layers
    if not settings.verify_probe:
        return {}
    backward = settings.diff_phase != "forward"

    def verify(model: Model, inputs: Inputs, loss: LossSpec, routes: Iterable[str]) -> ProbeFinding | None:
        if model.info().recorded:
            return None
        options = RecordOptions(routes=tuple(routes), gradients=backward, api_calls=settings.api_calls)
        given = loss if backward else None
        return verify_probe(model, inputs, training=settings.training, seed=settings.seed, loss=given, options=options)

    found = threads.both(
        lambda: verify(sides.base, inputs.base, settings.base_loss, (pair.base for pair in layers)),
        lambda: verify(sides.raw, inputs.raw, settings.raw_loss, (pair.raw for pair in layers)),
    )
    return {side: finding for side, finding in found.items() if finding is not None}


def _own_buffers(prepared: Prepared, threads: SideThreads) -> OwnBuffers:
    """Compare the buffers that raw has computed itself, where an assignment is to overwrite them."""
    if not prepared.settings.assign:
        return OwnBuffers()
    comparer = ParameterComparer(prepared.sides, threads, prepared.described)
    return compare_own_buffers(comparer, prepared.described, prepared.scope.links)


def _run_steps(
    prepared: Prepared,
    threads: SideThreads,
    inputs: PerSide[Inputs],
    own: OwnBuffers,
    tell: OnProgress,
    assigned: OnAssigned | None,
) -> StepsRun:
    """Assign, compare what was assigned, and run and compare step by step."""
    sides, settings, links = prepared.sides, prepared.settings, prepared.scope.links
    comparer = ParameterComparer(sides, threads, prepared.described)
    extras = ExtraTensors(prepared)
    assign_s = 0.0
    assign = partial(assign_weights, sides.base, sides.raw, prepared.matching)
    if settings.assign:
        tell(Progress(0, "assign", 0, len(prepared.matching.links), ""))
        assign_s += _seconds(assign)[1]
        if assigned is not None:
            assigned(prepared.matching)
    tell(Progress(0, "weights_before", 0, len(links), ""))
    before, weights_before_s = _seconds(lambda: comparer.compare(0, "weights_before", links, "value").pairs)
    if settings.fail_fast and any(pair.status == "fail" for pair in before):
        stopped = StoppedAt(0, "weights_before", midway=False)
        return StepsRun(
            [StepResult(0, others=before, stopped=stopped)], own, extras.settle(), assign_s, weights_before_s, []
        )
    extras.before_steps()
    runner = StepRunner(prepared, threads, comparer, extras, tell)
    steps: list[StepResult] = []
    step_s: list[float] = []
    for step in range(settings.steps):
        if step and settings.single_step:
            assign_s += _seconds(assign)[1]
        result, took_s = _seconds(partial(runner.run, step, inputs))
        steps.append(result)
        step_s.append(took_s)
        if result.stopped is not None:
            break
    steps[0].others = [*before, *steps[0].others]
    return StepsRun(steps, own, extras.settle(), assign_s, weights_before_s, step_s)


def _seconds(work: Callable[[], T]) -> tuple[T, float]:
    """Return what the work returns, and how long it took."""
    begun = time.monotonic()
    done = work()
    return done, time.monotonic() - begun


def _conclude(prepared: Prepared, run: StepsRun, probes: Probes, decisions: Sequence[Decision], begun: float) -> Result:
    """Name the layers at fault, and what was not compared, and put the result together."""
    settings, scope, stopped = prepared.settings, prepared.scope, run.stopped
    lacking = (
        [stopped.words(settings)] if stopped else not_compared([*scope.skipped, *run.pairs], scope, settings, run.steps)
    )
    aside: list[str] = []
    if not prepared.sides.only_replays:  # two dumps are compared strictly
        whole = settings.held and scope.is_everything and not prepared.matching.misfits and not run.extras.take_part
        aside = set_aside_what_heals(run.steps, settings, whole and not lacking, _holders(prepared))
    blame = blame_of(prepared)
    divergences = divergences_of(blame, run.steps, settings.single_step)
    # Raw ran with base's values of these, so that all other differences come from elsewhere, and come first.
    divergences += [blame.own_buffer(pair) for pair in run.own.failed]
    if stopped is not None:
        divergences = divergences[:1]
    pairs = [*scope.skipped, *run.own.failed, *run.pairs]
    guessed = prepared.matching.guessed_routes
    still = open_guesses(guessed, pairs)
    notes = [
        *notes_on_choices(decisions, still),
        *notes_on_guesses(prepared, guessed, still),
        *scope.notes,
        *prepared.notes,
        *prepared.matching.notes,
        *notes_on(prepared, pairs, run.steps),
        *aside,
        *run.extras.notes,
        *run.own.notes,
    ]
    for result in run.steps:
        notes.extend(note for note in result.notes if note not in notes)
    figures = _figures(prepared, run, begun)
    if (options := run.steps[0].options) is not None and any(options.groups):
        figures["optimizers"] = options.figures()
    if stopped is not None:
        figures["stopped_at"] = asdict(stopped)
    if decisions:
        figures["tried"] = [told(decision) for decision in decisions]
    for side, finding in probes.items():
        (notes if finding.proved else lacking).append(f"{side}: {finding.words()}")
        figures.setdefault("probe", {})[side] = asdict(finding)
    return assemble(prepared, divergences, pairs, run.extras.extras, notes, lacking, figures)


def _holders(prepared: Prepared) -> set[str]:
    """Return base's routes of the layers that hold parameters, or whose partner holds one that base's layer lacks."""
    to_base = {pair.raw: pair.base for pair in prepared.matching.layers}
    extra = {each.name.rpartition(".")[0] for each in prepared.extras if each.side == "raw"}
    return parameter_holders(prepared.described.base) | {to_base[route] for route in extra if route in to_base}


def _figures(prepared: Prepared, run: StepsRun, begun: float) -> dict[str, Any]:
    """Return times, in seconds, and sizes; `begun` is when the alignment began, by time.monotonic()."""
    models = prepared.sides.models
    return {
        "wall_s": round(time.monotonic() - begun, 3),
        "bytes_moved": prepared.sides.traffic.bytes_moved,
        "coordinator_peak_bytes": peak_bytes(),
        "store": dict(models.map(store_of).items()),
        "transport": dict(models.map(transport_of).items()),
        "assign_s": round(run.assign_s, 4),
        "weights_before_s": round(run.weights_before_s, 4),
        "step_s": [round(seconds, 4) for seconds in run.step_s],
        "base_forward_s": _forward_s(run, "base"),
        "raw_forward_s": _forward_s(run, "raw"),
        "steps": [_step_figures(result) for result in run.steps],
    }


def _step_figures(result: StepResult) -> dict[str, Any]:
    """Return how far apart a step and all before it have left the sides; NaN and Inf as text."""

    def plain(number: float | None) -> float | str | None:
        return number if number is None or math.isfinite(number) else str(number)

    def both(sides: PerSide[float] | None) -> dict[str, Any] | None:
        return None if sides is None else {side: plain(number) for side, number in sides.items()}

    return {
        "step": result.step,
        "loss": both(result.losses),
        "gradient_norm": both(result.gradient_norms),
        "weights_apart": plain(result.weights_apart),
    }


def _forward_s(run: StepsRun, side: SideName) -> list[float]:
    """Return the time of the forward in each step that came through it."""
    return [round(wall_s["forward"], 4) for wall_s in (result.wall_s.of(side) for result in run.steps) if wall_s]
