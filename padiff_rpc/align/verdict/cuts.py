"""Find the layers that cut a gradient off on one side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from padiff_rpc.align.stages.one_sided import MissingGradient
from padiff_rpc.model.model import BoundarySide, LayerCall


@dataclass(frozen=True)
class Cut:
    """A missing gradient that is a layer's own doing."""

    missing: MissingGradient
    culprit: LayerCall
    why: str


class Cuts:
    """Tells cuts from their consequences: upstream of a cut every gradient is missing, and every sum lacks a summand."""

    def __init__(self, missing: Sequence[MissingGradient]) -> None:
        self._missing = [one for one in missing if one.pair.status == "fail"]
        self._silent_outputs = {one.call for one in self._missing if one.side == "output"}
        self._cutters = {
            one.call
            for one in self._missing
            if one.side == "input" and not one.detached and one.call not in self._silent_outputs
        }

    @property
    def silent_routes(self) -> Collection[str]:
        """The routes of layers to whose output one side sends no gradient, so that none comes to their parameters either."""
        return {route for route, _ in self._silent_outputs}

    def lacks_summand(self, call: LayerCall) -> bool:
        """Tell whether a layer called directly by this call cuts off a gradient that this call would add up."""
        return any(one.caller == call and one.call in self._cutters for one in self._missing)

    def own(self) -> Iterator[Cut]:
        """Yield the missing gradients that are a layer's own doing, in base's order."""
        for one in sorted(self._missing, key=lambda one: one.at):
            if one.detached:
                yield from self._detached(one)
            elif one.side == "output":
                yield from self._silent_output(one)
            elif one.call in self._cutters and not self._below(one.call):
                yield Cut(one, one.call, "gradients reach its output, and one side sends none to its input")

    def _detached(self, one: MissingGradient) -> Iterator[Cut]:
        """Yield the layer that detached a tensor: the history was lost on the way in, in the order of the forward."""
        if one.side == "input":
            if self._is_detached(one.caller, "input") or self._made_without_history(one.caller):
                return
            if one.caller is not None:
                yield Cut(one, one.caller, "its own code detaches on one side what it hands to the layer inside it")
            elif one.call[0]:
                yield Cut(
                    one, one.call, "its input is detached on one side, by what comes before it and is not recorded"
                )
        elif not self._is_detached(one.call, "input") and not self._made_without_history(one.call):
            yield Cut(one, one.call, "its output is detached, or made from frozen parameters, on one side only")

    def _silent_output(self, one: MissingGradient) -> Iterator[Cut]:
        if one.caller is None:
            sender = "what comes after it, and is not recorded," if one.call[0] else "the loss"
            yield Cut(one, one.call, f"{sender} sends no gradient to this output on one side")
        elif one.caller not in self._silent_outputs and not self.lacks_summand(one.caller):
            yield Cut(one, one.caller, "its own code, run backward, sends no gradient here on one side")

    def _below(self, call: LayerCall) -> bool:
        return any(one.caller == call for one in self._missing)

    def _is_detached(self, call: LayerCall | None, side: BoundarySide) -> bool:
        return any(one.call == call and one.side == side and one.detached for one in self._missing)

    def _made_without_history(self, caller: LayerCall | None) -> bool:
        return any(one.caller == caller and one.side == "output" and one.detached for one in self._missing)
