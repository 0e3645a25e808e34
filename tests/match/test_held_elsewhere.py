"""Tensors that a neighbouring layer holds, and tables that only one side has because the other computes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.match.descriptions import L, describe, failing, links, match, net, norm, paddle_linear, torch_linear, user

WIDTH, LENGTH = 4, 5
X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, LENGTH, WIDTH)).astype(np.float32)})


def aligned(base: nn.Layer, raw: nn.Layer) -> Result:
    return align(HostedModel(base), HostedModel(raw), X, X, AlignSettings())


# -- held by a neighbour ----------------------------------------------------------------------------------------------
def _class_embedding(seed: int) -> nn.Parameter:
    return nn.Parameter(np.random.RandomState(seed).standard_normal(WIDTH).astype(np.float32))


class Embeddings(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = _class_embedding(1)
        self.patch = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.patch(x) + self.class_embedding


class Inside(nn.Layer):
    """Leaves its class embedding to a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embeddings(x))


class Outside(nn.Layer):
    """Holds its class embedding itself; `factor` other than 1 is a fault."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.class_embedding = _class_embedding(2)
        self.patch = nn.LinearIO(WIDTH, WIDTH)
        self.head = nn.LinearIO(WIDTH, 3)
        self._factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.patch(x) + self.class_embedding * self._factor)


def vision(kind: type[nn.Layer], *args: Any) -> nn.Layer:
    model = nn.Sequential()
    model.vision = kind(*args)
    return model


@pytest.mark.parametrize("kinds", [(Inside, Outside), (Outside, Inside)], ids=["raw holds it", "base holds it"])
def test_a_tensor_that_a_neighbour_holds_is_linked_and_noted(kinds: tuple[type[nn.Layer], type[nn.Layer]]) -> None:
    result = aligned(*(vision(kind) for kind in kinds))
    assert result.aligned
    assert any("vision holds class_embedding itself" in note and "vision.embeddings" in note for note in result.notes)
    stages = {pair.stage for pair in result.pairs if "class_embedding" in pair.tensor and pair.status == "pass"}
    assert {"weights_before", "grads"} <= stages


def test_a_fault_in_its_use_differs() -> None:
    assert not aligned(vision(Inside), vision(Outside, 1.01)).aligned


def test_of_two_neighbours_that_hold_one_like_it_none_is_linked() -> None:
    def part() -> L:
        return user("Part", {"norm": norm(4)}, token=(4,))

    raw = net(x=user("Vision", {"norm1": norm(4), "norm2": norm(4)}, token=(4,)))
    found = match(net(x=user("Vision", {"one": part(), "two": part()})), raw)
    assert ["x.token"] == failing(found.unmatched_raw)
    assert not any("token" in name for name in links(found))


@pytest.mark.parametrize(("name", "shape"), [("weight", (4,)), ("token", (5,))], ids=["a common name", "another shape"])
def test_a_common_name_or_another_shape_is_not_linked(name: str, shape: tuple[int, ...]) -> None:
    inside = user("Vision", {"part": user("Part", {"fc": torch_linear(4, 3)}, **{name: (4,)})})
    found = match(net(x=inside), net(x=user("Vision", {"fc": paddle_linear(4, 3)}, **{name: shape})))
    assert [f"x.{name}"] == failing(found.unmatched_raw)


# -- tables made from the configuration ----------------------------------------------------------------------------------
TABLE = np.sin(np.arange(LENGTH * WIDTH, dtype=np.float32).reshape(LENGTH, WIDTH))


class Computed(nn.Layer):
    """Adds a table that no parameter holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x + Tensor(TABLE))


class Positions(nn.Layer):
    def __init__(self, table: np.ndarray, trainable: bool) -> None:
        super().__init__()
        self.table = nn.Parameter(table.copy(), trainable)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Held(nn.Layer):
    """Holds the table as a parameter of a layer, or (`own`) itself."""

    def __init__(self, table: np.ndarray = TABLE, trainable: bool = False, own: bool = False) -> None:
        super().__init__()
        if own:
            self.table = nn.Parameter(table.copy(), trainable)
        else:
            self.positions = Positions(table, trainable)
        self.fc = nn.LinearIO(WIDTH, WIDTH)
        self._own = own

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x + self.table if self._own else self.positions(x))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("side", ["base", "raw"])
def test_a_table_that_is_not_trained_keeps_its_values_and_is_noted(side: str, own: bool) -> None:
    models = (Held(own=own), Computed()) if side == "base" else (Computed(), Held(own=own))
    result = aligned(*models)
    assert result.aligned
    name = "table" if own else "positions.table"
    assert any(f"{side}'s {name} [5, 4] is not trained" in note for note in result.notes)


@pytest.mark.parametrize("side", ["base", "raw"])
def test_a_wrong_value_in_the_table_differs(side: str) -> None:
    wrong = TABLE.copy()
    wrong[2, 1] += 0.1
    models = (Held(wrong), Computed()) if side == "base" else (Computed(), Held(wrong))
    assert not aligned(*models).aligned


@pytest.mark.parametrize("own", [True, False])
def test_a_table_that_is_trained_makes_the_models_differ_though_its_values_are_right(own: bool) -> None:
    result = aligned(Computed(), Held(trainable=True, own=own))
    assert not result.aligned
    assert ["table" if own else "positions.table"] == [extra.name for extra in result.extras if extra.status == "fails"]


def frozen(torch: L, paddle: L, *names: str) -> Matching:
    """Match two models of which these parameters are not trained."""
    models = [describe("torch", torch), describe("paddle", paddle)]
    for at, model in enumerate(models):
        infos = tuple(replace(info, trainable=info.name not in names) for info in model.parameters)
        models[at] = replace(model, parameters=infos)
    return match_models(*models)


def test_a_frozen_weight_of_a_linear_is_no_table() -> None:
    found = frozen(net(fc=torch_linear(4, 4)), net(fc=paddle_linear(4, 4), extra=paddle_linear(4, 3)), "extra.weight")
    assert ["extra"] == failing(found.unmatched_raw)


def test_a_frozen_tensor_that_the_other_side_may_have_is_no_table() -> None:
    base = net(fc=torch_linear(4, 4), a=user("Positions", {"norm": norm(4)}, wave=(9, 4)))
    raw = net(fc=paddle_linear(4, 4), b=L("Embedding", {"weight": (9, 4)}))
    assert ["b"] == failing(frozen(base, raw, "b.weight", "a.wave").unmatched_raw)


def test_a_frozen_tensor_of_another_shape_than_its_namesake_is_no_table() -> None:
    base = net(fc=torch_linear(4, 4), pos=L("Embedding", {"weight": (9, 4)}))
    raw = net(fc=paddle_linear(4, 4), pos=L("Embedding", {"weight": (8, 4)}))
    found = frozen(base, raw, "pos.weight")
    assert ["pos.weight"] == failing(found.unmatched_raw)


def test_in_a_model_that_trains_nothing_no_parameter_is_known_for_a_table() -> None:
    raw = net(pos=L("Embedding", {"weight": (8, 4)}), fc=paddle_linear(4, 4))
    found = frozen(net(fc=torch_linear(4, 4)), raw, "pos.weight", "fc.weight", "fc.bias")
    assert ["pos"] == failing(found.unmatched_raw)
