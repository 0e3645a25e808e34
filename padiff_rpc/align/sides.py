"""Both models of an alignment, and the tensor bytes that it moves."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.model.model import Model
from padiff_rpc.tensors.tensor import Tensor, TensorStream


@dataclass(frozen=True)
class Sides:
    """Both models, and how their tensors are judged. attention: see `attention_routes`."""

    base: Model
    raw: Model
    rules: CompareRules
    single_step: bool
    traffic: Traffic
    attention: Collection[str] = ()

    @cached_property
    def replays(self) -> bool:
        """Whether a side is a dump."""
        return self.base.info().recorded or self.raw.info().recorded


class Traffic:
    """A running count; a figure for people, so a torn update between threads would not matter."""

    def __init__(self) -> None:
        self.bytes_moved: int = 0

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
