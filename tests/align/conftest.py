"""How the tests align two NumPy models in this process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.losses_and_optimizers import parse_loss, parse_optimizer
from padiff_rpc.result import Result
from tests.align.pairs import AlignPair, hosted, inputs_of


@pytest.fixture
def align_pair() -> AlignPair:
    """Align two builds of a factory; raw is built with another seed, so that agreement needs the assignment."""

    def run(
        factory: str,
        base_args: dict[str, Any] | None = None,
        raw_args: dict[str, Any] | None = None,
        raw_factory: str | None = None,
        loss: str = "projection",
        optimizer: str | None = None,
        **settings: Any,
    ) -> Result:
        base = hosted(factory, **(base_args or {}))
        raw = hosted(raw_factory or factory, **{"seed": 1, **(raw_args or {})})
        optimizers = optimizer and parse_optimizer(optimizer)
        asked = replace(
            AlignSettings(base_loss=parse_loss(loss), raw_loss=parse_loss(loss)),
            base_optimizer=optimizers,
            raw_optimizer=optimizers,
            **settings,
        )
        inputs = inputs_of(factory)
        return align(base, raw, inputs, inputs, asked)

    return run
