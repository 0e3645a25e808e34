"""Run and record the calls of a proxy's model, which lives in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.stacks import user_stack
from padiff_rpc.interface.user_inputs import by_name, inputs_for
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_loss
from padiff_rpc.model.model import Boundary, BoundarySide, ForwardRequest, LossSpec, Model, Observer, RecordOptions
from padiff_rpc.model.recording.native_tree import place_layers
from padiff_rpc.model.store.store import Store
from padiff_rpc.tape.write_report import Run
from padiff_rpc.tensors.tensor import Tensor, TensorStream


def is_model(value: object) -> bool:
    """Return True for a Model of this library (launched, connected, hosted, recorded), False for a framework's own model."""
    return hasattr(value, "read_activations") and hasattr(value, "describe")


@dataclass
class Recorded:
    """The record of one call of the model and of its backward. It is the Observer of both.

    Attributes:
        forward: the boundaries of the forward, in the order in which they came.
        backward: the boundaries of the backward, likewise.
        stacks: where in the user's code each layer was called (see `stacks`), by route and number of the call.
        loss: the loss; None if it is not known.
        backward_ran: whether a backward ran.
        silent: returns the tensors whose gradients never arrived, each as route, call, side and name.
        with_stacks: whether to fill `stacks`.
        api_calls: whether functional calls are recorded.
    """

    forward: list[Boundary] = field(default_factory=list)
    backward: list[Boundary] = field(default_factory=list)
    stacks: dict[tuple[str, int], str] = field(default_factory=dict)
    loss: float | None = None
    backward_ran: bool = False
    silent: Callable[[], tuple[tuple[str, int, BoundarySide, str], ...]] = tuple
    with_stacks: bool = False
    api_calls: bool = False

    def observe(self, boundary: Boundary) -> None:
        """Keep a boundary, and where its layer was called."""
        if boundary.phase == "backward":
            self.backward_ran = True
            self.backward.append(boundary)
            return
        self.forward.append(boundary)
        if self.with_stacks and boundary.side == "input":
            self.stacks[boundary.route, boundary.call] = user_stack()

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing."""
        return {}

    def as_run(self) -> Run:
        """Return the record in the form in which a report is written."""
        silent = self.silent() if self.backward_ran else ()
        return Run(
            tuple(self.forward),
            tuple(self.backward),
            loss=self.loss,
            without_gradient=silent,
            backward_ran=self.backward_ran,
            api_calls=self.api_calls,
            stacks=self.stacks,
        )


class ProxyHost(Protocol):
    """Runs and records a proxy's model: LocalHost does in this process, DistantHost in another one."""

    @property
    def model(self) -> Model:
        """The model."""
        ...

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: RecordOptions | None) -> Any:
        """Run forward on the user's arguments and return its outputs; record the run unless `options` is None."""
        ...

    def backward(self, loss: Any) -> Any:
        """Run backward from the user's loss; record it if the forward was recorded. BAD_CONFIG for a loss of another kind."""
        ...

    def runs(self) -> list[Run]:
        """Return the runs that were recorded since forget(), in their order."""
        ...

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Yield recorded tensors by the ids of their records, in the order of the ids."""
        ...

    def forget(self) -> None:
        """Drop all records."""
        ...

    def attribute(self, name: str) -> Any:
        """Return an attribute of the user's own model; raise AttributeError where there is none, or the model is not here."""
        ...

    def route_of(self, layer: object) -> str | None:
        """Return a live layer's route; None for an object that is no layer of this model."""
        ...


class LocalHost:
    """Runs a model in this process, on the user's own tensors and losses, and in the user's context managers."""

    def __init__(self, native: Any) -> None:
        self.model: HostedModel = HostedModel(native)
        self._recorded: list[Recorded] = []

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: RecordOptions | None) -> Any:
        """Run forward and return what the model returns; record the run unless `options` is None."""
        if options is None:
            return self.model.model(*args, **kwargs)
        recorded = Recorded(with_stacks=True, api_calls=options.api_calls)
        outputs, recorded.silent = self.model.record_call(args, kwargs, options, recorded)
        self._recorded.append(recorded)
        return outputs

    def backward(self, loss: Any) -> Any:
        """Run backward from the user's own loss tensor; BAD_CONFIG if it is no tensor of the model's framework."""
        if not self.model.backend.is_tensor(loss):
            raise PadiffError(
                f"backward takes the loss, a tensor of {self.model.backend.name}, got {type(loss).__name__}",
                reason=Reason.BAD_CONFIG,
                hint="compute it from what the proxy returned: model.backward(loss_fn(model(x)))",
            )
        self.model.run_backward(loss)
        for recorded in self._recorded:
            if recorded.backward_ran and recorded.loss is None and self.model.backend.spec(loss).count == 1:
                recorded.loss = self.model.backend.item(loss)

    def runs(self) -> list[Run]:
        """Return the runs that were recorded since forget(), in their order."""
        return [recorded.as_run() for recorded in self._recorded]

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Yield recorded tensors by the ids of their records, in the order of the ids."""
        return self.model.read_activations(ids)

    def forget(self) -> None:
        """Drop all records."""
        self._recorded = []
        self.model.drop_records()

    def attribute(self, name: str) -> Any:
        """Return an attribute of the user's own model; raise AttributeError where there is none."""
        native = self.model.model
        try:
            return getattr(native, name)
        except AttributeError as err:
            kind = type(native).__name__
            raise AttributeError(f"neither the proxy nor its model, a {kind}, has the attribute {name!r}") from err

    def route_of(self, layer: object) -> str | None:
        """Return a layer's route; None for an object that is no layer of this model."""
        placed = place_layers(self.model.backend, self.model.model)
        return next((each.route for each in placed if each.layer is layer), None)


