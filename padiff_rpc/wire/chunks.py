"""Tensor streams <-> chunk messages. All packing and unpacking of tensor bytes is here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensor import CHUNK_BYTES, Tensor, TensorSpec, TensorStream, data_loss
from padiff_rpc.v1 import tensor_pb2
from padiff_rpc.wire.serde import tensor_spec_from_proto, tensor_spec_to_proto

TENSOR_LIMIT_BYTES = 1 << 36
"""The largest tensor that a receiver will allocate (64 GiB)."""


def stream_to_proto(stream: TensorStream) -> Iterator[tensor_pb2.TensorChunk]:
    """Cut a tensor into chunks of at most CHUNK_BYTES, the first one with the header."""
    spec: tensor_pb2.TensorSpec | None = tensor_spec_to_proto(stream.spec)
    offset = 0
    for piece in stream.chunks:
        view = piece.cast("B") if piece.nbytes else memoryview(b"")
        for at in range(0, view.nbytes, CHUNK_BYTES):
            payload = bytes(view[at : at + CHUNK_BYTES])
            yield tensor_pb2.TensorChunk(
                name=stream.name if spec is not None else "", spec=spec, offset=offset, payload=payload
            )
            spec = None
            offset += len(payload)
    if spec is not None:
        yield tensor_pb2.TensorChunk(name=stream.name, spec=spec, offset=0)


def tensors_to_proto(tensors: Mapping[str, Tensor]) -> Iterator[tensor_pb2.TensorChunk]:
    """Chunk whole tensors, one after the other."""
    for name, tensor in tensors.items():
        yield from stream_to_proto(tensor.stream(name))


def streams_from_proto(
    chunks: Iterable[tensor_pb2.TensorChunk], count: int | None = None, limit_bytes: int = TENSOR_LIMIT_BYTES
) -> Iterator[TensorStream]:
    """Put chunks together again: `count` tensors (None: until the chunks end), without reading one chunk more.

    What the caller leaves unread of a tensor is skipped. DATA_LOSS for a stream that is short or long, or a chunk that is
    not where its offset says; BAD_TENSOR, before anything is allocated, for a tensor above limit_bytes.
    """
    source = iter(chunks)
    done = 0
    while count is None or done < count:
        first = next(source, None)
        if first is None:
            if count is None:
                return
            raise PadiffError(f"the stream ended after {done} of {count} tensors", reason=Reason.DATA_LOSS)
        spec = _header(first, limit_bytes)
        pieces = _payloads(first, spec, source)
        yield TensorStream(first.name, spec, pieces)
        for _ in pieces:
            pass
        done += 1


def _header(first: tensor_pb2.TensorChunk, limit_bytes: int) -> TensorSpec:
    if not first.HasField("spec"):
        raise PadiffError(
            f"a chunk of {len(first.payload)} bytes at offset {first.offset} belongs to no tensor: "
            "the one before it was complete",
            reason=Reason.DATA_LOSS,
        )
    spec = tensor_spec_from_proto(first.spec)
    if spec.size_bytes > limit_bytes:
        raise PadiffError(
            f"tensor {first.name!r} of {spec} takes {spec.size_bytes} bytes; the limit is {limit_bytes}",
            reason=Reason.BAD_TENSOR,
        )
    return spec


def _payloads(
    first: tensor_pb2.TensorChunk, spec: TensorSpec, source: Iterator[tensor_pb2.TensorChunk]
) -> Iterator[memoryview]:
    chunk, at = first, 0
    while True:
        payload = chunk.payload
        if chunk.offset != at:
            raise PadiffError(
                f"tensor {first.name!r} of {spec}: a chunk says offset {chunk.offset}, {at} bytes have come",
                reason=Reason.DATA_LOSS,
            )
        at += len(payload)
        if at > spec.size_bytes:
            raise data_loss(first.name, spec, at)
        if payload:
            yield memoryview(payload)
        if at == spec.size_bytes:
            return
        following = next(source, None)
        if following is None or following.HasField("spec"):
            raise data_loss(first.name, spec, at)
        chunk = following
