"""Repeat the first step of each side on copies, and name the first layer that does not compute the same bits again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.second_look.step_on_copies import cannot_copy
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.step import losses_over_shared_outputs
from padiff_rpc.errors import PadiffError
from padiff_rpc.model.model import (
    Boundary,
    BoundarySide,
    ForwardRequest,
    Inputs,
    Lending,
    LossSpec,
    Model,
    ModelDescription,
    Phase,
    RecordOptions,
)
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import Stage
from padiff_rpc.tensors.tensor import Statistics, Tensor


@dataclass(frozen=True)
class Unsteady:
    """The first that came out otherwise when a step was repeated.

    Attributes:
        route: is the layer that made it; "" for the whole model.
        class_name: is its class.
        stage: is the part of the step: forward, backward, loss or grads.
        call: is the number of the layer's call.
        tensor: names the tensor.
        run: is the number of the run in which it did, counted from 1.
    """

    route: str
    class_name: str
    stage: Stage
    call: int
    tensor: str
    run: int


@dataclass(frozen=True)
class Repeated:
    """What repeating the step has shown of one side.

    Attributes:
        runs: counts how often the step ran; 0 where it could not be repeated.
        first: is what came out otherwise first; None where every run gave the same bits.
        why_not: says why the step was not repeated, or not to its end; "" where it was.
    """

    runs: int
    first: Unsteady | None = None
    why_not: str = ""

    @property
    def deterministic(self) -> bool | None:
        """Whether all runs gave the same bits; None where that is not known."""
        return None if self.why_not else self.first is None

    def words(self, side: SideName) -> str:
        """Return what to tell a reader."""
        if self.why_not:
            return f"{side} was not repeated: {self.why_not}"
        if self.first is None:
            return f"{side} is deterministic: {self.runs} runs of the step gave the same bits"
        first = self.first
        where = f"{first.route} ({first.class_name})" if first.route else first.class_name
        return (
            f"{side} is not deterministic: in run {first.run} of {self.runs} the step came out otherwise first at {where}, "
            f"{first.stage} {first.tensor} of call {first.call}"
        )

    def figures(self) -> dict[str, Any]:
        """Return it as plain values."""
        first = None if self.first is None else asdict(self.first)
        return {"runs": self.runs, "deterministic": self.deterministic, "first": first, "why_not": self.why_not}


def repeat_step(
    prepared: Prepared, threads: SideThreads, inputs: PerSide[Inputs], found: StepResult
) -> PerSide[Repeated]:
    """Run the first step of each side as often as the settings ask, always from the same state, and compare it by its hashes.

    Args:
        prepared: are the models, matched. They are left as they were.
        threads: run the sides.
        inputs: are each side's inputs.
        found: is the step of the run.
    """
    losses = losses_over_shared_outputs(prepared.settings, found.forward)
    return threads.both(
        partial(_repeated, prepared, "base", inputs.base, losses.base),
        partial(_repeated, prepared, "raw", inputs.raw, losses.raw),
    )


def _repeated(prepared: Prepared, side: SideName, inputs: Inputs, loss: LossSpec) -> Repeated:
    model, runs = prepared.sides.models.of(side), prepared.settings.repeat
    why_not = cannot_copy(prepared, side, "once more")
    if why_not or not isinstance(model, Lending):
        return Repeated(0, None, why_not)
    routes = [pair.base if side == "base" else pair.raw for pair in prepared.scope.layers]
    first: dict[_Place, bytes] = {}
    for run in range(1, runs + 1):
        try:
            model.work_on("own")
            came = _hashes(prepared, model, model.describe(), inputs, loss, routes)
        except PadiffError as err:  # the comparisons that were made stand, whatever this run meets
            return Repeated(run - 1, None, f"in run {run} {err}")
        finally:
            model.work_on(None)
        first = first or came
        differing = next((place for place in {**first, **came} if first.get(place) != came.get(place)), None)
        if differing is not None:
            return Repeated(runs, _unsteady(prepared.described.of(side), differing, run))
    return Repeated(runs)


@dataclass(frozen=True)
class _Place:
    """Where a hash was taken: the tensor, the layer that made it, and how many had the same name before."""

    route: str
    maker: str
    stage: Stage
    call: int
    tensor: str
    number: int = 0


def _hashes(
    prepared: Prepared,
    model: Model,
    description: ModelDescription,
    inputs: Inputs,
    loss: LossSpec,
    routes: Iterable[str],
) -> dict[_Place, bytes]:
    """Run the step once and return the hash of everything that came, in the order of the execution."""
    settings = prepared.settings
    backward = settings.diff_phase != "forward"
    record = RecordOptions(routes=tuple(routes), gradients=backward, statistics=Statistics.SIZES)
    request = ForwardRequest(inputs, settings.training, settings.seed, backward or settings.single_step, record)
    hashes = _Hashes(model)
    model.forward(request, hashes)
    if backward:
        value = model.backward(loss, hashes).loss
        hashes.came[_Place("", "", "loss", 0, "loss")] = repr(value).encode()
        names = [info.name for info in description.parameters if info.trainable]
        for name, digest in model.digest_parameters(names, "gradient").items():
            holder, _, short = name.rpartition(".")
            hashes.came[_Place(holder, holder, "grads", 0, short)] = digest.hash
    return hashes.came


@dataclass
class _Hashes:
    """Keeps the hashes of what passes the layers, and lets the records go."""

    model: Model
    came: dict[_Place, bytes] = field(default_factory=dict)
    releases: int = 0
    _seen: Counter[_Place] = field(default_factory=Counter)

    def observe(self, boundary: Boundary) -> None:
        """Keep the hashes of a boundary."""
        for record in boundary.records:
            prefix = "grad of " if boundary.phase == "backward" else ""
            place = _Place(
                boundary.route,
                _maker(boundary),
                boundary.phase,
                boundary.call,
                f"{prefix}{boundary.side}.{record.name}",
            )
            number, self._seen[place] = self._seen[place], self._seen[place] + 1
            self.came[_Place(place.route, place.maker, place.stage, place.call, place.tensor, number)] = (
                record.digest.hash
            )
        if boundary.records:
            self.model.release_activations([record.id for record in boundary.records])
            self.releases += 1

    def await_room(self, releases: int) -> bool:
        """Say whether anything was released since."""
        return self.releases > releases

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing."""
        return {}


_MADE: tuple[tuple[Phase, BoundarySide], ...] = (("forward", "output"), ("backward", "input"))
"""What a layer itself makes; the rest its caller's own code hands it."""


def _maker(boundary: Boundary) -> str:
    if (boundary.phase, boundary.side) in _MADE or boundary.caller is None:
        return boundary.route
    return boundary.caller[0]


def _unsteady(description: ModelDescription, place: _Place, run: int) -> Unsteady:
    class_name = next((layer.class_name for layer in description.layers if layer.route == place.maker), "")
    tensor = place.tensor if place.maker == place.route else f"{place.tensor} of {place.route}"
    return Unsteady(place.maker, class_name, place.stage, place.call, tensor, run)
