"""Reading another process's store in place."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.store.arena import FIRST_OFFSET, Arena, Offer
from padiff_rpc.tensors.tensor import CHUNK_BYTES
from padiff_rpc.wire.shared_store import SharedStore, shared_store


def offered(arena: Arena) -> Offer:
    offer = arena.offer()
    assert offer is not None
    return offer


def test_a_store_is_read_in_place_as_it_grows_and_is_used_again() -> None:
    arena = Arena(64 * CHUNK_BYTES, shared=True)
    store = SharedStore(offered(arena))
    for value, size_bytes in ((1, 300), (2, 3 * CHUNK_BYTES + 5), (3, 20 * CHUNK_BYTES)):
        place = arena.take(size_bytes)
        assert place is not None
        arena.write(place, np.full(size_bytes, value, np.uint8))
        assert b"".join(map(bytes, store.chunks(place, size_bytes))) == bytes([value]) * size_bytes
        arena.give(place, size_bytes)


def test_pages_that_were_read_do_not_stay_with_the_reader() -> None:
    arena = Arena(128 * CHUNK_BYTES, shared=True)
    store = SharedStore(offered(arena))
    size_bytes = 96 * CHUNK_BYTES
    place = arena.take(size_bytes)
    assert place is not None
    arena.write(place, np.ones(size_bytes, np.uint8))
    most = 0
    for chunk in store.chunks(place, size_bytes):
        assert np.frombuffer(chunk, np.uint8).all()
        most = max(most, resident_bytes(store.view(place, size_bytes)))
    assert CHUNK_BYTES <= most <= 24 * CHUNK_BYTES


@pytest.mark.parametrize(
    ("place", "size_bytes"), [(0, 10), (FIRST_OFFSET - 1, 1), (FIRST_OFFSET, 1 << 40), (1 << 63, 1), (FIRST_OFFSET, -1)]
)
def test_places_outside_are_refused(place: int, size_bytes: int) -> None:
    arena = Arena(1000, shared=True)
    store = SharedStore(offered(arena))
    with pytest.raises(PadiffError) as raised:
        store.view(place, size_bytes)
    assert raised.value.reason is Reason.DATA_LOSS


@pytest.mark.parametrize(
    "change",
    [
        lambda offer: replace(offer, nonce=bytes(16)),
        lambda offer: replace(offer, nonce=b""),
        lambda offer: replace(offer, size_bytes=offer.size_bytes - 4096),
        lambda offer: replace(offer, pid=2**30),
        lambda offer: replace(offer, descriptor=0),
    ],
)
def test_what_is_not_the_store_that_was_told_is_not_mapped(change: Callable[[Offer], Offer]) -> None:
    arena = Arena(1000, shared=True)
    assert shared_store(change(offered(arena))) is None
    assert shared_store(offered(arena)) is not None


def test_a_place_holds_until_the_store_drops_its_step() -> None:
    arena = Arena(1000, shared=True)
    store = SharedStore(offered(arena))
    offset = arena.take(10)
    assert offset is not None
    place = arena.place(offset)
    assert place is not None
    assert store.holds(place)
    arena.renew()
    assert not store.holds(place)


def test_a_memfd_that_may_shrink_is_not_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("padiff_rpc.system.memfd.fix_size", lambda descriptor: None)
    arena = Arena(1000, shared=True)
    assert shared_store(offered(arena)) is None


def test_a_store_outlives_its_owner_for_who_has_mapped_it() -> None:
    arena = Arena(1000, shared=True)
    place = arena.take(10)
    assert place is not None
    arena.write(place, np.full(10, 5, np.uint8))
    descriptors = len(os.listdir("/proc/self/fd"))
    store = SharedStore(offered(arena))
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # mmap keeps one of its own
    del arena
    assert bytes(store.view(place, 10)) == bytes([5]) * 10


def resident_bytes(view: Any) -> int:
    """Of the mapping in which the view lies, what counts as this process's."""
    start = np.frombuffer(view, np.uint8).ctypes.data
    found = False
    with open("/proc/self/smaps") as lines:
        for line in lines:
            first = line.split()[0]
            if "-" in first and not first.endswith(":"):
                low, high = (int(part, 16) for part in first.split("-"))
                found = low <= start < high
            elif found and first == "Rss:":
                return int(line.split()[1]) * 1024
    raise AssertionError(f"no mapping holds the view; pages are of {mmap.PAGESIZE}")
