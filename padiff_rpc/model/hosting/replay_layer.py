"""Run one layer of a native model alone, on given tensors and in a given dtype, and leave nothing of the model changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model import nested
from padiff_rpc.model.backends.backend import Backend, NativeLayer, NativeTensor
from padiff_rpc.model.hosting.kept_state import kept_state, on_copies
from padiff_rpc.model.hosting.native_inputs import call_arguments, to_native
from padiff_rpc.model.model import Boundary, LossSpec, Record, RecordOptions
from padiff_rpc.model.recording.native_tree import PlacedLayer, choose_layers, place_layers, place_tensors
from padiff_rpc.model.recording.recorder import Recorder, raise_failure
from padiff_rpc.model.replaying import ReplayRequest, ReplayResult
from padiff_rpc.model.store.store import Store
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Tensor

Loss = Callable[[LossSpec, Any], NativeTensor]
"""Computes a loss of the value that a layer returned."""

_DTYPES = ("float64", "float32")


def replay_layer(
    backend: Backend, model: NativeLayer, store: Store, loss: Loss, request: ReplayRequest
) -> ReplayResult:
    """Replay as `Replaying.replay` says. The model's own exceptions are raised as they are."""
    started = time.perf_counter()
    if request.dtype is not None and request.dtype not in _DTYPES:
        raise PadiffError(
            f"a layer cannot be replayed in {request.dtype!r}",
            reason=Reason.BAD_CONFIG,
            hint=f"choose {' or '.join(_DTYPES)}, or none for the layer's own",
        )
    layers = place_layers(backend, model)
    (placed,) = choose_layers(layers, (request.route,))
    recorded = choose_layers(layers, (request.route, *request.inner))
    forward = request.forward
    inputs = {name: to_native(backend, model, name, value) for name, value in forward.inputs.items()}
    args, kwargs = call_arguments(model, inputs)
    replay = _Replay(backend, layers, placed, recorded, store, loss, request)
    with backend.kept_randomness(), kept_state(backend, [each.layer for each in layers]):
        if forward.training is not None:
            backend.set_training(model, forward.training)
        if forward.seed is not None:
            backend.seed(forward.seed)
        remove = backend.hook(placed.layer, replay.before, lambda args, kwargs, output: None)
        try:
            backend.forward(model, args, kwargs, forward.gradients)
        except _Reached:
            pass
        finally:
            remove()
    return replay.result(started)


class _Reached(BaseException):
    """Ends a forward that has reached the layer; no model's `except Exception` takes it for a failure."""


