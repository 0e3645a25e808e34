"""Every message round trips, and what does not add up is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.forward_signature import PASSINGS, ForwardParameter
from padiff_rpc.model.model import (
    BackwardResult,
    Boundary,
    ForwardRequest,
    ForwardResult,
    LayerInfo,
    LossSpec,
    ModelDescription,
    ModelInfo,
    OptimizerGroup,
    OptimizerSpec,
    ParameterInfo,
    Record,
    RecordOptions,
    StoreFigures,
)
from padiff_rpc.model.replaying import ReplayRequest, ReplayResult
from padiff_rpc.tensors.tensor import Digest, DType, Statistics, Tensor, TensorSpec
from padiff_rpc.v1 import model_pb2, tensor_pb2, worker_service_pb2
from padiff_rpc.wire import serde

SPEC = TensorSpec(DType.BF16, (2, 0, 3))
DIGEST = Digest(6, -0.5, 0.75, 2.0, -math.inf, 3.0, 0, 1, bytes(range(16)))
RECORD = Record(2**40, "past.0.1", TensorSpec(DType.F32, ()), DIGEST)
PARAMETER = ParameterInfo("fc.weight", "parameter", SPEC, True, ("tied.weight",))
LAYER = LayerInfo(
    route="layer1.0",
    class_name="Conv2d",
    class_path="torch.nn.Conv2d",
    children=("layer1.0.a", "layer1.0.b"),
    parameters=("layer1.0.weight",),
    hyperparameters={"stride": [1, 2], "eps": 1e-5, "bias": True, "mode": "é", "none": None, "inf": math.inf},
    training=True,
    aliases=("again",),
)
INFO = ModelInfo("torch", "2.13.0", "cpu", "3.11.7", {"numpy": "2.4"}, "0.1.0", "host", 12, ("a",), ("b",), 2**40, 5)

PAIRS: dict[str, list[Any]] = {
    "tensor_spec": [SPEC, TensorSpec(DType.F64, ()), TensorSpec(DType.BOOL, (2**33,))],
    "digest": [DIGEST],
    "parameter_info": [
        PARAMETER,
        ParameterInfo("running_mean", "buffer", TensorSpec(DType.F32, (4,)), False, transient=True),
    ],
    "layer_info": [LAYER, LayerInfo("", "Net", "user.Net", (), (), {}, False)],
    "model_info": [INFO],
    "record": [RECORD],
    "store_figures": [StoreFigures(1, 2, 2**40, 4, 5)],
    "boundary": [
        Boundary(0, "forward", "", 0, "input", None, ()),
        Boundary(7, "backward", "fc", 2, "output", ("", 0), (RECORD, RECORD)),
        Boundary(8, "forward", "fc/relu", 1, "output", ("fc", 0), (RECORD,), api=True),
        Boundary(9, "forward", "drop", 0, "output", ("", 0), (RECORD,), draw=True),
    ],
    "record_options": [
        RecordOptions(),
        RecordOptions(routes=(), inputs=False, gradients=False, sync=True),
        RecordOptions(routes=("", "fc")),
        RecordOptions(api_calls=True),
        RecordOptions(draws=("drop",), share_draws=True),
        RecordOptions(statistics=Statistics.SIZES),
    ],
    "forward_result": [ForwardResult((RECORD,), 0.25), ForwardResult((), 0.0)],
    "backward_result": [
        BackwardResult(-1.5, (("fc", 1, "input", "0"), ("", 0, "output", "x")), 0.5, recomputed=("ls.0", "ls.0.fc"))
    ],
    "loss_spec": [LossSpec("projection", {"seed": 3.0}), LossSpec("mean"), LossSpec("mse", outputs=("b", "a"))],
    "optimizer_group": [
        OptimizerGroup(
            "AdamW", {"lr": 1e-3, "amsgrad": False, "grad_clip": "ClipGradByNorm(1.0)"}, ("fc.weight", "fc.bias")
        ),
        OptimizerGroup("Lion", {}, ()),
    ],
    "optimizer_spec": [OptimizerSpec("Adam", {"lr": 1e-3, "beta1": 0.9})],
    "what": ["value", "gradient", "moment1", "moment2", "momentum"],
    "statistics": list(Statistics),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in PAIRS.items() for value in values])
def test_a_pair_brings_back_what_it_was_given(name: str, value: Any) -> None:
    proto = getattr(serde, f"{name}_to_proto")(value)
    if name not in ("what", "statistics"):
        proto = type(proto).FromString(proto.SerializeToString())
    assert value == getattr(serde, f"{name}_from_proto")(proto)


def test_a_digest_keeps_not_a_number() -> None:
    digest = Digest(1, math.nan, math.nan, math.nan, math.nan, math.nan, 1, 0, bytes(16))
    back = serde.digest_from_proto(serde.digest_to_proto(digest))
    assert math.isnan(back.mean)
    assert 1 == back.nan_count


def test_statistics_that_were_not_asked_for_are_not_zero() -> None:
    digest = Digest(1, None, None, 0.0, 0.0, 0.0, 0, 0, bytes(16))
    proto = tensor_pb2.Digest.FromString(serde.digest_to_proto(digest).SerializeToString())
    assert digest == serde.digest_from_proto(proto)


def test_who_asks_for_no_statistics_in_particular_gets_all() -> None:
    assert Statistics.ALL == serde.statistics_from_proto(tensor_pb2.STATISTICS_UNSPECIFIED)


@pytest.mark.parametrize("training", [None, False, True])
@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("record", [None, RecordOptions(), RecordOptions(routes=("fc",), sync=True)])
def test_a_forward_header_tells_unset_from_false_and_zero(training: Any, seed: Any, record: Any) -> None:
    request = ForwardRequest({"x": 1}, training=training, seed=seed, gradients=False, record=record)
    header = serde.forward_header_to_proto("session", request, '{"x": 1}', 0, observed=True)
    header = worker_service_pb2.ForwardHeader.FromString(header.SerializeToString())
    assert request == serde.forward_header_from_proto(header, {"x": 1})


@pytest.mark.parametrize(
    "request_",
    [
        ReplayRequest(ForwardRequest({"x": 1}, record=None), "fc"),
        ReplayRequest(
            ForwardRequest({"x": 1}, training=False, seed=0, gradients=False, record=None),
            "",
            call=2,
            dtype="float64",
            inputs={"0": Tensor.from_array(np.zeros((2, 0)))},
            parameters={"fc.bias": Tensor.from_array(np.ones(2))},
            seed=7,
            outputs=("1", "0"),
            backward=False,
            inner=("fc", "act"),
        ),
    ],
)
def test_a_replay_header_brings_back_the_request(request_: ReplayRequest) -> None:
    header = serde.replay_header_to_proto("session", request_, '{"x": 1}', 3)
    header = worker_service_pb2.ReplayLayerHeader.FromString(header.SerializeToString())
    assert ("session", 3, '{"x": 1}') == (header.session_id, header.tensor_count, header.forward.inputs_json)
    assert request_ == serde.replay_header_from_proto(header, {"x": 1}, request_.inputs, request_.parameters)


def test_given_tensors_are_told_from_those_of_the_inputs() -> None:
    inputs, given, values = ({"x": Tensor.from_array(np.full(1, number))} for number in range(3))
    request = ReplayRequest(ForwardRequest(inputs), "fc", inputs=given, parameters=values)
    assert (inputs, given, values) == serde.given_from_wire({**serde.given_to_wire(request), **inputs})


def test_a_replay_result_brings_back_what_it_was_given() -> None:
    boundary = Boundary(0, "forward", "fc", 0, "input", None, (RECORD,))
    result = ReplayResult((boundary,), (RECORD,), 0.25)
    proto = worker_service_pb2.ReplayLayerResult.FromString(serde.replay_result_to_proto(result).SerializeToString())
    assert result == serde.replay_result_from_proto(proto, [boundary])


def test_a_description_travels_in_parts_below_the_message_limit() -> None:
    layers = tuple(LayerInfo(f"layer{i}", "L", "x" * 1000, (), (), {}, True) for i in range(4000))
    parameters = tuple(ParameterInfo(f"p{i}" * 50, "parameter", SPEC, True) for i in range(4000))
    description = ModelDescription("torch", "Net", layers, parameters)
    parts = list(serde.description_to_proto(description))
    assert len(parts) > 4
    assert max(part.ByteSize() for part in parts) < 2 * serde.DESCRIPTION_PART_BYTES
    assert description == serde.description_from_proto(parts)


@pytest.mark.parametrize("forward", [None, (), "one of each"])
def test_a_description_tells_what_forward_takes(forward: Any) -> None:
    if forward == "one of each":
        forward = tuple(ForwardParameter(f"p{at}", each, at == 0, f"p{at}=1") for at, each in enumerate(PASSINGS))
    description = ModelDescription("torch", "Net", (), (), forward=forward)
    assert description == serde.description_from_proto(serde.description_to_proto(description))


def test_a_forward_that_this_version_cannot_read_is_not_known() -> None:
    proto = model_pb2.ForwardSignature(parameters=[model_pb2.ForwardParameter(name="x", passing=99)])
    assert serde.signature_from_proto(proto) is None


def test_statements_travel_in_messages_below_the_message_limit() -> None:
    statements = tuple(f"model.layers.{i}.{'w' * 500} -> layers.{i}.w" for i in range(100))
    messages = list(serde.statements_to_proto(statements))
    assert len(messages) > 4
    assert max(message.ByteSize() for message in messages) < 2 * serde.DESCRIPTION_PART_BYTES
    assert statements == serde.statements_from_proto(messages)


def test_no_statements_are_one_message() -> None:
    assert () == serde.statements_from_proto(serde.statements_to_proto(()))


def test_an_empty_description_is_one_part() -> None:
    description = ModelDescription("torch", "Net", (), ())
    assert description == serde.description_from_proto(serde.description_to_proto(description))


@pytest.mark.parametrize(
    ("shape", "size_bytes"), [((2, 3), 23), ((2, 3), 25), ((2, 3), 0), ((-2, -3), 24), ((2**40, 2**40), 0)]
)
def test_a_size_that_is_not_that_of_the_shape_is_data_loss(shape: tuple[int, ...], size_bytes: int) -> None:
    proto = tensor_pb2.TensorSpec(dtype=tensor_pb2.D_TYPE_F32, shape=shape, size_bytes=size_bytes)
    with pytest.raises(PadiffError) as caught:
        serde.tensor_spec_from_proto(proto)
    assert Reason.DATA_LOSS is caught.value.reason


def test_an_unknown_side_is_refused() -> None:
    proto = model_pb2.Boundary(phase=model_pb2.PHASE_FORWARD)
    with pytest.raises(PadiffError, match="side of number 0") as caught:
        serde.boundary_from_proto(proto)
    assert Reason.NOT_SUPPORTED is caught.value.reason
