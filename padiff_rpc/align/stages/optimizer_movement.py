"""Tell whether the optimisers changed anything: two idle ones agree, and one idle one may stay within the tolerance."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.align.sides import Sides
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import Model
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import Statistics

Moved = PerSide[bool | None]
"""Whether one step changed any parameter with a gradient other than zero; None where a side has no such parameter."""


class Movement:
    """Watches the parameters of these links around each optimiser's step."""

    def __init__(self, sides: Sides, links: Sequence[ParameterLink]) -> None:
        self._watched = PerSide(
            _Watched(sides.base, list(dict.fromkeys(name for link in links for name in link.base))),
            _Watched(sides.raw, list(dict.fromkeys(name for link in links for name in link.raw))),
        )

    def before_step(self) -> None:
        """Remember the parameters that the step is about to change."""
        for one in self._watched:
            one.remember()

    def after_step(self) -> Moved:
        """Tell which side's step changed anything."""
        return self._watched.map(_Watched.moved)


class _Watched:
    """One side's parameters, and the hashes of those that a step is to change."""

    def __init__(self, model: Model, names: list[str]) -> None:
        self._model = model
        self._names = names
        self._before: dict[str, bytes] = {}

    def remember(self) -> None:
        gradients = self._model.digest_parameters(self._names, "gradient", statistics=Statistics.SIZES)
        driven = [name for name, digest in gradients.items() if not digest.is_zero]  # NaN drives, too
        self._before = _hashes(self._model, driven)

    def moved(self) -> bool | None:
        before = self._before
        return _hashes(self._model, list(before)) != before if before else None


def _hashes(model: Model, names: list[str]) -> dict[str, bytes]:
    if not names:
        return {}
    digests = model.digest_parameters(names, "value", statistics=Statistics.SIZES)
    return {name: digest.hash for name, digest in digests.items()}
