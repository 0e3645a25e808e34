"""The settings in which the aligned step is timed, and how much over the floor each may take."""

from __future__ import annotations

from dataclasses import dataclass

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules

_ATOL, _RTOL = 1e-4, 1e-3


@dataclass(frozen=True)
class Setting:
    """One way to align. `at_most`: the allowed ratio of its step to the floor."""

    align: AlignSettings
    at_most: float
    shared_memory: bool = True


def _settings(mode: str, assign: bool = False, single_step: bool = False) -> AlignSettings:
    """Weights are assigned once, in the warm-up: nothing in these steps changes them."""
    rules = CompareRules(mode=mode, atol=_ATOL, rtol=_RTOL)  # pyright: ignore[reportArgumentType]
    return AlignSettings(compare=rules, assign=assign, single_step=single_step, training=True)


SETTINGS = {
    "strict": Setting(_settings("strict"), 1.25),
    "mean": Setting(_settings("mean"), 1.10),
    "single step": Setting(_settings("strict", single_step=True), 1.6),
    "strict, streams": Setting(_settings("strict"), 1.6, shared_memory=False),
}
