"""The Model seam: what the coordinator may ask of a model, wherever it lives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from padiff_rpc.tensors.tensor import Digest, Statistics, Tensor, TensorSpec, TensorStream

ParameterKind = Literal["parameter", "buffer"]
Phase = Literal["forward", "backward"]
BoundarySide = Literal["input", "output"]
Unrecorded = Literal["loss", "input", "output", "parts"]
What = Literal["value", "gradient"]
LayerCall = tuple[str, int]
"""A layer's route, and which of its calls in this step: 0 for the first."""
SilentTensor = tuple[str, int, BoundarySide, str]
"""(route, call, side, name) of a tensor at a layer's boundary whose gradient never arrived."""


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """One parameter or buffer, under its first name. `aliases` are the further names of a tied one."""

    name: str
    kind: ParameterKind
    spec: TensorSpec
    trainable: bool
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer. `parameters` are the full names of the tensors it holds itself, in definition order (a tied one under the
    name it has here); `children` the routes of its direct sublayers; `hyperparameters` plain JSON values read off
    its attributes (eps, stride, bias, p, ...). `aliases` are further routes of a layer registered more than once."""

    route: str
    class_name: str
    class_path: str
    children: tuple[str, ...]
    parameters: tuple[str, ...]
    hyperparameters: Mapping[str, Any]
    training: bool
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelDescription:
    """The layer tree (pre-order, definition order, the root with route "" first) and all parameters and buffers.

    unrecorded: what a dump does not hold. "buffers": those are not even listed (PaDiff dumps parameters only); "tensors": the
    values of no parameter or buffer can be read, listed or not.
    """

    framework: str
    class_name: str
    layers: tuple[LayerInfo, ...]
    parameters: tuple[ParameterInfo, ...]
    unrecorded: Literal["", "buffers", "tensors"] = ""

    def layer(self, route: str) -> LayerInfo:
        """Return the layer at a route or at one of its aliases; KeyError when there is none."""
        for layer in self.layers:
            if layer.route == route or route in layer.aliases:
                return layer
        raise KeyError(route)

    def parameter(self, name: str) -> ParameterInfo:
        """Return the parameter of that name or alias; KeyError when there is none."""
        for info in self.parameters:
            if info.name == name or name in info.aliases:
                return info
        raise KeyError(name)


@dataclass(frozen=True)
class ModelInfo:
    """Where a model runs: shown in results, and compared in the handshake. `recorded`: it ran there once, and is a dump now."""

    framework: str
    framework_version: str
    device: str
    python_version: str
    packages: Mapping[str, str]
    padiff_version: str
    host: str
    pid: int
    losses: tuple[str, ...] = ()  # names of the loss functions that the worker offers beside the neutral ones
    optimizers: tuple[str, ...] = ()
    store_memory_bytes: int = 0
    store_disk_bytes: int = 0
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a record lies in the memory of its store (`model.store.arena`), which a process on the same host may share.

    It holds until the record is released, and no longer than the memory's generation is this one.
    """

    offset: int
    generation: int


@dataclass(frozen=True, slots=True)
class Record:
    """One captured tensor at a layer's boundary. `name` is its place in the nest (`0`, `logits`, `past.0.1`).

    place: where a process that shares the store's memory can read it; None where none can.
    """

    id: int
    name: str
    spec: TensorSpec
    digest: Digest
    place: StorePlace | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Boundary:
    """One side of one layer call, as it happened.

    Forward: all tensors that entered (side "input") or left (side "output") the layer, at once. Backward: the gradient
    with respect to one of these, as it arrived; `records` then holds that one, named as in the forward. A boundary may
    hold no record (a layer that returns no tensor).
    `seq` numbers the boundaries of a phase in execution order. `caller` is the enclosing recorded layer call, None for
    the root. For side "input" gradients are the layer's own: what it alone sends back, not the sum over all users
    of the tensor. For side "output" they are what comes back from outside the layer; where a layer returns one tensor only
    and uses it inside as well, that use is counted too.

    api: a functional call (relu, add, ...) that the caller's own code made, in the forward. Its route is the caller's, a
    slash and the canonical name (`fc1/relu`, the root's `/relu`); `call` counts that name within that route; side is
    "output". It is never replaced, and no gradient of it is told.
    """

    seq: int
    phase: Phase
    route: str
    call: int
    side: BoundarySide
    caller: tuple[str, int] | None
    records: tuple[Record, ...]
    api: bool = False


