"""The one table of tolerances for the mode "scaled": by element type and stage, tighter in single step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from padiff_rpc.result import STAGES, Stage
from padiff_rpc.tensors.tensor import DType


@dataclass(frozen=True)
class Tolerance:
    """Two tensors agree when ||raw - base|| <= rtol ||base|| and max |raw - base| <= factor * rtol * max |base|."""

    rtol: float
    factor: float


EPSILON: Mapping[DType, float] = {
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

_Rtols = tuple[float, float, float, float, float, float, float]
"""The rtol of each of STAGES: weights_before, forward, loss, backward, grads, weights, buffers."""

# Measured on healthy pairs, torch 2.13.0 against paddle 3.3.1 on CPU: examples/resnet50 (four seeds, train and eval mode)
# and examples/minilm, one step of SGD(lr=0.01). "Found" is the greatest relative L2 error of any tensor of the stage, apart
# from rounding noise around zero.
_WHOLE_RUN: Mapping[DType, _Rtols] = {
    # Found: forward 1.1e-12, backward and grads 2.1e-8, weights 1.4e-10, buffers 1.7e-7. Paddle keeps the epsilon and the
    # momentum of batch normalisations, and the scale of an average pooling's backward, in float32 all the same.
    DType.F64: (1e-15, 1e-10, 1e-9, 1e-7, 1e-7, 1e-8, 1e-6),
    # Found: forward 5.1e-6 (MiniLM 1.1e-6), loss 1.1e-5, backward 8.1e-3, grads 1.1e-2 (MiniLM 7e-6, 1e-5), weights 2.2e-4,
    # buffers 2.2e-7 (running variances that take in another estimate apart).
    # Backward is that loose because an input of a ReLU that is zero but for rounding may fall on either side of the kink:
    # a whole element of the gradient comes or goes. Single step and float64 have no such elements, and see small faults.
    # Bugs, in forward: LayerNorm epsilon 1e-3 for 1e-12 2e-3, GELU by tanh 5e-4, ReLU6 for ReLU 0.4. In buffers: BatchNorm
    # momentum 0.1 for 0.9 0.4.
    DType.F32: (1e-6, 1e-4, 1e-4, 5e-2, 5e-2, 2e-3, 1e-4),
    # MiniLM in torch against paddle in float32. Found: forward 1.4e-3, backward 1.2e-2, grads 1.5e-2, weights 1.1e-3.
    DType.F16: (2e-3, 1e-2, 1e-2, 1e-1, 1e-1, 1e-2, 1e-2),
    # The same. Found: forward 1.0e-2, backward 7.8e-2, grads 1.2e-1, weights 9.4e-3.
    DType.BF16: (1e-2, 5e-2, 5e-2, 3e-1, 3e-1, 5e-2, 5e-2),
    # Not measured: no framework trains in float8 on CPU. Twice the rounding of one number.
    DType.F8_E4M3: (1.25e-1, 2e-1, 2e-1, 4e-1, 4e-1, 2e-1, 2e-1),
    DType.F8_E5M2: (2.5e-1, 4e-1, 4e-1, 4e-1, 4e-1, 4e-1, 4e-1),
}
# The same in single step, where each layer starts from base's own tensors, and only what it adds itself is judged.
_SINGLE_STEP: Mapping[DType, _Rtols] = {
    # Found: forward 2.2e-13, backward 2.0e-8 (average pooling), grads 2.3e-13, weights 1.5e-16, buffers 1.7e-7.
    DType.F64: (1e-15, 1e-11, 1e-11, 1e-7, 1e-10, 1e-10, 1e-6),
    # Found: forward 8.3e-7, loss 7.0e-7, backward 8.3e-7, grads 4.0e-6, weights 3.5e-8.
    DType.F32: (1e-6, 1e-5, 1e-5, 1e-5, 5e-5, 1e-5, 1e-5),
    # Found: forward 5.6e-4, backward 9.3e-4, grads 1.5e-3, weights 2.7e-4.
    DType.F16: (2e-3, 2e-3, 2e-3, 1e-2, 1e-2, 2e-3, 2e-3),
    # Found: forward 3.9e-3, backward 1.7e-2, grads 9.6e-3, weights 1.7e-3.
    DType.BF16: (1e-2, 1.5e-2, 1.5e-2, 7e-2, 7e-2, 1.5e-2, 1.5e-2),
    DType.F8_E4M3: _WHOLE_RUN[DType.F8_E4M3],
    DType.F8_E5M2: _WHOLE_RUN[DType.F8_E5M2],
}
_AS_COMPLEX: Mapping[DType, DType] = {DType.C64: DType.F32, DType.C128: DType.F64}

_FACTOR = 10.0
_KINKED_FACTOR = 20.0
"""In backward and grads of a whole run: an element behind a ReLU's kink was off by 0.41 of the greatest (float32)."""


def tolerance(base: DType, raw: DType, stage: Stage, single_step: bool) -> Tolerance:
    """Look up the tolerance of two floating or complex tensors of a stage: that of the less precise type.

    factor * rtol never exceeds 1: no element may be off by more than the greatest element.
    """
    coarser = max(base, raw, key=EPSILON.__getitem__)
    rows = _SINGLE_STEP if single_step else _WHOLE_RUN
    rtol = rows[_AS_COMPLEX.get(coarser, coarser)][STAGES.index(stage)]
    kinked = stage in ("backward", "grads") and not single_step
    return Tolerance(rtol, min(_KINKED_FACTOR if kinked else _FACTOR, 1.0 / rtol))
