"""The coordinator of one case, in a process of its own: `python -m benchmarks.coordinator CASE BASE_ADDRESS RAW_ADDRESS`."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.cases import Case, case_of
from benchmarks.child import serve
from benchmarks.memory import peak_bytes, resident_bytes
from benchmarks.settings import SETTINGS
from padiff_rpc.align.align import align
from padiff_rpc.align.match import match_models
from padiff_rpc.align.weights import assign_weights
from padiff_rpc.inputs import as_inputs
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.remote_model import RemoteModel

IMPORTED_BYTES = resident_bytes()
"""What the imports above take. Everything beyond is what aligning needs."""


def main() -> None:
    name, base, raw = sys.argv[1:]
    driver = _Driver(case_of(name), base, raw)
    serve({"imported_bytes": IMPORTED_BYTES}, {"align": driver.align, "assign": driver.assign, "memory": memory})


def memory() -> dict[str, Any]:
    return {"above_imports_bytes": peak_bytes() - IMPORTED_BYTES}


class _Driver:
    """Does what is asked with the two workers. Each time in a session of its own, since a worker takes one at a time."""

    def __init__(self, case: Case, base: str, raw: str) -> None:
        self._inputs = as_inputs(case.inputs())
        self._addresses = base, raw

    def align(self, setting: str) -> dict[str, Any]:
        """Align once, and tell what the step alone took."""
        asked = SETTINGS[setting]
        with self._connected(asked.shared_memory) as (base, raw):
            result = align(base, raw, self._inputs, self._inputs, asked.align)
        figures = result.figures
        compared = sum(pair.status != "skipped" for pair in result.pairs)
        return {
            "step_s": figures["step_s"][0],
            "assign_s": figures["assign_s"],
            "weights_before_s": figures["weights_before_s"],
            "bytes_moved": figures["bytes_moved"],
            "aligned": result.aligned,
            "compared": compared,
        }

    def assign(self) -> dict[str, Any]:
        """Assign base's weights to raw once more."""
        with self._connected(True) as (base, raw):
            matching = match_models(base.describe(), raw.describe())
            begun = time.monotonic()
            report = assign_weights(base, raw, matching)
            return {"wall_s": time.monotonic() - begun, "size_bytes": report.size_bytes}

    @contextmanager
    def _connected(self, shared_memory: bool) -> Iterator[tuple[RemoteModel, RemoteModel]]:
        keywords = {"shared_memory": shared_memory} if "shared_memory" in inspect.signature(connect).parameters else {}
        with connect(self._addresses[0], **keywords) as base, connect(self._addresses[1], **keywords) as raw:
            yield base, raw


if __name__ == "__main__":
    main()
