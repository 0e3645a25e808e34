"""An observer for tests: keeps boundaries and copies of what was recorded, and answers with chosen substitutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import Boundary, Record
from padiff_rpc.tensors.tensor import Tensor

Key = tuple[str, str, int, str, str]  # phase, route, call, side, name


class Watcher:
    """`values`: what was recorded, read from the store when its boundary came. `answer`: substitutes for a boundary."""

    def __init__(
        self, model: HostedModel, answer: Callable[[Boundary, dict[str, Tensor]], Mapping[str, Tensor]] | None = None
    ) -> None:
        self.model = model
        self.boundaries: list[Boundary] = []
        self.records: dict[Key, Record] = {}
        self.values: dict[Key, Tensor] = {}
        self._answer = answer

    def observe(self, boundary: Boundary) -> None:
        self.boundaries.append(boundary)
        for record in boundary.records:
            key = (boundary.phase, boundary.route, boundary.call, boundary.side, record.name)
            assert key not in self.values
            self.records[key] = record
            self.values[key] = next(self.model.read_activations([record.id])).collect()

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        if self._answer is None:
            return {}
        return self._answer(boundary, {record.name: self.value(boundary, record.name) for record in boundary.records})

    def value(self, boundary: Boundary, name: str) -> Tensor:
        return self.values[(boundary.phase, boundary.route, boundary.call, boundary.side, name)]

    def array(self, phase: str, route: str, side: str, name: str = "0", call: int = 0) -> np.ndarray:
        return self.values[(phase, route, call, side, name)].to_array()

    def trail(self, phase: str) -> list[tuple[str, int, str, tuple[str, ...]]]:
        """(route, call, side, record names) of the boundaries of a phase, in the order in which they came."""
        return [
            (each.route, each.call, each.side, tuple(record.name for record in each.records))
            for each in self.boundaries
            if each.phase == phase
        ]


def echo(boundary: Boundary, values: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """Answer with the recorded values themselves: a synced run that must change nothing."""
    return values
