"""The judge over torch and paddle: healthy layers are rounding, planted faults are called what they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.explain.judge_layer import judge_layer
from padiff_rpc.explain.judgement import Judgement
from padiff_rpc.explain.layer_in_step import LayerInStep
from padiff_rpc.match.match import match_models
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import ForwardRequest
from padiff_rpc.per_side import PerSide
from tests.e2e.workers import MODELS, start

pytestmark = pytest.mark.e2e
HEALTHY = ["linear", "attention", "lstm", "mlp", "conv", "bn", "maxpool", "avgpool", "group", "instance", "softmax"]
FAULTY = {
    "norm": "semantics",
    "rms": "semantics",
    "gelu": "semantics",
    "rope": "float32 inside",
    "mix": "lower precision",
}


class Pair:
    """Two workers, and the judge over their layers."""

    def __init__(self, stack: ExitStack, base: str, raw: str, dtype: str | None, faulty: bool) -> None:
        files = [MODELS / f"judge_{side.partition('-')[0]}.py" for side in (base, raw)]
        args = [{"faulty": False}, {"faulty": faulty, "seed": 1}]
        self._models = PerSide(
            *(
                stack.enter_context(start(file, side, dtype=dtype, model_args=each))
                for file, side, each in zip(files, (base, raw), args, strict=True)
            )
        )
        self._described = PerSide(self._models.base.describe(), self._models.raw.describe())
        self._matching = match_models(self._described.base, self._described.raw)
        assign_weights(self._models.base, self._models.raw, self._matching)
        random = np.random.RandomState(0)
        kind = np.dtype(dtype or "float32")
        arrays = {"x": random.standard_normal((4, 6, 16)), "image": random.standard_normal((4, 3, 8, 8))}
        inputs = as_inputs({name: array.astype(kind) for name, array in arrays.items()})
        self._request = ForwardRequest(inputs, training=True, seed=1, gradients=False)

    def judge(self, route: str) -> Judgement:
        requests, routes = PerSide(self._request, self._request), PerSide(route, route)
        layer = LayerInStep(self._models, requests, routes, 0, self._described, self._matching.links)
        return judge_layer(layer)


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[tuple[str, str, str | None, bool], Pair]]:
    """Pairs of workers by frameworks, dtype and whether raw is faulty, started when they are first needed."""
    with ExitStack() as stack:

        class Pairs(dict):
            def __missing__(self, key: tuple[str, str, str | None, bool]) -> Pair:
                self[key] = Pair(stack, *key)
                return self[key]

        yield Pairs()


@pytest.mark.parametrize(
    ("base", "raw", "dtype"), [("torch", "paddle", None), ("torch", "paddle", "float64"), ("paddle-old", "torch", None)]
)
def test_healthy_layers_are_rounding(pairs, base: str, raw: str, dtype: str | None) -> None:
    pair = pairs[base, raw, dtype, False]
    found = {route: pair.judge(route) for route in [*HEALTHY, *FAULTY]}
    assert {} == {route: each.words() for route, each in found.items() if each.kind != "rounding"}
    for route, each in found.items():
        assert {"output", "input gradient"} <= {error.quantity for error in each.errors}, route


@pytest.mark.parametrize(
    ("base", "raw", "dtype"), [("torch", "paddle", None), ("torch", "paddle", "float64"), ("paddle", "torch", None)]
)
def test_planted_faults_are_called_what_they_are(pairs, base: str, raw: str, dtype: str | None) -> None:
    pair = pairs[base, raw, dtype, True]
    found = {route: pair.judge(route) for route in [*HEALTHY, *FAULTY]}
    expected = dict.fromkeys(HEALTHY, "rounding") | FAULTY
    assert expected == {route: each.kind for route, each in found.items()}
    assert ("raw", "BF16") == (found["mix"].side, found["mix"].dtype)


def test_a_layer_takes_no_longer_than_people_wait(pairs) -> None:
    started = time.perf_counter()
    pairs["torch", "paddle", None, False].judge("attention")
    assert time.perf_counter() - started < 2.0
