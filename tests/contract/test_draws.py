"""What a dropout is about to draw is known before it does, and its output can be made of another draw."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import Boundary, ForwardRequest, RecordOptions
from padiff_rpc.tensors.redraw import explains
from padiff_rpc.tensors.tensor import DType, Tensor, collect_all
from tests.contract.conftest import Kit

SHAPE = (6, 50)


def values() -> np.ndarray:
    """Values of which half are 0, as behind a ReLU."""
    return np.maximum(np.sin(np.arange(300.0)), 0.0).astype(np.float32).reshape(SHAPE)


@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16])
def test_a_draw_makes_the_output_that_follows_and_changes_no_generator(kit: Kit, dtype: DType) -> None:
    if dtype not in kit.zoo.DTYPES or kit.backend.name == "numpy":
        dtype = DType.F32
    model = kit.build("dropout")
    like = kit.native(np.zeros(1, dtype.storage), model, dtype)
    x = kit.backend.from_tensor(Tensor.from_array(values()), like, model)
    kit.backend.seed(3)
    drawn = kit.backend.draw(kit.layers(model)["drop"], x)
    kit.backend.seed(3)
    kit.backend.draw(kit.layers(model)["drop"], x)
    output = kit.backend.forward(model, (x,), {}, True)
    assert kit.backend.spec(output) == kit.backend.spec(drawn)
    flat = [kit.backend.to_bytes(tensor).copy() for tensor in (drawn, x, output)]
    assert explains(*flat, dtype)
    factors = kit.array(drawn).reshape(-1)
    assert {0.0, 2.0} == set(factors.tolist()) or dtype is DType.BF16
    assert 0.3 < float((factors == 0).mean()) < 0.7


class Answering:
    """Answers each draw with one of its own, and keeps what passes the layers."""

    def __init__(self, draw: Tensor) -> None:
        self.seen: list[Boundary] = []
        self._draw = draw

    def observe(self, boundary: Boundary) -> None:
        self.seen.append(boundary)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return {"draw": self._draw} if boundary.draw else {}


@pytest.mark.parametrize("routes", [None, ("",)], ids=["recorded", "not recorded"])
@pytest.mark.parametrize("sync", [False, True])
def test_an_output_is_made_of_the_observers_draw(kit: Kit, routes: tuple[str, ...] | None, sync: bool) -> None:
    model = HostedModel(kit.build("dropout"))
    draw = 3.0 * (np.arange(300).reshape(SHAPE) % 3 == 0)
    observer = Answering(Tensor.from_array(draw.astype(np.float32)))
    options = RecordOptions(routes=routes, sync=sync, draws=("drop",), share_draws=True)
    result = model.forward(ForwardRequest({"x": Tensor.from_array(values())}, True, 3, record=options), observer)
    output = collect_all(model.read_activations([result.outputs[0].id]))
    np.testing.assert_array_equal(next(iter(output.values())).to_array(), values() * draw.astype(np.float32))
    told = [(one.route, one.side, one.draw) for one in observer.seen if one.route == "drop"]
    inside = [("drop", "input", False), ("drop", "output", True), ("drop", "output", False)]
    assert told == (inside if routes is None else [("drop", "output", True)])


def test_nothing_is_reported_where_the_draw_does_not_make_the_output(kit: Kit) -> None:
    native = kit.build("dropout")
    observer = Answering(Tensor.from_array(np.zeros(SHAPE, np.float32)))
    options = RecordOptions(draws=("drop",), share_draws=True)
    changed = kit.backend.hook(
        kit.layers(native)["drop"], lambda args, kwargs: None, lambda args, kwargs, output: output * 1.5
    )
    HostedModel(native).forward(ForwardRequest({"x": Tensor.from_array(values())}, True, 3, record=options), observer)
    changed()
    assert not any(one.draw for one in observer.seen)
