"""Base's worker for a group of runs: launched once, and put back on its own weights before each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from benchmarks.bugs.pairs import ROOT, Run, environment, training_file
from padiff_rpc.remote.launch import launch
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tensors.tensor import Tensor


class Base:
    """A worker and the weights that it was built with."""

    def __init__(self, model: RemoteModel) -> None:
        self.model = model
        names = [each.name for each in model.describe().parameters]
        self._built = {stream.name: stream.collect() for stream in model.read_parameters(names)}

    def put_back(self, seed: int) -> None:
        """Drop optimiser states, and write the weights of a seed: the same elements in another order, as they were for 0."""
        self.model.reset()
        self.model.write_parameters(
            (_shuffled(name, tensor, seed) if seed else tensor).stream(name) for name, tensor in self._built.items()
        )


def _shuffled(name: str, tensor: Tensor, seed: int) -> Tensor:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    array = tensor.to_array()
    mixed = rng.permutation(array.reshape(-1)).reshape(array.shape)
    return Tensor.from_array(mixed, tensor.spec.dtype)


@contextmanager
def launched(run: Run, losses: Sequence[str], optimizers: Sequence[str]) -> Iterator[Base]:
    """Launch base of a run, with the losses and optimisers that runs of its group take."""
    places = training_file("torch")
    with launch(
        run.spec("torch"),
        python=environment("torch"),
        model_args=run.full_args[0],
        dtype=None if run.dtype == "float32" else run.dtype,
        losses={name: f"{places}:{name}" for name in losses},
        optimizers={name: f"{places}:{name}" for name in optimizers},
        threads=1,
        cwd=ROOT,
    ) as model:
        yield Base(model)
