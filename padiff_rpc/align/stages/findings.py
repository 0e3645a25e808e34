"""The result of one step, and of all steps of an alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from padiff_rpc.align.run.fail_fast import StoppedAt
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.share_draws import DrawSharing
from padiff_rpc.align.stages.extra_tensors import ExtraFindings
from padiff_rpc.align.stages.judge_api_calls import ApiFindings
from padiff_rpc.align.stages.one_sided import MissingGradient
from padiff_rpc.align.stages.optimizer_movement import Moved
from padiff_rpc.align.stages.optimizer_options import OptimizerOptions
from padiff_rpc.align.stages.own_buffers import OwnBuffers
from padiff_rpc.model.model import LayerCall
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair


@dataclass
class StepResult:
    """All comparisons of one step, in the order in which base executed them; it grows stage by stage.

    Attributes:
        step: counts from 0.
        forward: holds the boundaries of the forward that both sides reached.
        backward: holds those of the backward.
        others: holds the pairs outside the boundaries, of the stages weights_before, loss, grads, weights and buffers.
        one_sided: tells in words, for an enclosing layer call, which layers only one side calls in it.
        missing: holds the gradients that only one side has.
        calls: holds the functional calls inside the layers' forward, which never are at fault themselves.
        notes: tells what a reader must know besides.
        wall_s: maps each phase that ran to its seconds, recording included.
        graded: is true when a gradient other than zero came up on some side.
        moved: tells what the optimisers' step changed, where there was one.
        left_out: counts the elements whose update was not compared since their gradient is noise, by the parameter's name in raw.
        options: tell the optimisers' hyper-parameters before the step, where there was one.
        losses: are the two losses; None where there was none.
        gradient_norms: are the L2 norms of all parameters' gradients together.
        weights_apart: is how far all parameters together are apart after the optimisers' step, against base's norm.
        stopped: tells where a failure ended the step, where one was to.
        draws: tells which dropouts of raw took base's draws; None where none was to.
    """

    step: int
    forward: list[Judged] = field(default_factory=list)
    backward: list[Judged] = field(default_factory=list)
    others: list[Pair] = field(default_factory=list)
    one_sided: Mapping[LayerCall, Sequence[str]] = field(default_factory=dict)
    missing: list[MissingGradient] = field(default_factory=list)
    calls: ApiFindings = field(default_factory=ApiFindings)
    notes: list[str] = field(default_factory=list)
    wall_s: PerSide[dict[str, float]] = field(default_factory=lambda: PerSide({}, {}))
    graded: bool = False
    moved: Moved | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    options: OptimizerOptions | None = None
    losses: PerSide[float] | None = None
    gradient_norms: PerSide[float] | None = None
    weights_apart: float | None = None
    stopped: StoppedAt | None = None
    draws: DrawSharing | None = None

    @property
    def fails(self) -> bool:
        """Whether any comparison so far has failed."""
        boundaries = any(one.failed is not None for one in (*self.forward, *self.backward))
        return boundaries or any(pair.status == "fail" for pair in self.others)

    @property
    def pairs(self) -> list[Pair]:
        """All comparisons, by stage."""
        forward = sorted((*self.forward, *self.calls.judged), key=lambda one: one.base.seq)
        boundaries = [pair for one in (*forward, *self.backward) for pair in one.pairs]
        before = [pair for pair in self.others if pair.stage == "weights_before"]
        return before + boundaries + [pair for pair in self.others if pair.stage != "weights_before"]


@dataclass(frozen=True)
class StepsRun:
    """The results of all steps that were run, and the seconds that went into them.

    Attributes:
        steps: holds the result of each step. The comparison of the weights before the first step is in the first result.
        own: tells of the buffers that raw had computed otherwise than base, before they were overwritten.
        extras: tells of what one side alone has.
        assign_s: adds up all assignments; 0 where there was none.
        weights_before_s: is the time of that comparison.
        step_s: holds the time of each step; it is empty where none was begun.
    """

    steps: Sequence[StepResult]
    own: OwnBuffers
    extras: ExtraFindings
    assign_s: float
    weights_before_s: float
    step_s: Sequence[float]

    @property
    def stopped(self) -> StoppedAt | None:
        """Where the run ended before its time; None where it went to its end."""
        return self.steps[-1].stopped

    @property
    def pairs(self) -> list[Pair]:
        """All comparisons of all steps."""
        return [pair for one in self.steps for pair in one.pairs]
