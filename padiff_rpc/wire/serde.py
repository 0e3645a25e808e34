"""Convert between protobuf messages and the library's types: one thing_to_proto / thing_from_proto pair per message.

Writers of messages that are parts of others take `into`: the empty part to write into, instead of making a new message.
What each boundary consists of is written so. Made by themselves the parts take twice the time. And each time that
10,000 pieces of messages' memory were freed protobuf has malloc give all that is free back to the system (malloc_trim),
the model's too, which then has to be fetched again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from functools import lru_cache
from sys import intern
from typing import Any, TypeVar, cast

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model import model as domain
from padiff_rpc.model.forward_signature import ForwardParameter, ForwardSignature, Passing
from padiff_rpc.model.model import StoreFigures
from padiff_rpc.model.replaying import ReplayRequest, ReplayResult
from padiff_rpc.model.store.arena import Offer
from padiff_rpc.tensors.tensor import Digest, DType, Statistics, Tensor, TensorSpec
from padiff_rpc.v1 import model_pb2, tensor_pb2, worker_service_pb2
from padiff_rpc.wire.dtypes import dtype_from_proto, dtype_to_proto

DESCRIPTION_PART_BYTES = 1 << 13
"""About how large one part of a description may be. A part that is read takes several times that."""

_SHARED_COUNT = 256
"""How many values of one kind are remembered, so that equal values that come in again are kept once.

A deep model says the same of each of its layers: names, specs, hyperparameters, calls. Sharing equal values keeps its
description and its boundaries small.
"""

_INPUT, _PARAMETER = "input:", "parameter:"
"""Begin the names of the tensors that a replayed layer is to have; no forward has an argument of such a name."""

T = TypeVar("T")


# -- tensors ------------------------------------------------------------------------------------------------------
def tensor_spec_to_proto(spec: TensorSpec, into: tensor_pb2.TensorSpec | None = None) -> tensor_pb2.TensorSpec:
    """Write a tensor's element type, shape and size in bytes."""
    proto = tensor_pb2.TensorSpec() if into is None else into
    proto.dtype, proto.size_bytes = dtype_to_proto(spec.dtype), spec.size_bytes
    proto.shape.extend(spec.shape)
    return proto


def tensor_spec_from_proto(proto: tensor_pb2.TensorSpec) -> TensorSpec:
    """Read a tensor's spec. Equal specs share one object.

    Raises:
        PadiffError: DATA_LOSS if a length is negative, or size_bytes is not prod(shape) x item size.
        PadiffError: BAD_TENSOR if this version does not know the element type.
    """
    dtype, shape = dtype_from_proto(proto.dtype), tuple(proto.shape)
    size_bytes = math.prod(shape) * dtype.item_bytes
    if any(length < 0 for length in shape) or size_bytes != proto.size_bytes:
        raise PadiffError(
            f"a tensor header says {proto.size_bytes} bytes, but {dtype.value}{list(shape)} takes {size_bytes}",
            reason=Reason.DATA_LOSS,
        )
    return _shared_spec(dtype, shape)