class Observer(Protocol):
    """What the caller of forward and backward hands in to hear of boundaries, in execution order."""

    def observe(self, boundary: Boundary) -> None:
        """Take note. Called in every run, for every recorded boundary, in turn; perhaps from another thread than forward's.

        It must not block for long.
        """
        ...

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """In a synced run: return the tensors, by record name, that take the place of the recorded ones.

        Called after observe() for the same boundary while the model waits; not for functional calls. An empty mapping
        keeps everything. Shapes must equal the recorded ones; dtypes are converted. Their bytes hold until the next call.
        """
        ...


@runtime_checkable
class Releasing(Protocol):
    """What an Observer may be besides: one on whose account records are released while the phase runs.

    For any other a full store is an error at once.
    """

    def await_room(self, releases: int) -> bool:
        """Wait until records were released once more; False when that will not happen.

        `releases`: how many calls of release_activations() the store had seen, in this phase, before it was found full. Where
        there were more by now, this returns at once.
        """
        ...


@dataclass(frozen=True)
class RecordOptions:
    """What a step records. `routes`: None for every layer. `sync`: ask the observer for substitutes at each boundary.

    `api_calls`: tell the functional calls, too, that the recorded layers' own code makes (see `Boundary.api`). `statistics`: what
    the records' digests hold at least.
    """

    routes: tuple[str, ...] | None = None
    inputs: bool = True
    gradients: bool = True
    sync: bool = False
    api_calls: bool = False
    statistics: Statistics = Statistics.ALL


Inputs = Mapping[str, Any]
"""forward's keyword arguments: Tensor, None, bool, int, float, str, or lists, tuples and dicts (str keys) of these."""


@dataclass(frozen=True)
class ForwardRequest:
    """One forward. training None leaves the model's mode. `seed` seeds the framework's generators first.

    `gradients` False runs without autograd, so that no backward can follow. `record` None records nothing.
    """

    inputs: Inputs
    training: bool | None = None
    seed: int | None = None
    gradients: bool = True
    record: RecordOptions | None = field(default_factory=RecordOptions)


@dataclass(frozen=True)
class LossSpec:
    """A loss over the last forward's outputs.

    name: one of `model.losses_and_optimizers.NEUTRAL_LOSSES`, or one that the worker offers. `targets`: tensors by name for
    losses that need them. `options`: e.g. {"seed": 0} of the projection. `outputs`: the names of the outputs that a
    neutral loss takes, in its order; empty for all, in the model's own.
    """

    name: str
    options: Mapping[str, float] = field(default_factory=dict)
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimiser: a neutral name (SGD, Adam, AdamW) with its options, or one that the worker offers."""

    name: str
    options: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ForwardResult:
    """`outputs`: records of the model's own outputs when its root was recorded. `wall_s` includes the recording."""

    outputs: tuple[Record, ...]
    wall_s: float


@dataclass(frozen=True)
class BackwardResult:
    """`loss`: the scalar, in float64. `without_gradient`: (route, call, side, name) whose gradient never arrived.

    `unrecorded`: what a dump does not hold, and so cannot be compared: the loss (it is NaN then), or the gradients of all
    layers' inputs or outputs; or the "parts" of gradients: what each of several layers adds to that of a tensor which all of
    them take, of which it has the sum. Empty for a model that runs.
    """

    loss: float
    without_gradient: tuple[SilentTensor, ...]
    wall_s: float
    unrecorded: tuple[Unrecorded, ...] = ()


