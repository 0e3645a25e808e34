"""Count the tensor bytes that an alignment moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from padiff_rpc.tensor import Tensor, TensorStream


class Traffic:
    """A running count; a figure for people, so a torn update between threads would not matter."""

    def __init__(self) -> None:
        self.bytes_moved = 0

    def watch(self, streams: Iterable[TensorStream]) -> Iterator[TensorStream]:
        for stream in streams:
            self.bytes_moved += stream.spec.size_bytes
            yield stream

    def count(self, tensor: Tensor) -> Tensor:
        self.bytes_moved += tensor.spec.size_bytes
        return tensor
