"""The coordinator of one case, in a process of its own: `python -m benchmarks.coordinator CASE BASE_ADDRESS RAW_ADDRESS`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from benchmarks.cases import FRAMEWORKS, Case, Framework, case_of
from benchmarks.child import serve
from benchmarks.memory import peak_bytes, resident_bytes
from benchmarks.settings import SETTINGS
from padiff_rpc.align.align import align
from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.run.release_records import RELEASE_BYTES, RELEASE_COUNT
from padiff_rpc.compare.judge import statistics_for
from padiff_rpc.match.match import match_models
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import Boundary, ForwardRequest, LossSpec, RecordOptions
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.system.malloc import keep_freed_memory
from padiff_rpc.tensors.tensor import Tensor

IMPORTED_BYTES = resident_bytes()
"""What the imports above take. Everything beyond is what aligning needs."""
_WARM_BYTES = 256 << 20


def main() -> None:
    keep_freed_memory()  # as the command line does
    name, base, raw = sys.argv[1:]
    driver = _Driver(case_of(name), {"torch": base, "paddle": raw})
    commands = {"align": driver.align, "assign": driver.assign, "step": driver.step, "memory": driver.memory}
    serve({"imported_bytes": IMPORTED_BYTES}, lambda: commands)


class _Driver:
    """Does what is asked with the two workers, in sessions that stay open until the next one is of another kind.

    A worker takes one session at a time, and its shared memory is warm as long as that lasts.
    """

    def __init__(self, case: Case, addresses: Mapping[Framework, str]) -> None:
        self._inputs = as_inputs(case.inputs())
        self._addresses = addresses
        self._stack = ExitStack()
        self._models: list[RemoteModel] = []
        self._shared_memory: bool | None = None

    def align(self, setting: str) -> dict[str, Any]:
        """Align once, and tell what the step alone took."""
        asked = SETTINGS[setting]
        base, raw = self._connected(asked.shared_memory)
        result = align(base, raw, self._inputs, self._inputs, asked.align)
        _clear(base, raw)
        figures = result.figures
        return {
            "step_s": figures["step_s"][0],
            "weights_before_s": figures["weights_before_s"],
            "bytes_moved": figures["bytes_moved"],
            "transport": " and ".join(sorted(set(figures["transport"].values()))),
            "aligned": result.aligned,
            "compared": sum(pair.status != "skipped" for pair in result.pairs),
        }

    def assign(self) -> dict[str, Any]:
        """Assign base's weights to raw once more."""
        base, raw = self._connected(True)
        matching = match_models(base.describe(), raw.describe())
        begun = time.monotonic()
        report = assign_weights(base, raw, matching)
        return {"wall_s": time.monotonic() - begun, "size_bytes": report.size_bytes}

    def step(self, framework: Framework, record: bool) -> dict[str, Any]:
        """Run a step of one side, and fetch nothing of what it records."""
        model = self._connected(True)[FRAMEWORKS.index(framework)]
        options = RecordOptions(statistics=statistics_for(SETTINGS["strict"].align.compare)) if record else None
        observer = _Releasing(model) if record else None
        begun = time.monotonic()
        model.forward(ForwardRequest(self._inputs, training=True, seed=0, record=options), observer)
        model.backward(LossSpec("projection", {"seed": 0.0}), observer)
        wall_s = time.monotonic() - begun
        _clear(model)
        return {"wall_s": wall_s}

    def memory(self) -> dict[str, Any]:
        """Tell the peak of this process so far, and the budgets of the workers' stores."""
        peak = peak_bytes() - IMPORTED_BYTES
        budgets = [model.info().store_memory_bytes for model in self._connected(True)]
        return {"above_imports_bytes": peak, "store_memory_bytes": dict(zip(FRAMEWORKS, budgets, strict=True))}

    def _connected(self, shared_memory: bool) -> list[RemoteModel]:
        if self._shared_memory is not shared_memory:
            self._stack.close()
            self._models = [
                self._stack.enter_context(connect(self._addresses[framework], shared_memory=shared_memory))
                for framework in FRAMEWORKS
            ]
            self._shared_memory = shared_memory
            for model in self._models:
                _warm(model)
        return self._models


def _clear(*models: RemoteModel) -> None:
    """Drop gradients and graph, as the bare processes do between steps."""
    for model in models:
        model.reset()


def _warm(model: RemoteModel) -> None:
    """Move as much as touches all of the memory that tensors pass through; else only an assignment would."""
    names, size_bytes = [], 0
    for info in model.describe().parameters:
        if size_bytes < _WARM_BYTES:
            names.append(info.name)
            size_bytes += info.spec.size_bytes
    for stream in model.read_parameters(names):
        for _ in stream.chunks:
            pass


class _Releasing:
    """Lets go of every record as it is told, as many together as an alignment does, so that the store never fills.

    The cost of recording alone is left.
    """

    def __init__(self, model: RemoteModel) -> None:
        self._model = model
        self._ids: list[int] = []
        self._size_bytes = 0

    def observe(self, boundary: Boundary) -> None:
        self._ids += [record.id for record in boundary.records]
        self._size_bytes += sum(record.spec.size_bytes for record in boundary.records)
        if len(self._ids) >= RELEASE_COUNT or self._size_bytes >= RELEASE_BYTES:
            self._model.release_activations(self._ids)
            self._ids, self._size_bytes = [], 0

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return {}


if __name__ == "__main__":
    main()
