"""Measure a step's floor: how far its tensors move when weights and inputs move by their last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model import nested
from padiff_rpc.model.backends.backend import Backend, NativeTensor
from padiff_rpc.model.model import Boundary, ForwardRequest, Inputs, LossSpec, Model
from padiff_rpc.model.recording.native_tree import NamedTensor, place_layers, place_tensors
from padiff_rpc.model.recording.perturbed_run import PerturbedRun, Place
from padiff_rpc.tensors.digest import hash_of
from padiff_rpc.tensors.perturb import can_perturb, perturb
from padiff_rpc.tensors.sketch import sketch
from padiff_rpc.tensors.tensor import DType, Statistics, Tensor

_HALVES = (DType.F16, DType.BF16)


def measure_floor(
    model: Model,
    native: Any,
    backend: Backend,
    over_all_outputs: Callable[[LossSpec], LossSpec],
    request: ForwardRequest,
    loss: LossSpec | None,
) -> PerturbedRun:
    """Run a step on perturbed weights and inputs, put all values back exactly, and return what passed its layers, in sketches.

    In half precision the outputs of the innermost layers are perturbed, too, since each rounds by as much as its weights do. The
    method is that of TTrace (arXiv 2506.09280), with one run.

    Args:
        model: The model. Parameters' gradients are gone afterwards.
        native: The framework's own model.
        backend: Its framework.
        over_all_outputs: Adds the names of the last forward's outputs to a loss that takes all of them.
        request: The forward, whose `record` names the layers.
        loss: The loss of the backward; None runs none.

    Raises:
        PadiffError: As forward() and backward() do. MODEL_FAILED where the model's own forward changes its parameters.
    """
    if request.record is None:
        raise PadiffError("a floor is measured at recorded layers, and none is recorded", reason=Reason.BAD_CONFIG)
    layers = place_layers(backend, native)
    tensors = place_tensors(backend, layers)
    halves = any(backend.spec(each.tensor).dtype in _HALVES for each in tensors)
    options = replace(request.record, sync=halves, statistics=Statistics.SIZES, draws=(), share_draws=False)
    floor = PerturbedRun()
    watcher = _Sketching(model, floor, {each.route for each in layers if not each.children} if halves else None)
    given = replace(request, inputs=_perturbed_inputs(request.inputs), record=options)
    with _perturbed(backend, tensors):
        model.forward(given, watcher)
        if loss is not None and request.gradients:
            floor.loss = over_all_outputs(loss)
            model.backward(loss, watcher)
            for each in tensors:
                gradient = backend.gradient(each.tensor) if each.trainable else None
                if gradient is not None:
                    taken = sketch([backend.to_bytes(gradient).data], backend.spec(gradient))
                    for name in (each.name, *each.aliases):
                        floor.note_gradient(name, taken)
    backend.clear_gradients(native)
    return floor


class _Sketching:
    """The observer of the perturbed run: it sketches each record and lets it go."""

    def __init__(self, model: Model, floor: PerturbedRun, perturbs: set[str] | None) -> None:
        """Watch a run; `perturbs` are the layers whose outputs are perturbed, None for a run that is not synced."""
        self._model = model
        self._floor = floor
        self._perturbs = perturbs

    def observe(self, boundary: Boundary) -> None:
        for record in boundary.records:
            if record.spec.dtype.is_floating:
                (stream,) = self._model.read_activations([record.id])
                self._floor.note(Place.of(boundary, record.name), sketch(stream.chunks, record.spec))
        if self._perturbs is None or boundary.api:
            self._model.release_activations([record.id for record in boundary.records])

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Perturb what the innermost layers return."""
        if boundary.phase == "forward" and boundary.side == "output" and boundary.route in (self._perturbs or ()):
            halves = [record for record in boundary.records if record.spec.dtype in _HALVES]
            streams = self._model.read_activations([record.id for record in halves])
            found = {
                record.name: _moved(stream.collect(), boundary.seq)
                for record, stream in zip(halves, streams, strict=True)
            }
        else:
            found = {}
        self._model.release_activations([record.id for record in boundary.records])
        return found

    def await_room(self, releases: int) -> bool:
        return True


def _moved(tensor: Tensor, seed: int) -> Tensor:
    copy = np.frombuffer(tensor.data, np.uint8).copy()
    perturb(copy, tensor.spec.dtype, seed)
    return Tensor(tensor.spec, copy.data)


def _perturbed_inputs(inputs: Inputs) -> Inputs:
    """Return the inputs with their floating tensors perturbed, wherever they are nested."""
    moved = {
        name: _moved(tensor, -number)
        for number, (name, tensor) in enumerate(nested.flatten(inputs, _is_tensor), start=1)
        if tensor.spec.count and can_perturb(tensor.spec.dtype)
    }
    return nested.rebuild(inputs, _is_tensor, moved)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


@contextmanager
def _perturbed(backend: Backend, tensors: list[NamedTensor]) -> Iterator[None]:
    """Perturb the floating parameters for the length of the block; buffers, too, are afterwards as they were."""
    parameters = [each.tensor for each in tensors if each.kind == "parameter" and _moves(backend, each.tensor)]
    buffers = [(each.tensor, backend.to_bytes(each.tensor).copy()) for each in tensors if each.kind == "buffer"]
    moved: list[tuple[int, NativeTensor, bytes]] = []
    try:
        for seed, tensor in enumerate(parameters):
            _perturb_native(backend, tensor, seed)
            moved.append((seed, tensor, hash_of(backend.to_bytes(tensor))))
        yield
    finally:
        changed = [tensor for _, tensor, hash in moved if hash_of(backend.to_bytes(tensor)) != hash]
        for seed, tensor, _ in reversed(moved):
            _perturb_native(backend, tensor, seed)
        for tensor, held in buffers:
            if not np.array_equal(backend.to_bytes(tensor), held):
                backend.overwrite(tensor, Tensor(backend.spec(tensor), held.data))
    if changed:
        raise PadiffError(
            "the model's forward writes to its own parameters, so that no floor can be measured",
            reason=Reason.MODEL_FAILED,
            hint="compare with --tolerance table",
        )


def _moves(backend: Backend, tensor: NativeTensor) -> bool:
    spec = backend.spec(tensor)
    return spec.count > 0 and can_perturb(spec.dtype)


def _perturb_native(backend: Backend, tensor: NativeTensor, seed: int) -> None:
    spec, memory = backend.spec(tensor), backend.writable(tensor)
    if memory is not None:
        perturb(memory, spec.dtype, seed)
        return
    copy = backend.to_bytes(tensor).copy()
    perturb(copy, spec.dtype, seed)
    backend.overwrite(tensor, Tensor(spec, copy.data))
