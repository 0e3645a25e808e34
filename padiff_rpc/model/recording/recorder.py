"""Record, and in a synced run replace, the tensors that cross the boundaries of layers in one step of a native model."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model import nested
from padiff_rpc.model.api_names import api_route
from padiff_rpc.model.backends.backend import Backend, Listen, NativeTensor, Remove
from padiff_rpc.model.model import Boundary, BoundarySide, Observer, Phase, Record, RecordOptions, Releasing
from padiff_rpc.model.recording.call_stack import Calls, RunningCall
from padiff_rpc.model.recording.gradient_hooks import GradientHooks, GradientPoint
from padiff_rpc.model.recording.native_tree import PlacedLayer
from padiff_rpc.model.recording.perturbed_run import PerturbedRun, Place
from padiff_rpc.model.recording.side_thread import SideThread
from padiff_rpc.model.store.store import Store
from padiff_rpc.tensors.digest import digest_chunks, hash_of
from padiff_rpc.tensors.redraw import explains
from padiff_rpc.tensors.sketch import Sketch, sketch
from padiff_rpc.tensors.tensor import Digest, DType, Tensor, TensorSpec

DRAW = "draw"
"""The name of the record of what a dropout has drawn."""
Named = list[tuple[str, NativeTensor]]
"""Tensors with their places in the nested arguments or outputs (see nested.py)."""


@dataclass(frozen=True)
class _Capture:
    """A tensor that the store keeps under this id, and that has no digest yet."""

    id: int
    name: str
    spec: TensorSpec
    hash: bytes


class Recorder:
    """Hook a native model's layers for one step, keep the tensors in a store, and report boundaries to an observer.

    `recording()` surrounds the forward, `start_backward()` precedes the backward, and `close()` ends the step. With
    `apart`, digests are computed and the observer is called in a thread beside the model's; a synced run does both in
    the model's thread, since the model waits for the answer anyway.

    Attributes:
        outputs: The records of the root's outputs, once the forward has ended.
        failure: The first exception that was raised in a hook, by the observer or by the store; None where there was none.
            Frameworks and models may wrap or swallow it on its way out, so that callers must look here.
    """

    def __init__(
        self,
        backend: Backend,
        layers: Sequence[PlacedLayer],
        options: RecordOptions,
        store: Store,
        observer: Observer | None,
        others: Sequence[PlacedLayer] = (),
        apart: bool = False,
        floor: PerturbedRun | None = None,
    ) -> None:
        """Prepare to record; nothing is hooked before `recording()`.

        Args:
            backend: The framework.
            layers: The layers to record, in pre-order.
            options: What to record; gradients only where the forward runs with autograd.
            store: Keeps the captured tensors.
            observer: Receives the boundaries of the forward; None records the root's outputs only.
            others: The layers that are not recorded. Their functional calls are not taken for calls of the layer around them,
                and their draws are reported where the options ask for them.
            apart: Compute digests, and call the observer, in a thread beside the model's.
            floor: What a perturbed run of this step has shown; the digests tell how far the tensors are from it.
        """
        self.outputs: tuple[Record, ...] = ()
        self.failure: BaseException | None = None
        self._backend = backend
        self._layers = layers
        self._options = options
        self._store = store
        self._observer = observer
        self._watches = options.gradients
        self._gradients = GradientHooks(backend, self._gradient_arrived)
        self._drawing = frozenset(options.draws) if observer is not None else frozenset[str]()
        self._only_drawing = [placed for placed in others if placed.route in self._drawing]
        self._calls = Calls()
        self._seq = 0
        self._hears = options.api_calls and observer is not None  # else nobody would learn of functional calls
        self._others = [placed for placed in others if placed.route not in options.draws] if self._hears else []
        self._listen: Listen = _deaf
        self._earlier_releases = store.releases
        self._digests: dict[tuple[bytes, DType], Digest] = {}
        self._floor = floor
        self._sketches: dict[tuple[bytes, DType], Sketch] = {}
        self._side_thread = SideThread() if apart and not options.sync else None
        self._again: dict[str, None] = {}  # routes, in order
        self._removes: list[Remove] = []  # of the hooks that see a forward run again
        self._lock = threading.Lock()  # on several devices torch runs backward in several threads

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Hook the layers for the length of the block; no hook stays behind, however the block ends."""
        removes: list[Remove] = []
        try:
            for placed in self._layers:
                removes.append(self._hook(placed))
            for placed in self._only_drawing:
                removes.append(self._hook_draw(placed))
            for placed in self._others:
                removes.append(self._follow(placed))
            with self._hearing():
                yield
        finally:
            for remove in reversed(removes):
                remove()
            self._calls.end_all()  # those that an exception left
            self.settle()

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Listen for functional calls for the length of the block, where the options ask for them."""
        if not self._hears:
            yield
            return
        layers = [placed.layer for placed in (*self._layers, *self._others)]
        with self._backend.intercept(layers, self._api_called) as self._listen:
            try:
                yield
            finally:
                self._listen = _deaf

    def start_backward(self, observer: Observer | None) -> None:
        """Report the backward's boundaries to this observer, numbered from 0, and see which layers run anew."""
        self._observer = observer
        self._seq = 0
        self._earlier_releases = self._store.releases
        if self._watches:
            self._removes += [self._notice(placed) for placed in self._layers]

    @property
    def recomputed(self) -> tuple[str, ...]:
        """The routes of the layers whose forward ran again in the backward, in that order."""
        return tuple(self._again)

    def silent(self) -> tuple[tuple[str, int, BoundarySide, str], ...]:
        """Return (route, call, side, name) of the tensors whose gradient has not arrived."""
        return tuple((place.route, place.call, place.side, place.name) for place in self._gradients.silent())

    def settle(self) -> None:
        """Wait until the observer has received every captured boundary; an error on the way goes into `failure`."""
        if self._side_thread is not None:
            try:
                self._side_thread.settle()
            except BaseException as err:  # noqa: BLE001 - raised by who looks at `failure`, as a hook's is
                self.failure = self.failure or err

    def close(self) -> None:
        """Remove the hooks that the backward needs, and settle."""
        self._gradients.remove()
        while self._removes:
            self._removes.pop()()
        self.settle()

    # -- forward ----------------------------------------------------------------------------------------------------
    def _hook(self, placed: PlacedLayer) -> Remove:
        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            with self._failing():
                return self._enter(placed, args, kwargs)

        def after(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            with self._failing():
                return self._leave(placed, output)

        return self._backend.hook(placed.layer, before, after)

    def _hook_draw(self, placed: PlacedLayer) -> Remove:
        """Hook a dropout that is not recorded, so that its draw is reported all the same."""

        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with self._failing():
                call = self._calls.enter(placed.route, hears=False)
                self._foresee(call, placed.layer, nested.flatten_call(args, kwargs, self._backend.is_tensor))

        def after(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            with self._failing():
                return self._redraw(self._calls.leave(placed.route), output)

        return self._backend.hook(placed.layer, before, after)

    def _notice(self, placed: PlacedLayer) -> Remove:
        """Take note when a layer runs in the backward; what passes it then was recorded in the forward."""

        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._again[placed.route] = None

        return self._backend.hook(placed.layer, before, lambda args, kwargs, output: None)

    def _enter(self, placed: PlacedLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._calls.enter(placed.route, self._hears and not self._backend.is_own_layer(placed.layer))
        if not self._options.inputs:
            return None
        tensors = nested.flatten_call(args, kwargs, self._backend.is_tensor)
        replaced = self._announce(call, "input", tensors)
        new = self._tap(call, placed.layer, tensors, replaced) if self._watches else replaced
        self._foresee(call, placed.layer, [(name, new.get(name, tensor)) for name, tensor in tensors])
        if not new:
            return None
        call.given = [
            (tensor, new[name], self._backend.writes(new[name])) for name, tensor in tensors if name in replaced
        ]
        args, kwargs, call.restore = nested.swap_arguments(args, kwargs, self._backend.is_tensor, new)
        return args, kwargs

    def _leave(self, placed: PlacedLayer, output: Any) -> Any:
        call = self._calls.leave(placed.route)
        redrawn = self._redraw(call, output)
        output = output if redrawn is None else redrawn
        tensors = nested.flatten(output, self._backend.is_tensor)
        replaced = self._announce(call, "output", tensors)
        new = self._watch_outputs(call, placed.layer, tensors, replaced) if self._watches else replaced
        self._write_back(call, tensors, replaced)
        return nested.rebuild(output, self._backend.is_tensor, new) if new else redrawn

    def _foresee(self, call: RunningCall, layer: Any, taken: Named) -> None:
        """Find out what a dropout is about to draw, where that is to be reported."""
        if call.route in self._drawing and len(taken) == 1:
            call.drawing = taken[0][1], self._backend.draw(layer, taken[0][1])

    def _redraw(self, call: RunningCall, output: Any) -> NativeTensor | None:
        """Report what a dropout has drawn; return the output that the observer's draw makes of its input, if that gives one.

        Nothing is reported where the draw does not make its output: somebody's hook or function is in between.
        """
        if call.drawing is None or self._observer is None or not self._backend.is_tensor(output):
            return None
        taken, drawn = call.drawing
        bytes_of, dtype = self._backend.to_bytes, self._backend.spec(output).dtype
        if self._backend.spec(taken).dtype is not dtype or self._backend.spec(drawn).dtype is not dtype:
            return None
        if not explains(bytes_of(drawn), bytes_of(taken), bytes_of(output), dtype):
            return None
        if self._side_thread is not None and self._options.share_draws:
            self._side_thread.settle()  # the answer is needed here, and boundaries are told in their order
        place = GradientPoint(call.route, call.number, "output", call.caller, "")
        values = self._tell("forward", place, (self._capture(DRAW, drawn),), draw=True)
        return self._backend.scaled(taken, values[DRAW]) if DRAW in values else None

    def _watch_outputs(
        self, call: RunningCall, layer: Any, tensors: Named, replaced: Mapping[str, NativeTensor]
    ) -> Mapping[str, NativeTensor]:
        """Watch the outputs that want a gradient, each tensor object once.

        Of several outputs one may have gone into another inside the layer (attention returns its weights beside the output
        that it made with them). Only the gradient that comes from outside counts, so these outputs are handed out as aliases.
        """
        current = {name: replaced.get(name, tensor) for name, tensor in tensors}
        wanting = {
            id(tensor): name for name, tensor in reversed(current.items()) if self._backend.wants_gradient(tensor)
        }
        new = dict(replaced)
        for identity, first in reversed(wanting.items()):
            tensor = current[first]
            if len(wanting) > 1 and first not in replaced:
                tensor = self._backend.tap(tensor, layer)
                new.update({name: tensor for name, each in current.items() if id(each) == identity})
            self._gradients.watch(tensor, GradientPoint(call.route, call.number, "output", call.caller, first))
        return new

    def _tap(
        self, call: RunningCall, layer: Any, tensors: Named, replaced: Mapping[str, NativeTensor]
    ) -> dict[str, NativeTensor]:
        """Give the layer aliases of the inputs that want a gradient, one for each tensor object, and watch the aliases."""
        new = dict(replaced)
        taps: dict[int, NativeTensor] = {}
        for name, tensor in tensors:
            current = replaced.get(name, tensor)
            if not self._backend.wants_gradient(current):
                continue
            if id(current) not in taps:
                taps[id(current)] = self._backend.tap(current, layer)
                place = GradientPoint(call.route, call.number, "input", call.caller, name)
                self._gradients.watch(taps[id(current)], place)
            if taps[id(current)] is not tensor:
                new[name] = taps[id(current)]
        return new

    def _write_back(self, call: RunningCall, outputs: Named, replaced: Mapping[str, NativeTensor]) -> None:
        """Write a layer's in-place changes of replaced inputs back into its caller's tensors.

        Where the layer returned the changed tensor itself, the caller's tensor gets the replaced output.
        """
        for tensor, given, writes in call.given:
            if self._backend.writes(given) == writes:
                continue
            names = [name for name, output in outputs if output is given]
            source = replaced.get(names[0], given) if names else given
            if self._backend.spec(source).shape == self._backend.spec(tensor).shape:
                self._backend.copy_into(tensor, source)

    def _follow(self, placed: PlacedLayer) -> Remove:
        """Follow a layer that is not recorded, so that functional calls inside it are not taken for its caller's.

        It gets no hooks, because with hooks torch's encoder layers leave their fast path, and round in another way.
        """
        held, forward = vars(placed.layer), placed.layer.forward
        own = held.get("forward")  # one that somebody set on the instance

        @functools.wraps(forward)
        def followed(*args: Any, **kwargs: Any) -> Any:
            with self._failing():
                self._calls.follow(placed.route)
            try:
                return forward(*args, **kwargs)
            finally:
                with self._failing():
                    self._calls.leave(placed.route)

        def remove() -> None:
            if own is None:
                del held["forward"]
            else:
                held["forward"] = own

        held["forward"] = followed
        return remove

    def _api_called(self, name: str, result: Any) -> None:
        """Record the result of a functional call that the innermost layer made."""
        with self._failing():
            call, tensors = self._calls.innermost, nested.flatten(result, self._backend.is_tensor)
            if call is None or not tensors:
                return
            route = api_route(call.route, name)
            place = GradientPoint(route, self._calls.number(route), "output", (call.route, call.number), "")
            self._tell("forward", place, tuple(self._capture(each, tensor) for each, tensor in tensors), api=True)

    # -- both phases --------------------------------------------------------------------------------------------------
    def _announce(self, call: RunningCall, side: BoundarySide, tensors: Named) -> dict[str, NativeTensor]:
        """Record one side of a call, tell the observer, and return the tensors that replace recorded ones."""
        is_result = call.route == "" and side == "output"
        if self._observer is None and not is_result:
            return {}  # nobody would learn of the records
        captures = tuple(self._capture(name, tensor) for name, tensor in tensors)
        values = self._tell("forward", GradientPoint(call.route, call.number, side, call.caller, ""), captures)
        shared: dict[int, list[tuple[Tensor, NativeTensor]]] = {}
        replaced: dict[str, NativeTensor] = {}
        for name, tensor in tensors:
            if name not in values:
                continue
            made = shared.setdefault(id(tensor), [])
            # One object under two names (attention's q, k, v) stays one object where its replacements are equal.
            native = next((old for value, old in made if _equal(value, values[name])), None)
            if native is None:
                native = self._backend.substitute(tensor, values[name])
                made.append((values[name], native))
            replaced[name] = native
        return replaced

    def _gradient_arrived(self, place: GradientPoint, gradient: NativeTensor) -> NativeTensor | None:
        with self._lock, self._failing():
            if self._observer is None:
                return None
            capture = self._capture(place.name, gradient)
            value = self._tell("backward", place, (capture,)).get(place.name)
            return None if value is None else self._backend.from_tensor(value, gradient, self._layers[0].layer)

    def _capture(self, name: str, tensor: NativeTensor) -> _Capture:
        """Keep a tensor in the store.

        Most tensors are seen twice or more: a layer's input is another's output, and its parent's output is its own. So
        the hash comes first, which costs a third of a copy and a tenth of the statistics.
        """
        spec = self._backend.spec(tensor)
        flat = self._backend.to_bytes(tensor)
        hash = hash_of(flat)
        return _Capture(self._store.put(flat, spec, hash, self._await_room), name, spec, hash)

    def _await_room(self, releases: int) -> bool:
        observer = self._observer
        if self._side_thread is not None:
            self._side_thread.settle()  # what nobody has heard of nobody releases
        return isinstance(observer, Releasing) and observer.await_room(releases - self._earlier_releases)

    def _tell(
        self,
        phase: Phase,
        place: GradientPoint,
        captures: tuple[_Capture, ...],
        api: bool = False,
        draw: bool = False,
    ) -> Mapping[str, Tensor]:
        seq, self._seq = self._seq, self._seq + 1
        if self._side_thread is not None and not (draw and self._options.share_draws):
            self._side_thread.put(
                functools.partial(self._tell_now, seq, phase, place, captures, api, draw, self._observer)
            )
            return {}
        boundary = self._tell_now(seq, phase, place, captures, api, draw, self._observer)
        if self._observer is None or not self._options.is_answered(boundary):
            return {}
        values = self._observer.substitute(boundary)
        _check(values, boundary)
        return values

    def _tell_now(
        self,
        seq: int,
        phase: Phase,
        place: GradientPoint,
        captures: tuple[_Capture, ...],
        api: bool,
        draw: bool,
        observer: Observer | None,
    ) -> Boundary:
        records = tuple(self._summarise(capture, phase, place) for capture in captures)
        if (phase, place.route, place.side) == ("forward", "", "output") and not api and not draw:
            self.outputs = records
        boundary = Boundary(seq, phase, place.route, place.call, place.side, place.caller, records, api, draw)
        if observer is not None:
            observer.observe(boundary)
        return boundary

    def _summarise(self, capture: _Capture, phase: Phase, place: GradientPoint) -> Record:
        key = capture.hash, capture.spec.dtype
        summary = self._digests.get(key)
        if summary is None:
            # Of the copy: the tensor itself may have changed since.
            summary = digest_chunks(
                lambda: self._store.get(capture.id).chunks, capture.spec, capture.hash, self._options.statistics
            )
            self._digests[key] = summary
        if self._floor is not None and capture.spec.dtype.is_floating:
            summary = self._with_floor(
                summary, capture, Place(phase, place.route, place.call, place.side, capture.name)
            )
        return Record(capture.id, capture.name, capture.spec, summary, self._store.place(capture.id))

    def _with_floor(self, summary: Digest, capture: _Capture, place: Place) -> Digest:
        """Add how far the tensor is from that of the perturbed run. Equal tensors are sketched once."""
        if self._floor is None or not self._floor.knows(place):
            return summary
        key = capture.hash, capture.spec.dtype
        taken = self._sketches.get(key)
        if taken is None:
            taken = self._sketches[key] = sketch(self._store.get(capture.id).chunks, capture.spec)
        return replace(summary, floor=self._floor.of(place, taken))

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Keep the first exception of a hook, run no hook after it, and ignore functional calls that a hook makes."""
        if self.failure is not None:
            raise self.failure
        self._listen(False)
        try:
            yield
        except BaseException as err:
            self.failure = err
            raise
        finally:
            innermost = self._calls.innermost
            self._listen(innermost is not None and innermost.hears)


def raise_failure(recorder: Recorder | None, err: Exception | None) -> None:
    """Raise the exception of a hook, which the framework may have wrapped and the model may have swallowed."""
    if recorder is not None and recorder.failure is not None:
        if recorder.failure is err or err is None:
            raise recorder.failure
        raise recorder.failure from err


def _deaf(listening: bool) -> None:
    """Ignore the wish to listen, where there is nothing to listen to."""


def _check(values: Mapping[str, Tensor], boundary: Boundary) -> None:
    """Refuse replacements for records that do not exist, or of another shape than the record."""
    specs = {record.name: record.spec for record in boundary.records}
    where = f"the {boundary.side} of layer {boundary.route!r} (call {boundary.call}, {boundary.phase})"
    for name, value in values.items():
        if name not in specs:
            raise PadiffError(
                f"{where} has no tensor {name!r} to replace",
                reason=Reason.UNKNOWN_NAME,
                hint=f"it has {', '.join(specs) or 'none'}",
                metadata={"layer": boundary.route},
            )
        if value.spec.shape != specs[name].shape:
            raise PadiffError(
                f"tensor {name!r} of {where} is {specs[name]} and cannot be replaced by {value.spec}",
                reason=Reason.BAD_TENSOR,
                metadata={"layer": boundary.route},
            )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.spec == other.spec and one.data == other.data)
