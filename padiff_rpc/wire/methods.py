"""The service's calls as gRPC takes them: those that carry tensors read and write their messages by hand."""

from __future__ import annotations

from typing import Any

import grpc

from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.v1 import worker_service_pb2_grpc
from padiff_rpc.wire.payload import decoder

SERVICE = pb.DESCRIPTOR.services_by_name["ModelWorkerService"]
CARRIERS = ("ReadParameters", "ReadActivations", "WriteParameters", "Forward", "Backward")
"""Calls with streams both ways. Of their messages those with a `batch` are sent as bytes (wire/payload.py encode()) and
come as Frames."""


def _kind(message: Any) -> Any:
    return getattr(pb, message.name)


def _carries(message: Any) -> bool:
    return "batch" in message.fields_by_name


def _serializer(message: Any) -> Any:
    return bytes if _carries(message) else _kind(message).SerializeToString


def _deserializer(message: Any) -> Any:
    return decoder(_kind(message)) if _carries(message) else _kind(message).FromString


class Stub(worker_service_pb2_grpc.ModelWorkerServiceStub):
    """The generated stub, its carriers replaced."""

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
    """Register a servicer with a server; of two handlers for one call gRPC takes the one that was added first."""
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
