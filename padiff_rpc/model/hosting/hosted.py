"""HostedModel: a framework's model in this process, behind the Model protocol."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model import nested
from padiff_rpc.model.backends import detect_backend, load_backend
from padiff_rpc.model.backends.backend import Backend, NativeTensor
from padiff_rpc.model.hosting.checkpoint_statements import checkpoint_statements
from padiff_rpc.model.hosting.environment import model_info
from padiff_rpc.model.hosting.factory import build_model, load_function
from padiff_rpc.model.hosting.kept_state import kept_state, on_copies
from padiff_rpc.model.hosting.measure_floor import measure_floor
from padiff_rpc.model.hosting.native_inputs import call_arguments, forward_signature, to_native
from padiff_rpc.model.hosting.replay_layer import replay_layer
from padiff_rpc.model.hosting.trainer import Trainer
from padiff_rpc.model.hosting.user_errors import raising_layer, user_error
from padiff_rpc.model.hosting.write_tensor import write_stream
from padiff_rpc.model.model import (
    BackwardResult,
    BoundarySide,
    Copies,
    ForwardRequest,
    ForwardResult,
    LossSpec,
    ModelDescription,
    ModelInfo,
    Observer,
    OptimizerGroup,
    OptimizerSpec,
    OptionValue,
    RecordOptions,
    StoreFigures,
    What,
)
from padiff_rpc.model.parts import has_part, place_of_part, stack_name
from padiff_rpc.model.recording.native_tree import (
    choose_layers,
    describe,
    find_tensors,
    place_layers,
    place_tensors,
    unknown_layer,
)
from padiff_rpc.model.recording.perturbed_run import PerturbedRun
from padiff_rpc.model.recording.recorder import Recorder, raise_failure
from padiff_rpc.model.replaying import ReplayRequest, ReplayResult
from padiff_rpc.model.spec import parse_spec
from padiff_rpc.model.store.arena import Offer
from padiff_rpc.model.store.store import Store
from padiff_rpc.tensors.digest import digest, digest_chunks
from padiff_rpc.tensors.sketch import sketch
from padiff_rpc.tensors.tensor import Digest, Statistics, TensorSpec, TensorStream, chunks_of
from padiff_rpc.tensors.transpose import transposed_chunks, transposed_spec

_AUTOGRAD_HINT = (
    "the forward ran without autograd, since no backward was to follow; a model that asks for gradients in its own forward "
    "(a hook on a tensor) runs with phase 'both', or in single step"
)


@dataclass(frozen=True)
class Placement:
    """Choose what a model computes with.

    Attributes:
        device: The device, as the framework writes it (`cpu`, `cuda:0`, `gpu:0`); None leaves the model where it is.
        dtype: The floating type of its parameters and buffers (`float64`, `float32`, `bfloat16`, `float16`); None casts
            nothing.
        threads: The number of CPU threads that a single operation may use; None leaves it to the framework.
    """

    device: str | None = None
    dtype: str | None = None
    threads: int | None = None


@dataclass
class _Step:
    """A forward that a backward may follow. `outputs` is the structure that the model returned."""

    outputs: Any
    recorder: Recorder | None
    gradients: bool


class HostedModel:
    """Host a model of one framework in this process, behind the Model protocol.

    The thread that calls it does all the framework's work; only one thread may.

    Attributes:
        model: The framework's own model.
        backend: The framework.
    """

    def __init__(
        self,
        model: Any,
        backend: Backend | None = None,
        *,
        losses: Mapping[str, Callable[[Any], Any]] | None = None,
        optimizers: Mapping[str, Callable[[Any], Any]] | None = None,
        store_memory_bytes: int | None = None,
        store_disk_bytes: int | None = None,
        summarise_apart: bool = False,
    ) -> None:
        """Host a model.

        Args:
            model: The framework's own model.
            backend: The framework; None finds it by the model.
            losses: Further losses by name, each `loss(outputs) -> scalar` over the value that the model returned.
            optimizers: Further optimisers by name, each `make(model)`, which returns an object with `step()`.
            store_memory_bytes: The memory that the model's records may take; None for a share of what the machine has.
            store_disk_bytes: The disk space that they may take once memory is full; None for a share of what the machine has.
            summarise_apart: Compute the records' digests, and call the observer of forward and backward, in a thread
                beside the caller's.

        Raises:
            PadiffError: BAD_CONFIG where a loss or optimiser has the name of a neutral one, or the model is of no known
                framework.
        """
        self.model = model
        self.backend: Backend = backend if backend is not None else detect_backend(model)
        self._trainer = Trainer(self.backend, model, losses or {}, optimizers or {})
        self._store = Store(store_memory_bytes, store_disk_bytes)
        self._summarise_apart = summarise_apart
        self._step: _Step | None = None
        self._called: list[Recorder] = []
        self._lent: ExitStack | None = None  # undone when the model goes back to its own tensors
        self._measured: PerturbedRun | None = None
        self._floor: PerturbedRun | None = None

    @classmethod
    def from_spec(
        cls,
        spec: str,
        *,
        model_args: Mapping[str, Any] | None = None,
        placement: Placement | None = None,
        losses: Mapping[str, str] | None = None,
        optimizers: Mapping[str, str] | None = None,
        store_memory_bytes: int | None = None,
        store_disk_bytes: int | None = None,
        summarise_apart: bool = False,
    ) -> HostedModel:
        """Load a framework, call a model's factory, move and cast its model, and host it.

        Args:
            spec: Names the framework and the factory: `torch@path/to/file.py:factory`.
            model_args: The factory's keyword arguments.
            placement: The device, dtype and threads to compute with; None leaves all as the framework and the factory have
                them.
            losses: Further losses by name, each as `file.py:function`.
            optimizers: Further optimisers by name, each as `file.py:function`.
            store_memory_bytes: As in HostedModel().
            store_disk_bytes: As in HostedModel().
            summarise_apart: As in HostedModel().

        Raises:
            PadiffError: BAD_SPEC, FRAMEWORK_MISSING or FACTORY_FAILED where the model cannot be built. BAD_CONFIG for
                arguments, a device or a dtype that do not fit, and as in HostedModel().
        """
        parsed = parse_spec(spec)
        if parsed.kind != "factory":
            raise PadiffError(
                f"{spec!r} is not a model that can be built here",
                reason=Reason.BAD_SPEC,
                hint="host a factory: torch@path/to/file.py:factory, paddle@package.module:factory",
            )
        backend = load_backend(parsed.framework)
        placement = placement or Placement()
        if placement.threads is not None:
            backend.set_threads(placement.threads)
        offered = [
            {name: load_function(place, backend.name) for name, place in (places or {}).items()}
            for places in (losses, optimizers)
        ]
        model = backend.prepare(build_model(parsed, backend, model_args), placement.device, placement.dtype)
        return cls(
            model,
            backend,
            losses=offered[0],
            optimizers=offered[1],
            store_memory_bytes=store_memory_bytes,
            store_disk_bytes=store_disk_bytes,
            summarise_apart=summarise_apart,
        )

    def info(self) -> ModelInfo:
        """Return the ModelInfo of this process."""
        return model_info(
            self.backend,
            self.model,
            losses=self._trainer.loss_names,
            optimizers=self._trainer.optimizer_names,
            store_memory_bytes=self._store.memory_budget_bytes,
            store_disk_bytes=self._store.disk_budget_bytes,
        )

    def describe(self) -> ModelDescription:
        """Return the description, which is read off the model anew at every call."""
        return replace(describe(self.backend, self.model), forward=forward_signature(self.model))

    def checkpoint_statements(self) -> tuple[str, ...]:
        """Return the AOA statements that the model's class gives, as Stating does."""
        return checkpoint_statements(self.model, self.backend.name)

    def native_layer(self, route: str) -> Any:
        """Return the framework's own layer at a route or alias, for code in this process.

        Raises:
            PadiffError: UNKNOWN_NAME where no layer has this route.
        """
        placed = {alias: one for one in place_layers(self.backend, self.model) for alias in (one.route, *one.aliases)}
        if route not in placed:
            raise unknown_layer(f"{type(self.model).__name__} has no layer {route!r}", route, placed)
        return placed[route].layer

    def memory(self) -> dict[int, str]:
        """Return the memory addresses of the parameters and buffers that are not empty, each mapped to a name.

        Code in this process can thus tell which tensors of two models share memory.
        """
        held = [(name, tensor) for name, tensor in self._known_tensors().items() if self.backend.spec(tensor).count]
        return {self.backend.address(tensor): name for name, tensor in reversed(held)}

    # -- parameters ---------------------------------------------------------------------------------------------------
    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        """Stream as Model says; chunks are views of the parameters' own memory where the framework allows it."""
        found = self._named(names)
        for name, tensor, at in found if transposed else ():
            if name in transposed:
                transposed_spec(name, self.backend.spec(tensor if at is None else self.backend.part(tensor, at)))
        return (self._stream(name, tensor, name in transposed) for name, tensor in self._wanted(found, what))

    def digest_parameters(
        self,
        names: Sequence[str],
        what: What = "value",
        transposed: Collection[str] = (),
        statistics: Statistics = Statistics.ALL,
    ) -> dict[str, Digest]:
        """Return digests as Model says, computed in the calling thread."""
        wanted = self._wanted(self._named(names), what)
        digests = {name: self._digest(name, tensor, name in transposed, statistics) for name, tensor in wanted}
        if what == "value" or self._floor is None:
            return digests
        gradients = dict(self._wanted(self._named(names), what))
        return {name: self._with_floor(self._floor, name, gradients[name], each) for name, each in digests.items()}

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        """Overwrite as Model says.

        Where the framework gives no access to a tensor's memory, the tensor's stream is first collected whole.
        """
        known = self._known_tensors()
        for stream in tensors:
            found = self._placed(stream.name, known)
            if found is None:
                raise self._unknown_tensor(stream.name, known)
            tensor, at = found
            write_stream(self.backend, tensor if at is None else self.backend.part(tensor, at), stream)

    def write_gradients(self, tensors: Iterable[TensorStream]) -> tuple[str, ...]:
        """Overwrite as TakingGradients says."""
        known = self._known_tensors()
        written: list[str] = []
        for stream in tensors:
            found = self._placed(stream.name, known)
            if found is None:
                raise self._unknown_tensor(stream.name, known)
            tensor, at = found
            gradient = self.backend.own_gradient(tensor)
            if gradient is not None and at is not None:
                gradient = self.backend.part(gradient, at)
            if gradient is not None and self.backend.spec(gradient) == stream.spec:
                write_stream(self.backend, gradient, stream)
                written.append(stream.name)
        return tuple(written)

    # -- a step -------------------------------------------------------------------------------------------------------
    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        """Run forward as Model says.

        Raises:
            PadiffError: BAD_INPUTS for inputs that the model's forward does not take. MODEL_FAILED where the model raised
                (metadata["layer"] is the innermost layer's route). UNKNOWN_NAME for a route to record that the model lacks.
                BAD_CONFIG for a synced run without an observer.
        """
        started = time.perf_counter()
        self._drop_step()
        self._floor, self._measured = self._measured, None  # of this step, and no other
        options = request.record
        recorder = None
        if options is not None:
            if options.sync and observer is None:
                raise PadiffError("a synced run needs an observer", reason=Reason.BAD_CONFIG)
            recorder = self._recorder(options, observer, request.gradients, self._summarise_apart)
        inputs = {name: to_native(self.backend, self.model, name, value) for name, value in request.inputs.items()}
        args, kwargs = call_arguments(self.model, inputs)
        if request.training is not None:
            self.backend.set_training(self.model, request.training)
        if request.seed is not None:
            self.backend.seed(request.seed)
        try:
            with recorder.recording() if recorder else nullcontext():
                outputs = self.backend.forward(self.model, args, kwargs, request.gradients)
            raise_failure(recorder, None)
        except Exception as err:
            if recorder is not None:
                recorder.close()
            raise_failure(recorder, err)
            raise self._model_failed("forward", err, autograd=request.gradients) from err
        self._step = _Step(outputs, recorder, request.gradients)
        return ForwardResult(recorder.outputs if recorder else (), time.perf_counter() - started)

    def backward(self, loss: LossSpec, observer: Observer | None = None) -> BackwardResult:
        """Run backward as Model says.

        Raises:
            PadiffError: BAD_CONFIG for a loss that these outputs cannot have, or that depends on no parameter. OUT_OF_ORDER
                without a forward that ran with gradients. MODEL_FAILED where backward raised.
        """
        started = time.perf_counter()
        step = self._step
        if step is None or not step.gradients:
            raise PadiffError(
                "backward without a forward" if step is None else "backward after a forward without gradients",
                reason=Reason.OUT_OF_ORDER,
                hint="each backward takes a forward of its own, with gradients",
            )
        self.backend.clear_gradients(self.model)
        value = self._trainer.loss(loss, step.outputs)
        if not self.backend.wants_gradient(value):
            raise PadiffError(
                f"the loss {loss.name!r} depends on no trainable parameter or input",
                reason=Reason.BAD_CONFIG,
                hint="are all parameters frozen, the outputs detached, or gradients off around this call (no_grad)?",
            )
        if self._floor is not None:
            self._floor.hold_for(self.over_all_outputs(loss))
        self._step = None  # backward consumes the graph, also when it fails
        recorder = step.recorder
        if recorder is not None:
            recorder.start_backward(observer)
        try:
            self.backend.backward(value)
            if recorder is not None:
                recorder.settle()
            raise_failure(recorder, None)
        except Exception as err:
            raise_failure(recorder, err)
            raise self._model_failed("backward", err) from err
        finally:
            if recorder is not None:
                recorder.close()
        silent = recorder.silent() if recorder else ()
        again = recorder.recomputed if recorder else ()
        return BackwardResult(self.backend.item(value), silent, time.perf_counter() - started, recomputed=again)

    def measure_floor(self, request: ForwardRequest, loss: LossSpec | None) -> None:
        """Measure as Flooring says, for the next step.

        Raises:
            PadiffError: BAD_CONFIG where nothing is recorded, and as in forward() and backward(). MODEL_FAILED where the model's
                forward changes its own parameters.
        """
        self._measured = None
        self._measured = measure_floor(self, self.model, self.backend, self.over_all_outputs, request, loss)

    def work_on(self, copies: Copies | None) -> None:
        """Go over to copies, or back, as Lending says."""
        self._drop_step()
        self._measured = self._floor = None
        if self._lent is not None:
            lent, self._lent = self._lent, None
            lent.close()
        if copies is None:
            return
        layers = [each.layer for each in place_layers(self.backend, self.model)]
        with ExitStack() as lent:
            lent.enter_context(kept_state(self.backend, layers))
            lent.enter_context(on_copies(self.backend, layers, "float64" if copies == "float64" else None))
            self._lent = lent.pop_all()

    def over_all_outputs(self, loss: LossSpec) -> LossSpec:
        """Return a loss with the names of the last forward's outputs, where it takes all of them."""
        outputs = None if self._step is None else self._step.outputs
        return replace(
            loss, outputs=loss.outputs or tuple(name for name, _ in nested.flatten(outputs, self.backend.is_tensor))
        )

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Stream as Model says, out of this model's store."""
        return (self._store.get(identifier) for identifier in ids)

    def release_activations(self, ids: Sequence[int]) -> None:
        """Forget records as Model says, and count the release."""
        self._store.release(ids)

    def optimizer_step(self, optimizer: OptimizerSpec) -> None:
        """Step as Model says.

        Raises:
            PadiffError: UNKNOWN_NAME for an unknown optimiser. BAD_CONFIG for options or a model that it cannot step.
                MODEL_FAILED where an offered optimiser raised.
        """
        self._trainer.step(optimizer)

    def describe_optimizer(self, optimizer: OptimizerSpec) -> tuple[OptimizerGroup, ...]:
        """Describe as DescribingOptimizers says; parameters that are treated alike are one group."""
        names = {id(tensor): name for name, tensor in reversed(self._known_tensors().items())}
        groups: dict[str, tuple[str, dict[str, OptionValue], list[str]]] = {}
        for parameter, algorithm, options in self._trainer.options(optimizer):
            if id(parameter) in names:
                key = repr((algorithm, sorted(options.items())))
                groups.setdefault(key, (algorithm, options, []))[2].append(names[id(parameter)])
        return tuple(OptimizerGroup(algorithm, options, tuple(held)) for algorithm, options, held in groups.values())

    def replay(self, request: ReplayRequest) -> ReplayResult:
        """Run one layer alone, as Replaying says."""
        self._drop_graph()
        try:
            return replay_layer(self.backend, self.model, self._store, self._trainer.loss, request)
        except Exception as err:
            where = f"replay in {request.dtype}" if request.dtype else "replay"
            raise self._model_failed(where, err, autograd=request.forward.gradients) from err

    # -- a user's own loop --------------------------------------------------------------------------------------------
    def record_call(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], options: RecordOptions, observer: Observer
    ) -> tuple[Any, Callable[[], tuple[tuple[str, int, BoundarySide, str], ...]]]:
        """Call the model as its user does, and record it.

        Arguments are native, and grad mode, autocast and seeds are the caller's. Unlike forward() this keeps the records of the
        calls before, and raises the model's exceptions as they are. Gradients are recorded whenever they come, until
        drop_records().

        Args:
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
            options: What to record.
            observer: Receives the boundaries of the forward and of any later backward.

        Returns:
            The value that the model returned, and a function that returns the tensors whose gradients have not arrived so far,
            each as (route, call, side, name).
        """
        recorder = self._recorder(options, observer, options.gradients, apart=False)
        try:
            with recorder.recording():
                outputs = self.model(*args, **kwargs)
            raise_failure(recorder, None)
        except Exception as err:
            recorder.close()
            raise_failure(recorder, err)
            raise
        self._called.append(recorder)
        return outputs, recorder.silent

    def run_backward(self, loss: NativeTensor) -> None:
        """Run backward from a native loss that was computed from a result of record_call(); gradients add up."""
        try:
            self.backend.backward(loss)
        except Exception as err:
            for recorder in self._called:
                raise_failure(recorder, err)
            raise
        for recorder in self._called:
            raise_failure(recorder, None)

    def drop_records(self) -> None:
        """Drop all records, and listen for no more gradients of the calls so far; parameter gradients stay."""
        self._drop_step()

    # -- the end ------------------------------------------------------------------------------------------------------
    def reset(self) -> None:
        """Drop records, graph, optimisers and parameter gradients; parameters and the model's mode stay."""
        self.work_on(None)
        self._store.restart_figures()
        self._trainer.reset()
        self.backend.clear_gradients(self.model)

    def close(self) -> None:
        """Drop everything that reset() drops, and give the store's memory and disk back."""
        self.reset()
        self._store.close()

    def offer_store(self) -> Offer | None:
        """Return the pid, descriptor and size of the memory that records lie in; None if other processes cannot map it."""
        return self._store.offer()

    def store_figures(self) -> StoreFigures:
        """Return how much the store holds, and has held since reset()."""
        return self._store.figures()

    def _drop_graph(self) -> None:
        if self._step is not None and self._step.recorder is not None:
            self._step.recorder.close()
        self._step = None

    def _drop_step(self) -> None:
        self._drop_graph()
        for recorder in self._called:
            recorder.close()
        self._called.clear()
        self._store.clear()

    def _recorder(self, options: RecordOptions, observer: Observer | None, gradients: bool, apart: bool) -> Recorder:
        layers = place_layers(self.backend, self.model)
        chosen = layers if options.routes is None else choose_layers(layers, options.routes)
        taken = {id(placed) for placed in chosen}
        others = [placed for placed in layers if id(placed) not in taken]
        watched = replace(options, gradients=options.gradients and gradients)
        return Recorder(self.backend, chosen, watched, self._store, observer, others, apart, self._floor)

    def _known_tensors(self) -> dict[str, NativeTensor]:
        tensors = place_tensors(self.backend, place_layers(self.backend, self.model))
        return {name: each.tensor for each in tensors for name in (each.name, *each.aliases)}

    def _named(self, names: Sequence[str]) -> list[tuple[str, NativeTensor, int | None]]:
        """Return each name with its tensor; with the stack and the place in it, for a part of one."""
        # Looked up anew each time: a framework may put another object in a buffer's place while it runs.
        known = find_tensors(self.backend, self.model, [*names, *{stack_name(name) for name in names}])
        found: list[tuple[str, NativeTensor, int | None]] = []
        for name in names:
            placed = self._placed(name, known)
            if placed is None:
                raise self._unknown_tensor(name, self._known_tensors())
            found.append((name, *placed))
        return found

    def _placed(self, name: str, known: Mapping[str, NativeTensor]) -> tuple[NativeTensor, int | None] | None:
        if name in known:
            return known[name], None
        place = place_of_part(name)
        if place is None or place[0] not in known or not has_part(self.backend.spec(known[place[0]]), place[1]):
            return None
        return known[place[0]], place[1]

    def _wanted(
        self, found: list[tuple[str, NativeTensor, int | None]], what: What
    ) -> Iterator[tuple[str, NativeTensor]]:
        for name, tensor, at in found:
            wanted = self._what(tensor, what)
            if wanted is not None:
                yield name, wanted if at is None else self.backend.part(wanted, at)

    def _what(self, tensor: NativeTensor, what: What) -> NativeTensor | None:
        if what == "value":
            return tensor
        if what == "gradient":
            return self.backend.gradient(tensor)
        state = self._trainer.state(tensor, what)
        same = state is not None and self.backend.spec(state) == self.backend.spec(tensor)
        return state if same else None

    def _stream(self, name: str, tensor: NativeTensor, transposed: bool) -> TensorStream:
        if transposed:
            spec, matrix = self._matrix(name, tensor)
            return TensorStream(name, spec, transposed_chunks(matrix))
        return TensorStream(name, self.backend.spec(tensor), chunks_of(self.backend.to_bytes(tensor).data))

    def _digest(self, name: str, tensor: NativeTensor, transposed: bool, statistics: Statistics) -> Digest:
        if not transposed:
            return digest(self.backend.to_bytes(tensor), self.backend.spec(tensor), statistics)
        spec, matrix = self._matrix(name, tensor)
        return digest_chunks(lambda: transposed_chunks(matrix), spec, statistics=statistics)

    def _with_floor(self, floor: PerturbedRun, name: str, gradient: NativeTensor, summary: Digest) -> Digest:
        """Add how far a gradient is from that of the perturbed run; a transpose is as far."""
        spec = self.backend.spec(gradient)
        if not floor.knows(name) or not spec.dtype.is_floating:
            return summary
        return replace(summary, floor=floor.of(name, sketch([self.backend.to_bytes(gradient).data], spec)))

    def _matrix(self, name: str, tensor: NativeTensor) -> tuple[TensorSpec, np.ndarray]:
        """Return the header of a tensor's transpose, and the tensor itself as an array."""
        spec = self.backend.spec(tensor)
        turned = transposed_spec(name, spec)
        return turned, self.backend.to_bytes(tensor).view(spec.dtype.storage).reshape(spec.shape)

    def _unknown_tensor(self, name: str, known: Mapping[str, NativeTensor]) -> PadiffError:
        nearest = difflib.get_close_matches(name, known, n=1)
        return PadiffError(
            f"{type(self.model).__name__} has no parameter or buffer {name!r}",
            reason=Reason.UNKNOWN_NAME,
            hint=f"did you mean {nearest[0]!r}?" if nearest else f"it has {len(known)} of them; describe() lists them",
        )

    def _model_failed(self, phase: str, err: Exception, autograd: bool = True) -> Exception:
        if isinstance(err, PadiffError):
            return err
        layers = place_layers(self.backend, self.model)  # only now: a step that is not recorded walks no tree
        route = raising_layer(err, {id(placed.layer): placed.route for placed in layers})
        classes = {placed.route: type(placed.layer).__name__ for placed in layers}
        if route is None:
            where = f"the {phase} of {classes['']}"
        else:
            where = f"the {phase} of layer {route!r} ({classes[route]})" if route else f"the {phase} of {classes['']}"
        metadata = {} if route is None else {"layer": route}
        hint = "" if autograd or "grad" not in str(err) else _AUTOGRAD_HINT
        return user_error(f"{where} raised", err, self.backend.name, Reason.MODEL_FAILED, hint=hint, metadata=metadata)
