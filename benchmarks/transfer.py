"""Moving one tensor over a warm memcpy, and comparing two workers' tensors over comparing two private arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import numpy as np

from benchmarks.cases import FRAMEWORKS, tensor_case
from benchmarks.figures import Figure, Tell, ratio
from benchmarks.memcpy import memcpy_s
from benchmarks.processes import worker
from padiff_rpc.compare.judge import compare_streams
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.standard import Standard
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ForwardRequest, Record, RecordOptions
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tensors.tensor import Tensor, TensorStream

SIZES_MIB = (16, 64, 256)
_ROUTES = {"ring": True, "streams": False}
_AT_LEAST = {"ring": 0.5, "streams": 0.10}
_COMPARED_AT_LEAST = {"ring": 0.6}
_STANDARD = Standard(CompareRules(mode="strict", atol=1e-4, rtol=1e-3), "forward", single_step=False)


def measure_transfer(rounds: int, tell: Tell) -> list[Figure]:
    """Measure each size with shared memory (ring) and without (streams over TCP)."""
    figures = []
    for mib in SIZES_MIB:
        with ExitStack() as stack:
            pairs = {name: stack.enter_context(_pair(mib, shared)) for name, shared in _ROUTES.items()}
            figures += _measure(mib, pairs, rounds)
        tell(f"transfer: {mib} MiB done")
    return figures


class _Pair:
    """Two workers that hold the tensor as a parameter, and as a recorded output."""

    def __init__(self, models: list[RemoteModel]) -> None:
        self.models = models
        self.names = [model.describe().parameters[0].name for model in models]
        self.records: list[Record] = []
        options = RecordOptions(inputs=False, gradients=False)
        for model in models:
            result = model.forward(ForwardRequest({}, gradients=False, record=options))
            self.records.append(result.outputs[0])

    def compare(self) -> None:
        """Compare the two records as an alignment does."""
        with self._record(0) as base, self._record(1) as raw:
            _compare(base, raw, self.records)

    def private(self) -> list[Tensor]:
        """Fetch both records into this process."""
        with self._record(0) as base, self._record(1) as raw:
            return [base.collect(), raw.collect()]

    def drain_parameter(self, buffer: np.ndarray) -> None:
        with _single(self.models[0].read_parameters(self.names[:1])) as stream:
            stream.collect(buffer.data)

    def drain_record(self, buffer: np.ndarray) -> None:
        with self._record(0) as stream:
            stream.collect(buffer.data)

    def _record(self, side: int) -> AbstractContextManager[TensorStream]:
        return _single(self.models[side].read_activations([self.records[side].id]))


@contextmanager
def _single(streams: Iterator[TensorStream]) -> Iterator[TensorStream]:
    """Give the only stream; whoever drops its source ends it."""
    yield next(streams)


@contextmanager
def _pair(mib: int, shared_memory: bool) -> Iterator[_Pair]:
    """Start two workers of their own: a worker serves one session, and both kinds are to be warm at once."""
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(tensor_case(mib), framework)) for framework in FRAMEWORKS]
        yield _Pair([stack.enter_context(connect(each.address, shared_memory=shared_memory)) for each in workers])


def _measure(mib: int, pairs: dict[str, _Pair], rounds: int) -> list[Figure]:
    case, size_bytes = f"{mib} MiB", mib << 20
    buffer = np.zeros(size_bytes, np.uint8)
    arrays = next(iter(pairs.values())).private()
    kinds = {"parameter": _Pair.drain_parameter, "record": _Pair.drain_record}
    copies: list[float] = []
    kernel: list[float] = []
    moved: dict[tuple[str, str], list[float]] = {(kind, route): [] for kind in kinds for route in pairs}
    compared: dict[str, list[float]] = {route: [] for route in pairs}
    for number in range(rounds + 1):
        copy = memcpy_s(size_bytes)
        alone = _timed(lambda: _compare(arrays[0].stream("base"), arrays[1].stream("raw"), pairs["ring"].records))
        taken = {(kind, route): _timed(lambda k=kind, r=route: kinds[k](pairs[r], buffer)) for kind, route in moved}
        abreast = {route: _timed(pairs[route].compare) for route in pairs}
        if number:  # the first round only warms up
            copies.append(copy)
            kernel.append(alone)
            for key, seconds in taken.items():
                moved[key].append(seconds)
            for route, seconds in abreast.items():
                compared[route].append(seconds)
    figures = []
    for (kind, route), seconds in moved.items():
        # A speed over memcpy's is memcpy's seconds over ours.
        figures.append(
            ratio("transfer", case, f"{kind}, {route}", copies, seconds, "x memcpy", at_least=_AT_LEAST[route])
        )
    for route, seconds in compared.items():
        at_least = _COMPARED_AT_LEAST.get(route)
        figures.append(
            ratio("comparison", case, f"end to end, {route}", kernel, seconds, "x kernel", at_least=at_least)
        )
    return figures


def _compare(base: TensorStream, raw: TensorStream, records: list[Record]) -> None:
    verdict = compare_streams(base, raw, records[0].digest, records[1].digest, _STANDARD)
    if verdict.status != "pass":
        raise PadiffError(f"tensors that agree were told to differ: {verdict.why}", reason=Reason.INTERNAL)


def _timed(work: Callable[[], None]) -> float:
    """Return the seconds of a second time just after a first, as memcpy's are."""
    work()
    begun = time.monotonic()
    work()
    return time.monotonic() - begun
