"""The rules by which two tensors count as equal."""

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

    There are four modes. The first three are PaDiff's.

    - "strict" demands |raw - base| <= atol + rtol * |base| of every element.
    - "mean" demands the same of the two means.
    - "abs_mean" demands the same of the two means of the absolute values.
    - "scaled" demands a relative L2 error <= rtol, and max |raw - base| <= factor * rtol * max |base|. The table of tolerances
      (padiff_rpc.compare.tolerances) has rtol and the factor by element type and stage. A tensor also passes where every
      |raw - base| is at most atol, or at most the rounding noise that the tensor may hold.

    In every mode integers and booleans must be equal, and NaN fails on whichever side. Inf fails unless it stands at the same
    places with the same sign. Shapes must be the same, and so must element types.

    Args:
        mode: names the mode.
        atol: is the absolute tolerance; None stands for 0.
        rtol: is the relative tolerance; None stands for 1e-7 in PaDiff's modes, and for the table's in "scaled".
        allow_dtype_difference: lets floating types differ, complex ones, and integer ones. The mode "scaled" then takes the
            tolerance of the less precise type.

    Raises:
        PadiffError: BAD_CONFIG for a mode that does not exist, or a tolerance that is negative or not finite.
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