class _Replay:
    """One replay. It takes place where the layer is called, so that autocast and the like are in force as they are there."""

    def __init__(
        self,
        backend: Backend,
        layers: list[PlacedLayer],
        placed: PlacedLayer,
        recorded: list[PlacedLayer],
        store: Store,
        loss: Loss,
        request: ReplayRequest,
    ) -> None:
        self._backend = backend
        self._placed = placed
        self._recorded = recorded
        self._store = store
        self._loss = loss
        self._request = request
        self._inside = [each.layer for each in place_layers(backend, placed.layer)]
        within = {id(tensor) for layer in self._inside for _, tensor, _, _ in backend.own_tensors(layer)}
        self._tensors = [each for each in place_tensors(backend, layers) if id(each.tensor) in within]
        self._calls = 0
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None  # of the layer, while it runs alone
        self._reached = False
        self._failure: Exception | None = None
        self._boundaries: list[Boundary] = []
        self._parameters: list[Record] = []

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Run the layer alone at the call that is wanted, and end the forward. In the layer's own run, hand in its arguments."""
        if self._arguments is not None:
            return self._arguments  # a pre-hook of the model's own has worked on what reached the layer already
        if self._reached or self._calls < self._request.call:
            self._calls += 1
            return None
        self._reached = True
        try:
            with on_copies(self._backend, self._inside, self._request.dtype), self._given_values():
                self._arguments = self._prepare(args, kwargs)
                # The layer may be called without autograd; it is set on for all that is done here.
                self._backend.forward(self._run, *self._arguments, True)
        except Exception as err:  # noqa: BLE001 - raised by result(); the model is not to see it
            self._failure = err
        finally:
            self._arguments = None
        raise _Reached

    def result(self, started: float) -> ReplayResult:
        """Return what came of it; raise what the layer raised, and UNKNOWN_NAME where the call was never reached."""
        if self._failure is not None:
            self._store.release(record.id for record in self._kept())
            raise self._failure
        if not self._reached:
            raise PadiffError(
                f"layer {self._request.route!r} has no call {self._request.call} to replay: this forward called it "
                f"{self._calls} times",
                reason=Reason.UNKNOWN_NAME,
                hint="calls are counted from 0; a layer whose forward is called directly, past its hooks, counts none",
                metadata={"layer": self._placed.route},
            )
        return ReplayResult(tuple(self._boundaries), tuple(self._parameters), time.perf_counter() - started)

    def observe(self, boundary: Boundary) -> None:
        """Collect a boundary, as the recorder's observer."""
        self._boundaries.append(boundary)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Keep every tensor."""
        return {}

    def _kept(self) -> list[Record]:
        return [*(record for each in self._boundaries for record in each.records), *self._parameters]

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the layer's arguments with copies of their tensors: the given ones, all cast, the floating ones traced.

        One object under two names (attention's q, k, v) stays one object, unless different tensors are given for them.
        """
        tensors = nested.flatten_call(args, kwargs, self._backend.is_tensor)
        given = self._request.inputs
        self._check("takes", given, [name for name, _ in tensors])
        made: list[tuple[NativeTensor, Tensor | None, NativeTensor]] = []
        copies: dict[str, NativeTensor] = {}
        for name, tensor in tensors:
            value = given.get(name)
            copy = next((copy for of, what, copy in made if of is tensor and _equal(what, value)), None)
            if copy is None:
                copy = self._copy(name, tensor, value)
                made.append((tensor, value, copy))
            copies[name] = copy
        return nested.rebuild_call(args, kwargs, self._backend.is_tensor, copies)

    def _copy(self, name: str, tensor: NativeTensor, value: Tensor | None) -> NativeTensor:
        copy = self._backend.cast(tensor, self._request.dtype)
        if value is not None:
            copy = self._in_place_of(f"input {name!r}", copy, value)
        return self._backend.traced(copy) if self._backend.spec(copy).dtype.is_floating else copy

    @contextmanager
    def _given_values(self) -> Iterator[None]:
        """Have the layers compute with the values that were given for parameters and buffers."""
        known = {name: each.tensor for each in self._tensors for name in (each.name, *each.aliases)}
        self._check("holds", self._request.parameters, known)
        with ExitStack() as undo:
            for name, value in self._request.parameters.items():
                source = self._in_place_of(f"tensor {name!r}", known[name], value)
                undo.callback(self._backend.lend(known[name], source))
            yield

    def _in_place_of(self, what: str, tensor: NativeTensor, value: Tensor) -> NativeTensor:
        """Make a tensor of given values, on the device and of the dtype of another."""
        spec = self._backend.spec(tensor)
        if value.spec.shape != spec.shape or value.spec.dtype.is_floating != spec.dtype.is_floating:
            raise PadiffError(
                f"{what} of layer {self._placed.route!r} is {spec} and cannot be {value.spec}",
                reason=Reason.BAD_TENSOR,
                metadata={"layer": self._placed.route},
            )
        return self._backend.from_tensor(value, tensor, self._placed.layer)

    def _check(self, does: str, given: Iterable[str], names: Collection[str]) -> None:
        for name in given:
            if name not in names:
                raise PadiffError(
                    f"layer {self._placed.route!r} {does} no tensor {name!r}",
                    reason=Reason.UNKNOWN_NAME,
                    hint=f"it {does} {', '.join(names) or 'none'}",
                    metadata={"layer": self._placed.route},
                )

    def _run(self, *args: Any, **kwargs: Any) -> None:
        recorder = Recorder(self._backend, self._recorded, RecordOptions(), self._store, self)
        try:
            with recorder.recording():
                outputs = self._placed.layer(*args, **kwargs)
            raise_failure(recorder, None)
            if self._request.backward:
                self._run_backward(recorder, outputs)
        except Exception as err:
            raise_failure(recorder, err)
            raise
        finally:
            recorder.close()

    def _run_backward(self, recorder: Recorder, outputs: Any) -> None:
        specs = [self._backend.spec(tensor) for _, tensor in nested.flatten(outputs, self._backend.is_tensor)]
        if not any(spec.dtype.is_floating and spec.count for spec in specs):
            return
        wanted = LossSpec("projection", {"seed": float(self._request.seed)}, outputs=self._request.outputs)
        loss = self._loss(wanted, outputs)
        if not self._backend.wants_gradient(loss):
            return
        recorder.start_backward(self)
        self._backend.backward(loss)
        raise_failure(recorder, None)
        for each in self._tensors:
            gradient = self._backend.gradient(each.tensor) if each.trainable else None
            if gradient is not None:
                self._parameters.append(self._keep(each.name, gradient))

    def _keep(self, name: str, tensor: NativeTensor) -> Record:
        spec, flat = self._backend.spec(tensor), self._backend.to_bytes(tensor)
        summary = digest(flat, spec)
        identifier = self._store.put(flat, spec, summary.hash)
        return Record(identifier, name, spec, summary, self._store.place(identifier))


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or (one.spec == other.spec and one.data == other.data)
