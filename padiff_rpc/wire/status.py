"""Convert errors to gRPC statuses and back: a code for each Reason, and an ErrorDetail in the trailing metadata."""

from __future__ import annotations

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.v1 import worker_service_pb2

DETAIL_KEY = "padiff-error-bin"
DETAIL_LIMIT_BYTES = 4000
"""The largest ErrorDetail.

It stays below 4 KiB: a peer drops larger trailing metadata together with the status.
"""
SHORT_CHARS = 64
"""Texts are not trimmed below about this length."""
TEXT_LIMIT_CHARS = 400
"""The longest status text, which travels percent-encoded beside the detail."""

CODES: dict[Reason, grpc.StatusCode] = {
    Reason.BAD_SPEC: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.FACTORY_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.FRAMEWORK_MISSING: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.BAD_INPUTS: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BAD_CONFIG: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MODELS_DO_NOT_MATCH: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.UNKNOWN_NAME: grpc.StatusCode.NOT_FOUND,
    Reason.BAD_TENSOR: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MODEL_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.NOT_SUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.OUT_OF_ORDER: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.WORKER_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.WORKER_BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.WORKER_DIED: grpc.StatusCode.UNAVAILABLE,
    Reason.SESSION_EXPIRED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.VERSION_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.ACCESS_DENIED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.STORE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.DATA_LOSS: grpc.StatusCode.DATA_LOSS,
    Reason.TIMED_OUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}

RpcStatus = tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]


def error_to_status(error: PadiffError) -> RpcStatus:
    """Return an error's status code, status text, and trailing metadata."""
    detail = error_to_proto(error).SerializeToString()
    return CODES[error.reason], error.message[:TEXT_LIMIT_CHARS], ((DETAIL_KEY, detail),)


def error_from_rpc(error: grpc.RpcError, address: str) -> PadiffError:
    """Convert the failure of a call to a worker at `address`.

    Returns:
        The error that the worker reported, if it did. Otherwise what gRPC's own status means: WORKER_UNREACHABLE for
        UNAVAILABLE and CANCELLED, TIMED_OUT for DEADLINE_EXCEEDED, VERSION_MISMATCH for UNIMPLEMENTED, INTERNAL for
        others.
    """
    for key, value in getattr(error, "trailing_metadata", tuple)() or ():
        if key == DETAIL_KEY:
            return error_from_proto(worker_service_pb2.ErrorDetail.FromString(value), address)
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    text = (error.details() if isinstance(error, grpc.Call) else str(error)) or ""
    where = {"worker": address}
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return PadiffError(
            f"no connection to a worker at {address}: nobody listens there, or the connection broke ({text})",
            reason=Reason.WORKER_UNREACHABLE,
            hint="check that the worker runs and that the address is the one it printed when it was ready",
            metadata=where,
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return PadiffError(
            f"the worker at {address} did not answer in time",
            reason=Reason.TIMED_OUT,
            hint="it may be busy with a long operation, or stopped; its log on stderr tells",
            metadata=where,
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return PadiffError(
            f"what listens at {address} is no padiff-rpc worker, or an older one that lacks this call ({text})",
            reason=Reason.VERSION_MISMATCH,
            hint="upgrade padiff-rpc in the environment of the worker",
            metadata=where,
        )
    return PadiffError(
        f"the call to the worker at {address} failed with {code.name}: {text}", reason=Reason.INTERNAL, metadata=where
    )


def error_to_proto(error: PadiffError) -> worker_service_pb2.ErrorDetail:
    """Write an error as an ErrorDetail of at most DETAIL_LIMIT_BYTES.

    The longest texts are trimmed until it fits, metadata before the message and the hint. If all texts are short and it
    still does not fit, the metadata are dropped.
    """
    texts = {("metadata", key): str(value) for key, value in error.metadata.items()}
    texts["message", ""], texts["hint", ""] = error.message, error.hint
    while (detail := _detail(error.reason, texts)).ByteSize() > DETAIL_LIMIT_BYTES:
        place = max(texts, key=lambda place: _weight(place, texts[place]))
        if len(texts[place]) > SHORT_CHARS:
            excess = detail.ByteSize() - DETAIL_LIMIT_BYTES
            texts[place] = _shorter(texts[place], excess, tail=place[1] == "traceback")
        else:  # every text is short: the metadata are too many, or their keys too long
            texts = {place: text for place, text in texts.items() if place[0] != "metadata"}
    return detail


def error_from_proto(detail: worker_service_pb2.ErrorDetail, address: str = "") -> PadiffError:
    """Read an ErrorDetail.

    A reason that this version does not know becomes INTERNAL, and its name is kept as metadata["reason"].

    Args:
        detail: The message.
        address: The worker's address, to be kept as metadata["worker"] if the worker gave none.
    """
    metadata = dict(detail.metadata)
    if address:
        metadata.setdefault("worker", address)
    try:
        reason = Reason(detail.reason)
    except ValueError:
        reason = Reason.INTERNAL
        metadata["reason"] = detail.reason
    return PadiffError(detail.message, reason=reason, hint=detail.hint, metadata=metadata)


def _detail(reason: Reason, texts: dict[tuple[str, str], str]) -> worker_service_pb2.ErrorDetail:
    return worker_service_pb2.ErrorDetail(
        reason=reason.value,
        message=texts["message", ""],
        hint=texts["hint", ""],
        metadata={key: text for (kind, key), text in texts.items() if kind == "metadata"},
    )


def _weight(place: tuple[str, str], text: str) -> int:
    """Return how soon a text is trimmed: metadata before the message and the hint, unless these are the giants."""
    return len(text.encode()) * (4 if place[0] == "metadata" else 1)


def _shorter(text: str, excess_bytes: int, *, tail: bool) -> str:
    """Drop about `excess_bytes` of a text in UTF-8, but at most half of it.

    With `tail` the end is kept, as for a traceback, otherwise the start.
    """
    data = text.encode()
    keep = max(len(data) - excess_bytes - 12, len(data) // 2)  # 12: the mark, and lengths in the wire form
    piece = (data[-keep:] if tail else data[:keep]).decode(errors="ignore")
    return f"…{piece.removeprefix('…')}" if tail else f"{piece.removesuffix('…')}…"
