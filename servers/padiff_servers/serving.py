"""Serve at an address: check that it is free, bind, and say clearly why not."""

from __future__ import annotations

import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.channel import SERVER_OPTIONS, Address
from padiff_rpc.wire.methods import add_service
from padiff_servers.access import Access, TokenInterceptor
from padiff_servers.health import add_health
from padiff_servers.service import WorkerService

HANDLER_THREADS = 32
"""How many calls are served at once.

The one step, as many readers of its records as a coordinator may want, and reads that stay open.
"""


def check_free(address: Address) -> None:
    """Check that this process can listen at an address, before a model is loaded and before gRPC binds.

    gRPC itself would take a unix socket away from a living worker. A socket file that nobody listens at any more is
    removed.

    Raises:
        PadiffError: WORKER_UNREACHABLE if another process listens there, or the address cannot be bound.
    """
    if address.is_unix:
        _free_unix(address)
        return
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
    except OSError as err:
        raise _cannot_listen(address, err.strerror or str(err)) from err


def start_server(service: WorkerService, address: Address, access: Access) -> tuple[grpc.Server, Address]:
    """Bind an address and start a gRPC server there.

    Args:
        service: The service to serve, beside the health service.
        address: Where to listen; port 0 takes any free one.
        access: What callers need.

    Returns:
        The server, and the address with its real port.

    Raises:
        PadiffError: WORKER_UNREACHABLE if it cannot bind.
    """
    check_free(address)
    server = grpc.server(
        ThreadPoolExecutor(max_workers=HANDLER_THREADS, thread_name_prefix="grpc"),
        interceptors=[TokenInterceptor(access.token)] if access.token else [],
        options=SERVER_OPTIONS,
    )
    add_service(service, server)
    add_health(server)
    port = _bind(server, address, access.credentials)
    server.start()
    return server, address if address.is_unix else replace(address, port=port)


def remove_socket(address: Address) -> None:
    """Remove a unix socket's file if gRPC has not."""
    if address.is_unix and os.path.exists(address.path):
        os.unlink(address.path)


def _bind(server: grpc.Server, address: Address, credentials: grpc.ServerCredentials | None) -> int:
    before = os.umask(0o077)  # a unix socket is for its owner only, from the first moment on
    try:
        if credentials is None:
            port = server.add_insecure_port(address.target)
        else:
            port = server.add_secure_port(address.target, credentials)
    except RuntimeError as err:  # grpcio 1.60 and newer; an older one returns 0
        raise _cannot_listen(address, str(err)) from err
    finally:
        os.umask(before)
    if port == 0:
        raise _cannot_listen(address, "binding failed")
    return port


def _free_unix(address: Address) -> None:
    folder = os.path.dirname(address.path)
    if not os.path.isdir(folder):
        raise _cannot_listen(address, f"there is no folder {folder!r}")
    try:
        mode = os.stat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _cannot_listen(address, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
        except OSError as err:
            raise _cannot_listen(address, err.strerror or str(err)) from err
    raise _cannot_listen(address, "another process listens there")


def _cannot_listen(address: Address, why: str) -> PadiffError:
    return PadiffError(
        f"cannot listen at {address}: {why}",
        reason=Reason.WORKER_UNREACHABLE,
        hint="choose another address; 127.0.0.1:0 takes any free port",
        metadata={"address": str(address)},
    )
