"""A step's floor: sketches of what passed the layers in a perturbed run, and how far the plain run is from it."""

from __future__ import annotations

import math
from typing import NamedTuple

from padiff_rpc.model.model import Boundary, BoundarySide, LossSpec, Phase
from padiff_rpc.tensors.sketch import Sketch, distance


class Place(NamedTuple):
    """Where a tensor passes in a step."""

    phase: Phase
    route: str
    call: int
    side: BoundarySide
    name: str

    @classmethod
    def of(cls, boundary: Boundary, name: str) -> Place:
        """Return the place of one of a boundary's records."""
        return cls(boundary.phase, boundary.route, boundary.call, boundary.side, name)


class PerturbedRun:
    """What a perturbed run has shown, by place and by parameter.

    Attributes:
        loss: The loss of its backward, with the names of the outputs that it took; None where there was no backward.
    """

    def __init__(self) -> None:
        self.loss: LossSpec | None = None
        self._sketches: dict[Place | str, Sketch] = {}

    def note(self, place: Place, taken: Sketch) -> None:
        """Keep the sketch of a tensor at a layer's boundary."""
        self._sketches[place] = taken

    def note_gradient(self, parameter: str, taken: Sketch) -> None:
        """Keep the sketch of a parameter's gradient, under the parameter's full name."""
        self._sketches[parameter] = taken

    def hold_for(self, loss: LossSpec) -> None:
        """Forget all gradients unless they are those of this loss."""
        if self.loss != loss:
            self._sketches = {
                place: taken
                for place, taken in self._sketches.items()
                if isinstance(place, Place) and place.phase == "forward"
            }

    def knows(self, place: Place | str) -> bool:
        """Tell whether the perturbed run reached this place, or this parameter's gradient."""
        return place in self._sketches

    def of(self, place: Place | str, taken: Sketch) -> float | None:
        """Return how far (L2) a tensor of the plain run, by its sketch, is from the one of the perturbed run; None if unknown."""
        held = self._sketches.get(place)
        if held is None:
            return None
        found = distance(held, taken)
        return found if math.isfinite(found) else None
