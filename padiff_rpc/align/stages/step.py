"""Run one step on both sides (forward, backward, optimiser) and compare everything that it touches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from padiff_rpc.align.progress import Progress
from padiff_rpc.align.run.fail_fast import PhaseStopped, StoppedAt, backward_stop, forward_stop
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.pairing import Pairing, pair_records
from padiff_rpc.align.run.phase import PhaseRun, run_phase
from padiff_rpc.align.run.threads import SideThreads, T
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.sides import Sides
from padiff_rpc.align.stages.compare_parameters import Compared, NoiseScale, ParameterComparer, no_noise
from padiff_rpc.align.stages.findings import StepOutcome, StepSoFar
from padiff_rpc.align.stages.gradient_noise import GradientNoise
from padiff_rpc.align.stages.judge_api_calls import settle_calls, split_calls
from padiff_rpc.align.stages.loss import judge_loss, weak_loss_notes
from padiff_rpc.align.stages.one_sided import Leftovers
from padiff_rpc.align.stages.optimizer_movement import Moved, Movement
from padiff_rpc.align.stages.running_variance import RunningVariances
from padiff_rpc.align.stages.summed_gradients import settle_sums
from padiff_rpc.align.stages.updates import UpdateJudge
from padiff_rpc.compare.judge import statistics_for
from padiff_rpc.match.scope import Scope
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_LOSSES
from padiff_rpc.model.model import (
    BackwardResult,
    ForwardRequest,
    ForwardResult,
    Inputs,
    LossSpec,
    ModelDescription,
    Observer,
    RecordOptions,
    SilentTensor,
    Unrecorded,
)
from padiff_rpc.per_side import SideName
from padiff_rpc.result import Pair, Stage


class StepRunner:
    """Runs steps, one after the other, on one pair of models."""

    def __init__(
        self,
        sides: Sides,
        threads: SideThreads,
        comparer: ParameterComparer,
        described: tuple[ModelDescription, ModelDescription],
        scope: Scope,
        settings: AlignSettings,
        tell: Callable[[Progress], None],
    ) -> None:
        self._sides = sides
        self._threads = threads
        self._comparer = comparer
        self._settings = settings
        self._tell = tell
        self._to_base = {pair.raw: pair.base for pair in scope.layers}
        self._leftovers = Leftovers(self._to_base)
        optimizer = settings.base_optimizer
        self._movement = Movement(sides, [link for link in scope.links if link.kind == "parameter"])
        self._updates = None if optimizer is None else UpdateJudge(sides, comparer, optimizer)
        self._parameters = [link for link in scope.links if link.kind == "parameter"]
        self._buffers = [link for link in scope.links if link.kind == "buffer"]
        self._variances = RunningVariances(sides.base, sides.raw, comparer, self._buffers, *described)

    def run(self, step: int, base_inputs: Inputs, raw_inputs: Inputs) -> StepOutcome:
        """Run one step and compare; raises what the models raise.

        With fail_fast a stage that fails is the last one. It is run to its end where the models are idle in it.
        """
        found, stopped = StepSoFar(step), None
        try:
            for stage in self._stages(found, base_inputs, raw_inputs):
                if self._settings.fail_fast and found.fails:
                    stopped = StoppedAt(step, stage, midway=False)
                    break
        except PhaseStopped as stop:
            self._take_stopped(found, stop)
            stopped = StoppedAt(step, stop.phase, midway=True)
        return found.outcome(stopped)

    def _stages(self, found: StepSoFar, base_inputs: Inputs, raw_inputs: Inputs) -> Iterator[Stage]:
        """Run and compare stage by stage; after each, what came of it is in `found`."""
        settings, step = self._settings, found.step
        pairing = Pairing(self._to_base, numbered=self._sides.replays)
        self._variances.remember()
        forward = self._forward(step, pairing, base_inputs, raw_inputs)
        found.wall["base"]["forward"], found.wall["raw"]["forward"] = forward.base.wall_s, forward.raw.wall_s
        forward = self._take_forward(found, forward)
        yield "forward"
        if settings.diff_phase != "forward":
            backward = self._backward(step, pairing, forward.judged)
            del pairing  # its tables have grown with the number of boundaries, and none is left in them
            found.wall["base"]["backward"], found.wall["raw"]["backward"] = backward.base.wall_s, backward.raw.wall_s
            self._take_backward(found, forward, backward)
            yield "backward"
            noise = self._noise(forward.judged, found.backward)
            grads = self._grads(found, noise)
            found.others += grads
            yield "grads"
            updated, found.moved = self._optimise(step, grads, noise)
            found.others += updated
            yield "weights"
        found.others += self._variances.judge(self._held(step, "buffers").pairs, forward.judged)
        yield "buffers"

    def _take_forward(self, found: StepSoFar, forward: PhaseRun[T]) -> PhaseRun[T]:
        """Take a forward in, and return it without functional calls."""
        forward, api_calls = split_calls(forward)
        found.calls = settle_calls(found.step, api_calls, forward.judged, self._to_base)
        found.others, found.one_sided = self._leftovers.calls(found.step, forward.judged, forward.leftovers)
        found.others += found.calls.alone
        only_syncs = self._settings.diff_phase == "backward"
        found.forward = [_unjudged(one) for one in forward.judged] if only_syncs else forward.judged
        return forward

    def _take_backward(
        self, found: StepSoFar, forward: PhaseRun[ForwardResult], backward: PhaseRun[BackwardResult]
    ) -> None:
        results = (forward.base, forward.raw), (backward.base, backward.raw)
        found.others.append(judge_loss(self._sides, found.step, self._settings, *results))
        silent: dict[SideName, Collection[SilentTensor]] = {
            "base": backward.base.without_gradient,
            "raw": backward.raw.without_gradient,
        }
        unrecorded: dict[SideName, Collection[Unrecorded]] = {
            "base": backward.base.unrecorded,
            "raw": backward.raw.unrecorded,
        }
        found.backward = settle_sums(forward, backward, unrecorded)
        found.missing = self._leftovers.gradients(
            found.step, forward.judged, found.backward, backward.leftovers, silent, unrecorded
        )
        found.others += [one.pair for one in found.missing]

    def _take_stopped(self, found: StepSoFar, stop: PhaseStopped) -> None:
        if stop.phase == "forward":
            self._take_forward(found, PhaseRun(None, None, stop.judged, stop.leftovers))
        else:
            found.backward = stop.judged

    def _forward(self, step: int, pairing: Pairing, base_inputs: Inputs, raw_inputs: Inputs) -> PhaseRun[ForwardResult]:
        settings = self._settings
        gradients = settings.diff_phase != "forward"
        api_calls = settings.api_calls and settings.diff_phase != "backward"

        def request(inputs: Inputs, routes: tuple[str, ...], sync: bool) -> ForwardRequest:
            return ForwardRequest(
                inputs=inputs,
                training=settings.training,
                seed=None if settings.seed is None else settings.seed + step,
                gradients=gradients,
                record=RecordOptions(
                    routes=routes,
                    gradients=gradients,
                    sync=sync,
                    api_calls=api_calls,
                    statistics=statistics_for(settings.compare),
                ),
            )

        base_request = request(base_inputs, tuple(self._to_base.values()), sync=False)
        raw_request = request(raw_inputs, tuple(self._to_base), sync=settings.single_step)
        return run_phase(
            self._sides,
            self._threads,
            pairing,
            step,
            base=lambda observer: self._sides.base.forward(base_request, observer),
            raw=lambda observer: self._sides.raw.forward(raw_request, observer),
            on_judged=self._count("forward", step, 0 if api_calls else 2 * len(self._to_base)),
            stop=forward_stop(settings),
        )

    def _backward(self, step: int, pairing: Pairing, forward: list[Judged]) -> PhaseRun[BackwardResult]:
        base_loss, raw_loss = _over_shared_outputs(self._settings, forward)

        def base(observer: Observer) -> BackwardResult:
            return self._sides.base.backward(base_loss, observer)

        def raw(observer: Observer) -> BackwardResult:
            return self._sides.raw.backward(raw_loss, observer)

        stop = backward_stop(self._settings, (self._sides.base, self._sides.raw), forward)
        return run_phase(self._sides, self._threads, pairing, step, base, raw, self._count("backward", step, 0), stop)

    def _noise(self, forward: Sequence[Judged], backward: Sequence[Judged]) -> NoiseScale:
        """Bound the rounding noise of gradients, where anybody asks for that."""
        return GradientNoise(forward, backward) if self._settings.compare.mode == "scaled" else no_noise

    def _grads(self, found: StepSoFar, noise: NoiseScale) -> list[Pair]:
        """Compare the parameters' gradients, of which no more than the pairs is kept."""
        grads = self._held(found.step, "grads", noise)
        found.notes += weak_loss_notes(grads.peaks.values(), grads.pairs, self._settings)
        # Of what only one side has, a failure tells by itself.
        found.graded = grads.nonzero or bool(found.missing) or any(not one.is_zero for one in found.backward)
        return grads.pairs

    def _optimise(self, step: int, grads: list[Pair], noise: NoiseScale) -> tuple[list[Pair], Moved | None]:
        """Step the optimisers, where there are any, and compare the parameters that come of it."""
        base_optimizer, raw_optimizer = self._settings.base_optimizer, self._settings.raw_optimizer
        if base_optimizer is None or raw_optimizer is None or self._updates is None:
            return [], None
        self._updates.before_step(self._parameters)
        self._movement.before_step()
        self._threads.both(
            lambda: self._sides.base.optimizer_step(base_optimizer),
            lambda: self._sides.raw.optimizer_step(raw_optimizer),
        )
        goes_on = step + 1 < self._settings.steps
        moved = self._movement.after_step()
        weights = self._held(step, "weights").pairs
        return self._updates.judge(step, weights, grads, self._parameters, noise, goes_on), moved

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


def _over_shared_outputs(settings: AlignSettings, forward: list[Judged]) -> tuple[LossSpec, LossSpec]:
    """Let neutral losses take the outputs that both models return, in one order.

    Else an output that only one side returns, or another order of a dict, would give every output another gradient.
    """
    names = [
        (mine.name, other.name)
        for one in forward
        if one.base.route == "" and one.base.side == "output" and one.whole is not None
        for mine, other in pair_records(*one.whole)
        if mine is not None and other is not None
    ]
    losses = settings.base_loss, settings.raw_loss
    if not names or any(loss.name not in NEUTRAL_LOSSES for loss in losses):
        return losses
    base_names, raw_names = zip(*names, strict=True)
    return replace(losses[0], outputs=base_names), replace(losses[1], outputs=raw_names)


def _unjudged(one: Judged) -> Judged:
    """Keep a forward boundary that only served to sync the sides, without its verdict."""
    return one.skipped("not asked for: diff_phase is 'backward'")
