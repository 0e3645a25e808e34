"""Copy a tensor's bytes into a file."""

from __future__ import annotations

from typing import BinaryIO

from padiff_rpc.tensors.tensor import TensorSpec, TensorStream, data_loss


def copy_stream(stream: TensorStream, spec: TensorSpec, file: BinaryIO) -> None:
    """Write a stream's bytes as they come.

    Raises:
        PadiffError: DATA_LOSS where they do not fill the spec exactly.
    """
    written = 0
    for chunk in stream.chunks:
        written += chunk.nbytes
        file.write(chunk)
    if written != spec.size_bytes:
        raise data_loss(stream.name, spec, written)
