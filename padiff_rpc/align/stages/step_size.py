"""Measure how far base's optimiser moved each parameter, for optimisers whose formula only the worker knows."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import IO

import numpy as np

from padiff_rpc.align.sides import Traffic
from padiff_rpc.model.model import Model
from padiff_rpc.tensors.float64 import to_float64
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream


@dataclass(frozen=True)
class StepSize:
    """The L2 norm of a parameter's change in one step, and its largest element."""

    norm: float
    largest: float


class StepSizes:
    """Keeps the values from before a step in a temporary file, so that no second copy of the model is in memory."""

    def __init__(self, model: Model, traffic: Traffic) -> None:
        self._model = model
        self._traffic = traffic
        self._file: IO[bytes] | None = None

    def remember(self, names: Sequence[str]) -> None:
        """Write the named parameters to the file."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open until measure()
        for stream in self._traffic.watch(self._model.read_parameters(names)):
            for chunk in stream.chunks:
                self._file.write(chunk)

    def measure(self, names: Sequence[str]) -> dict[str, StepSize]:
        """Return how far each parameter has moved since remember() of the same names, and drop the file."""
        assert self._file is not None
        with closing(self._file) as file:
            file.seek(0)
            return {
                stream.name: _size(_changes(stream, file))
                for stream in self._traffic.watch(self._model.read_parameters(names))
            }


def _changes(stream: TensorStream, before: IO[bytes]) -> Iterator[np.ndarray]:
    for chunk in stream.chunks:
        yield _values(chunk, stream.spec) - _values(memoryview(before.read(chunk.nbytes)), stream.spec)


def _values(chunk: memoryview, spec: TensorSpec) -> np.ndarray:
    block = np.frombuffer(chunk, spec.dtype.storage)
    return np.array(to_float64(block, spec.dtype), np.float64)


def _size(changes: Iterator[np.ndarray]) -> StepSize:
    square, largest = 0.0, 0.0
    for change in changes:
        square += float(change @ change)
        largest = max(largest, float(np.abs(change).max(initial=0.0)))
    return StepSize(math.sqrt(square), largest)
