"""What the digests of records and gradients hold, by what is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.model.model import RecordOptions
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Statistics, collect_all
from tests.contract.steps import PROJECTION, hosted, request_of, run_step


@pytest.mark.parametrize("statistics", list(Statistics))
def test_records_hold_the_statistics_that_are_asked_for(kit: Any, statistics: Statistics) -> None:
    watcher = run_step(kit, "mlp", RecordOptions(statistics=statistics))[3]
    assert {phase for phase, *_ in watcher.records} == {"forward", "backward"}
    for key, record in watcher.records.items():
        value = watcher.values[key]
        assert record.digest == digest(np.frombuffer(value.data, np.uint8), value.spec, statistics)


@pytest.mark.parametrize("statistics", list(Statistics))
def test_gradients_hold_the_statistics_that_are_asked_for(kit: Any, statistics: Statistics) -> None:
    model = hosted(kit, "mlp")
    model.forward(request_of("mlp"))
    model.backward(PROJECTION)
    names = ["fc1.weight", "fc1.bias"]
    gradients = collect_all(model.read_parameters(names, "gradient"))
    found = model.digest_parameters(names, "gradient", statistics=statistics)
    assert found == {
        name: digest(np.frombuffer(value.data, np.uint8), value.spec, statistics) for name, value in gradients.items()
    }