class Model(Protocol):
    """A model in this process (HostedModel), behind gRPC (RemoteModel) or on disk (RecordedModel).

    Any method raises PadiffError. read_activations and release_activations may be called from other threads while forward or
    backward runs; everything else is called by one thread at a time.
    """

    def info(self) -> ModelInfo: ...

    def describe(self) -> ModelDescription: ...

    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        """Stream the named parameters or buffers, or their gradients, in the order asked.

        One without a gradient is left out of the stream. UNKNOWN_NAME before anything is sent. Each stream must be
        read (or abandoned) before the next is taken, and a chunk holds only until the next one is. Those of the names that
        are in `transposed` come as their transposes, row-major; BAD_TENSOR where one is no matrix.
        """
        ...

    def digest_parameters(
        self,
        names: Sequence[str],
        what: What = "value",
        transposed: Collection[str] = (),
        statistics: Statistics = Statistics.ALL,
    ) -> dict[str, Digest]:
        """Summarise the named ones without moving them, as read_parameters would stream them; one without a gradient is left
        out. The digests hold these statistics at least."""
        ...

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        """Overwrite values in place, as the bytes come.

        Each must have the exact spec of its target, which is checked before its first byte is written: UNKNOWN_NAME,
        BAD_TENSOR. DATA_LOSS for one that is short or long. After a failure some are written, and one may be in part;
        repeating the whole call is idempotent.
        """
        ...

    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        """Run forward on the inputs; drops the records and the graph of the step before."""
        ...

    def backward(self, loss: LossSpec, observer: Observer | None = None) -> BackwardResult:
        """Clear parameter gradients, compute the loss of the last forward's outputs and run backward.

        Layers are recorded, and synced, as the forward's options said. OUT_OF_ORDER without such a forward.
        """
        ...

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Stream recorded tensors (named by str(id)), as read_parameters does. UNKNOWN_NAME for one that was released."""
        ...

    def release_activations(self, ids: Sequence[int]) -> None:
        """Forget recorded tensors; ids already released are ignored."""
        ...

    def optimizer_step(self, optimizer: OptimizerSpec) -> None:
        """Apply one step with the gradients at hand. The same spec continues the same optimiser's state."""
        ...

    def reset(self) -> None:
        """Drop records, graph, gradients and the state of optimisers; parameters, buffers and the mode stay."""
        ...

    def close(self) -> None:
        """End it: a remote model ends its session (and its worker where launched). Idempotent."""
        ...


@runtime_checkable
class Native(Protocol):
    """A further ability of a Model that runs in this process: it hands out the framework's own objects."""

    @property
    def model(self) -> Any:
        """The framework's own model."""
        ...

    def native_layer(self, route: str) -> Any:
        """Return the framework's own layer at a route or alias; UNKNOWN_NAME where there is none."""
        ...

    def memory(self) -> dict[int, str]:
        """Map the address of each parameter and buffer that is not empty to its name."""
        ...


@dataclass(frozen=True)
class StoreFigures:
    """How much the store holds now, and has held at most since restart_figures(). `spilled_bytes` counts all that went to disk.

    What several records share is counted once.
    """

    memory_bytes: int
    disk_bytes: int
    peak_memory_bytes: int
    peak_disk_bytes: int
    spilled_bytes: int


@runtime_checkable
class Storing(Protocol):
    """A further ability of a Model that keeps its records in a store with a budget, as every model that runs does."""

    def store_figures(self) -> StoreFigures:
        """Return how full the store is, and has been."""
        ...


@runtime_checkable
class Transporting(Protocol):
    """A further ability of a Model in another process: it tells how its tensors come from there."""

    @property
    def transport(self) -> str:
        """The way that tensors take: "shared memory" or "streams"."""
        ...
