"""Both models of an alignment, and a count of the tensor bytes that it moves."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.standard import Standard
from padiff_rpc.model.model import Model
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Stage
from padiff_rpc.tensors.tensor import Tensor, TensorStream


@dataclass(frozen=True)
class Sides:
    """Both models, and how their tensors are judged.

    Attributes:
        base: is the reference.
        raw: is the model under test.
        rules: say how two tensors are judged.
        single_step: says that raw's layers start from base's tensors.
        traffic: counts the bytes that come from both models.
        attention: holds base's routes of attention layers whose weights the two frameworks return in different forms (see
            `attention_routes`).
        random: holds base's routes of the layers that do not run twice alike, as far as this step's floor has shown any.
    """

    base: Model
    raw: Model
    rules: CompareRules
    single_step: bool
    traffic: Traffic
    attention: Collection[str] = ()
    random: dict[str, None] = field(default_factory=dict)

    @property
    def models(self) -> PerSide[Model]:
        """Both models as a pair."""
        return PerSide(self.base, self.raw)

    def standard(self, stage: Stage, noise_scale: float = 0.0) -> Standard:
        """Return the standard by which the tensors of a stage are judged."""
        return Standard(self.rules, stage, self.single_step, noise_scale, not self.random)

    @cached_property
    def replays(self) -> bool:
        """Whether a side is a dump."""
        return self.base.info().recorded or self.raw.info().recorded

    @cached_property
    def only_replays(self) -> bool:
        """Whether both sides are dumps, which are compared more strictly."""
        return self.base.info().recorded and self.raw.info().recorded


class Traffic:
    """A running count of bytes. It is a figure for people, so that a torn update between threads does not matter."""

    def __init__(self) -> None:
        self.bytes_moved: int = 0

    def watch(self, streams: Iterable[TensorStream]) -> Generator[TensorStream]:
        """Pass the streams on and count each one's bytes as it comes."""
        for stream in streams:
            self.bytes_moved += stream.spec.size_bytes
            yield stream

    @contextmanager
    def single(self, streams: Iterable[TensorStream]) -> Iterator[TensorStream]:
        """Yield the only stream there is, to be read within the block; the source is held open as long."""
        watched = self.watch(streams)
        yield next(watched)

    def count(self, tensor: Tensor) -> Tensor:
        """Count a tensor's bytes and return the tensor."""
        self.bytes_moved += tensor.spec.size_bytes
        return tensor
