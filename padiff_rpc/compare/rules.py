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
    table by dtype and stage. atol, rtol: None takes PaDiff's defaults (0, 1e-7) in its own modes, and the table's in "scaled".
    """

    mode: CompareMode = "scaled"
    atol: float | None = None
    rtol: float | None = None
    allow_dtype_difference: bool = False
