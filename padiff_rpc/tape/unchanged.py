"""Which values a model still holds, bit by bit, after a step in which nothing should change them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import xxhash

from padiff_rpc.model.model import Model
from padiff_rpc.tensors.tensor import Statistics, TensorStream


class ValuesRead:
    """Reads parameters and buffers, and keeps the hashes of their bytes as they passed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._hashes: dict[str, bytes] = {}

    def read(self, names: Sequence[str]) -> Iterator[TensorStream]:
        """Stream them as the model does."""
        for stream in self._model.read_parameters(names):
            yield replace(stream, chunks=self._hashed(stream))

    def unchanged(self) -> list[str]:
        """Name those that were read to their end and are the same now."""
        now = self._model.digest_parameters([*self._hashes], statistics=Statistics.SIZES)
        return [name for name, digest in now.items() if digest.hash == self._hashes[name]]

    def _hashed(self, stream: TensorStream) -> Iterator[memoryview]:
        hasher = xxhash.xxh3_128()
        for chunk in stream.chunks:
            hasher.update(chunk)
            yield chunk
        self._hashes[stream.name] = hasher.digest()
