"""Bound the rounding noise that a parameter's gradient may hold: sums that cancel to zero leave only noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.tensors.tensor import TensorSpec

_SAFETY = 64.0
"""Relative error of the summands in epsilons: each has come through other layers' rounding (MiniLM, measured: up to 58)."""


class GradientNoise:
    """An absolute bound per parameter, from the sizes of the summands in base's own step.

    A bias gradient sums the gradients of its layer's output over all positions, and a weight gradient sums products with the
    layer's input. The sum may be zero in exact arithmetic (the bias of an attention key; a bias before a batch normalisation).
    The computed value is rounding then: about epsilon times the sum of absolute summands. For one element of n, that sum is
    taken as L1(gradient of output) / n for vectors, and by Cauchy-Schwarz as ||gradient of output|| ||input|| / sqrt(n) for
    other tensors.
    """

    def __init__(self, forward: Iterable[Judged], backward: Iterable[Judged]) -> None:
        self._input_square: dict[str, float] = defaultdict(float)
        self._output_l1: dict[str, float] = defaultdict(float)
        self._output_square: dict[str, float] = defaultdict(float)
        for one in forward:
            if one.base.side == "input":
                self._input_square[one.base.route] += one.square
        for one in backward:
            if one.base.side == "output":
                self._output_l1[one.base.route] += one.l1
                self._output_square[one.base.route] += one.square

    def __call__(self, link: ParameterLink, spec: TensorSpec) -> float:
        """Return the bound for one element of a gradient of that spec; 0 where base's layer was not recorded."""
        epsilon = EPSILON.get(spec.dtype, 0.0)
        if sum(size != 1 for size in spec.shape) < 2:
            summands = self._output_l1[link.base_route] / max(spec.count, 1)
        else:
            square = self._output_square[link.base_route] * self._input_square[link.base_route]
            summands = float(np.sqrt(square / max(spec.count, 1)))
        noise = _SAFETY * epsilon * summands
        return noise if np.isfinite(noise) else 0.0
