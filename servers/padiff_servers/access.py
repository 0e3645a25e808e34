"""Who may use a worker: the rule for addresses, the token, and TLS."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.channel import Address
from padiff_rpc.wire.status import error_to_status

SERVICE_PREFIX = "/padiff_rpc.v1."


@dataclass(frozen=True)
class Access:
    """What a caller of the worker needs.

    Attributes:
        token: The token that each call has to bring; empty if none is needed.
        certificate: The server's certificate chain, PEM; empty if there is no TLS.
        key: The certificate's private key, PEM.
    """

    token: str = ""
    certificate: bytes = b""
    key: bytes = b""

    @property
    def credentials(self) -> grpc.ServerCredentials | None:
        """The credentials of a gRPC server with TLS; None without."""
        return grpc.ssl_server_credentials([(self.key, self.certificate)]) if self.certificate else None


def read_access(
    address: Address, *, token_file: str | None, tls_cert: str | None, tls_key: str | None, insecure: bool
) -> Access:
    """Read the token, the certificate and the key from their files.

    Args:
        address: Where the worker is to listen.
        token_file: File with the token; None for no token.
        tls_cert: PEM file with the certificate chain; None for no TLS.
        tls_key: PEM file with the private key.
        insecure: Whether other hosts may reach the worker without TLS and a token.

    Raises:
        PadiffError: BAD_CONFIG if other hosts can reach the address, TLS or token is missing, and `insecure` is not
            set.
        PadiffError: BAD_CONFIG if a file cannot be read, the token is empty, or only one of certificate and key is
            given.
    """
    if (tls_cert is None) != (tls_key is None):
        raise PadiffError("--tls-cert and --tls-key go together", reason=Reason.BAD_CONFIG)
    access = Access(
        token=_read(token_file, "token").decode(errors="replace").strip() if token_file else "",
        certificate=_read(tls_cert, "certificate") if tls_cert else b"",
        key=_read(tls_key, "key") if tls_key else b"",
    )
    if token_file and not access.token:
        raise PadiffError(f"the token file {token_file!r} is empty", reason=Reason.BAD_CONFIG)
    if not address.is_local and not insecure and not (access.token and access.certificate):
        missing = " and ".join(
            [name for name, has in (("TLS", access.certificate), ("a token", access.token)) if not has]
        )
        raise PadiffError(
            f"{address} can be reached from other hosts, and {missing} is missing",
            reason=Reason.BAD_CONFIG,
            hint="give --tls-cert, --tls-key and --token-file; or, in a network that you trust, --insecure; "
            "or listen at 127.0.0.1 or unix:PATH and tunnel to it",
        )
    return access


class TokenInterceptor(grpc.ServerInterceptor):
    """Refuses every call of our service that does not bring `authorization: Bearer TOKEN`.

    Health probes bring no token, and pass.
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the call's own handler, or one that ends it with ACCESS_DENIED."""
        details: Any = handler_call_details  # the stubs of its named tuple lack the fields
        handler = continuation(handler_call_details)
        given = dict(details.invocation_metadata).get("authorization")
        if handler is None or not details.method.startswith(SERVICE_PREFIX):
            return handler  # health probes carry no token
        if given is not None and hmac.compare_digest(str(given).encode(), self._expected):
            return handler
        return _refusing(handler, missing=given is None)


def _refusing(handler: Any, *, missing: bool) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler of the same kind, as gRPC demands, whose every call ends with ACCESS_DENIED."""
    error = PadiffError(
        f"the worker wants a token, and {'none came' if missing else 'another one came'}",
        reason=Reason.ACCESS_DENIED,
        hint="pass the token of the file that the worker was started with (--token-file)",
    )

    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        code, text, trailing = error_to_status(error)
        context.set_trailing_metadata(trailing)
        context.abort(code, text)

    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as err:
        raise PadiffError(f"cannot read the {what} file {path!r}: {err.strerror}", reason=Reason.BAD_CONFIG) from err
