"""Look again at what a run has left open: what is more than rounding, and which layers add to it themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.second_look.excuses import take_back_excuses
from padiff_rpc.align.second_look.introduced import introduced_errors
from padiff_rpc.align.second_look.step_on_copies import step_on_copies
from padiff_rpc.align.second_look.suspects import first_suspect_step, notes_on_floor, settle_suspects
from padiff_rpc.align.stages.findings import StepsRun
from padiff_rpc.model.model import Inputs
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import IntroducedError, Pair


@dataclass(frozen=True)
class SecondLook:
    """What a second look has shown.

    Attributes:
        introduced: are the errors that layers add themselves, where the sides differ in what layers compute.
        notes: tell what a reader must know.
    """

    introduced: list[IntroducedError]
    notes: Sequence[str]


def take_second_look(prepared: Prepared, threads: SideThreads, inputs: PerSide[Inputs], run: StepsRun) -> SecondLook:
    """Weigh what is larger than this run's floor, and measure what each layer adds itself; nothing without a floor.

    Args:
        prepared: are the models, matched.
        threads: run the sides.
        inputs: are each side's inputs.
        run: holds the comparisons, which are changed in place where float64 tells that they are none of rounding.
    """
    if not prepared.settings.measures_floor:
        return SecondLook([], [])
    notes = notes_on_floor(prepared, run.steps)
    take_back_excuses(run.steps)
    step = first_suspect_step(run.steps)
    if step is not None:
        float64, why_not = step_on_copies(prepared, threads, inputs, step, "float64")
        notes += settle_suspects(run.steps, float64, why_not)
    introduced, unknown = _introduced(prepared, threads, inputs, run)
    return SecondLook(introduced, [*notes, *unknown])


def _introduced(
    prepared: Prepared, threads: SideThreads, inputs: PerSide[Inputs], run: StepsRun
) -> tuple[list[IntroducedError], list[str]]:
    """Measure what each layer adds itself, where the sides differ in what layers compute; say where that cannot be done."""
    failing = next((one for one in run.steps if any(_is_computed(pair) for pair in one.pairs)), None)
    if failing is None or run.stopped is not None:
        return [], []
    alone, why_not = step_on_copies(prepared, threads, inputs, failing.step, "own", single_step=True)
    if alone is None:
        return [], [f"which layers add to the difference themselves was not measured: {why_not}"]
    classes = prepared.described.map(lambda model: {layer.route: layer.class_name for layer in model.layers})
    return introduced_errors(failing, alone, classes), []


def _is_computed(pair: Pair) -> bool:
    return pair.status == "fail" and pair.stage in ("forward", "backward", "grads")
