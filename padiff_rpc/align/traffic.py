"""Count the tensor bytes that an alignment moves."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

from padiff_rpc.tensors.tensor import Tensor, TensorStream


class Traffic:
    """A running count; a figure for people, so a torn update between threads would not matter."""

    def __init__(self) -> None:
        self.bytes_moved = 0

    def watch(self, streams: Iterable[TensorStream]) -> Generator[TensorStream]:
        for stream in streams:
            self.bytes_moved += stream.spec.size_bytes
            yield stream

    @contextmanager
    def single(self, streams: Iterable[TensorStream]) -> Iterator[TensorStream]:
        """Give the only stream there is, to be read within the block; the source is held open as long."""
        watched = self.watch(streams)
        yield next(watched)

    def count(self, tensor: Tensor) -> Tensor:
        self.bytes_moved += tensor.spec.size_bytes
        return tensor
