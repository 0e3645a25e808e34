"""Where recorded tensors wait: in memory up to a budget, then in one spill file up to a budget, then a clear error."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensor import CHUNK_BYTES, TensorSpec, TensorStream

DEFAULT_MEMORY_BYTES = 1 << 30
DEFAULT_DISK_BYTES = 16 << 30


@dataclass(frozen=True)
class StoreFigures:
    """How much the store has held: now, and at most since it was made. `spilled_bytes` counts all that went to disk."""

    memory_bytes: int
    disk_bytes: int
    peak_memory_bytes: int
    peak_disk_bytes: int
    spilled_bytes: int


@dataclass
class _Entry:
    """One tensor: in memory as blocks, or in the spill file at `offset`. Readers keep its place from being used again."""

    spec: TensorSpec
    blocks: list[bytearray | bytes] = field(default_factory=list)
    offset: int = -1
    readers: int = 0
    released: bool = False


class Store:
    """Copies of tensors by id. One thread puts; any may get and release."""

    def __init__(
        self, memory_budget_bytes: int = DEFAULT_MEMORY_BYTES, disk_budget_bytes: int = DEFAULT_DISK_BYTES
    ) -> None:
        self.memory_budget_bytes = memory_budget_bytes
        self.disk_budget_bytes = disk_budget_bytes
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self._next_id = 1
        self._memory_bytes = 0
        self._peak_memory_bytes = 0
        self._spilled_bytes = 0
        # Blocks to use again: touching fresh pages costs ten times a copy into warm ones.
        self._spare: list[bytearray] = []
        self._file: _SpillFile | None = None
        self._extents = _Extents(disk_budget_bytes)

    def put(self, flat: np.ndarray, spec: TensorSpec) -> int:
        """Copy `spec.size_bytes` bytes (flat uint8) and return their id; STORE_FULL when neither budget has room.

        Ids are never used twice, also not after clear().
        """
        entry = _Entry(spec)
        size_bytes = spec.size_bytes
        with self._lock:
            in_memory = self._memory_bytes + size_bytes <= self.memory_budget_bytes
            if in_memory:
                self._memory_bytes += size_bytes
                self._peak_memory_bytes = max(self._peak_memory_bytes, self._memory_bytes)
                blocks = self._take_blocks(size_bytes)
            else:
                offset = self._extents.take(size_bytes)
                if offset is None:
                    raise self._full(spec)
                entry.offset = offset
                blocks = []
        if in_memory:
            entry.blocks = _fill(blocks, flat)
        else:
            try:
                self._write(entry.offset, flat)
            except OSError as err:
                with self._lock:
                    self._extents.give(entry.offset, size_bytes)
                raise PadiffError(
                    f"writing {size_bytes} bytes of records to the spill file in {tempfile.gettempdir()!r} failed: {err}",
                    reason=Reason.STORE_FULL,
                    hint="point TMPDIR at a larger disk, raise --store-memory, or record fewer layers",
                ) from err
        with self._lock:
            self._spilled_bytes += 0 if in_memory else size_bytes
            identifier = self._next_id
            self._next_id += 1
            self._entries[identifier] = entry
        return identifier

    def get(self, identifier: int) -> TensorStream:
        """Return a record as a stream named by its id, safe against a release while it is read.

        UNKNOWN_NAME when it is not there, now or when the first chunk is taken.
        """
        with self._lock:
            entry = self._entries.get(identifier)
        if entry is None:
            raise _unknown(identifier)
        return TensorStream(str(identifier), entry.spec, self._chunks(identifier))

    def release(self, identifiers: Iterable[int]) -> None:
        """Forget records; unknown ids are ignored."""
        with self._lock:
            for identifier in identifiers:
                entry = self._entries.pop(identifier, None)
                if entry is not None:
                    self._drop(entry)

    def clear(self) -> None:
        """Forget everything; blocks and spill file stay for the next step."""
        with self._lock:
            for entry in self._entries.values():
                self._drop(entry)
            self._entries.clear()

    def close(self) -> None:
        """Forget everything and give memory and disk back."""
        self.clear()
        with self._lock:
            self._spare.clear()
            self._file = None  # a reader that is under way still holds it
            self._extents = _Extents(self.disk_budget_bytes)

    def figures(self) -> StoreFigures:
        with self._lock:
            return StoreFigures(
                memory_bytes=self._memory_bytes,
                disk_bytes=self._extents.used_bytes,
                peak_memory_bytes=self._peak_memory_bytes,
                peak_disk_bytes=self._extents.peak_bytes,
                spilled_bytes=self._spilled_bytes,
            )

    def _chunks(self, identifier: int) -> Iterator[memoryview]:
        with self._lock:
            entry = self._entries.get(identifier)
            if entry is None:
                raise _unknown(identifier)
            entry.readers += 1
        try:
            for block in entry.blocks:
                yield memoryview(block).toreadonly()
            if entry.offset >= 0:
                yield from self._read(entry.offset, entry.spec.size_bytes)
        finally:
            with self._lock:
                entry.readers -= 1
                if entry.released and entry.readers == 0:
                    self._free(entry)

    def _drop(self, entry: _Entry) -> None:
        entry.released = True
        if entry.readers == 0:
            self._free(entry)

    def _free(self, entry: _Entry) -> None:
        if entry.offset >= 0:
            self._extents.give(entry.offset, entry.spec.size_bytes)
            return
        self._memory_bytes -= entry.spec.size_bytes
        self._spare += [block for block in entry.blocks if isinstance(block, bytearray) and not _is_viewed(block)]
        entry.blocks = []

    def _take_blocks(self, size_bytes: int) -> list[bytearray]:
        """Take the whole blocks of a record from the spare ones, and let go of what then exceeds the budget."""
        count = size_bytes // CHUNK_BYTES
        keep = max(len(self._spare) - count, 0)
        blocks = self._spare[keep:]
        room = (self.memory_budget_bytes - self._memory_bytes) // CHUNK_BYTES
        self._spare = self._spare[: min(keep, room)]
        return blocks + [bytearray(CHUNK_BYTES) for _ in range(count - len(blocks))]

    def _write(self, offset: int, flat: np.ndarray) -> None:
        if self._file is None:
            self._file = _SpillFile()
        view = flat.data
        for start in range(0, view.nbytes, CHUNK_BYTES):
            piece = view[start : start + CHUNK_BYTES]
            while piece.nbytes:
                written = os.pwrite(self._file.descriptor, piece, offset + start)
                piece, start = piece[written:], start + written

    def _read(self, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """Yield a record's bytes from the spill file. Called while the entry has a reader, so that its place stays its own."""
        end = offset + size_bytes
        file = self._file
        while offset < end:
            data = b"" if file is None else os.pread(file.descriptor, min(CHUNK_BYTES, end - offset), offset)
            if not data:
                raise PadiffError("the spill file ended before its record did", reason=Reason.DATA_LOSS)
            offset += len(data)
            yield memoryview(data)

    def _full(self, spec: TensorSpec) -> PadiffError:
        return PadiffError(
            f"no room to record a tensor of {spec} ({spec.size_bytes} bytes): "
            f"{self._memory_bytes} of {self.memory_budget_bytes} bytes of memory and "
            f"{self._extents.used_bytes} of {self.disk_budget_bytes} bytes of disk are taken by records",
            reason=Reason.STORE_FULL,
            hint="raise --store-memory or --store-disk, or record fewer layers",
            metadata={
                "store_memory_bytes": str(self.memory_budget_bytes),
                "store_disk_bytes": str(self.disk_budget_bytes),
            },
        )


