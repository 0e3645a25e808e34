"""Find the values that a step left as they were, bit by bit, so that they need not be written twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import xxhash

from padiff_rpc.model.model import Model
from padiff_rpc.tensors.tensor import Statistics, TensorStream


class ValuesRead:
    """Reads parameters and buffers of a model, and keeps the hashes of their bytes as they pass."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._hashes: dict[str, bytes] = {}

    def read(self, names: Sequence[str]) -> Iterator[TensorStream]:
        """Stream parameters or buffers, as Model.read_parameters does."""
        for stream in self._model.read_parameters(names):
            yield replace(stream, chunks=self._hashed(stream))

    def unchanged(self) -> list[str]:
        """Return the names of tensors that read() streamed to their end, and whose bytes are the same now."""
        now = self._model.digest_parameters([*self._hashes], statistics=Statistics.SIZES)
        return [name for name, digest in now.items() if digest.hash == self._hashes[name]]

    def _hashed(self, stream: TensorStream) -> Iterator[memoryview]:
        hasher = xxhash.xxh3_128()
        for chunk in stream.chunks:
            hasher.update(chunk)
            yield chunk
        self._hashes[stream.name] = hasher.digest()
