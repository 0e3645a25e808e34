"""The Model seam: the operations that the coordinator performs on a model, wherever the model lives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from padiff_rpc.model.forward_signature import ForwardSignature
from padiff_rpc.tensors.tensor import Digest, Statistics, Tensor, TensorSpec, TensorStream

ParameterKind = Literal["parameter", "buffer"]
"""A parameter belongs to the trained values of a layer; a buffer belongs to its state and is not trained."""
Phase = Literal["forward", "backward"]
BoundarySide = Literal["input", "output"]
"""The tensors that enter a layer call, or the tensors that leave it."""
Unrecorded = Literal["loss", "input", "output", "parts"]
"""A quantity that a dump lacks (see `BackwardResult.unrecorded`)."""
OptimizerState = Literal["moment1", "moment2", "momentum"]
"""What an optimiser keeps of a parameter's gradients: their running mean; the running mean, sum or maximum of their squares;
and the sum that momentum adds up."""
What = Literal["value", "gradient", "moment1", "moment2", "momentum"]
"""Whether an operation on parameters concerns values, gradients, or an OptimizerState of the optimiser that was stepped last."""
OptionValue = float | bool | str
"""The value of an optimiser's hyper-parameter."""
LayerCall = tuple[str, int]
"""(route, call): a layer's route, and the number of the layer's call within the step, counted from 0."""
SilentTensor = tuple[str, int, BoundarySide, str]
"""(route, call, side, name) of a tensor at a layer's boundary whose gradient never arrived."""


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """Describe one parameter or buffer of a model, without its values.

    Attributes:
        name: The full name: the layer's route, a dot, and the name within the layer (`fc1.weight`).
            A tensor that is registered several times (a tied weight) goes by the first of its names.
        kind: Tells a parameter from a buffer.
        spec: The dtype and the shape.
        trainable: True where the framework computes a gradient for it; False for every buffer.
        aliases: The further full names of a tied tensor.
        transient: True for a buffer that the framework leaves out of a checkpoint.
    """

    name: str
    kind: ParameterKind
    spec: TensorSpec
    trainable: bool
    aliases: tuple[str, ...] = ()
    transient: bool = False


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """Describe one layer of a model.

    Attributes:
        route: The layer's dotted name below the model (`encoder.0.linear`); empty for the root.
            A layer that is registered several times goes by the first of its routes.
        class_name: The name of its class (`Linear`).
        class_path: The module and the qualified name of its class (`torch.nn.modules.linear.Linear`).
        children: The routes of its direct sublayers, in definition order.
        parameters: The full names of the parameters and buffers that the layer holds itself, in definition order.
            A tied tensor is listed under the name that it has in this layer.
        hyperparameters: Plain JSON values that were read off its attributes (`eps`, `stride`, `bias`, `p`, ...), and those
            of its configuration object (`config.hidden_act`) at the first layer that holds it.
        training: True in training mode, False in evaluation mode.
        aliases: The further routes of a layer that is registered several times.
    """

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
    """Describe a model: its layer tree, and all its parameters and buffers.

    Attributes:
        framework: `torch`, `paddle` or `numpy`.
        class_name: The name of the root layer's class.
        layers: Every layer once, in pre-order and definition order. The root comes first, under the empty route.
        parameters: Every parameter and buffer once.
        unrecorded: Names what a dump does not hold; empty for a model that runs. "buffers": the buffers are
            not even listed, since PaDiff dumps parameters only. "tensors": the values of no parameter or buffer
            can be read, whether it is listed or not.
        forward: The parameters of the model's forward; None where they are not known (a compiled model, a dump of
            PaDiff's).
    """

    framework: str
    class_name: str
    layers: tuple[LayerInfo, ...]
    parameters: tuple[ParameterInfo, ...]
    unrecorded: Literal["", "buffers", "tensors"] = ""
    forward: ForwardSignature | None = None

    def layer(self, route: str) -> LayerInfo:
        """Return the layer at a route or at one of its aliases.

        Raises:
            KeyError: No layer has this route.
        """
        for layer in self.layers:
            if layer.route == route or route in layer.aliases:
                return layer
        raise KeyError(route)

    def parameter(self, name: str) -> ParameterInfo:
        """Return the parameter or buffer of this full name or alias.

        Raises:
            KeyError: No parameter or buffer has this name.
        """
        for info in self.parameters:
            if info.name == name or name in info.aliases:
                return info
        raise KeyError(name)


