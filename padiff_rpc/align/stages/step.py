"""Run one step on both sides (forward, backward, optimiser) and compare everything that it touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from padiff_rpc.align.assign.assign_weights import write_gradients
from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.progress import OnProgress, Progress
from padiff_rpc.align.run.fail_fast import PhaseStopped, StoppedAt, backward_stop, forward_stop
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.pairing import Pairing
from padiff_rpc.align.run.phase import PhaseRun, run_phase
from padiff_rpc.align.run.share_draws import DrawSharing
from padiff_rpc.align.run.threads import SideThreads, T
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.compare_parameters import Compared, NoiseScale, ParameterComparer, no_noise
from padiff_rpc.align.stages.extra_tensors import ExtraTensors
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.gradient_noise import GradientNoise
from padiff_rpc.align.stages.judge_api_calls import settle_calls, split_calls
from padiff_rpc.align.stages.loss import judge_loss, weak_loss_notes
from padiff_rpc.align.stages.one_sided import OneSided
from padiff_rpc.align.stages.one_sided_elements import judge_one_sided
from padiff_rpc.align.stages.optimizer_movement import Movement
from padiff_rpc.align.stages.optimizer_options import read_options
from padiff_rpc.align.stages.optimizer_states import StateComparer
from padiff_rpc.align.stages.own_gradients import OwnGradients
from padiff_rpc.align.stages.running_variance import RunningVariances
from padiff_rpc.align.stages.summed_gradients import settle_sums
from padiff_rpc.align.stages.updates import UpdateJudge
from padiff_rpc.compare.judge import statistics_for
from padiff_rpc.errors import PadiffError
from padiff_rpc.match.pair_records import pair_records
from padiff_rpc.match.random_layers import shareable_draws
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_LOSSES, NEUTRAL_OPTIMIZERS
from padiff_rpc.model.model import (
    BackwardResult,
    Flooring,
    ForwardRequest,
    ForwardResult,
    Inputs,
    LossSpec,
    Observer,
    Phase,
    RecordOptions,
    TakingGradients,
)
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import Pair, Stage


class StepRunner:
    """Runs steps, one after the other, on one pair of models."""

    def __init__(
        self,
        prepared: Prepared,
        threads: SideThreads,
        comparer: ParameterComparer,
        extras: ExtraTensors,
        tell: OnProgress,
    ) -> None:
        sides, scope = prepared.sides, prepared.scope
        self._sides = sides
        self._threads = threads
        self._comparer = comparer
        self._settings = prepared.settings
        self._tell = tell
        self._described = prepared.described
        self._to_base = {pair.raw: pair.base for pair in scope.layers}
        self._leftovers = OneSided(self._to_base)
        self._every_parameter = [link for link in prepared.matching.links if link.kind == "parameter"]
        self._parameters = [link for link in scope.links if link.kind == "parameter"]
        self._buffers = [link for link in scope.links if link.kind == "buffer"]
        optimizer = self._settings.base_optimizer
        self._movement = Movement(sides, self._parameters)
        self._updates = None if optimizer is None else UpdateJudge(sides, comparer, optimizer)
        self._states = StateComparer(
            comparer, all(one is None or one.name in NEUTRAL_OPTIMIZERS for one in self._settings.optimizers)
        )
        self._lone = prepared.lone
        shares = self._settings.sync_random and not sides.replays
        training = self._settings.training
        self._shareable = shareable_draws(prepared.described, prepared.matching.layers, training) if shares else []
        self._extras = extras
        self._variances = RunningVariances(sides.models, prepared.described, comparer, self._buffers)

    def run(self, step: int, inputs: PerSide[Inputs]) -> StepResult:
        """Run one step and compare it; raises what the models raise.

        With fail_fast a failing stage is the last one. A stage in which the models are idle is still compared to its end.
        """
        found = StepResult(step)
        try:
            for stage in self._stages(found, inputs):
                if self._settings.fail_fast and found.fails:
                    found.stopped = StoppedAt(step, stage, midway=False)
                    break
        except PhaseStopped as stop:
            self._take_stopped(found, stop)
            found.stopped = StoppedAt(step, stop.phase, midway=True, raised=stop.raised)
        return found

    def _stages(self, found: StepResult, inputs: PerSide[Inputs]) -> Iterator[Stage]:
        """Run and compare stage by stage; after each stage its findings are in `found`."""
        settings, step = self._settings, found.step
        found.draws = DrawSharing(self._sides, self._shareable) if self._shareable else None
        pairing = Pairing(self._to_base, self._sides.replays, self._lone, found.draws)
        self._variances.remember()
        forward = self._forward(found, pairing, inputs)
        _take_wall_s(found, "forward", forward)
        forward = self._take_forward(found, forward)
        yield "forward"
        if settings.diff_phase != "forward":
            backward = self._backward(step, pairing, forward.judged)
            del pairing  # its tables have grown with the number of boundaries, and none is left in them
            _take_wall_s(found, "backward", backward)
            self._take_backward(found, forward, backward)
            self._extras.after_backward()
            yield "backward"
            noise = self._noise(forward.judged, found.backward)
            grads = self._own_gradients(forward.judged, found.backward, self._grads(found, noise), noise)
            found.others += grads
            yield "grads"
            self._optimise(found, grads, noise)
            yield "weights"
        found.others += self._variances.judge(self._held(step, "buffers").pairs, forward.judged)
        yield "buffers"

    def _take_forward(self, found: StepResult, forward: PhaseRun[T]) -> PhaseRun[T]:
        """Take a forward in, and return it without functional calls."""
        forward, api_calls = split_calls(forward)
        found.calls = settle_calls(found.step, api_calls, forward.judged, self._to_base)
        found.others, found.one_sided = self._leftovers.calls(found.step, forward.judged, forward.leftovers)
        found.others += found.calls.alone
        self._extras.after_forward(forward.judged, forward.returned)
        only_syncs = self._settings.diff_phase == "backward"
        found.forward = [_unjudged(one) for one in forward.judged] if only_syncs else forward.judged
        return forward

    def _take_backward(
        self, found: StepResult, forward: PhaseRun[ForwardResult], backward: PhaseRun[BackwardResult]
    ) -> None:
        found.others.append(judge_loss(self._sides, found.step, self._settings, forward.results, backward.results))
        found.losses = backward.results.map(lambda result: result.loss)
        found.backward = settle_sums(forward, backward)
        found.missing = self._leftovers.gradients(
            found.step, forward.judged, found.backward, backward.leftovers, backward.results
        )
        found.others += [one.pair for one in found.missing]
        came = {(one.base.route, one.base.call) for one in found.backward} | {one.call for one in found.missing}
        found.others += self._leftovers.recomputed(found.step, forward.judged, came, backward.results)

    def _take_stopped(self, found: StepResult, stop: PhaseStopped) -> None:
        if stop.phase == "forward":
            self._take_forward(found, PhaseRun(PerSide(None, None), stop.judged, stop.leftovers))
        else:
            found.backward = stop.judged

    def _forward(self, found: StepResult, pairing: Pairing, inputs: PerSide[Inputs]) -> PhaseRun[ForwardResult]:
        settings, step, draws = self._settings, found.step, pairing.draws
        gradients = settings.diff_phase != "forward"
        # Models whose own forward asks for autograd (a hook on a tensor) run in single step as they do in training.
        autograd = gradients or settings.single_step
        api_calls = settings.api_calls and settings.diff_phase != "backward"

        drawing = PerSide[tuple[str, ...]]((), ()) if draws is None else draws.routes

        def request(inputs: Inputs, side: SideName, routes: tuple[str, ...]) -> ForwardRequest:
            return ForwardRequest(
                inputs=inputs,
                training=settings.training,
                seed=None if settings.seed is None else settings.seed + step,
                gradients=autograd,
                record=RecordOptions(
                    routes=routes,
                    gradients=gradients,
                    sync=side == "raw" and settings.single_step,
                    api_calls=api_calls,
                    statistics=statistics_for(settings.compare),
                    draws=drawing.of(side),
                    share_draws=side == "raw" and draws is not None,
                ),
            )

        base_request = request(inputs.base, "base", (*self._to_base.values(), *self._lone.base))
        raw_request = request(inputs.raw, "raw", (*self._to_base, *self._lone.raw))
        found.notes += self._measure_floor(base_request)
        return run_phase(
            self._sides,
            self._threads,
            pairing,
            "forward",
            step,
            PerSide(
                lambda observer: self._sides.base.forward(base_request, observer),
                lambda observer: self._sides.raw.forward(raw_request, observer),
            ),
            on_judged=self._count("forward", step, 0 if api_calls else 2 * len(self._to_base)),
            stop=forward_stop(settings),
        )

    def _measure_floor(self, request: ForwardRequest) -> list[str]:
        """Have base measure the floor of the step to come, where that is asked for and it runs; note where it cannot.

        What it raises, the step raises as well, unless it has to do with the floor alone.
        """
        settings, base = self._settings, self._sides.base
        self._sides.random.clear()
        if not settings.measures_floor or not isinstance(base, Flooring):
            return []
        loss = settings.base_loss if settings.diff_phase != "forward" else None
        try:
            self._threads.submit("base", lambda: base.measure_floor(request, loss)).result()
        except PadiffError as err:
            return [f"no floor could be measured: {err.message}"]
        return []

    def _backward(self, step: int, pairing: Pairing, forward: list[Judged]) -> PhaseRun[BackwardResult]:
        losses = losses_over_shared_outputs(self._settings, forward)

        def base(observer: Observer) -> BackwardResult:
            return self._sides.base.backward(losses.base, observer)

        def raw(observer: Observer) -> BackwardResult:
            return self._sides.raw.backward(losses.raw, observer)

        stop = backward_stop(self._settings, self._sides.models, forward)
        jobs, on_judged = PerSide(base, raw), self._count("backward", step, 0)
        return run_phase(self._sides, self._threads, pairing, "backward", step, jobs, on_judged, stop)

    def _noise(self, forward: Sequence[Judged], backward: Sequence[Judged]) -> NoiseScale:
        """Return the bound of the gradients' rounding noise, where the mode uses one."""
        return GradientNoise(forward, backward) if self._settings.compare.mode == "scaled" else no_noise

    def _own_gradients(
        self, forward: Sequence[Judged], backward: Sequence[Judged], grads: list[Pair], noise: NoiseScale
    ) -> list[Pair]:
        """Hold gradients that pass by the table against what their layers got, where the wide tolerance of a whole run holds."""
        compare = self._settings.compare
        if compare.mode != "scaled" or compare.rtol is not None or self._settings.single_step:
            return grads
        linked = [link for link in self._parameters for _ in link.raw]
        own = OwnGradients(self._described, forward, backward)
        grads = own.judge(grads, [self._comparer.noise_of(link, noise) for link in linked])
        return judge_one_sided(self._comparer, grads, self._parameters, noise)

    def _grads(self, found: StepResult, noise: NoiseScale) -> list[Pair]:
        """Compare the parameters' gradients; no more than the pairs is kept of them."""
        grads = self._held(found.step, "grads", noise)
        found.gradient_norms = grads.norms
        found.notes += weak_loss_notes(grads.peaks.values(), grads.pairs, self._settings)
        # A gradient that only one side has fails by itself.
        found.graded = grads.nonzero or bool(found.missing) or any(not one.is_zero for one in found.backward)
        return grads.pairs

    def _optimise(self, found: StepResult, grads: list[Pair], noise: NoiseScale) -> None:
        """Step the optimisers, where there are any, and compare the parameters after it, and what the optimisers keep."""
        base_optimizer, raw_optimizer = self._settings.optimizers
        if base_optimizer is None or raw_optimizer is None or self._updates is None:
            return
        step = found.step
        options = found.options = read_options(self._sides, PerSide(base_optimizer, raw_optimizer))
        shared = self._share_gradients()
        self._updates.before_step(self._parameters)
        self._movement.before_step()
        self._threads.both(
            lambda: self._sides.base.optimizer_step(base_optimizer),
            lambda: self._sides.raw.optimizer_step(raw_optimizer),
        )
        goes_on = step + 1 < self._settings.steps
        found.moved = self._movement.after_step()
        weights = self._held(step, "weights")
        if weights.norms is not None and weights.norms.base:
            found.weights_apart = weights.apart / weights.norms.base
        updated = self._updates.judge(step, weights.pairs, grads, self._parameters, noise, goes_on, shared)
        found.others += updated.pairs
        found.left_out = updated.left_out
        found.others += self._states.compare(step, self._parameters, shared, options)

    def _share_gradients(self) -> frozenset[str]:
        """Give raw's optimiser base's gradients, so that it is judged by itself; return the names of those that it took.

        What the two sides' own gradients differ by has been told at stage `grads`. Parameters that are not compared get base's
        as well, since an optimiser may scale all gradients by their common norm.
        """
        raw, described = self._sides.raw, self._described
        if self._settings.compare.mode != "scaled" or described.base.unrecorded == "tensors":
            return frozenset()
        if not isinstance(raw, TakingGradients):
            return frozenset()
        return write_gradients(self._sides.base, raw, described, self._every_parameter)

    def _held(self, step: int, stage: Stage, noise: NoiseScale = no_noise) -> Compared:
        links = self._buffers if stage == "buffers" else self._parameters
        self._tell(Progress(step, stage, 0, len(links), ""))
        return self._comparer.compare(step, stage, links, "gradient" if stage == "grads" else "value", noise)

    def _count(self, stage: Stage, step: int, total: int) -> Callable[[Judged], None]:
        done = 0

        def on_judged(one: Judged) -> None:
            nonlocal done
            done += 1
            self._tell(Progress(step, stage, done, total, one.base.route))

        return on_judged


def losses_over_shared_outputs(settings: AlignSettings, forward: Sequence[Judged]) -> PerSide[LossSpec]:
    """Let neutral losses take the outputs that both models return, in one order.

    Else an output that only one side returns, or another order of a dict, would change the gradient of every output.
    """
    names = [
        (mine.name, other.name)
        for one in forward
        if one.base.route == "" and one.base.side == "output" and one.whole is not None
        for mine, other in pair_records(*one.whole)
        if mine is not None and other is not None
    ]
    losses = settings.losses
    if not names or any(loss.name not in NEUTRAL_LOSSES for loss in losses):
        return losses
    base_names, raw_names = zip(*names, strict=True)
    return PerSide(replace(losses.base, outputs=base_names), replace(losses.raw, outputs=raw_names))


def _take_wall_s(found: StepResult, phase: Phase, run: PhaseRun[ForwardResult] | PhaseRun[BackwardResult]) -> None:
    for side, result in run.results.items():
        found.wall_s.of(side)[phase] = result.wall_s


def _unjudged(one: Judged) -> Judged:
    """Keep a forward boundary that only served to sync the sides, without its verdict."""
    return one.skipped("not asked for: diff_phase is 'backward'")
