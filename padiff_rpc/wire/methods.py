"""The service's calls for gRPC, as a client stub and as server handlers.

Calls that carry tensors read and write their messages by hand (wire/payload.py); the generated code does the others.
"""

from __future__ import annotations

from typing import Any

import grpc

from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.v1 import worker_service_pb2_grpc
from padiff_rpc.wire.payload import decoder

SERVICE = pb.DESCRIPTOR.services_by_name["ModelWorkerService"]
CARRIERS = (
    "ReadParameters",
    "ReadActivations",
    "WriteParameters",
    "Forward",
    "Backward",
    "MeasureFloor",
    "ReplayLayer",
)
"""Calls with streams both ways that carry tensors.

Their messages that have a field `batch` are sent as bytes made by payload.encode(), and arrive as Frames.
"""

TARGET_PREFIX = "target:"
"""Begins the names of the tensors that are a loss's targets, where those of the inputs come in the same call."""


def _kind(message: Any) -> Any:
    return getattr(pb, message.name)


def _carries(message: Any) -> bool:
    return "batch" in message.fields_by_name


def _serializer(message: Any) -> Any:
    return bytes if _carries(message) else _kind(message).SerializeToString


def _deserializer(message: Any) -> Any:
    return decoder(_kind(message)) if _carries(message) else _kind(message).FromString


class Stub(worker_service_pb2_grpc.ModelWorkerServiceStub):
    """The generated client stub, but for the calls of CARRIERS."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__(channel)
        for name in CARRIERS:
            method = SERVICE.methods_by_name[name]
            call = channel.stream_stream(
                f"/{SERVICE.full_name}/{name}",
                request_serializer=_serializer(method.input_type),
                response_deserializer=_deserializer(method.output_type),
            )
            setattr(self, name, call)


def add_service(service: Any, server: grpc.Server) -> None:
    """Register a servicer with a server.

    The handlers of CARRIERS are added first, since gRPC takes the first of two handlers for one call.

    Args:
        service: A ModelWorkerServiceServicer.
        server: The gRPC server, not yet started.
    """
    handlers = {}
    for name in CARRIERS:
        method = SERVICE.methods_by_name[name]
        handlers[name] = grpc.stream_stream_rpc_method_handler(
            getattr(service, name),
            request_deserializer=_deserializer(method.input_type),
            response_serializer=_serializer(method.output_type),
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    worker_service_pb2_grpc.add_ModelWorkerServiceServicer_to_server(service, server)
