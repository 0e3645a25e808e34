"""What is told when a model raises in the midst of a phase: what differed before, or else how far the sides agreed."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from padiff_rpc.align.run.fail_fast import PhaseStopped
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Phase
from padiff_rpc.per_side import PerSide, SideName


def raise_where_a_model_raised(phase: Phase, futures: PerSide[Future[Any]], judged: list[Judged]) -> None:
    """Raise what stands for a model's own exception; return where neither model raised one.

    Args:
        phase: is the phase that both sides have ended.
        futures: hold each side's result, or what it raised.
        judged: are the boundaries that both sides had reached by then.

    Raises:
        PhaseStopped: something had differed by then, so that the exception may be its consequence.
        PadiffError: MODEL_FAILED, with the side, and how far both sides agreed.
    """
    raised: dict[SideName, PadiffError] = {
        side: error for side, future in futures.items() if (error := _own_error(future)) is not None
    }
    if not raised:
        return
    side, error = next(iter(raised.items()))
    message = f"{' and '.join(raised)}: {error.message}" if len(raised) == 1 else _both(raised)
    ordered = sorted(judged, key=lambda one: one.base.seq)
    for at, one in enumerate(ordered):
        if one.failed is not None and not one.base.api:
            raise PhaseStopped(phase, ordered[: at + 1], PerSide([], []), raised=message)
    raise PadiffError(
        f"{message}; {_agreed(ordered)}",
        reason=Reason.MODEL_FAILED,
        hint=error.hint,
        metadata={**error.metadata, "side": side},
    ) from error


def _own_error(future: Future[Any]) -> PadiffError | None:
    error = future.exception()
    return error if isinstance(error, PadiffError) and error.reason is Reason.MODEL_FAILED else None


def _both(raised: dict[SideName, PadiffError]) -> str:
    return "; ".join(f"{side}: {error.message}" for side, error in raised.items())


def _agreed(ordered: list[Judged]) -> str:
    """Say what had agreed by then."""
    outputs = [one for one in ordered if not one.base.api and one.base.side == "output"]
    if not outputs:
        return "nothing had been compared by then"
    last = outputs[-1].base
    count = f"{len(outputs)} layer call{'s' if len(outputs) > 1 else ''}"
    return f"until then both sides agreed, in {count}, the last of which was {last.route or 'the model'!r}"
