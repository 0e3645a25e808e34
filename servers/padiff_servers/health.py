"""The standard gRPC health service, served if its package is installed."""

from __future__ import annotations

import importlib
import logging

import grpc

log: logging.Logger = logging.getLogger(__name__)
SERVICES = ("", "padiff_rpc.v1.ModelWorkerService")


def add_health(server: grpc.Server) -> bool:
    """Add the health service to a server that is not yet started. It reports SERVING from then on.

    Returns:
        False if grpcio-health-checking is missing, or too new for this environment's protobuf.
    """
    try:
        health = importlib.import_module("grpc_health.v1.health")
        messages = importlib.import_module("grpc_health.v1.health_pb2")
        services = importlib.import_module("grpc_health.v1.health_pb2_grpc")
    except Exception as err:  # noqa: BLE001 - generated code that does not fit protobuf raises errors of several kinds
        log.info("no health service: %s: %s", type(err).__name__, err)
        return False
    servicer = health.HealthServicer()
    for name in SERVICES:
        servicer.set(name, messages.HealthCheckResponse.SERVING)
    services.add_HealthServicer_to_server(servicer, server)
    return True
