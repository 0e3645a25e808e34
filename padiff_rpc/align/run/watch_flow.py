"""Run one forward of a model that is only watched: which tensors pass which layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from padiff_rpc.match.follow_flow import Passage
from padiff_rpc.model.model import Boundary, ForwardRequest, Inputs, Model, RecordOptions
from padiff_rpc.tensors.tensor import Statistics, Tensor, collect_all


def watch_flow(model: Model, inputs: Inputs, training: bool | None, seed: int | None) -> list[Passage]:
    """Run a forward, and return what passed each layer, in execution order. Buffers are put back, and the model is reset.

    Args:
        model: is the model.
        inputs: are the arguments of its forward, by name.
        training: sets the model's mode; None leaves it.
        seed: seeds the framework's random generators before; None leaves them.
    """
    buffers = [info.name for info in model.describe().parameters if info.kind == "buffer"]
    before = collect_all(model.read_parameters(buffers))
    watcher = _Watcher(model)
    record = RecordOptions(gradients=False, statistics=Statistics.SIZES)
    try:
        model.forward(ForwardRequest(inputs, training, seed, gradients=False, record=record), watcher)
    finally:
        model.write_parameters(tensor.stream(name) for name, tensor in before.items())
        model.reset()
    return watcher.passages


@dataclass
class _Watcher:
    """Notes what passes, and lets go of the records at once."""

    model: Model
    passages: list[Passage] = field(default_factory=list)
    releases: int = 0

    def observe(self, boundary: Boundary) -> None:
        hashes = tuple(one.digest.hash for one in boundary.records if one.digest.min != one.digest.max)
        self.passages.append(Passage((boundary.route, boundary.call), boundary.side, boundary.caller, hashes))
        if boundary.records:
            self.model.release_activations([one.id for one in boundary.records])
            self.releases += 1

    def await_room(self, releases: int) -> bool:
        """Say whether anything was released since; nothing is held back."""
        return self.releases > releases

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing."""
        return {}
