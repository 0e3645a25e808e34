"""The ability of a Model to run one of its layers alone: what is asked, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from padiff_rpc.model.model import Boundary, BoundarySide, ForwardRequest, Phase, Record
from padiff_rpc.tensors.tensor import Tensor

ReplayDtype = Literal["float64", "float32"]
"""An element type that a layer can be replayed in, instead of its own."""


@dataclass(frozen=True)
class ReplayRequest:
    """Ask for one layer call of a step to be run alone.

    Attributes:
        forward: The step's forward. It runs up to the layer's call, which shows the structure of the layer's arguments and
            whatever else is in force around it, and no further. `record` does not count. Without `gradients` it holds no more
            of the model's tensors than it must; a model that asks for gradients in its own forward needs them.
        route: The layer's route or alias; the empty route is the whole model.
        call: The number of the layer's call within the step, counted from 0.
        dtype: Cast the layer and its floating inputs to this type; None leaves them in their own.
        inputs: Tensors for the layer to take instead of those that reach it, by the names of its input records. They are
            converted to the element type that the layer takes.
        parameters: Values for parameters and buffers of the layer and the layers inside to have meanwhile instead of their own,
            by full name or alias, converted likewise.
        seed: The seed of the projection from which backward runs (see `NEUTRAL_LOSSES`).
        outputs: The names of the outputs that the projection takes, in this order; empty for all, in the layer's own.
        backward: Run backward, too; False ends after the layer's forward.
        inner: The routes of layers inside, whose boundaries are to be recorded too.
    """

    forward: ForwardRequest
    route: str
    call: int = 0
    dtype: ReplayDtype | None = None
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0
    outputs: tuple[str, ...] = ()
    backward: bool = True
    inner: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReplayResult:
    """Report a layer call that was run alone. Its records are read and released as those of a step.

    Attributes:
        boundaries: The boundaries of the layer and of the inner layers asked for, in execution order, the forward's before the
            backward's. Calls are counted within the replay, so that the layer's own is 0. The first one is of the layer's
            inputs. There are none of the backward where it is not asked for, or no output wants a gradient.
        parameters: The gradients of the trainable parameters of the layer and of all layers inside, each under the first of
            its names in the model; one that got no gradient is left out.
        wall_s: The duration in seconds, the forward up to the layer included.
    """

    boundaries: tuple[Boundary, ...]
    parameters: tuple[Record, ...]
    wall_s: float

    @property
    def route(self) -> str:
        """The first of the layer's routes."""
        return self.boundaries[0].route

    def at(self, phase: Phase, side: BoundarySide) -> Boundary:
        """Return one side of the layer's own call, the gradients of a side put together; without records where there are none."""
        route, first = self.route, self.boundaries[0]
        found = [each for each in self.boundaries if (each.phase, each.route, each.side) == (phase, route, side)]
        records = tuple(record for each in found for record in each.records)
        return Boundary(found[0].seq if found else 0, phase, route, 0, side, first.caller, records)

    def record_ids(self) -> list[int]:
        """Return the ids of all records, to be released."""
        kept = [*(record for each in self.boundaries for record in each.records), *self.parameters]
        return [record.id for record in kept]


@runtime_checkable
class Replaying(Protocol):
    """A further ability of a Model that runs: it runs one of its layers alone, on given tensors and in a given dtype."""

    def replay(self, request: ReplayRequest) -> ReplayResult:
        """Run one layer forward, then backward from a projection of its floating outputs.

        Nothing of the model changes: parameters and buffers keep memory, bytes and gradients, layers their modes and
        attributes, generators their states. The records of the last step stay; its autograd graph is dropped, so that no
        backward can follow.

        Raises:
            PadiffError: UNKNOWN_NAME for a layer, an input, a parameter or an output that is not there, and where the layer is
                called less often. BAD_INPUTS as in forward(). BAD_CONFIG for another dtype. BAD_TENSOR where a given tensor does
                not fit the one whose place it takes. MODEL_FAILED where the model raised, or the layer did in that dtype.
                STORE_FULL without room for the records. VERSION_MISMATCH from a worker that is too old for it.
        """
        ...