@dataclass(frozen=True)
class ModelInfo:
    """Describe where a model runs. Results show it, and the handshake between the two sides compares it.

    Attributes:
        framework: `torch`, `paddle` or `numpy`.
        framework_version: The framework's own version string.
        device: The device of the model, as the framework writes it (`cpu`, `cuda:0`, `gpu:0`).
        python_version: The version of Python in the model's process.
        packages: The name and version of each installed package that can change numbers or the connection.
        padiff_version: The version of this library in the model's process.
        host: The name of the machine.
        pid: The id of the process.
        losses: The names of the user's loss functions that the worker offers, beside those of NEUTRAL_LOSSES.
        optimizers: The names of the user's optimisers that it offers, beside those of NEUTRAL_OPTIMIZERS.
        store_memory_bytes: The memory that the model's records may take.
        store_disk_bytes: The disk space that the model's records may take once memory is full.
        recorded: True for a dump: the model ran there once, and can be read but not run.
    """

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
    """Locate a record in the memory of its store (`model.store.arena`), which a process on the same host may map.

    The place is valid until the record is released, and only while the memory's generation equals `generation`.

    Attributes:
        offset: The record's first byte, counted from the start of the memory.
        generation: The generation of the memory when the place was given out; each new step begins another.
    """

    offset: int
    generation: int


@dataclass(frozen=True, slots=True)
class Record:
    """Describe one tensor that was captured at a layer's boundary; its bytes are read by `Model.read_activations`.

    Attributes:
        id: The record's number in the model's store, never used twice.
        name: The tensor's place in the nested arguments or outputs (`0`, `logits`, `past.0.1`).
        spec: The dtype and the shape.
        digest: The tensor's statistics and hash.
        place: The place where a process that shares the store's memory reads the tensor; None where none can.
    """

    id: int
    name: str
    spec: TensorSpec
    digest: Digest
    place: StorePlace | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Boundary:
    """Describe one side of one layer call, as it happened in the forward or the backward of a step.

    In the forward a boundary holds all tensors that entered the layer (side "input") or left it (side "output"), at once.
    In the backward it holds the gradient with respect to one of these tensors, as it arrived, under the tensor's name in
    the forward. A boundary may hold no record, for a layer that returns no tensor.

    The gradient of an input is the layer's own contribution: the part that this layer alone sends back, not the sum over
    all users of the tensor. The gradient of an output is the part that comes back from outside the layer. Where a layer
    returns one tensor only and also uses it inside, that inner use is counted, too.

    Attributes:
        seq: Numbers the boundaries of a phase in execution order.
        phase: The forward or the backward.
        route: The layer's route.
        call: The number of the layer's call within the step, counted from 0.
        side: "input" or "output".
        caller: The route and call number of the enclosing recorded layer call; None for the root.
        records: The captured tensors.
        api: True for a functional call (relu, add, ...) that the caller's own code made in the forward. Its route is
            the caller's route, a slash and the canonical name (`fc1/relu`, or `/relu` in the root), `call` counts that
            name within that route, and the side is "output". It is never replaced, and no gradient of it is reported.
        draw: True for what a dropout has drawn for its output, which is its input times this. It has one record, "draw", and
            comes before the boundary of the output.
    """

    seq: int
    phase: Phase
    route: str
    call: int
    side: BoundarySide
    caller: tuple[str, int] | None
    records: tuple[Record, ...]
    api: bool = False
    draw: bool = False


