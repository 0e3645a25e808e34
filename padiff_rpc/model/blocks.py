"""Memory for records in blocks that are used again: touching fresh pages costs ten times a copy into warm ones."""

from __future__ import annotations

import numpy as np

from padiff_rpc.tensor import CHUNK_BYTES

SMALL_BYTES = 16 << 10
"""Blocks of fewer bytes are not kept: the allocator has warm memory for them at no cost."""

Block = bytearray | bytes


class Blocks:
    """Copies of bytes in blocks of CHUNK_BYTES, the last one shorter; and those that nobody uses now.

    Spare blocks are found by their size, of which a model has few. The caller holds a lock around each call but fill().
    """

    def __init__(self) -> None:
        self._spare: dict[int, list[bytearray]] = {}
        self.spare_bytes = 0

    def take(self, size_bytes: int, room_bytes: int) -> list[bytearray]:
        """Take blocks for `size_bytes`, small ones apart, and let go of spare ones until they fit into `room_bytes`."""
        whole, rest = divmod(size_bytes, CHUNK_BYTES)
        blocks = [self._block(CHUNK_BYTES) for _ in range(whole)]
        if rest >= SMALL_BYTES:
            blocks.append(self._block(rest))
        while self.spare_bytes > room_bytes:
            self._drop_one()
        return blocks

    def give(self, blocks: list[Block]) -> None:
        """Take blocks back. One of which somebody still holds a view is left to him."""
        for block in blocks:
            if isinstance(block, bytearray) and not _is_viewed(block):
                self._spare.setdefault(len(block), []).append(block)
                self.spare_bytes += len(block)

    def clear(self) -> None:
        self._spare.clear()
        self.spare_bytes = 0

    def _block(self, size_bytes: int) -> bytearray:
        spare = self._spare.get(size_bytes)
        if not spare:
            return bytearray(size_bytes)
        self.spare_bytes -= size_bytes
        return spare.pop()

    def _drop_one(self) -> None:
        size_bytes = max(size for size, spare in self._spare.items() if spare)
        self._spare[size_bytes].pop()
        self.spare_bytes -= size_bytes


def fill(blocks: list[bytearray], flat: np.ndarray) -> list[Block]:
    """Copy bytes into the blocks that were taken for them, and a small rest into one of its own."""
    view, start = flat.data, 0
    for block in blocks:
        # Through a view: assigning to the bytearray itself would copy twice.
        memoryview(block)[:] = view[start : start + len(block)]
        start += len(block)
    return [*blocks, bytes(view[start:])] if start < view.nbytes else list(blocks)


def _is_viewed(block: bytearray) -> bool:
    """Tell whether someone still holds a view of the block: Python then refuses to change its length."""
    try:
        block.pop()
    except BufferError:
        return True
    block.append(0)
    return False
