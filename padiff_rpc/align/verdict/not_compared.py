"""Name the comparisons that should have been made and were not: that is a failure, never a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.optimizer_movement import Moved
from padiff_rpc.match.scope import Scope
from padiff_rpc.per_side import SIDES, PerSide
from padiff_rpc.result import Pair


def not_compared(
    pairs: Sequence[Pair], scope: Scope, settings: AlignSettings, steps: Sequence[StepResult]
) -> list[str]:
    """Return one sentence per step and kind of comparison that never came about, or that could not have failed.

    Three kinds must come about. One is an output of the model, or of any recorded layer where the model's own outputs are left
    out. Another is a gradient, and one that is not zero. The third is a parameter after the optimiser's step, where the
    selections keep any parameter, and one that the step changed.
    """
    judged = {(pair.step, pair.stage) for pair in pairs if pair.status != "skipped"}
    outputs = {
        pair.step
        for pair in pairs
        if pair.stage == "forward"
        and (not scope.root or not pair.base_route)
        and pair.tensor.startswith("output")
        and pair.status != "skipped"
    }
    whose = "the model" if scope.root else "a layer that is not left out"
    keeps_parameters = scope.is_everything or any(link.kind == "parameter" for link in scope.links)
    lacking: list[str] = []
    for step in range(settings.steps):
        if settings.diff_phase != "backward" and step not in outputs:
            lacking.append(f"step {step}: no output of {whose} was compared, so this is no pass")
        if settings.diff_phase != "forward" and not {(step, "backward"), (step, "grads")} & judged:
            lacking.append(f"step {step}: no gradient was compared, so this is no pass")
        elif settings.diff_phase != "forward" and not steps[step].graded:
            lacking.append(
                f"step {step}: every gradient is zero on both sides, so that no error could show: use another loss"
            )
        if settings.base_optimizer is not None and keeps_parameters and (step, "weights") not in judged:
            lacking.append(f"step {step}: no parameter was compared after the optimiser's step, so this is no pass")
    return [*lacking, *_unmoved([one.moved for one in steps])]


def _unmoved(moves: Sequence[Moved | None]) -> Iterator[str]:
    """Yield a sentence on optimisers that changed no parameter with a gradient.

    A change in one step on both sides is enough: the learning rate of a warm-up begins at 0.
    """
    for step, moved in enumerate(moves):
        if moved is not None and set(moved) == {True, False}:
            idle, busy = SIDES if moved.raw else SIDES[::-1]
            yield f"step {step}: {idle}'s optimiser changed no parameter, {busy}'s did, so this is no pass"
    if any(moved is not None for moved in moves) and all(moved == PerSide(False, False) for moved in moves):
        yield (
            "the optimisers changed no parameter that has a gradient, so this is no pass: are they those of these models, "
            "and is their learning rate above 0?"
        )