class Observer(Protocol):
    """Receive the boundaries of a forward or backward, in execution order; the caller of either hands one in."""

    def observe(self, boundary: Boundary) -> None:
        """Take note of one recorded boundary. Every run calls this, once for each recorded boundary, in turn.

        The call may come from another thread than forward's. It must not block for long.
        """
        ...

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Return the tensors that replace recorded ones, by record name. Only a synced run calls this.

        The call follows observe() for the same boundary, while the model waits; functional calls are left out. An empty
        mapping keeps every tensor. At a draw (see `Boundary.draw`), where the options share draws, any run calls this, and
        the layer's output becomes its input times the returned tensor. A tensor's shape must equal the recorded shape; its
        dtype is converted to the recorded one. The returned tensors' bytes must stay valid until the next call.
        """
        ...


@runtime_checkable
class Releasing(Protocol):
    """Extend an Observer whose owner releases records while the phase still runs, so that a full store can wait for room.

    With any other observer a full store is an error at once.
    """

    def await_room(self, releases: int) -> bool:
        """Wait until records are released once more; return False when no further release will come.

        Args:
            releases: The number of release_activations() calls that the store had seen in this phase when it was found
                full. Where it has seen more by now, this returns at once.
        """
        ...


@dataclass(frozen=True)
class RecordOptions:
    """Choose what a step records.

    Attributes:
        routes: The routes of the layers to record; None for every layer.
        inputs: Record the tensors that enter a layer, beside those that leave it.
        gradients: Record the gradients at the layers' boundaries in the backward.
        sync: Ask the observer for substitutes at each boundary (a synced run).
        api_calls: Report the functional calls that the recorded layers' own code makes (see `Boundary.api`).
        statistics: The statistics that the records' digests hold at least.
        draws: The routes of the dropouts whose draws are reported (see `Boundary.draw`), whether they are recorded or not.
            They must be of the framework's own classes.
        share_draws: Ask the observer at each of these draws for another in its place.
    """

    routes: tuple[str, ...] | None = None
    inputs: bool = True
    gradients: bool = True
    sync: bool = False
    api_calls: bool = False
    statistics: Statistics = Statistics.ALL
    draws: tuple[str, ...] = ()
    share_draws: bool = False

    def is_answered(self, boundary: Boundary) -> bool:
        """Tell whether the observer is asked for substitutes at a boundary."""
        return self.share_draws if boundary.draw else self.sync and not boundary.api


Copies = Literal["own", "float64"]
"""Copies of a model's tensors, in their own element types or in float64."""

Inputs = Mapping[str, Any]
"""forward's keyword arguments: Tensor, None, bool, int, float, str, or lists, tuples and dicts (str keys) of these."""


@dataclass(frozen=True)
class ForwardRequest:
    """Describe one forward.

    Attributes:
        inputs: forward's keyword arguments.
        training: Sets training or evaluation mode first; None keeps the model's mode.
        seed: Seeds the framework's random generators first; None leaves them as they are.
        gradients: False runs without autograd, so that no backward can follow.
        record: What the step records; None records nothing.
    """

    inputs: Inputs
    training: bool | None = None
    seed: int | None = None
    gradients: bool = True
    record: RecordOptions | None = field(default_factory=RecordOptions)


@dataclass(frozen=True)
class LossSpec:
    """Name a loss over the outputs of the last forward.

    Attributes:
        name: One of `model.losses_and_optimizers.NEUTRAL_LOSSES`, or a loss that the worker offers.
        options: The loss's options by name, such as {"seed": 0} of the projection.
        targets: The tensors that the loss compares the outputs with, by name.
        outputs: The names of the outputs that a neutral loss takes, in this order; empty for all outputs, in the
            model's own order.
    """

    name: str
    options: Mapping[str, float] = field(default_factory=dict)
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerSpec:
    """Name an optimiser and its options.

    Attributes:
        name: A neutral optimiser (SGD, Adam, AdamW), or an optimiser that the worker offers.
        options: The optimiser's options by name, such as {"lr": 0.1}.
    """

    name: str
    options: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerGroup:
    """Describe how an optimiser treats some parameters.

    Attributes:
        algorithm: The formula, by the name that the frameworks share (SGD, Adam, AdamW, RMSprop, ...), or else the class's own.
        options: The hyper-parameters by names that the frameworks share (lr, beta1, weight_decay, ...). One that the optimiser
            does not have is left out.
        parameters: The parameters' names.
    """

    algorithm: str
    options: Mapping[str, OptionValue]
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class ForwardResult:
    """Report a forward that has ended.

    Attributes:
        outputs: The records of the model's own outputs, where its root was recorded.
        wall_s: The duration in seconds, recording included.
    """

    outputs: tuple[Record, ...]
    wall_s: float


