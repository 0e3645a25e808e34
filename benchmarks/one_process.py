"""One model that steps plainly and as a worker hosts it, in turn: `python -m benchmarks.one_process FRAMEWORK CASE`.

Two processes that do the same thing differ by some percent, for as long as they live, by where their memory lies. What costs
less than that can be told only where both run the same memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, cast

from padiff_servers.process import prepare_process

from benchmarks.bare import STEP_MAKERS
from benchmarks.cases import Case, Framework, case_of
from benchmarks.child import serve
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import ForwardRequest, LossSpec


def main() -> None:
    prepare_process()
    framework, case = sys.argv[1:]
    serve({}, lambda: _both_ways(cast(Framework, framework), case_of(case)))


def _both_ways(framework: Framework, case: Case) -> dict[str, Callable[[], dict[str, Any]]]:
    model = HostedModel.from_spec(f"{framework}@{case.place(framework)}", model_args=case.arguments(framework))
    request = ForwardRequest(as_inputs(case.inputs()), training=True, seed=0, record=None)
    plain, clear = STEP_MAKERS[framework](model.model, case.inputs())

    def hosted() -> None:
        model.forward(request)
        model.backward(LossSpec("projection", {"seed": 0.0}))

    return {"plain": lambda: _timed(plain, clear), "hosted": lambda: _timed(hosted, model.reset)}


def _timed(step: Callable[[], object], clear: Callable[[], None]) -> dict[str, Any]:
    begun = time.monotonic()
    step()
    wall_s = time.monotonic() - begun
    clear()
    return {"wall_s": wall_s}


if __name__ == "__main__":
    main()
