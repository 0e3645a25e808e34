"""Refuse settings and models that cannot be aligned, before anything runs."""

from __future__ import annotations

import os
import socket

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Model, ModelDescription, Native
from padiff_rpc.per_side import PerSide


def share_a_process(models: PerSide[Model]) -> bool:
    """Tell whether both models run in this very process."""
    ours = (socket.gethostname(), os.getpid())
    return all((info.host, info.pid) == ours for info in models.map(lambda model: model.info()))


def check_settings(settings: AlignSettings) -> None:
    """Refuse, with BAD_CONFIG, settings that contradict each other."""
    if settings.steps < 1:
        raise PadiffError(f"steps is {settings.steps}, it must be 1 or more", reason=Reason.BAD_CONFIG)
    if settings.repeat < 1:
        raise PadiffError(f"repeat is {settings.repeat}, it must be 1 or more", reason=Reason.BAD_CONFIG)
    if settings.diff_phase == "backward" and not settings.single_step:
        raise PadiffError(
            "diff_phase 'backward' alone needs single_step: without it the backward inherits whatever the forward did",
            reason=Reason.BAD_CONFIG,
            hint="add single_step, or use diff_phase 'both'",
        )
    optimizers = settings.optimizers
    if (optimizers.base is None) != (optimizers.raw is None):
        raise PadiffError(
            "only one side has an optimiser", reason=Reason.BAD_CONFIG, hint="give both sides one, or neither"
        )
    if optimizers.base is not None and settings.diff_phase == "forward":
        raise PadiffError(
            "an optimiser needs gradients, and diff_phase 'forward' runs no backward",
            reason=Reason.BAD_CONFIG,
            hint="drop the optimiser, or use diff_phase 'both'",
        )


def refuse_one_model(models: PerSide[Model]) -> None:
    """Refuse, with BAD_CONFIG, one model as both sides."""
    if models.base is models.raw:
        raise PadiffError(
            "base and raw are the same model: there is nothing to compare",
            reason=Reason.BAD_CONFIG,
            hint="launch or connect to each side by itself",
        )


def check_dumps(models: PerSide[Model], described: PerSide[ModelDescription], settings: AlignSettings) -> None:
    """Refuse, with BAD_CONFIG, settings that ask a dump for something that only a running model can do."""
    if any(model.info().recorded for model in models):
        refuse_shared_draws(settings)
    if settings.assign and described.base.unrecorded == "tensors":
        raise PadiffError(
            "base is a dump that holds no parameters, so that none can be assigned to raw",
            reason=Reason.BAD_CONFIG,
            hint="dump the parameters too (params.json), or turn the assignment off (assign=False, auto_init=False)",
        )
    if not models.raw.info().recorded:
        return
    if settings.assign:
        raise PadiffError(
            "raw is a dump, and base's weights cannot be assigned to it",
            reason=Reason.BAD_CONFIG,
            hint="turn the assignment off (assign=False, auto_init=False), or make the dump base",
        )
    if settings.single_step:
        raise PadiffError(
            "raw is a dump, and single step hands base's tensors to raw's layers while they run",
            reason=Reason.BAD_CONFIG,
            hint="compare without single step, or make the dump base and raw the model that runs",
        )


def refuse_shared_draws(settings: AlignSettings) -> None:
    """Refuse, with BAD_CONFIG, that raw's dropouts take base's draws, since a dump holds none."""
    if settings.sync_random:
        raise PadiffError(
            "a dump holds no draws of its dropouts, so that raw's cannot take base's (sync_random)",
            reason=Reason.BAD_CONFIG,
            hint="run both models at the same time, or compare in eval mode",
        )


def refuse_shared_memory(models: PerSide[Model]) -> None:
    """Refuse, with BAD_CONFIG, two models of one process that share the memory of a parameter or buffer.

    A step of base's optimiser would move raw's parameter as well, and a gradient would be compared with itself.
    """
    mine, theirs = models.map(lambda model: model.memory() if isinstance(model, Native) else {})
    for address, name in mine.items():
        if address in theirs:
            raise PadiffError(
                f"base's {name!r} and raw's {theirs[address]!r} are the same memory, so that nothing can be said of either",
                reason=Reason.BAD_CONFIG,
                hint="build each model by itself, or copy one of them: copy.deepcopy(model)",
            )
