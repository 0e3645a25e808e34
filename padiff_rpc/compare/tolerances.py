"""The one table of tolerances for the mode "scaled": by element type and stage, tighter in single step."""

from __future__ import annotations

from dataclasses import dataclass

from padiff_rpc.result import Stage
from padiff_rpc.tensor import DType


@dataclass(frozen=True)
class Tolerance:
    """Two tensors agree when ||raw - base|| <= rtol ||base|| and max |raw - base| <= factor * rtol * max |base|."""

    rtol: float
    factor: float


EPSILON = {
    DType.F8_E4M3: 2.0**-3,
    DType.F8_E5M2: 2.0**-2,
    DType.BF16: 2.0**-7,
    DType.F16: 2.0**-10,
    DType.F32: 2.0**-23,
    DType.F64: 2.0**-52,
    DType.C64: 2.0**-23,
    DType.C128: 2.0**-52,
}
"""Distance from 1 to the next number of the type."""

FACTOR = 10.0


def tolerance(base: DType, raw: DType, stage: Stage, single_step: bool) -> Tolerance:
    rtol = max(EPSILON[base], EPSILON[raw]) * 1000
    return Tolerance(rtol, FACTOR)
