"""Reads share open streams and a few slots: none is lost, whatever is left unread or breaks off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.read_tensors import IDLE_STREAMS
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tensors.tensor import CHUNK_BYTES, DType, Tensor, TensorStream, collect_all
from padiff_rpc.wire.ring import TO_COORDINATOR, TO_WORKER
from tests.servers.harness import Serving, StubModel, serving, wait_until

SLOT_BYTES = 2 * CHUNK_BYTES
"""A slot takes several chunks, as a real one does, which takes eight."""
GENERATOR = np.random.default_rng(0)


def tensor(size_bytes: int) -> Tensor:
    return Tensor.from_array(GENERATOR.integers(0, 255, size_bytes, np.uint8))


def free_slots(worker: Serving) -> tuple[int, int]:
    session = worker.sessions._current
    assert session is not None
    assert session.ring is not None
    return session.ring.slots.free, TO_COORDINATOR


@contextmanager
def stub_worker(tensors: dict[str, Tensor], **options: Any) -> Iterator[tuple[StubModel, Serving, RemoteModel]]:
    stub = StubModel(tensors)
    with serving(stub, slot_bytes=SLOT_BYTES) as worker, connect(worker.address, **options) as model:
        yield stub, worker, model


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("dtype", DType)
def test_every_element_type_travels_both_ways_bit_by_bit(dtype: DType, shared_memory: bool) -> None:
    count = 300_001
    bits = GENERATOR.integers(0, 2 if dtype is DType.BOOL else 256, count * dtype.item_bytes, np.uint8)
    value = Tensor.from_array(bits.view(dtype.storage), dtype)
    with stub_worker({"0": value}, shared_memory=shared_memory) as (stub, _, model):
        assert {"0": value} == collect_all(model.read_parameters(["0"])) == collect_all(model.read_activations([0]))
        stub.tensors = {"0": Tensor.from_array(np.zeros(0))}
        model.write_parameters([value.stream("0")])
        assert {"0": value} == stub.tensors


@pytest.mark.parametrize("shared_memory", [True, False])
def test_sizes_around_the_slots_travel_both_ways(shared_memory: bool) -> None:
    sizes = [n * SLOT_BYTES + extra for n in (1, TO_WORKER, TO_COORDINATOR + 1) for extra in (-65, -1, 0, 1, 64)]
    tensors = {str(number): tensor(size) for number, size in enumerate(sizes)}
    with stub_worker(dict(tensors), shared_memory=shared_memory) as (stub, _, model):
        assert tensors == collect_all(model.read_activations(range(len(sizes))))
        stub.tensors = dict.fromkeys(tensors, Tensor.from_array(np.zeros(0)))
        model.write_parameters(value.stream(name) for name, value in tensors.items())
        assert tensors == stub.tensors


def test_a_thousand_reads_and_writes_lose_no_slot() -> None:
    value = tensor(100_000)
    with stub_worker({"0": value}) as (_stub, worker, model):
        for _ in range(1000):
            assert [100_000] == [sum(c.nbytes for c in s.chunks) for s in model.read_activations([0])]
        for _ in range(100):
            model.write_parameters([value.stream("0")])
        assert model._slots is not None
        assert TO_WORKER == model._slots.free
        # One slot goes back with the next query.
        assert free_slots(worker)[0] >= TO_COORDINATOR - 1


def test_reads_that_overlap_beyond_the_slots_all_come() -> None:
    count = TO_COORDINATOR + 3
    tensors = {str(number): tensor(3 * SLOT_BYTES + number) for number in range(count)}
    with stub_worker(tensors) as (_, _, model):
        reads = [model.read_activations([number]) for number in range(count)]
        streams = [next(read) for read in reads]  # each holds what it was sent
        for number in reversed(range(count)):
            assert tensors[str(number)] == streams[number].collect()
            assert None is next(reads[number], None)
        assert IDLE_STREAMS == len(model._records._idle)


def test_threads_that_read_at_once_get_their_own() -> None:
    tensors = {str(number): tensor(SLOT_BYTES + 1000 * number) for number in range(12)}
    with stub_worker(tensors) as (_, _, model), ThreadPoolExecutor(12) as pool:

        def read(number: int) -> bool:
            return all(
                {str(number): tensors[str(number)]} == collect_all(model.read_activations([number])) for _ in range(10)
            )

        assert [True] * 12 == list(pool.map(read, range(12)))


def test_reads_that_are_left_in_the_middle_lose_no_slot() -> None:
    with stub_worker({"0": tensor(20 * SLOT_BYTES), "1": tensor(100_000)}) as (stub, worker, model):
        for _ in range(3 * TO_COORDINATOR):
            read = model.read_activations([0])
            assert next(next(read).chunks).nbytes > 0
            read.close()  # type: ignore[attr-defined]
        assert {"1": stub.tensors["1"]} == collect_all(model.read_activations([1]))
        assert free_slots(worker)[0] >= TO_COORDINATOR - 1


def test_reads_that_are_left_after_the_last_chunk_lose_no_slot() -> None:
    value = tensor(100_000)
    with stub_worker({"0": value}) as (_stub, worker, model):
        for _ in range(3 * TO_COORDINATOR):
            read = model.read_activations([0])
            assert value == next(read).collect()
            read.close()  # type: ignore[attr-defined]
        assert free_slots(worker)[0] >= TO_COORDINATOR - 1


@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_coordinator_that_stops_reading_stops_the_worker(shared_memory: bool) -> None:
    class Endless(StubModel):
        produced = 0

        def read_activations(self, ids: Any) -> Iterator[TensorStream]:
            return iter([TensorStream("0", whole.spec, self._chunks())])

        def _chunks(self) -> Iterator[memoryview]:
            for at in range(0, whole.data.nbytes, 1 << 20):
                self.produced += 1
                yield whole.data[at : at + (1 << 20)]

    whole = Tensor.from_array(np.zeros(200 << 20, np.uint8))
    stub = Endless()
    with serving(stub) as worker, connect(worker.address, shared_memory=shared_memory) as model:
        read = model.read_activations([0])
        assert next(next(read).chunks).nbytes > 0
        settled: list[int] = []

        def stands_still() -> bool:
            settled.append(stub.produced)
            return len(settled) > 30 and settled[-1] == settled[-30]

        wait_until(stands_still, "the worker waits for its reader")
        assert stub.produced < 40


# -- a connection that breaks -------------------------------------------------------------------------------------------
class Cutter:
    """A TCP relay that cuts each connection after so many bytes from the worker; `limits` are used up one by one."""

    def __init__(self, target: str, limits: list[int]) -> None:
        host, _, port = target.removeprefix("grpc://").rpartition(":")
        self._target = host, int(port)
        self.limits = limits
        self.cuts = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # or the thread would wait in accept() for ever
        self._listener.close()

    def cut(self) -> None:
        """Cut all connections that there are."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._open += [near, far]
            limit = self.limits.pop(0) if self.limits else 1 << 40
            threading.Thread(target=self._relay, args=(near, far, 1 << 40), daemon=True).start()
            threading.Thread(target=self._relay, args=(far, near, limit), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, limit: int) -> None:
        try:
            while limit > 0 and (data := source.recv(1 << 16)):
                sink.sendall(data)
                limit -= len(data)
            self.cuts += limit <= 0
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