@dataclass(frozen=True)
class BackwardResult:
    """Report a backward that has ended.

    Attributes:
        loss: The scalar loss, in float64.
        without_gradient: The tensors at layer boundaries whose gradient never arrived.
        wall_s: The duration in seconds, recording included.
        unrecorded: Names what a dump does not hold, and so cannot be compared; empty for a model that runs. "loss": the
            loss, which is NaN then. "input", "output": the gradients of all layers' inputs or outputs. "parts": the
            contributions of several layers that take one tensor; the dump has only the sum of the tensor's gradients.
        recomputed: The routes of recorded layers whose forward ran again in the backward (recompute, activation
            checkpointing). No gradient may have arrived at their boundaries, since the first forward had no history.
    """

    loss: float
    without_gradient: tuple[SilentTensor, ...]
    wall_s: float
    unrecorded: tuple[Unrecorded, ...] = ()
    recomputed: tuple[str, ...] = ()


class Model(Protocol):
    """A model that can be described, read, written and run, wherever it lives.

    A HostedModel lives in this process, a RemoteModel behind gRPC, and a RecordedModel is a dump on disk. Every method may
    raise PadiffError. read_activations and release_activations may be called from other threads while forward or
    backward runs; all other methods are called by one thread at a time.
    """

    def info(self) -> ModelInfo:
        """Return where the model runs: its framework, versions, device and process."""
        ...

    def describe(self) -> ModelDescription:
        """Return the layer tree, and the specs of all parameters and buffers."""
        ...

    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        """Stream the values or the gradients of parameters and buffers, in the order of `names`.

        A tensor without a gradient is left out of a stream of gradients, and one without a state, or with one of another type
        than its own, out of a stream of states; a dump has no states. Each stream must be read, or abandoned, before the
        next one is taken, and a chunk is valid only until the next chunk is taken.

        Args:
            names: The full names or aliases of parameters and buffers, or of parts of them (see `parts`).
            what: The values, the gradients, or a state of the optimiser.
            transposed: The subset of `names` whose tensors are streamed as their transposes, row-major.

        Raises:
            PadiffError: UNKNOWN_NAME, before any stream, for a name that the model lacks. BAD_TENSOR where a tensor to
                transpose is no matrix.
        """
        ...

    def digest_parameters(
        self,
        names: Sequence[str],
        what: What = "value",
        transposed: Collection[str] = (),
        statistics: Statistics = Statistics.ALL,
    ) -> dict[str, Digest]:
        """Return the digests of parameters and buffers by name, of the bytes that read_parameters would stream.

        No tensor is moved. A tensor without a gradient is left out.

        Args:
            names: The full names or aliases of parameters and buffers, or of parts of them.
            what: As in read_parameters.
            transposed: The subset of `names` whose tensors are summarised as their transposes.
            statistics: The statistics that the digests hold at least.

        Raises:
            PadiffError: UNKNOWN_NAME and BAD_TENSOR, as in read_parameters.
        """
        ...

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        """Overwrite the values of parameters and buffers in place, as their bytes come.

        Each stream bears the name of its target, which may be a part of a parameter or buffer, and must have exactly the
        target's spec, which is checked before the first byte is written. After a failure some targets are written, and one may
        be written in part; repeating the whole call is idempotent.

        Raises:
            PadiffError: UNKNOWN_NAME for a name that the model lacks. BAD_TENSOR for another spec than the target's.
                DATA_LOSS for a stream that is too short or too long.
        """
        ...

    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        """Run forward on the inputs, after dropping the records and the autograd graph of the step before.

        Args:
            request: The inputs, and how to run.
            observer: Receives the boundaries of the recorded layers, and supplies the tensors of a synced run.
        """
        ...

    def backward(self, loss: LossSpec, observer: Observer | None = None) -> BackwardResult:
        """Clear the parameters' gradients, compute a loss of the last forward's outputs, and run backward.

        Layers are recorded, and replaced in a synced run, according to the options of the forward.

        Args:
            loss: The loss to compute.
            observer: Receives the boundaries' gradients, and supplies the gradients of a synced run.

        Raises:
            PadiffError: OUT_OF_ORDER where no forward with gradients went before.
        """
        ...

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Stream recorded tensors by id, each named by str(id), under the rules of read_parameters.

        Raises:
            PadiffError: UNKNOWN_NAME for a record that was released.
        """
        ...

    def release_activations(self, ids: Sequence[int]) -> None:
        """Forget recorded tensors; ids that are already released are ignored."""
        ...

    def optimizer_step(self, optimizer: OptimizerSpec) -> None:
        """Apply one optimiser step with the gradients that the parameters have now.

        A repeated call with an equal spec continues the same optimiser, with its state.
        """
        ...

    def reset(self) -> None:
        """Drop records, graph, gradients and optimiser states; parameters, buffers and the training mode stay."""
        ...

    def close(self) -> None:
        """End the use of the model: a remote model ends its session, and its worker where it launched one. Idempotent."""
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
    """The sizes of a store's records, in bytes. A copy that several records share counts once.

    Attributes:
        memory_bytes: The records in memory now.
        disk_bytes: The records on disk now.
        peak_memory_bytes: The most since restart_figures().
        peak_disk_bytes: The most since restart_figures().
        spilled_bytes: The sum of all writes to disk since restart_figures().
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
class TakingGradients(Protocol):
    """A further ability of a Model that runs: its optimiser can be given other gradients than its own."""

    def write_gradients(self, tensors: Iterable[TensorStream]) -> tuple[str, ...]:
        """Overwrite gradients in place, as their bytes come, and return the names of those that were written.

        A parameter without a gradient, or with one of another type or form (a sparse one), keeps what it has, and its stream
        is passed over. A worker that does not know the call writes none.

        Args:
            tensors: Each bears the name of its parameter and has the parameter's spec.

        Raises:
            PadiffError: UNKNOWN_NAME for a name that the model lacks. DATA_LOSS for a stream that is too short or too long.
        """
        ...


