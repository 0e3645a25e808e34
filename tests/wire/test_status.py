"""Errors fit the trailing metadata and come back with their reason."""

from __future__ import annotations

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.v1.worker_service_pb2 import ErrorDetail
from padiff_rpc.wire.status import (
    CODES,
    DETAIL_KEY,
    DETAIL_LIMIT_BYTES,
    TEXT_LIMIT_CHARS,
    error_from_proto,
    error_to_proto,
    error_to_status,
)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_code_and_comes_back(reason: Reason) -> None:
    error = PadiffError("what", reason=reason, hint="cure", metadata={"layer": "fc"})
    code, text, trailing = error_to_status(error)
    assert CODES[reason] is code
    assert "what" == text
    assert DETAIL_KEY == trailing[0][0]
    back = error_from_proto(ErrorDetail.FromString(trailing[0][1]))
    assert (reason, "what", "cure", {"layer": "fc"}) == (back.reason, back.message, back.hint, back.metadata)


def test_the_worker_is_named_where_the_address_is_known() -> None:
    detail = error_to_proto(PadiffError("what", reason=Reason.INTERNAL))
    assert {"worker": "unix:/x"} == error_from_proto(detail, "unix:/x").metadata


def test_a_reason_from_the_future_is_internal_and_kept() -> None:
    back = error_from_proto(ErrorDetail(reason="NEWER", message="m"))
    assert (Reason.INTERNAL, {"reason": "NEWER"}) == (back.reason, back.metadata)


def test_a_long_traceback_loses_its_beginning() -> None:
    trace = "\n".join(f"line {index}" for index in range(5000))
    error = PadiffError("what", reason=Reason.MODEL_FAILED, hint="cure", metadata={"traceback": trace, "layer": "fc"})
    detail = error_to_proto(error)
    assert DETAIL_LIMIT_BYTES - 100 < detail.ByteSize() <= DETAIL_LIMIT_BYTES
    assert ("what", "cure", "fc") == (detail.message, detail.hint, detail.metadata["layer"])
    assert detail.metadata["traceback"].endswith("line 4999")
    assert detail.metadata["traceback"].startswith("…")


@pytest.mark.parametrize(
    "error",
    [
        PadiffError("m" * 10_000, reason=Reason.INTERNAL, hint="h" * 10_000),
        PadiffError("ü" * 10_000, reason=Reason.INTERNAL, metadata={"traceback": "€" * 10_000, "x": "y" * 9000}),
        PadiffError("m", reason=Reason.INTERNAL, metadata={f"key{index}": "v" * 50 for index in range(500)}),
        PadiffError("m", reason=Reason.INTERNAL, metadata={"k" * 10_000: "v"}),
        PadiffError("\U0001f600" * 3000, reason=Reason.INTERNAL),
    ],
)
def test_whatever_is_too_long_is_trimmed_to_fit(error: PadiffError) -> None:
    detail = error_to_proto(error)
    assert detail.ByteSize() <= DETAIL_LIMIT_BYTES
    assert error.message.startswith(detail.message.removesuffix("…"))
    assert detail.message
    assert len(error_to_status(error)[1]) <= TEXT_LIMIT_CHARS
