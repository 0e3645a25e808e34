"""The ring is used only where both sides have seen each other's writing in it, and nothing of it is left behind."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np
import pytest

from padiff_rpc.remote.connect import connect
from padiff_rpc.system.memfd import NONCE_BYTES
from padiff_rpc.tensors.tensor import Tensor, collect_all
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire import ring as rings
from padiff_rpc.wire.ring import FoundRing, OfferedRing
from tests.servers.harness import StubModel, serving, wait_until

BIG = Tensor.from_array(np.random.default_rng(0).standard_normal(1_000_001))


def memfds() -> list[str]:
    """The rings that this process has open or mapped."""
    gc.collect()  # of tests before this one
    open_files = []
    for number in os.listdir("/proc/self/fd"):
        try:
            open_files.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # that of listdir itself
            continue
    with open("/proc/self/maps") as file:
        mapped = [line for line in file if rings.MEMFD_NAME in line]
    return [name for name in open_files if rings.MEMFD_NAME in name] + mapped


def test_what_either_side_writes_the_other_reads() -> None:
    offered = OfferedRing()
    found = FoundRing(offered.to_proto())
    made = offered.complete(found.nonce)
    assert made is not None
    worker, layout = made
    ring = found.map(layout)
    for region, other in ((ring.to_coordinator, worker.slots.region), (ring.to_worker, worker.incoming)):
        region.slot(1)[:] = 7
        assert 7 == other.slot(1)[-1]
        assert 0 == other.slot(0)[-1]
    offered.close()
    found.close()


def works_by_streams() -> None:
    """Connect, and see that tensors come all the same."""
    with serving(StubModel({"0": BIG})) as worker, connect(worker.address) as model:
        assert "streams" == model.transport
        assert {"0": BIG} == collect_all(model.read_parameters(["0"])) == collect_all(model.read_activations([0]))
        model.write_parameters([BIG.stream("0")])
        session = worker.sessions._current
        assert session is not None
        assert (None, None) == (session.ring, session.offered)
    assert [] == memfds()


def failing(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_a_host_without_memfd_uses_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    works_by_streams()


def test_another_user_s_worker_is_used_by_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.open

    def refusing(path: Any, *options: Any) -> int:
        if str(path).startswith("/proc/"):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *options)

    monkeypatch.setattr(os, "open", refusing)
    works_by_streams()


def test_too_little_shared_memory_means_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.posix_fallocate

    def full(descriptor: int, offset: int, size: int) -> None:
        if size > rings.PAGE_BYTES:
            raise OSError(28, "No space left on device")
        original(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    works_by_streams()


def test_a_mapping_that_fails_means_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FoundRing, "map", failing(OSError("no room in the address space")))
    with serving(StubModel({"0": BIG})) as worker, connect(worker.address) as model:
        assert "streams" == model.transport
        assert {"0": BIG} == collect_all(model.read_parameters(["0"]))


@pytest.mark.parametrize("change", [{"nonce": bytes(NONCE_BYTES)}, {"nonce": b""}, {"descriptor": 0}, {"pid": 1 << 40}])
def test_a_worker_s_ring_that_is_not_what_it_told_is_not_taken_up(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    original = OfferedRing.to_proto

    def wrong(self: OfferedRing) -> pb.RingOffer:
        offer = original(self)
        for name, value in change.items():
            setattr(offer, name, value)
        return offer

    monkeypatch.setattr(OfferedRing, "to_proto", wrong)
    works_by_streams()


def test_the_ring_of_another_worker_is_not_confirmed() -> None:
    mine, other = OfferedRing(), OfferedRing()
    found = FoundRing(other.to_proto())
    assert None is mine.complete(found.nonce)
    assert None is mine.complete(b"")
    for each in (mine, other, found):
        each.close()


def test_a_ring_of_another_size_or_that_may_shrink_is_not_mapped() -> None:
    offered = OfferedRing()
    found = FoundRing(offered.to_proto())
    layout = pb.RingLayout(
        size_bytes=rings.PAGE_BYTES, first_slot_offset=0, slot_bytes=64, to_coordinator=1, to_worker=1
    )
    with pytest.raises(OSError, match="may shrink"):
        found.map(layout)
    made = offered.complete(found.nonce)
    assert made is not None
    for size, text in ((rings.PAGE_BYTES, "the worker told"), (made[1].size_bytes, "beyond its")):
        wrong = pb.RingLayout(size_bytes=size, first_slot_offset=4096, slot_bytes=1 << 40, to_coordinator=1)
        with pytest.raises(OSError, match=text):
            found.map(wrong)
    offered.close()
    found.close()


def test_the_ring_goes_with_its_session() -> None:
    with serving(StubModel({"0": BIG})) as worker:
        for _ in range(3):
            with connect(worker.address) as model:
                assert "shared memory" == model.transport
                assert {"0": BIG} == collect_all(model.read_parameters(["0"]))
                assert [] != memfds()
            wait_until(lambda: memfds() == [], "the ring is given back")


def test_it_can_be_switched_off() -> None:
    with serving(StubModel({"0": BIG})) as worker, connect(worker.address, shared_memory=False) as model:
        assert "streams" == model.transport
        assert [] == memfds()
