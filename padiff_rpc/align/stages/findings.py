"""What one step brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from padiff_rpc.align.run.fail_fast import StoppedAt
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.stages.judge_api_calls import ApiFindings
from padiff_rpc.align.stages.one_sided import Missing
from padiff_rpc.align.stages.optimizer_movement import Moved
from padiff_rpc.model.model import LayerCall
from padiff_rpc.per_side import SideName
from padiff_rpc.result import Pair


@dataclass(frozen=True)
class StepFindings:
    """All comparisons of one step, in the order in which base executed them.

    others: pairs outside the boundaries (weights_before, loss, grads, weights, buffers). one_sided: for an enclosing layer
    call, the layers that only one side calls in it, in words. missing: gradients that only one side has. calls: functional
    calls inside the layers' forward, which never are at fault themselves.
    """

    step: int
    forward: Sequence[Judged]
    backward: Sequence[Judged]
    others: Sequence[Pair]
    one_sided: Mapping[LayerCall, Sequence[str]]
    missing: Sequence[Missing] = ()
    calls: ApiFindings = field(default_factory=ApiFindings)


@dataclass(frozen=True)
class StepOutcome:
    """What one step brought. wall_s: side -> phase -> seconds, recording included.

    graded: a gradient other than zero came up on some side. moved: what the optimisers' step changed, where there was one.
    stopped: where a failure ended the step, where one was to.
    """

    findings: StepFindings
    notes: tuple[str, ...]
    wall_s: Mapping[SideName, Mapping[str, float]]
    graded: bool = False
    moved: Moved | None = None
    stopped: StoppedAt | None = None

    @property
    def pairs(self) -> list[Pair]:
        """All comparisons, by stage."""
        findings = self.findings
        forward = sorted((*findings.forward, *findings.calls.judged), key=lambda one: one.base.seq)
        boundaries = [pair for one in (*forward, *findings.backward) for pair in one.pairs]
        before = [pair for pair in findings.others if pair.stage == "weights_before"]
        return before + boundaries + [pair for pair in findings.others if pair.stage != "weights_before"]


@dataclass
class StepSoFar:
    """What a step has brought so far; see StepFindings and StepOutcome."""

    step: int
    forward: list[Judged] = field(default_factory=list)
    backward: list[Judged] = field(default_factory=list)
    others: list[Pair] = field(default_factory=list)
    one_sided: Mapping[LayerCall, Sequence[str]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    calls: ApiFindings = field(default_factory=ApiFindings)
    notes: list[str] = field(default_factory=list)
    wall: dict[SideName, dict[str, float]] = field(default_factory=lambda: {"base": {}, "raw": {}})
    graded: bool = False
    moved: Moved | None = None

    @property
    def fails(self) -> bool:
        boundaries = any(one.failed is not None for one in (*self.forward, *self.backward))
        return boundaries or any(pair.status == "fail" for pair in self.others)

    def outcome(self, stopped: StoppedAt | None) -> StepOutcome:
        findings = StepFindings(
            self.step, self.forward, self.backward, self.others, self.one_sided, self.missing, self.calls
        )
        return StepOutcome(findings, tuple(self.notes), self.wall, self.graded, self.moved, stopped)
