"""connect(): take a worker that runs already."""

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
    """Connect to the worker at `grpc://host:port` or `unix:path` and open a session.

    `token`: the one the worker was started with. `tls`: True to trust this system's authorities, or the path of a PEM file
    with the certificate to trust. An address where nobody listens yet is tried again for connect_timeout_s. `shared_memory`:
    move tensors through memory that both processes share, where they can prove that they do.
    BAD_CONFIG, WORKER_UNREACHABLE, TIMED_OUT, VERSION_MISMATCH, ACCESS_DENIED, WORKER_BUSY.
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
    """Shake hands over a channel; it is closed again when that fails."""
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
    """Take up the worker's ring and store; None where it cannot be proved that they are in this process's reach."""
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
