"""What counts as equal: modes, and the one table of tolerances."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

from padiff_rpc.errors import PadiffError, Reason

CompareMode = Literal["mean", "abs_mean", "strict", "scaled"]

PADIFF_ATOL, PADIFF_RTOL = 0.0, 1e-7
"""PaDiff's defaults, those of numpy.testing.assert_allclose: what its modes take where nothing is given."""


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

    def __post_init__(self) -> None:
        one_of("compare mode", self.mode, get_args(CompareMode))
        for name, value in (("atol", self.atol), ("rtol", self.rtol)):
            if value is not None and (
                isinstance(value, bool) or not (isinstance(value, Real) and 0 <= value < math.inf)
            ):
                raise PadiffError(f"{name} is {value!r}, it must be a number of 0 or more", reason=Reason.BAD_CONFIG)


def one_of(what: str, value: object, allowed: Sequence[str]) -> None:
    """Raise BAD_CONFIG, naming the nearest right word, unless the value is one of those allowed."""
    if value in allowed:
        return
    nearest = difflib.get_close_matches(str(value), allowed, n=1)
    raise PadiffError(
        f"no {what} {value!r}",
        reason=Reason.BAD_CONFIG,
        hint=(f"did you mean {nearest[0]!r}? " if nearest else "") + f"there are {', '.join(allowed)}",
    )
