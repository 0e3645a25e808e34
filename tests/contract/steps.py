"""The zoo's models hosted, and a step of one of them, for the tests of HostedModel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, LossSpec, RecordOptions
from padiff_rpc.tensors.tensor import Tensor, collect_all
from tests.contract.watcher import Watcher

SUM = LossSpec("sum")
PROJECTION = LossSpec("projection", {"seed": 0.0})
SYNC = RecordOptions(sync=True)


def inputs_of(name: str, rows: int = 5) -> dict[str, Tensor]:
    if name == "embedding":
        return {"ids": Tensor.from_array(np.arange(rows * 3, dtype=np.int64).reshape(rows, 3) % 10)}
    return {"x": Tensor.from_array(np.cos(0.9 * np.arange(rows * 4)).astype(np.float32).reshape(rows, 4))}


def request_of(name: str, record: RecordOptions | None = RecordOptions(), **options: Any) -> ForwardRequest:  # noqa: B008
    return ForwardRequest(inputs_of(name), seed=3, record=record, **options)


def hosted(kit: Any, name: str, **options: Any) -> HostedModel:
    return HostedModel(kit.build(name), kit.backend, **options)


def names_of(model: HostedModel) -> list[str]:
    return [info.name for info in model.describe().parameters]


def all_bytes(model: HostedModel, what: Any = "value") -> dict[str, bytes]:
    return {
        name: bytes(tensor.data) for name, tensor in collect_all(model.read_parameters(names_of(model), what)).items()
    }


def run_step(kit: Any, name: str, record: RecordOptions | None, answer: Any = None) -> tuple[Any, Any, Any, Any]:
    """One forward and backward: outputs, parameter gradients, buffers afterwards, and what was heard."""
    model = hosted(kit, name)
    watcher = Watcher(model, answer)
    seen: list[Any] = []
    plain = kit.backend.forward

    def spy(native: Any, args: Sequence[Any], kwargs: Mapping[str, Any], gradients: bool) -> Any:
        seen.append(plain(native, args, kwargs, gradients))
        return seen[-1]

    kit.backend.forward = spy  # the backend object is the session's: put back below
    try:
        model.forward(request_of(name, record), watcher)
    finally:
        del kit.backend.forward
    outputs = [kit.array(tensor).tobytes() for tensor in kit.flat(seen[0])]
    if name == "dropout":  # it has no parameter, so no backward
        return outputs, {}, all_bytes(model), watcher
    model.backward(PROJECTION, watcher)
    return outputs, all_bytes(model, "gradient"), all_bytes(model), watcher
