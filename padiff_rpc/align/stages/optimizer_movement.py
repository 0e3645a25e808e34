"""Tell whether the optimisers changed anything: two that do nothing agree, and one that does nothing may stay within atol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from padiff_rpc.align.sides import Sides
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import Model
from padiff_rpc.per_side import SideName
from padiff_rpc.tensors.tensor import Statistics


@dataclass(frozen=True)
class Moved:
    """Whether one step changed any parameter that has a gradient other than zero; None where a side has no such."""

    base: bool | None
    raw: bool | None


class Movement:
    """Watches the parameters of these links around each optimiser's step."""

    def __init__(self, sides: Sides, links: Sequence[ParameterLink]) -> None:
        self._watched: dict[SideName, tuple[Model, list[str]]] = {
            "base": (sides.base, list(dict.fromkeys(name for link in links for name in link.base))),
            "raw": (sides.raw, list(dict.fromkeys(name for link in links for name in link.raw))),
        }
        self._before: dict[SideName, dict[str, bytes]] = {}

    def before_step(self) -> None:
        for side, (model, names) in self._watched.items():
            gradients = model.digest_parameters(names, "gradient", statistics=Statistics.SIZES)
            driven = [name for name, digest in gradients.items() if not digest.is_zero]  # NaN drives, too
            self._before[side] = _hashes(model, driven)

    def after_step(self) -> Moved:
        return Moved(self._moved("base"), self._moved("raw"))

    def _moved(self, side: SideName) -> bool | None:
        before = self._before[side]
        return _hashes(self._watched[side][0], list(before)) != before if before else None


def _hashes(model: Model, names: list[str]) -> dict[str, bytes]:
    if not names:
        return {}
    digests = model.digest_parameters(names, "value", statistics=Statistics.SIZES)
    return {name: digest.hash for name, digest in digests.items()}