@lru_cache(_SHARED_COUNT)
def _shared_spec(dtype: DType, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(dtype, shape)


def digest_to_proto(digest: Digest, into: tensor_pb2.Digest | None = None) -> tensor_pb2.Digest:
    """Write a tensor's digest; statistics that are None stay unset."""
    proto = tensor_pb2.Digest() if into is None else into
    proto.count, proto.nan_count, proto.inf_count = digest.count, digest.nan_count, digest.inf_count
    proto.min, proto.max, proto.hash = digest.min, digest.max, digest.hash
    if digest.mean is not None:
        proto.mean = digest.mean
    if digest.abs_mean is not None:
        proto.abs_mean = digest.abs_mean
    if digest.norm is not None:
        proto.norm = digest.norm
    if digest.floor is not None:
        proto.floor = digest.floor
    return proto


def digest_from_proto(proto: tensor_pb2.Digest) -> Digest:
    """Read a tensor's digest; statistics that are unset become None."""
    return Digest(
        count=proto.count,
        mean=proto.mean if proto.HasField("mean") else None,
        abs_mean=proto.abs_mean if proto.HasField("abs_mean") else None,
        norm=proto.norm if proto.HasField("norm") else None,
        min=proto.min,
        max=proto.max,
        nan_count=proto.nan_count,
        inf_count=proto.inf_count,
        hash=proto.hash,
        floor=proto.floor if proto.HasField("floor") else None,
    )


def statistics_to_proto(statistics: Statistics) -> tensor_pb2.Statistics:
    """Return the enum value of a choice of statistics."""
    return _STATISTICS_TO_PROTO[statistics]


def statistics_from_proto(proto: int) -> Statistics:
    """Return the choice of statistics of an enum value; 0 (unspecified) means all.

    Raises:
        PadiffError: NOT_SUPPORTED if this version does not know the value.
    """
    return _known(_STATISTICS_FROM_PROTO, proto, "choice of statistics") if proto else Statistics.ALL


# -- what a model is ----------------------------------------------------------------------------------------------
def parameter_info_to_proto(info: domain.ParameterInfo) -> model_pb2.ParameterInfo:
    """Write the description of one parameter or buffer, without its value."""
    return model_pb2.ParameterInfo(
        name=info.name,
        kind=_KIND_TO_PROTO[info.kind],
        spec=tensor_spec_to_proto(info.spec),
        trainable=info.trainable,
        aliases=info.aliases,
        transient=info.transient,
    )


def parameter_info_from_proto(proto: model_pb2.ParameterInfo) -> domain.ParameterInfo:
    """Read the description of one parameter or buffer.

    Raises:
        PadiffError: NOT_SUPPORTED if this version does not know the kind.
        PadiffError: DATA_LOSS or BAD_TENSOR as tensor_spec_from_proto() raises them.
    """
    return domain.ParameterInfo(
        name=intern(proto.name),
        kind=_known(_KIND_FROM_PROTO, proto.kind, "kind of parameter"),
        spec=tensor_spec_from_proto(proto.spec),
        trainable=proto.trainable,
        aliases=tuple(map(intern, proto.aliases)),
        transient=proto.transient,
    )


def layer_info_to_proto(info: domain.LayerInfo) -> model_pb2.LayerInfo:
    """Write one layer; the value of each hyperparameter becomes JSON text."""
    return model_pb2.LayerInfo(
        route=info.route,
        class_name=info.class_name,
        class_path=info.class_path,
        children=info.children,
        parameters=info.parameters,
        hyperparameters=[
            model_pb2.Hyperparameter(name=name, json=json.dumps(value)) for name, value in info.hyperparameters.items()
        ],
        training=info.training,
        aliases=info.aliases,
    )


def layer_info_from_proto(proto: model_pb2.LayerInfo) -> domain.LayerInfo:
    """Read one layer. Layers with equal hyperparameters share one mapping, which must not be changed."""
    return domain.LayerInfo(
        route=intern(proto.route),
        class_name=intern(proto.class_name),
        class_path=intern(proto.class_path),
        children=tuple(map(intern, proto.children)),
        parameters=tuple(map(intern, proto.parameters)),
        hyperparameters=_shared_hyperparameters(tuple((item.name, item.json) for item in proto.hyperparameters)),
        training=proto.training,
        aliases=tuple(map(intern, proto.aliases)),
    )


@lru_cache(_SHARED_COUNT)
def _shared_hyperparameters(items: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    return {name: json.loads(text) for name, text in items}


def signature_to_proto(signature: ForwardSignature) -> model_pb2.ForwardSignature:
    """Write the parameters of a model's forward."""
    return model_pb2.ForwardSignature(
        parameters=[
            model_pb2.ForwardParameter(
                name=each.name,
                passing=_PASSING_TO_PROTO[each.passing],
                required=each.required,
                shown=each.shown,
            )
            for each in signature
        ]
    )


def signature_from_proto(proto: model_pb2.ForwardSignature) -> ForwardSignature | None:
    """Read the parameters of a model's forward; None where one is passed in a way that this version does not know."""
    if any(each.passing not in _PASSING_FROM_PROTO for each in proto.parameters):
        return None
    return tuple(
        ForwardParameter(each.name, _PASSING_FROM_PROTO[each.passing], each.required, each.shown)
        for each in proto.parameters
    )


def description_to_proto(description: domain.ModelDescription) -> Iterator[model_pb2.ModelDescription]:
    """Yield a model's description in parts of about DESCRIPTION_PART_BYTES; at least one part.

    The first part names the framework and the model's class, and the parameters of its forward. Layers come before
    parameters.
    """
    forward = None if description.forward is None else signature_to_proto(description.forward)
    part = model_pb2.ModelDescription(
        framework=description.framework, class_name=description.class_name, forward=forward
    )
    size_bytes = 0
    items = [*map(layer_info_to_proto, description.layers), *map(parameter_info_to_proto, description.parameters)]
    for item in items:
        if size_bytes and size_bytes + item.ByteSize() > DESCRIPTION_PART_BYTES:
            yield part
            part, size_bytes = model_pb2.ModelDescription(), 0
        if isinstance(item, model_pb2.LayerInfo):
            part.layers.append(item)
        else:
            part.parameters.append(item)
        size_bytes += item.ByteSize()
    yield part


def description_from_proto(parts: Iterable[model_pb2.ModelDescription]) -> domain.ModelDescription:
    """Join the parts of a description, each as it comes. The first part names the framework and the class."""
    framework = class_name = ""
    forward: ForwardSignature | None = None
    layers: list[domain.LayerInfo] = []
    parameters: list[domain.ParameterInfo] = []
    for part in parts:
        if part.HasField("forward"):
            forward = signature_from_proto(part.forward)
        framework, class_name = framework or part.framework, class_name or part.class_name
        layers += map(layer_info_from_proto, part.layers)
        parameters += map(parameter_info_from_proto, part.parameters)
    return domain.ModelDescription(framework, class_name, tuple(layers), tuple(parameters), forward=forward)


def statements_to_proto(statements: Iterable[str]) -> Iterator[worker_service_pb2.DescribeModelResponse]:
    """Yield statements in messages of about DESCRIPTION_PART_BYTES, and at least one message."""
    message = worker_service_pb2.DescribeModelResponse()
    for statement in statements:
        if message.statements and message.ByteSize() + len(statement) > DESCRIPTION_PART_BYTES:
            yield message
            message = worker_service_pb2.DescribeModelResponse()
        message.statements.append(statement)
    yield message


def statements_from_proto(messages: Iterable[worker_service_pb2.DescribeModelResponse]) -> tuple[str, ...]:
    """Join the statements of several messages."""
    return tuple(statement for message in messages for statement in message.statements)


def model_info_to_proto(info: domain.ModelInfo) -> model_pb2.ModelInfo:
    """Write where a model runs. `recorded` has no field, since a worker's model runs."""
    return model_pb2.ModelInfo(
        framework=info.framework,
        framework_version=info.framework_version,
        device=info.device,
        python_version=info.python_version,
        packages=dict(info.packages),
        padiff_version=info.padiff_version,
        host=info.host,
        pid=info.pid,
        losses=info.losses,
        optimizers=info.optimizers,
        store_memory_bytes=info.store_memory_bytes,
        store_disk_bytes=info.store_disk_bytes,
    )


def model_info_from_proto(proto: model_pb2.ModelInfo) -> domain.ModelInfo:
    """Read where a model runs; `recorded` is False."""
    return domain.ModelInfo(
        framework=proto.framework,
        framework_version=proto.framework_version,
        device=proto.device,
        python_version=proto.python_version,
        packages=dict(proto.packages),
        padiff_version=proto.padiff_version,
        host=proto.host,
        pid=proto.pid,
        losses=tuple(proto.losses),
        optimizers=tuple(proto.optimizers),
        store_memory_bytes=proto.store_memory_bytes,
        store_disk_bytes=proto.store_disk_bytes,
    )


# -- what a step records --------------------------------------------------------------------------------------------
def record_to_proto(record: domain.Record, into: model_pb2.Record | None = None) -> model_pb2.Record:
    """Write a record without its bytes, which are read by its id."""
    proto = model_pb2.Record() if into is None else into
    proto.id, proto.name = record.id, record.name
    tensor_spec_to_proto(record.spec, proto.spec)
    digest_to_proto(record.digest, proto.digest)
    if record.place is not None:
        place_to_proto(record.place, proto.place)
    return proto


def record_from_proto(proto: model_pb2.Record) -> domain.Record:
    """Read a record; `place` is None if its bytes cannot be read in place.

    Raises:
        PadiffError: DATA_LOSS or BAD_TENSOR as tensor_spec_from_proto() raises them.
    """
    return domain.Record(
        id=proto.id,
        name=intern(proto.name),
        spec=tensor_spec_from_proto(proto.spec),
        digest=digest_from_proto(proto.digest),
        place=place_from_proto(proto.place) if proto.HasField("place") else None,
    )


def place_to_proto(place: domain.StorePlace, into: model_pb2.Place | None = None) -> model_pb2.Place:
    """Write where a record lies in its store's memory: the offset, and the generation for which it holds."""
    proto = model_pb2.Place() if into is None else into
    proto.offset, proto.generation = place.offset, place.generation
    return proto


def place_from_proto(proto: model_pb2.Place) -> domain.StorePlace:
    """Read where a record lies in its store's memory."""
    return domain.StorePlace(proto.offset, proto.generation)


def boundary_to_proto(boundary: domain.Boundary, into: model_pb2.Boundary | None = None) -> model_pb2.Boundary:
    """Write a boundary with its records."""
    proto = model_pb2.Boundary() if into is None else into
    proto.seq, proto.phase = boundary.seq, _PHASE_TO_PROTO[boundary.phase]
    proto.route, proto.call, proto.side = boundary.route, boundary.call, _SIDE_TO_PROTO[boundary.side]
    proto.api, proto.draw = boundary.api, boundary.draw
    if boundary.caller is not None:
        proto.caller.route, proto.caller.call = boundary.caller
    for record in boundary.records:
        record_to_proto(record, proto.records.add())
    return proto


def boundary_from_proto(proto: model_pb2.Boundary) -> domain.Boundary:
    """Read a boundary with its records.

    Raises:
        PadiffError: NOT_SUPPORTED if this version does not know the phase or the side.
        PadiffError: DATA_LOSS or BAD_TENSOR as tensor_spec_from_proto() raises them.
    """
    return domain.Boundary(
        seq=proto.seq,
        phase=_known(_PHASE_FROM_PROTO, proto.phase, "phase"),
        route=intern(proto.route),
        call=proto.call,
        side=_known(_SIDE_FROM_PROTO, proto.side, "side"),
        caller=_shared_call(intern(proto.caller.route), proto.caller.call) if proto.HasField("caller") else None,
        records=tuple(map(record_from_proto, proto.records)),
        api=proto.api,
        draw=proto.draw,
    )


@lru_cache(_SHARED_COUNT)
def _shared_call(route: str, call: int) -> tuple[str, int]:
    return route, call


def record_options_to_proto(options: domain.RecordOptions) -> model_pb2.RecordOptions:
    """Write what a step records; `routes` None is told as `all_routes`."""
    return model_pb2.RecordOptions(
        all_routes=options.routes is None,
        routes=options.routes or (),
        inputs=options.inputs,
        gradients=options.gradients,
        sync=options.sync,
        api_calls=options.api_calls,
        statistics=statistics_to_proto(options.statistics),
        draws=options.draws,
        share_draws=options.share_draws,
    )


def record_options_from_proto(proto: model_pb2.RecordOptions) -> domain.RecordOptions:
    """Read what a step records.

    Raises:
        PadiffError: NOT_SUPPORTED if this version does not know the choice of statistics.
    """
    return domain.RecordOptions(
        routes=None if proto.all_routes else tuple(proto.routes),
        inputs=proto.inputs,
        gradients=proto.gradients,
        sync=proto.sync,
        api_calls=proto.api_calls,
        statistics=statistics_from_proto(proto.statistics),
        draws=tuple(proto.draws),
        share_draws=proto.share_draws,
    )


# -- running ----------------------------------------------------------------------------------------------------------
def forward_header_to_proto(
    session_id: str, request: domain.ForwardRequest, inputs_json: str, tensor_count: int, observed: bool
) -> worker_service_pb2.ForwardHeader:
    """Write the first message of a forward.

    Args:
        session_id: The session that runs it.
        request: What to run. Its `inputs` are told by the next two arguments.
        inputs_json: `request.inputs` as JSON, which names its tensors (padiff_rpc/model/inputs_as_json.py).
        tensor_count: How many tensors follow the header.
        observed: Whether the worker is to send boundaries.
    """
    header = worker_service_pb2.ForwardHeader(
        session_id=session_id,
        inputs_json=inputs_json,
        seed=request.seed,
        gradients=request.gradients,
        record=None if request.record is None else record_options_to_proto(request.record),
        tensor_count=tensor_count,
        observed=observed,
    )
    if request.training is not None:
        header.training = request.training
    return header


def forward_header_from_proto(proto: worker_service_pb2.ForwardHeader, inputs: domain.Inputs) -> domain.ForwardRequest:
    """Read the first message of a forward.

    Args:
        proto: The header.
        inputs: forward's keyword arguments, put together from the header's `inputs_json` and the tensors that followed
            it.

    Raises:
        PadiffError: NOT_SUPPORTED if this version does not know the choice of statistics.
    """
    return domain.ForwardRequest(
        inputs=inputs,
        training=proto.training if proto.HasField("training") else None,
        seed=proto.seed if proto.HasField("seed") else None,
        gradients=proto.gradients,
        record=record_options_from_proto(proto.record) if proto.HasField("record") else None,
    )


def measure_floor_header_to_proto(
    session_id: str, request: domain.ForwardRequest, inputs_json: str, tensor_count: int, loss: domain.LossSpec | None
) -> worker_service_pb2.MeasureFloorHeader:
    """Write the first message of a floor's measurement; the arguments are those of forward_header_to_proto(), and the loss."""
    return worker_service_pb2.MeasureFloorHeader(
        forward=forward_header_to_proto(session_id, request, inputs_json, tensor_count, observed=False),
        loss=None if loss is None else loss_spec_to_proto(loss),
    )


def copies_from_proto(text: str) -> domain.Copies | None:
    """Read which copies to work on; empty is None, the model's own tensors.

    Raises:
        PadiffError: BAD_CONFIG for copies that this version does not know.
    """
    if text == "own" or text == "float64" or not text:
        return text or None
    raise PadiffError(f"no copies of the kind {text!r} are known", reason=Reason.BAD_CONFIG)


def forward_result_to_proto(result: domain.ForwardResult) -> worker_service_pb2.ForwardResult:
    """Write a forward's result: records of the model's outputs, and its wall time in seconds."""
    return worker_service_pb2.ForwardResult(outputs=map(record_to_proto, result.outputs), wall_s=result.wall_s)


def forward_result_from_proto(proto: worker_service_pb2.ForwardResult) -> domain.ForwardResult:
    """Read a forward's result."""
    return domain.ForwardResult(outputs=tuple(map(record_from_proto, proto.outputs)), wall_s=proto.wall_s)


def backward_result_to_proto(result: domain.BackwardResult) -> worker_service_pb2.BackwardResult:
    """Write a backward's result. `unrecorded` has no field: it is empty for a model that runs."""
    return worker_service_pb2.BackwardResult(
        loss=result.loss,
        without_gradient=[
            model_pb2.BoundaryTensor(route=route, call=call, side=_SIDE_TO_PROTO[side], name=name)
            for route, call, side, name in result.without_gradient
        ],
        wall_s=result.wall_s,
        recomputed=result.recomputed,
    )


def backward_result_from_proto(proto: worker_service_pb2.BackwardResult) -> domain.BackwardResult:
    """Read a backward's result; `unrecorded` is empty.

    Raises:
        PadiffError: NOT_SUPPORTED if this version does not know a boundary's side.
    """
    return domain.BackwardResult(
        loss=proto.loss,
        without_gradient=tuple(
            (item.route, item.call, _known(_SIDE_FROM_PROTO, item.side, "side"), item.name)
            for item in proto.without_gradient
        ),
        wall_s=proto.wall_s,
        recomputed=tuple(proto.recomputed),
    )


def replay_header_to_proto(
    session_id: str, request: ReplayRequest, inputs_json: str, tensor_count: int
) -> worker_service_pb2.ReplayLayerHeader:
    """Write the first message of a replay.

    Args:
        session_id: The session that runs it.
        request: What to run. The tensors of its `forward.inputs`, and those that given_to_wire() names, follow.
        inputs_json: `request.forward.inputs` as JSON.
        tensor_count: How many tensors follow the header.
    """
    return worker_service_pb2.ReplayLayerHeader(
        session_id=session_id,
        forward=forward_header_to_proto("", replace(request.forward, record=None), inputs_json, 0, observed=True),
        route=request.route,
        call=request.call,
        dtype=request.dtype or "",
        seed=request.seed,
        outputs=request.outputs,
        inner=request.inner,
        forward_only=not request.backward,
        tensor_count=tensor_count,
    )


def replay_header_from_proto(
    proto: worker_service_pb2.ReplayLayerHeader,
    inputs: domain.Inputs,
    given: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
) -> ReplayRequest:
    """Read the first message of a replay.

    Args:
        proto: The header.
        inputs: forward's keyword arguments, put together from the header and the tensors that followed it.
        given: The tensors that the layer is to take, by the names of its inputs.
        parameters: The values that its parameters are to have, by their full names.
    """
    return ReplayRequest(
        forward=forward_header_from_proto(proto.forward, inputs),
        route=proto.route,
        call=proto.call,
        dtype=cast(Any, proto.dtype) or None,  # the model refuses what it does not know
        inputs=given,
        parameters=parameters,
        seed=proto.seed,
        outputs=tuple(proto.outputs),
        inner=tuple(proto.inner),
        backward=not proto.forward_only,
    )


def given_to_wire(request: ReplayRequest) -> dict[str, Tensor]:
    """Name the tensors that a replayed layer is to have so that they are told from those of the forward's inputs."""
    groups = ((_INPUT, request.inputs), (_PARAMETER, request.parameters))
    return {f"{prefix}{name}": tensor for prefix, group in groups for name, tensor in group.items()}


def given_from_wire(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of a forward's inputs, a replayed layer's inputs and its parameters, each by its own name."""
    inputs, parameters = (
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in (_INPUT, _PARAMETER)
    )
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith((_INPUT, _PARAMETER))}
    return rest, inputs, parameters


def replay_result_to_proto(result: ReplayResult) -> worker_service_pb2.ReplayLayerResult:
    """Write a replay's result without its boundaries, which went before."""
    return worker_service_pb2.ReplayLayerResult(
        parameters=map(record_to_proto, result.parameters), wall_s=result.wall_s
    )


def replay_result_from_proto(
    proto: worker_service_pb2.ReplayLayerResult, boundaries: Iterable[domain.Boundary]
) -> ReplayResult:
    """Read a replay's result, and put it together with the boundaries that came before."""
    return ReplayResult(tuple(boundaries), tuple(map(record_from_proto, proto.parameters)), proto.wall_s)


def store_offer_to_proto(offer: Offer) -> worker_service_pb2.StoreOffer:
    """Write where another process finds a store's memory."""
    return worker_service_pb2.StoreOffer(**vars(offer))


def store_offer_from_proto(proto: worker_service_pb2.StoreOffer) -> Offer:
    """Read where another process's store is found. The nonce is not checked here."""
    return Offer(pid=proto.pid, descriptor=proto.descriptor, size_bytes=proto.size_bytes, nonce=proto.nonce)


def store_figures_to_proto(figures: StoreFigures) -> worker_service_pb2.GetStoreFiguresResponse:
    """Write how many bytes a store holds, has held at most, and has written to disk."""
    return worker_service_pb2.GetStoreFiguresResponse(**asdict(figures))


def store_figures_from_proto(proto: worker_service_pb2.GetStoreFiguresResponse) -> StoreFigures:
    """Read how many bytes a store holds, has held at most, and has written to disk."""
    return StoreFigures(**{field.name: getattr(proto, field.name) for field in fields(StoreFigures)})


def loss_spec_to_proto(loss: domain.LossSpec) -> model_pb2.LossSpec:
    """Write a loss without its targets, which follow as tensors."""
    return model_pb2.LossSpec(name=loss.name, options=dict(loss.options), outputs=loss.outputs)


def loss_spec_from_proto(proto: model_pb2.LossSpec) -> domain.LossSpec:
    """Read a loss. Its targets are empty, since they follow as tensors."""
    return domain.LossSpec(proto.name, dict(proto.options), outputs=tuple(proto.outputs))


def optimizer_spec_to_proto(optimizer: domain.OptimizerSpec) -> model_pb2.OptimizerSpec:
    """Write an optimiser's name and options."""
    return model_pb2.OptimizerSpec(name=optimizer.name, options=dict(optimizer.options))


def optimizer_spec_from_proto(proto: model_pb2.OptimizerSpec) -> domain.OptimizerSpec:
    """Read an optimiser's name and options."""
    return domain.OptimizerSpec(proto.name, dict(proto.options))


def optimizer_group_to_proto(group: domain.OptimizerGroup) -> worker_service_pb2.OptimizerGroup:
    """Write how an optimiser treats some parameters."""
    return worker_service_pb2.OptimizerGroup(
        algorithm=group.algorithm, options_json=json.dumps(dict(group.options)), parameters=group.parameters
    )


def optimizer_group_from_proto(proto: worker_service_pb2.OptimizerGroup) -> domain.OptimizerGroup:
    """Read how an optimiser treats some parameters."""
    return domain.OptimizerGroup(proto.algorithm, json.loads(proto.options_json), tuple(map(intern, proto.parameters)))


def what_to_proto(what: domain.What) -> worker_service_pb2.What:
    """Return the enum value of "value", "gradient" or a state."""
    return _WHAT_TO_PROTO[what]


def what_from_proto(value: int) -> domain.What:
    """Return "value", "gradient" or a state for an enum value.

    Raises:
        PadiffError: NOT_SUPPORTED if this version does not know the value.
    """
    return _known(_WHAT_FROM_PROTO, value, "kind of tensor")


def _known(table: dict[int, T], value: int, what: str) -> T:
    if value not in table:
        raise PadiffError(
            f"the peer sent a {what} of number {value!r}, which this side does not know",
            reason=Reason.NOT_SUPPORTED,
            hint="upgrade padiff-rpc on this side",
        )
    return table[value]


_KIND_TO_PROTO: dict[domain.ParameterKind, model_pb2.ParameterKind] = {
    "parameter": model_pb2.PARAMETER_KIND_PARAMETER,
    "buffer": model_pb2.PARAMETER_KIND_BUFFER,
}
_KIND_FROM_PROTO: dict[int, domain.ParameterKind] = {int(value): key for key, value in _KIND_TO_PROTO.items()}
_STATISTICS_TO_PROTO: dict[Statistics, tensor_pb2.Statistics] = {
    Statistics.ALL: tensor_pb2.STATISTICS_ALL,
    Statistics.MEAN: tensor_pb2.STATISTICS_MEAN,
    Statistics.ABS_MEAN: tensor_pb2.STATISTICS_ABS_MEAN,
    Statistics.SIZES: tensor_pb2.STATISTICS_SIZES,
}
_STATISTICS_FROM_PROTO: dict[int, Statistics] = {int(value): key for key, value in _STATISTICS_TO_PROTO.items()}
_PASSING_TO_PROTO: dict[Passing, model_pb2.Passing] = {
    "positional_only": model_pb2.PASSING_POSITIONAL_ONLY,
    "either": model_pb2.PASSING_EITHER,
    "rest": model_pb2.PASSING_REST,
    "keyword_only": model_pb2.PASSING_KEYWORD_ONLY,
    "keywords": model_pb2.PASSING_KEYWORDS,
}
_PASSING_FROM_PROTO: dict[int, Passing] = {int(value): key for key, value in _PASSING_TO_PROTO.items()}
_PHASE_TO_PROTO: dict[domain.Phase, model_pb2.Phase] = {
    "forward": model_pb2.PHASE_FORWARD,
    "backward": model_pb2.PHASE_BACKWARD,
}
_PHASE_FROM_PROTO: dict[int, domain.Phase] = {int(value): key for key, value in _PHASE_TO_PROTO.items()}
_SIDE_TO_PROTO: dict[domain.BoundarySide, model_pb2.Side] = {
    "input": model_pb2.SIDE_INPUT,
    "output": model_pb2.SIDE_OUTPUT,
}
_SIDE_FROM_PROTO: dict[int, domain.BoundarySide] = {int(value): key for key, value in _SIDE_TO_PROTO.items()}
_WHAT_TO_PROTO: dict[domain.What, worker_service_pb2.What] = {
    "value": worker_service_pb2.WHAT_VALUE,
    "gradient": worker_service_pb2.WHAT_GRADIENT,
    "moment1": worker_service_pb2.WHAT_MOMENT1,
    "moment2": worker_service_pb2.WHAT_MOMENT2,
    "momentum": worker_service_pb2.WHAT_MOMENTUM,
}
_WHAT_FROM_PROTO: dict[int, domain.What] = {int(value): key for key, value in _WHAT_TO_PROTO.items()}
