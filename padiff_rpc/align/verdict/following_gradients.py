"""Tell whether a difference of gradients inside the models reaches the gradients that follow from it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from padiff_rpc.align.run.judged_boundary import BoundaryPlace, Judged
from padiff_rpc.match.routes import is_inside
from padiff_rpc.model.model import LayerCall
from padiff_rpc.result import Pair

CUT_SHARE = 1e-3
"""What may be left, in each gradient that follows, of a difference of gradients that is said to heal.

A gradient that is a tenth too small in a branch beside a residual changes those that follow by 1/50 of that. One that is
only told otherwise changes none: healthy pairs agree to 1e-7 to 1e-5 there.
"""
_KINKED = 10.0
"""Where gradients are apart already before the difference, since a ReLU's kink flipped: so many times as much may be left."""


class FollowingGradients:
    """The gradients of one step, and which of them follow from which.

    From the gradient of a layer's output follow those of its parameters and of its inputs. From the gradient of its input follows
    what the layer around it makes of that: the gradients of that layer's parameters and inputs.

    Args:
        backward: are the boundaries of the backward.
        grads: are the comparisons of the parameters' gradients.
        error: tells how far a comparison is apart, relatively; inf where it fails.
    """

    def __init__(self, backward: Iterable[Judged], grads: Iterable[Pair], error: Callable[[Pair], float]) -> None:
        self._callers: dict[LayerCall, LayerCall | None] = {}
        self._sent: dict[LayerCall, float] = {}  # the worst error of what a call sends back to its inputs
        self._seqs: list[int] = []
        self._worst: list[float] = []  # the worst error of what passes, up to each of these boundaries
        for one in sorted(backward, key=lambda each: each.base.seq):
            call = (one.base.route, one.base.call)
            self._callers[call] = one.base.caller
            errors = [error(pair) for pair in one.pairs]
            if one.base.side == "input":
                self._sent[call] = max([*errors, self._sent.get(call, 0.0)])
            self._seqs.append(one.base.seq)
            self._worst.append(max([each for each in errors if math.isfinite(each)] + self._worst[-1:], default=0.0))
        self._parameters = [(pair.base_route, error(pair)) for pair in grads]

    def heal(self, place: BoundaryPlace, size: float) -> str | None:
        """Return the route of the layer beyond which nothing is left of a difference; None where there is none.

        Args:
            place: is the boundary at which the gradients differ.
            size: is how far they are apart there, relatively.
        """
        before = bisect_left(self._seqs, place.seq)
        allowed = max(CUT_SHARE * size, _KINKED * self._worst[before - 1] if before else 0.0)
        call: LayerCall | None = (place.route, place.call) if place.side == "output" else place.caller
        while call is not None:
            if self._all_within(call, allowed):
                return call[0]
            call = self._callers.get(call)
        return None

    def _all_within(self, call: LayerCall, allowed: float) -> bool:
        """Tell whether all that a call makes of its outputs' gradients agrees; not where it makes nothing that was compared."""
        inside: Sequence[float] = [error for route, error in self._parameters if is_inside(route, call[0])]
        sent = self._sent.get(call)
        if sent is None and not inside:
            return False
        return max([*inside, sent or 0.0]) <= allowed
