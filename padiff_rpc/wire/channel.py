"""Parse worker addresses (`grpc://host:port`, `unix:path`) and open gRPC channels to them."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

import grpc

from padiff_rpc.errors import PadiffError, Reason

MESSAGE_LIMIT_BYTES = 4 << 20
"""The largest gRPC message. It stays at gRPC's default on purpose: a forgotten chunking fails loudly."""
UNIX_PATH_LIMIT_BYTES = 107
"""The longest path of a unix socket that the kernel accepts (sockaddr_un)."""

CLIENT_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    # Channels that share a connection would share its failures and its back-off too.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A host that vanished without a word is noticed after a minute and a half, even in the middle of a long forward.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 60_000),
)
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    # Without this two workers could listen at one port, and each would get some of the connections.
    ("grpc.so_reuseport", 0),
    # Accept the pings of CLIENT_OPTIONS; by default a server hangs up on them.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


@dataclass(frozen=True)
class Address:
    """Where a worker listens: a unix socket's path, or a host and a port.

    Attributes:
        path: Path of the unix socket; empty for a TCP address.
        host: Host name or IP address, without brackets; empty for a unix socket.
        port: TCP port. Port 0 has a server listen at any free port.
    """

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_unix(self) -> bool:
        """True for a unix socket."""
        return bool(self.path)

    @property
    def is_local(self) -> bool:
        """True for a unix socket and for loopback: nothing outside this host reaches the address."""
        if self.is_unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def target(self) -> str:
        """The address as gRPC takes it: `unix:path` or `host:port`, an IPv6 host in brackets."""
        return f"unix:{self.path}" if self.is_unix else f"{_bracketed(self.host)}:{self.port}"

    def __str__(self) -> str:
        return self.target if self.is_unix else f"grpc://{self.target}"


def parse_address(text: str) -> Address:
    """Parse `grpc://host:port`, `host:port` or `unix:path`. The path of a unix socket becomes absolute.

    Raises:
        PadiffError: BAD_CONFIG if the text has none of these forms, the port is above 65535, or the path is empty or
            longer than UNIX_PATH_LIMIT_BYTES.
    """
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        path = os.path.abspath(path[2:] if path.startswith("//") else path) if path else ""
        if not path or len(os.fsencode(path)) > UNIX_PATH_LIMIT_BYTES:
            raise PadiffError(
                f"{text!r} is no usable address: the path of a unix socket has 1 to {UNIX_PATH_LIMIT_BYTES} bytes",
                reason=Reason.BAD_CONFIG,
                hint="choose a shorter path",
            )
        return Address(path=path)
    host, _, port = text.removeprefix("grpc://").rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise PadiffError(
            f"{text!r} is no address", reason=Reason.BAD_CONFIG, hint="write grpc://HOST:PORT or unix:PATH"
        )
    return Address(host=host.removeprefix("[").removesuffix("]"), port=int(port))


def open_channel(address: Address, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """Make a gRPC channel to an address. It connects when it is first used.

    Args:
        address: Where the worker listens. No proxy that the environment names is used for an address of this host.
        credentials: TLS credentials; None makes a channel without TLS.
    """
    # A proxy named in the environment has no way to this host's own loopback.
    options = [*CLIENT_OPTIONS, ("grpc.enable_http_proxy", 0 if address.is_local else 1)]
    if credentials is None:
        return grpc.insecure_channel(address.target, options=options)
    return grpc.secure_channel(address.target, credentials, options=options)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