class _SpillFile:
    """A file without a name, so that nothing is left behind however the process ends."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile(prefix="padiff-spill-") as file:
            self.descriptor = os.dup(file.fileno())

    def __del__(self) -> None:
        os.close(self.descriptor)


class _Extents:
    """Places in the spill file: first fit over the gaps, which merge as they are given back."""

    def __init__(self, budget_bytes: int) -> None:
        self._gaps: list[tuple[int, int]] = [(0, budget_bytes)]  # (start, end), sorted, never adjacent
        self.used_bytes = 0
        self.peak_bytes = 0

    def take(self, size_bytes: int) -> int | None:
        """Reserve a place and return its offset, or None when no gap is long enough."""
        for index, (start, end) in enumerate(self._gaps):
            if size_bytes <= end - start:
                self._gaps[index : index + 1] = [(start + size_bytes, end)] if start + size_bytes < end else []
                self.used_bytes += size_bytes
                self.peak_bytes = max(self.peak_bytes, self.used_bytes)
                return start
        return None

    def give(self, offset: int, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        merged: list[tuple[int, int]] = []
        for start, end in sorted([*self._gaps, (offset, offset + size_bytes)]):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        self._gaps = merged


def _fill(blocks: list[bytearray], flat: np.ndarray) -> list[bytearray | bytes]:
    view = flat.data
    for index, block in enumerate(blocks):
        # Through a view: assigning to the bytearray itself would copy twice.
        memoryview(block)[:] = view[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
    rest = view[len(blocks) * CHUNK_BYTES :]
    return [*blocks, bytes(rest)] if rest.nbytes else list(blocks)


def _is_viewed(block: bytearray) -> bool:
    """Tell whether someone still holds a view of the block: Python then refuses to change its length."""
    try:
        block.pop()
    except BufferError:
        return True
    block.append(0)
    return False


def _unknown(identifier: int) -> PadiffError:
    return PadiffError(
        f"record {identifier} is not in the store",
        reason=Reason.UNKNOWN_NAME,
        hint="records live until they are released or the next forward begins",
    )
