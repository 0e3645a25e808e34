"""Memory for records that another process can map."""

from __future__ import annotations

import errno
import os
from itertools import permutations

import numpy as np
import pytest

from padiff_rpc.model.model import StorePlace
from padiff_rpc.model.store.arena import FIRST_OFFSET, GENERATION_OFFSET, Arena
from padiff_rpc.model.store.free_ranges import FreeRanges
from padiff_rpc.system import memfd
from padiff_rpc.tensors.tensor import CHUNK_BYTES


def filled(arena: Arena, size_bytes: int, value: int) -> int:
    place = arena.take(size_bytes)
    assert place is not None
    arena.write(place, np.full(size_bytes, value, np.uint8))
    return place


def content(arena: Arena, place: int, size_bytes: int) -> bytes:
    return b"".join(map(bytes, arena.read(place, size_bytes)))


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
def test_what_is_written_is_read(size_bytes: int) -> None:
    arena = Arena(16 * CHUNK_BYTES)
    places = [filled(arena, size_bytes, value) for value in (1, 2, 3)]
    assert [content(arena, place, size_bytes) for place in places] == [bytes([v]) * size_bytes for v in (1, 2, 3)]
    assert all(place >= FIRST_OFFSET for place in places)


def test_what_is_read_cannot_be_written() -> None:
    arena = Arena(100)
    assert all(chunk.readonly for chunk in arena.read(filled(arena, 40, 1), 40))


def test_the_place_given_back_is_the_next_one_taken() -> None:
    arena = Arena(16 * CHUNK_BYTES)
    first, second = filled(arena, 700_000, 1), filled(arena, 700_000, 2)
    arena.give(first, 700_000)
    assert arena.take(600_000) == first
    assert content(arena, second, 700_000) == bytes([2]) * 700_000


def test_there_is_room_for_the_budget_and_an_end() -> None:
    arena = Arena(1000)
    assert arena.take(1000) is not None
    assert arena.take(1 << 20) is None


def test_what_others_may_map_holds_the_nonce_the_generation_and_what_was_written() -> None:
    arena = Arena(1000, shared=True)
    place = filled(arena, 300, 7)
    offer = arena.offer()
    assert offer is not None
    assert offer.pid == os.getpid()
    assert os.pread(offer.descriptor, len(offer.nonce), 0) == offer.nonce
    assert os.pread(offer.descriptor, 300, place) == bytes([7]) * 300
    assert os.fstat(offer.descriptor).st_size == offer.size_bytes
    assert memfd.has_fixed_size(offer.descriptor)
    for generation in (1, 2):
        assert arena.place(place) == StorePlace(place, generation)
        assert int.from_bytes(os.pread(offer.descriptor, 8, GENERATION_OFFSET), "little") == generation
        arena.renew()


def test_memory_that_is_not_shared_is_offered_to_nobody() -> None:
    arena = Arena(1000)
    assert arena.offer() is None
    assert arena.place(filled(arena, 10, 1)) is None


@pytest.mark.processes
def test_a_forked_process_writes_into_memory_of_its_own() -> None:
    arena = Arena(1000)
    place = filled(arena, 300, 2)
    child = os.fork()
    if not child:
        arena.write(place, np.full(300, 7, np.uint8))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert content(arena, place, 300) == bytes([2]) * 300


def test_without_a_memfd_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise OSError(errno.ENOSYS, name)

    monkeypatch.setattr(memfd, "create", refuse)
    arena = Arena(1000, shared=True)
    assert arena.offer() is None
    assert arena.take(300) is None


def test_where_the_system_refuses_memory_it_says_so_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena(64 * CHUNK_BYTES, shared=True)
    kept = filled(arena, 300, 7)
    made, left = os.posix_fallocate, [9 * CHUNK_BYTES]

    def refuse(descriptor: int, offset: int, size_bytes: int) -> None:
        if size_bytes > left[0]:
            raise OSError(errno.ENOSPC, "no memory")
        left[0] -= size_bytes
        made(descriptor, offset, size_bytes)

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="no memory"):
        arena.take(32 * CHUNK_BYTES)
    assert content(arena, kept, 300) == bytes([7]) * 300
    first = arena.take(8 * CHUNK_BYTES)  # in the place that was refused
    assert first is not None
    second = arena.take(CHUNK_BYTES)  # less than a step is left
    assert second is not None
    monkeypatch.setattr(os, "posix_fallocate", made)
    assert arena.take(50 * CHUNK_BYTES) is not None


def test_an_arena_that_is_gone_leaves_no_descriptor() -> None:
    arena = Arena(1000, shared=True)
    filled(arena, 10, 1)
    offer = arena.offer()
    assert offer is not None
    del arena
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(offer.descriptor)


def test_places_merge_in_whatever_order_they_come_back() -> None:
    for order in permutations(range(4)):
        gaps = FreeRanges(50)
        places = [gaps.take(10) for _ in range(4)]
        for index in order:
            offset = places[index]
            assert offset is not None
            gaps.give(offset, 10)
        assert (gaps.used_bytes, gaps.take(50)) == (0, 0)