class DistantHost:
    """Runs a model in a worker. Its records are copied here after each phase, since its next forward drops them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._store = Store()
        self._recorded: list[Recorded] = []

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: RecordOptions | None) -> Any:
        """Run forward; record the run unless `options` is None.

        Returns the output as an array, or a dict of arrays by name if there are several. Raises PadiffError (BAD_INPUTS) for
        arguments that forward does not take, or for values that cannot be sent.
        """
        inputs = inputs_for(self.model, by_name(self.model, args, kwargs), "the model")
        recorded = Recorded(api_calls=options is not None and options.api_calls)
        # Without options the outputs alone are recorded: they are what the caller gets.
        asked = options or RecordOptions(routes=("",), inputs=False, gradients=False)
        result = self.model.forward(ForwardRequest(inputs, record=asked), recorded)
        ids = [record.id for record in result.outputs]
        arrays = [stream.collect().to_array() for stream in self.model.read_activations(ids)] if ids else []
        if options is not None:
            self._fetch(recorded.forward)
            self._recorded.append(recorded)
        return _as_returned([record.name for record in result.outputs], arrays)

    def backward(self, loss: Any) -> float:
        """Run backward from a loss given by name, neutral or the worker's own, and return its value.

        The backward is recorded with the last recorded forward. Raises PadiffError (BAD_CONFIG) for a loss that is no name and no
        LossSpec.
        """
        if not isinstance(loss, (str, LossSpec)):
            raise PadiffError(
                f"the loss of a model in another process is given by name, got {type(loss).__name__}",
                reason=Reason.BAD_CONFIG,
                hint="write model.backward('mean'), or offer your own where the worker starts: "
                "launch(..., losses={NAME: 'file.py:function'})",
            )
        recorded = self._recorded[-1] if self._recorded else None
        observer: Observer | None = recorded
        result = self.model.backward(parse_loss(loss) if isinstance(loss, str) else loss, observer)
        if recorded is not None:
            self._fetch(recorded.backward)
            recorded.loss, recorded.backward_ran = result.loss, True
            recorded.silent = lambda: result.without_gradient
        return result.loss

    def runs(self) -> list[Run]:
        """Return the runs that were recorded since forget(), in their order."""
        return [recorded.as_run() for recorded in self._recorded]

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Yield recorded tensors by the ids of their records, in the order of the ids."""
        return (self._store.get(identifier) for identifier in ids)

    def forget(self) -> None:
        """Drop all records."""
        self._recorded = []
        self._store.clear()

    def attribute(self, name: str) -> Any:
        """Raise AttributeError, since no object of a model in another process is here."""
        cure = _CURES.get(name, "ask the model that launch() or connect() returned, proxy.model, for what it can do")
        raise AttributeError(f"the model is in another process, so that its proxy has no {name!r}: {cure}")

    def route_of(self, layer: object) -> str | None:
        """Return None, since no layer of the model is an object of this process."""
        return None

    def _fetch(self, boundaries: list[Boundary]) -> None:
        """Copy the records of boundaries into this process, and release them in the worker; `boundaries` is changed in place."""
        for at, boundary in enumerate(boundaries):
            ids = [record.id for record in boundary.records]
            kept = []
            streams = self.model.read_activations(ids) if ids else iter(())
            for record, stream in zip(boundary.records, streams, strict=True):
                flat = np.frombuffer(stream.collect().data, np.uint8)
                kept.append(replace(record, id=self._store.put(flat, record.spec)))
            boundaries[at] = replace(boundary, records=tuple(kept))
            self.model.release_activations(ids)


_READ = "proxy.model.describe() lists the parameters and buffers, and proxy.model.read_parameters(names) reads them"
_MODE = "auto_diff leaves the mode as the factory made it; set it there, or in AlignSettings(training=...) of align()"
_PLACE = "say where and in which type it lives where the worker starts: launch(..., device=..., dtype=...)"
_LAYERS = "proxy.model.describe() lists the layers; lists and maps take their routes, such as 'encoder.0'"
_CURES: Mapping[str, str] = {
    **dict.fromkeys(("parameters", "named_parameters", "buffers", "named_buffers", "state_dict"), _READ),
    **dict.fromkeys(("load_state_dict", "set_state_dict", "set_dict"), "proxy.model.write_parameters(...) writes them"),
    **dict.fromkeys(("train", "eval", "training"), _MODE),
    **dict.fromkeys(("to", "cpu", "cuda", "float", "double", "half", "bfloat16", "astype"), _PLACE),
    **dict.fromkeys(
        ("children", "named_children", "modules", "named_modules", "sublayers", "named_sublayers"), _LAYERS
    ),
}
"""Attribute of a framework's model -> what takes its place where the model is in another process."""


def _as_returned(names: Sequence[str], arrays: Sequence[np.ndarray]) -> Any:
    return arrays[0] if len(arrays) == 1 else dict(zip(names, arrays, strict=True))
