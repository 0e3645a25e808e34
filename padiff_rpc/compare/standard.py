"""By which standard two tensors are judged."""

from __future__ import annotations

from dataclasses import dataclass

from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.result import Stage


@dataclass(frozen=True, slots=True)
class Standard:
    """What a verdict depends on besides the two tensors: the rules, and what the table of tolerances goes by.

    Args:
        rules: say how two tensors are judged.
        stage: names the stage of the step from which the tensors come.
        single_step: says that each layer started from base's own tensors, so that tighter tolerances hold.
        noise_scale: bounds the rounding noise that the tensors may hold, as an absolute difference. A sum that cancels to zero
            leaves nothing else. In the mode "scaled", differences up to this bound pass.
        repeats: says that base runs twice alike, so that its floor tells of rounding.
    """

    rules: CompareRules
    stage: Stage
    single_step: bool
    noise_scale: float = 0.0
    repeats: bool = True
