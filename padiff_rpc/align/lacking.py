"""Name what should have been compared and was not at all: that is a failure, never a pass."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.align.scope import Scope
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.result import Pair


def not_compared(pairs: Sequence[Pair], scope: Scope, settings: AlignSettings) -> list[str]:
    """Return one sentence per step and kind of comparison that never came about.

    What must come: an output of the model, or of any recorded layer where the model's own are left out; a gradient; a
    parameter after the optimiser's step, where the selections keep any.
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
        if settings.base_optimizer is not None and keeps_parameters and (step, "weights") not in judged:
            lacking.append(f"step {step}: no parameter was compared after the optimiser's step, so this is no pass")
    return lacking
