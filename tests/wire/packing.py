"""Whole tensors, packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from padiff_rpc.tensors.tensor import Tensor
from padiff_rpc.wire.chunks import SlotSource, pack
from padiff_rpc.wire.payload import Batch


def pack_tensors(tensors: Mapping[str, Tensor], slots: SlotSource | None = None) -> Iterator[Batch]:
    """Pack whole tensors, one after the other."""
    return pack((tensor.stream(name) for name, tensor in tensors.items()), slots)
