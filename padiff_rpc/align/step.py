"""Run one step on both sides (forward, backward, optimiser) and compare everything that it touches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from padiff_rpc.align.api_calls import settle_calls, split_calls
from padiff_rpc.align.boundaries import Judged, Pairing, SideName, Sides, pair_records
from padiff_rpc.align.leftovers import Leftovers, Silent
from padiff_rpc.align.loss import judge_loss, weak_loss_notes
from padiff_rpc.align.missing import Missing
from padiff_rpc.align.movement import Moved, Movement
from padiff_rpc.align.noise import GradientNoise
from padiff_rpc.align.parameters import Compared, NoiseScale, ParameterComparer, no_noise
from padiff_rpc.align.phase import PhaseRun, SideThreads, run_phase
from padiff_rpc.align.progress import Progress
from padiff_rpc.align.running_variance import RunningVariances
from padiff_rpc.align.scope import Scope
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.summed import settle_sums
from padiff_rpc.align.updates import UpdateJudge
from padiff_rpc.align.verdict import StepFindings
from padiff_rpc.model.model import (
    BackwardResult,
    ForwardRequest,
    ForwardResult,
    Inputs,
    LossSpec,
    ModelDescription,
    Observer,
    RecordOptions,
    Unrecorded,
)
from padiff_rpc.result import Pair, Stage
from padiff_rpc.tensor import Digest
from padiff_rpc.training import NEUTRAL_LOSSES


@dataclass(frozen=True)
class StepOutcome:
    """What one step brought. wall_s: side -> phase -> seconds, recording included.

    graded: a gradient other than zero came up on some side. moved: what the optimisers' step changed, where there was one.
    """

    findings: StepFindings
    notes: tuple[str, ...]
    wall_s: Mapping[SideName, Mapping[str, float]]
    graded: bool = False
    moved: Moved | None = None

    @property
    def pairs(self) -> list[Pair]:
        """All comparisons, by stage."""
        findings = self.findings
        forward = sorted((*findings.forward, *findings.calls.judged), key=lambda one: one.base.seq)
        boundaries = [pair for one in (*forward, *findings.backward) for pair in one.pairs]
        before = [pair for pair in findings.others if pair.stage == "weights_before"]
        return before + boundaries + [pair for pair in findings.others if pair.stage != "weights_before"]


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
        """Run one step and compare; raises what the models raise."""
        settings = self._settings
        pairing = Pairing(self._to_base)
        self._variances.remember()
        forward = self._forward(step, pairing, base_inputs, raw_inputs)
        forward, api_calls = split_calls(forward)
        calls = settle_calls(step, api_calls, forward.judged, self._to_base)
        others, one_sided = self._leftovers.calls(step, forward.judged, forward.leftovers)
        others += calls.alone
        wall: dict[SideName, dict[str, float]] = {
            "base": {"forward": forward.base.wall_s},
            "raw": {"forward": forward.raw.wall_s},
        }
        notes: list[str] = []
        backward_judged: list[Judged] = []
        missing: list[Missing] = []
        graded, moved = False, None
        if settings.diff_phase != "forward":
            backward = self._backward(step, pairing, forward.judged)
            wall["base"]["backward"], wall["raw"]["backward"] = backward.base.wall_s, backward.raw.wall_s
            others.append(
                judge_loss(self._sides, step, settings, (forward.base, forward.raw), (backward.base, backward.raw))
            )
            silent: dict[SideName, Collection[Silent]] = {
                "base": backward.base.without_gradient,
                "raw": backward.raw.without_gradient,
            }
            unrecorded: dict[SideName, Collection[Unrecorded]] = {
                "base": backward.base.unrecorded,
                "raw": backward.raw.unrecorded,
            }
            backward_judged = settle_sums(forward, backward, unrecorded)
            missing = self._leftovers.gradients(
                step, forward.judged, backward_judged, backward.leftovers, silent, unrecorded
            )
            others += [one.pair for one in missing]
            noise = GradientNoise(forward.judged, backward_judged)
            grads = self._held(step, "grads", noise)
            notes += weak_loss_notes(grads.base, grads.pairs, settings)
            graded = _has_gradient(grads.base.values(), backward_judged, missing)
            others += grads.pairs
            updated, moved = self._optimise(step, grads.pairs, noise)
            others += updated
        others += self._variances.judge(self._held(step, "buffers").pairs, forward.judged)
        judged = [_unjudged(one) for one in forward.judged] if settings.diff_phase == "backward" else forward.judged
        findings = StepFindings(step, judged, backward_judged, others, one_sided, missing, calls)
        return StepOutcome(findings, tuple(notes), wall, graded, moved)

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
                record=RecordOptions(routes=routes, gradients=gradients, sync=sync, api_calls=api_calls),
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
        )

    def _backward(self, step: int, pairing: Pairing, forward: list[Judged]) -> PhaseRun[BackwardResult]:
        base_loss, raw_loss = _over_shared_outputs(self._settings, forward)

        def base(observer: Observer) -> BackwardResult:
            return self._sides.base.backward(base_loss, observer)

        def raw(observer: Observer) -> BackwardResult:
            return self._sides.raw.backward(raw_loss, observer)

        return run_phase(self._sides, self._threads, pairing, step, base, raw, self._count("backward", step, 0))

    def _optimise(self, step: int, grads: list[Pair], noise: GradientNoise) -> tuple[list[Pair], Moved | None]:
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


def _has_gradient(gradients: Iterable[Digest], backward: Sequence[Judged], missing: Sequence[Missing]) -> bool:
    """Tell whether anything but zeros came back; of what only one side has, a failure tells by itself."""
    boundaries = (record.digest for one in backward for record in (*one.base.records, *one.raw.records))
    return bool(missing) or any(digest.norm != 0.0 for digest in (*gradients, *boundaries))


def _over_shared_outputs(settings: AlignSettings, forward: list[Judged]) -> tuple[LossSpec, LossSpec]:
    """Let neutral losses take the outputs that both models return, in one order.

    Else an output that only one side returns, or another order of a dict, would give every output another gradient.
    """
    names = [
        (mine.name, other.name)
        for one in forward
        if one.base.route == "" and one.base.side == "output"
        for mine, other in pair_records(one.base, one.raw)
        if mine is not None and other is not None
    ]
    losses = settings.base_loss, settings.raw_loss
    if not names or any(loss.name not in NEUTRAL_LOSSES for loss in losses):
        return losses
    base_names, raw_names = zip(*names, strict=True)
    return replace(losses[0], outputs=base_names), replace(losses[1], outputs=raw_names)


def _unjudged(one: Judged) -> Judged:
    """Keep a forward boundary that only served to sync the sides, without its verdict."""
    why = "not asked for: diff_phase is 'backward'"
    return Judged(
        one.base, one.raw, tuple(replace(p, status="skipped", why=why, failure="", metrics=None) for p in one.pairs)
    )