@pytest.mark.parametrize("parameters", [True, False])
def test_a_read_goes_on_where_its_connection_broke(parameters: bool) -> None:
    tensors = {str(number): tensor(size) for number, size in enumerate([10, 9_000_001, 5_000, 7_000_000, 0])}
    with serving(StubModel(tensors)) as worker:
        cutter = Cutter(worker.address, [4 << 20, 3 << 20, 6 << 20])
        with connect(cutter.address, shared_memory=False) as model:
            read = model.read_parameters(list(tensors)) if parameters else model.read_activations(range(5))
            assert tensors == collect_all(read)
        assert 3 == cutter.cuts
        cutter.close()


def test_what_lies_in_slots_stays_while_its_reader_has_it_though_the_connection_breaks() -> None:
    tensors = {"0": tensor(12 * SLOT_BYTES), "1": tensor(12 * SLOT_BYTES)}
    with serving(StubModel(tensors), slot_bytes=SLOT_BYTES) as worker:
        cutter = Cutter(worker.address, [])
        with connect(cutter.address) as model:
            assert "shared memory" == model.transport
            read = model.read_activations([0])
            stream = next(read)
            chunk = next(stream.chunks)
            copy = bytes(chunk)
            cutter.cut()
            for _ in range(3):
                assert {"1": tensors["1"]} == collect_all(model.read_activations([1]))
            assert {"1": tensors["1"]} == collect_all(model.read_activations([1]))
            assert copy == bytes(chunk)
            rest = b"".join(bytes(piece) for piece in stream.chunks)
            assert bytes(tensors["0"].data) == copy + rest
        cutter.close()


def test_a_read_that_never_gets_further_ends_with_the_lost_connection() -> None:
    with serving(StubModel({"0": tensor(9_000_000)})) as worker:
        cutter = Cutter(worker.address, [1 << 20])
        with connect(cutter.address, shared_memory=False) as model:
            cutter.limits = [100] * 1000
            with pytest.raises(PadiffError) as caught:
                collect_all(model.read_activations([0]))
            assert Reason.WORKER_UNREACHABLE is caught.value.reason
            cutter.limits.clear()
        cutter.close()


def test_a_rest_that_is_of_another_tensor_is_data_loss() -> None:
    stub = StubModel({"0": tensor(9_000_000)})
    with serving(stub) as worker:
        cutter = Cutter(worker.address, [4 << 20])
        with connect(cutter.address, shared_memory=False) as model:
            read = model.read_activations([0])
            stream = next(read)
            first = next(stream.chunks)
            assert first.nbytes > 0
            stub.tensors["0"] = Tensor.from_array(np.zeros(9_000_008 // 8))
            with pytest.raises(PadiffError) as caught:
                collect_all([stream])
            assert Reason.DATA_LOSS is caught.value.reason
        cutter.close()


def test_a_connection_that_breaks_between_reads_is_not_noticed() -> None:
    value = tensor(100_000)
    with serving(StubModel({"0": value})) as worker:
        cutter = Cutter(worker.address, [])
        with connect(cutter.address) as model:
            for _ in range(3):
                assert {"0": value} == collect_all(model.read_activations([0]))
                cutter.cut()
        cutter.close()
