"""Write a tensor into a parameter or buffer, chunk by chunk."""

from __future__ import annotations

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import Backend, NativeTensor
from padiff_rpc.tensors.tensor import TensorStream, data_loss


def write_stream(backend: Backend, target: NativeTensor, stream: TensorStream) -> None:
    """Overwrite a parameter or buffer with a stream of exactly its spec.

    Where the framework gives no access to the target's memory, the stream is first collected whole.

    Raises:
        PadiffError: BAD_TENSOR, before a byte is written, for a stream of another spec. DATA_LOSS for a stream that is
            too short or too long, a part of which may have been written.
    """
    spec = backend.spec(target)
    if stream.spec != spec:
        raise PadiffError(
            f"{stream.name!r} is {spec} and cannot be given {stream.spec}",
            reason=Reason.BAD_TENSOR,
            metadata={"parameter": stream.name},
        )
    memory = backend.writable(target)
    if memory is None:
        backend.overwrite(target, stream.collect())
        return
    at = 0
    for chunk in stream.chunks:
        size = chunk.nbytes
        if size > memory.nbytes - at:
            raise data_loss(stream.name, spec, at + size)
        if size:
            np.copyto(memory[at : at + size], np.frombuffer(chunk, np.uint8))
        at += size
    if at != memory.nbytes:
        raise data_loss(stream.name, spec, at)
