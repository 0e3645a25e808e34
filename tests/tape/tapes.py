"""Tapes of NumPy models, and observers, for the tests of dumps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from padiff_rpc.model.losses_and_optimizers import parse_loss, parse_optimizer
from padiff_rpc.model.model import (
    Boundary,
    BoundarySide,
    ForwardRequest,
    LayerInfo,
    Model,
    ModelDescription,
    ParameterInfo,
    Record,
    RecordOptions,
)
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_tape import record
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Tensor, TensorSpec, TensorStream, collect_all
from tests.align.pairs import hosted, inputs_of

PADIFF_DUMPS = Path(__file__).parent / "padiff_dumps"
LOSS = parse_loss("projection")
SGD = parse_optimizer("SGD(lr=0.1)")


def record_tape(
    folder: Path, factory: str = "mlp", *, model_args: Mapping[str, Any] | None = None, **settings: Any
) -> Path:
    """Record a fresh model of a factory, by default with one step of SGD, and return the folder."""
    settings = {"loss": LOSS, "optimizer": SGD, "model_name": "net", **settings}
    record(hosted(factory, **(model_args or {})), inputs_of(factory), folder, **settings)
    return folder


def recorded(folder: Path, factory: str = "mlp", **settings: Any) -> RecordedModel:
    return RecordedModel(record_tape(folder, factory, **settings))


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of a dump by hand."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


class Listener:
    """Keeps boundaries without their ids, and the bytes of what was recorded."""

    def __init__(self, model: Model) -> None:
        self.boundaries: list[tuple[Any, ...]] = []
        self.values: list[Tensor] = []
        self._model = model

    def observe(self, boundary: Boundary) -> None:
        each = boundary
        held = tuple((record.name, record.spec, record.digest) for record in each.records)
        self.boundaries.append((each.seq, each.phase, each.route, each.call, each.side, each.caller, held))
        streams = self._model.read_activations([record.id for record in each.records])
        self.values += [stream.collect() for stream in streams]

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        raise AssertionError("nothing is to be replaced")


def run_step(model: Model, factory: str, options: RecordOptions, step: int = 0) -> dict[str, Any]:
    """Run forward, backward and an optimiser's step, and return all that came of it but for times and ids."""
    names = [info.name for info in model.describe().parameters]
    forward, backward = Listener(model), Listener(model)
    result = {"before": collect_all(model.read_parameters(names))}
    outputs = model.forward(ForwardRequest(inputs_of(factory), seed=step, record=options), forward).outputs
    result["outputs"] = [(one.name, one.spec, one.digest) for one in outputs]
    came = model.backward(LOSS, backward)
    result |= {"loss": came.loss, "without_gradient": came.without_gradient, "unrecorded": came.unrecorded}
    result |= {"forward": forward.boundaries, "forward_values": forward.values}
    result |= {"backward": backward.boundaries, "backward_values": backward.values}
    result["after_forward"] = collect_all(model.read_parameters(names))
    result["gradients"] = collect_all(model.read_parameters(names, "gradient"))
    result["gradient_digests"] = model.digest_parameters(names, "gradient")
    model.optimizer_step(SGD)
    result["after_step"] = collect_all(model.read_parameters(names))
    result["digests"] = model.digest_parameters(names)
    return result


class Held:
    """Tensors by id, as a model's store has them."""

    def __init__(self) -> None:
        self._tensors: dict[int, Tensor] = {}

    def record(self, name: str, tensor: Tensor) -> Record:
        identifier = len(self._tensors)
        self._tensors[identifier] = tensor
        return Record(identifier, name, tensor.spec, digest(np.frombuffer(tensor.data, np.uint8), tensor.spec))

    def read(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        return (self._tensors[identifier].stream(str(identifier)) for identifier in ids)


def one_layer(specs: Mapping[str, TensorSpec]) -> ModelDescription:
    """Describe a model that is one layer, with these parameters."""
    parameters = tuple(ParameterInfo(name, "parameter", spec, True) for name, spec in specs.items())
    root = LayerInfo("", "Net", "user.Net", (), tuple(specs), {"eps": 1e-5}, True)
    return ModelDescription("torch", "Net", (root,), parameters)


def boundary(seq: int, side: BoundarySide, *records: Record) -> Boundary:
    return Boundary(seq, "forward", "", 0, side, None, records)
