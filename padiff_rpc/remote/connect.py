"""connect(): open a session on a worker that runs already."""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.remote.connection import CALL_TIMEOUT_S, Connection
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.channel import Address, open_channel, parse_address
from padiff_rpc.wire.retry import retry_idempotent
from padiff_rpc.wire.ring import FoundRing, Ring
from padiff_rpc.wire.serde import model_info_from_proto, store_offer_from_proto
from padiff_rpc.wire.shared_store import SharedStore, shared_store
from padiff_rpc.wire.versions import common_version

log: logging.Logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 20.0


def connect(
    address: str,
    *,
    token: str | None = None,
    tls: bool | str | os.PathLike[str] = False,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    shared_memory: bool = True,
) -> RemoteModel:
    """Connect to the worker at an address and open a session.

    A worker serves one session at a time. The model is a context manager; its close() ends the session, and the worker
    runs on.

    Args:
        address: `grpc://host:port` or `unix:path`, as the worker printed it when it was ready.
        token: The token that the worker was started with, as text; None if it has none.
        tls: True to trust this system's certificate authorities, or the path of a PEM file with the certificate to
            trust. False connects without TLS.
        connect_timeout_s: For how many seconds to try again while nobody listens at the address.
        shared_memory: Whether to move tensors through memory that both processes share, if they can prove that they do.
            Otherwise tensors travel in gRPC messages.

    Raises:
        PadiffError: BAD_CONFIG if the address is malformed, or the certificate file cannot be read.
        PadiffError: WORKER_UNREACHABLE if nobody listens there, TIMED_OUT if the worker does not answer in time.
        PadiffError: VERSION_MISMATCH if the worker speaks none of this side's protocol versions, or is no worker.
        PadiffError: ACCESS_DENIED if the token is missing or wrong.
        PadiffError: WORKER_BUSY if another session holds the worker.
    """
    place = parse_address(address)
    channel = open_channel(place, _credentials(tls) if tls else None)
    return open_session(channel, place, token=token, connect_timeout_s=connect_timeout_s, shared_memory=shared_memory)


def open_session(
    channel: grpc.Channel,
    address: Address,
    *,
    token: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    explain: Callable[[PadiffError], PadiffError] = lambda error: error,
    after_close: Callable[[], None] = lambda: None,
    shared_memory: bool = True,
) -> RemoteModel:
    """Check versions with the worker behind a channel and open a session. The channel is closed if that fails.

    Args:
        channel: A channel to the worker; the model closes it in the end.
        address: The worker's address, for errors.
        token: The worker's token; None if it has none.
        connect_timeout_s: For how many seconds to try again while nobody listens at the address.
        explain: Replaces the error of a failed call by a better one, such as how the worker's process ended.
        after_close: Called once, after the model was closed.
        shared_memory: As in connect().

    Raises:
        PadiffError: As connect() does.
    """
    connection = Connection(channel, str(address), token, explain)
    stub = connection.stub
    try:
        server = retry_idempotent(
            lambda: connection.unary(stub.GetServerInfo, pb.GetServerInfoRequest(), connect_timeout_s),
            connect_timeout_s,
        )
        request = pb.OpenSessionRequest(
            protocol_version=common_version(server.protocol_versions, str(address)),
            client=_client_name(),
            shared_memory=shared_memory,
        )
        session = connection.unary(stub.OpenSession, request, CALL_TIMEOUT_S)
        ring, store = _share(connection, session) if session.HasField("ring") else (None, None)
    except BaseException:
        connection.close()
        raise
    info = model_info_from_proto(server.info)
    return RemoteModel(connection, info, session.session_id, session.lease_s, after_close, ring, store)


def _share(connection: Connection, session: pb.OpenSessionResponse) -> tuple[Ring | None, SharedStore | None]:
    """Map the worker's ring and store; None for either that cannot be proved to be within this process's reach."""
    request = pb.ShareMemoryRequest(session_id=session.session_id)
    found = None
    try:
        found = FoundRing(session.ring)
        request.nonce = found.nonce
    except OSError as err:
        log.debug("no memory is shared with %s: %s", connection.address, err)
    try:
        response = connection.unary(connection.stub.ShareMemory, request, CALL_TIMEOUT_S)
        if found is None or not response.HasField("layout"):
            return None, None
        offer = store_offer_from_proto(response.store) if response.HasField("store") else None
        return found.map(response.layout), shared_store(offer)
    except OSError as err:
        log.debug("no memory is shared with %s: %s", connection.address, err)
        return None, None
    finally:
        if found is not None:
            found.close()


def _credentials(tls: bool | str | os.PathLike[str]) -> grpc.ChannelCredentials:
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials()
    try:
        return grpc.ssl_channel_credentials(Path(os.fspath(tls)).expanduser().read_bytes())
    except OSError as err:
        raise PadiffError(
            f"cannot read the certificate file {os.fspath(tls)!r}: {err.strerror}",
            reason=Reason.BAD_CONFIG,
        ) from err


def _client_name() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
