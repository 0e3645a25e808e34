"""An optimiser is found in the wrappers that users put around it, and nothing is looked for in models and tensors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from padiff_rpc.model.hosting.find_optimizers import find_optimizers


class Optimizer:
    def step(self) -> None:
        return


class Model:
    def __init__(self) -> None:
        self.inside = Optimizer()


MINE = Optimizer()


@pytest.mark.parametrize(
    "made",
    [
        MINE,
        [MINE, MINE],
        {"a": (MINE,)},
        SimpleNamespace(model=Model(), clip=SimpleNamespace(inner=MINE)),
        SimpleNamespace(step=MINE.step),
    ],
    ids=["itself", "list", "dict", "wrappers", "its step"],
)
def test_an_optimiser_is_found_once(made: Any) -> None:
    assert [MINE] == find_optimizers(made, lambda one: isinstance(one, Optimizer), lambda one: isinstance(one, Model))


def test_rings_end_and_nothing_is_found_in_what_is_no_object() -> None:
    ring = SimpleNamespace(number=1.0, text="a", kind=Optimizer)
    ring.self = ring
    assert [] == find_optimizers(ring, lambda one: isinstance(one, Optimizer), lambda one: False)
    assert [] == find_optimizers(None, lambda one: isinstance(one, Optimizer), lambda one: False)
