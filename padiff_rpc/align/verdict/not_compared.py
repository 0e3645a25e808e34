"""Name what should have been compared and was not at all: that is a failure, never a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.findings import StepOutcome
from padiff_rpc.align.stages.optimizer_movement import Moved
from padiff_rpc.match.scope import Scope
from padiff_rpc.result import Pair


def not_compared(
    pairs: Sequence[Pair], scope: Scope, settings: AlignSettings, outcomes: Sequence[StepOutcome]
) -> list[str]:
    """Return one sentence per step and kind of comparison that never came about, or that could not have failed.

    What must come: an output of the model, or of any recorded layer where the model's own are left out; a gradient, and one
    that is not zero; a parameter after the optimiser's step, where the selections keep any, and one that the step changed.
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
        elif settings.diff_phase != "forward" and not outcomes[step].graded:
            lacking.append(
                f"step {step}: every gradient is zero on both sides, so that no error could show: use another loss"
            )
        if settings.base_optimizer is not None and keeps_parameters and (step, "weights") not in judged:
            lacking.append(f"step {step}: no parameter was compared after the optimiser's step, so this is no pass")
    return [*lacking, *_unmoved([outcome.moved for outcome in outcomes])]


def _unmoved(moves: Sequence[Moved | None]) -> Iterator[str]:
    """Tell of optimisers that changed nothing, of what has a gradient. Once on both sides will do: a warm-up begins at 0."""
    for step, moved in enumerate(moves):
        if moved is not None and {moved.base, moved.raw} == {True, False}:
            idle, busy = ("base", "raw") if moved.raw else ("raw", "base")
            yield f"step {step}: {idle}'s optimiser changed no parameter, {busy}'s did, so this is no pass"
    if any(moved is not None for moved in moves) and all(moved == Moved(False, False) for moved in moves):
        yield (
            "the optimisers changed no parameter that has a gradient, so this is no pass: are they those of these models, "
            "and is their learning rate above 0?"
        )
