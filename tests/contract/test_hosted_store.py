"""HostedModel over every backend: how long records are kept, and where."""

from __future__ import annotations

from typing import Any

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import RecordOptions
from tests.contract.steps import (
    PROJECTION,
    hosted,
    request_of,
    run_step,
)
from tests.contract.watcher import Watcher


def test_records_beyond_the_memory_budget_are_spilled_and_read_back(kit: Any) -> None:
    expected = run_step(kit, "mlp", RecordOptions())[3]
    model = hosted(kit, "mlp", store_memory_bytes=100, store_disk_bytes=1 << 20)
    watcher = Watcher(model)
    model.forward(request_of("mlp"), watcher)
    model.backward(PROJECTION, watcher)
    figures = model.store_figures()
    assert figures.spilled_bytes > 0
    assert figures.peak_memory_bytes <= 100
    assert {key: bytes(value.data) for key, value in watcher.values.items()} == {
        key: bytes(value.data) for key, value in expected.values.items()
    }


def test_a_full_store_is_an_error_that_names_the_options(kit: Any) -> None:
    model = hosted(kit, "mlp", store_memory_bytes=100, store_disk_bytes=200)
    with pytest.raises(PadiffError, match="100 bytes of memory") as raised:
        model.forward(request_of("mlp"), Watcher(model))
    assert raised.value.reason is Reason.STORE_FULL
    assert "--store-memory" in raised.value.hint
    assert "--store-disk" in raised.value.hint
    model.forward(request_of("mlp", None))


def test_the_next_forward_drops_the_records(kit: Any) -> None:
    model = hosted(kit, "mlp")
    watcher = Watcher(model)
    old = model.forward(request_of("mlp"), watcher).outputs[0].id
    model.forward(request_of("mlp", None))
    with pytest.raises(PadiffError) as raised:
        next(model.read_activations([old]))
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert model.store_figures().memory_bytes == 0


def test_released_records_are_gone_and_releasing_twice_is_fine(kit: Any) -> None:
    model = hosted(kit, "mlp")
    output = model.forward(request_of("mlp")).outputs[0].id
    model.release_activations([output])
    model.release_activations([output])
    with pytest.raises(PadiffError, match=str(output)):
        next(model.read_activations([output]))
