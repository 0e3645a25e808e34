"""What counts as equal: modes, and the one table of tolerances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CompareMode = Literal["mean", "abs_mean", "strict", "scaled"]


@dataclass(frozen=True)
class CompareRules:
    """How two tensors are judged.

    mode "strict": every element |raw - base| <= atol + rtol * |base| . "mean" / "abs_mean": the same for the two means (of the
    absolute values). "scaled": relative L2 error <= rtol and max |raw - base| <= factor * rtol * max |base|, with rtol from the
    table by dtype and stage (padiff_rpc.compare.tolerances); or every |raw - base| <= atol, or <= the rounding noise that
    the tensor may hold. atol, rtol: None takes PaDiff's defaults (0, 1e-7) in its own modes; in "scaled" 0 and the table's.

    In every mode integers and booleans must be equal, NaN fails on whichever side, Inf fails unless it stands at the same
    places with the same sign, and shapes and element types must be the same. allow_dtype_difference: floating types may
    differ, as may integer ones; "scaled" then takes the tolerance of the less precise one.
    """

    mode: CompareMode = "scaled"
    atol: float | None = None
    rtol: float | None = None
    allow_dtype_difference: bool = False