@runtime_checkable
class DescribingOptimizers(Protocol):
    """A further ability of a Model that runs: its optimisers can be looked into, and their states be read."""

    def describe_optimizer(self, optimizer: OptimizerSpec) -> tuple[OptimizerGroup, ...]:
        """Return the hyper-parameters that an optimiser has now, which is made where it was not stepped yet.

        Empty where it holds no optimiser of the framework's own, and from a worker that does not know the call.

        Raises:
            PadiffError: As optimizer_step.
        """
        ...


@runtime_checkable
class Stating(Protocol):
    """A further ability of a Model that runs: its own class may state how another library's checkpoint becomes its own."""

    def checkpoint_statements(self) -> tuple[str, ...]:
        """Return the AOA statements of the model's class, in their order; empty where it has none.

        They are texts, to be parsed and never evaluated. Their sources have the names of the other library.

        Raises:
            PadiffError: MODEL_FAILED where the class cannot tell them.
        """
        ...


@runtime_checkable
class Flooring(Protocol):
    """A further ability of a Model that runs: it measures how far a step's tensors move by rounding alone."""

    def measure_floor(self, request: ForwardRequest, loss: LossSpec | None) -> None:
        """Run a step on weights and inputs that are moved by their last bit, and put all values back exactly.

        The digests of the next forward, of its backward and of the gradients after it hold the distance of each tensor from that
        run (`Digest.floor`). Records, graph and gradients are gone afterwards.

        Args:
            request: The forward to come; `record` names the layers.
            loss: The loss of the backward to come; None for a forward alone.

        Raises:
            PadiffError: As forward() and backward() do. MODEL_FAILED where the model's forward changes its own parameters.
        """
        ...


@runtime_checkable
class Lending(Protocol):
    """A further ability of a Model that runs: it computes with copies of its tensors for a while, in float64 if need be."""

    def work_on(self, copies: Copies | None) -> None:
        """Go over to copies of all tensors, in their own types or in float64, or (None) back to the model's own.

        Back means: the memory, bytes and gradients of all parameters and buffers, and the modes and attributes of all layers,
        whatever was run or written in between. Records and graph are dropped either way. reset() goes back, too.

        Args:
            copies: "own" or "float64"; None goes back.

        Raises:
            PadiffError: VERSION_MISMATCH from a worker that is too old for it.
        """
        ...


@runtime_checkable
class Transporting(Protocol):
    """A further ability of a Model in another process: it tells how its tensors come from there."""

    @property
    def transport(self) -> str:
        """The way that tensors take: "shared memory" or "streams"."""
        ...
