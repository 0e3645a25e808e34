"""Refuse two models of one process that hold the same memory: what one does, the other would show too."""

from __future__ import annotations

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Model


def refuse_shared_memory(base: Model, raw: Model) -> None:
    """Raise BAD_CONFIG where a parameter or buffer of one model lies where one of the other does. For models of one process.

    A step of base's optimiser would move raw's parameter as well, and a gradient would be compared with itself.
    """
    mine, theirs = (getattr(model, "memory", dict)() for model in (base, raw))
    for address, name in mine.items():
        if address in theirs:
            raise PadiffError(
                f"base's {name!r} and raw's {theirs[address]!r} are the same memory, so that nothing can be said of either",
                reason=Reason.BAD_CONFIG,
                hint="build each model by itself, or copy one of them: copy.deepcopy(model)",
            )
