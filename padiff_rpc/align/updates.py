"""Judge an Adam step where gradients are rounding noise: it moves each element by about lr, whatever the gradient's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from padiff_rpc.align.matching import ParameterLink
from padiff_rpc.align.parameters import NoiseScale, ParameterComparer
from padiff_rpc.model.model import OptimizerSpec
from padiff_rpc.promote import to_float64
from padiff_rpc.result import Pair
from padiff_rpc.tensor import Tensor

_NORMALISING = ("Adam", "AdamW")
_MARGIN = 10.0
"""Gradients up to this many times the noise are taken for noise: what is left of their sign and ratio is not reliable."""
_REACH = 2.5
"""Two Adam steps in opposite directions end 2 lr apart; a little more after bias correction."""


class UpdateJudge:
    """Looks again at parameters that differ after an Adam step, without the elements whose gradient was noise.

    Adam divides a gradient by its own running size (Kingma and Ba, "Adam", 2015), so a gradient that is zero but for
    rounding still moves its element by lr, in a direction that two right models do not share. Elements once found to be
    such stay left out in later steps, as the optimiser's state remembers them.
    """

    def __init__(self, comparer: ParameterComparer, optimizer: OptimizerSpec) -> None:
        self._comparer = comparer
        self._optimizer = optimizer
        self._noisy: dict[str, np.ndarray] = {}

    def judge(
        self,
        step: int,
        weights: Sequence[Pair],
        grads: Sequence[Pair],
        links: Sequence[ParameterLink],
        noise: NoiseScale,
    ) -> list[Pair]:
        """Return the pairs of stage `weights`, those that fail replaced by what the look without noise says."""
        if self._optimizer.name not in _NORMALISING:
            return list(weights)
        link_of = {(link.raw_route, self._comparer.local_name(name, link)): link for link in links for name in link.raw}
        measured = {(pair.raw_route, pair.tensor): pair for pair in grads}
        return [
            self._look_again(step, pair, measured, link_of[(pair.raw_route, pair.tensor)], noise)
            if pair.status == "fail" and pair.failure == "values"
            else pair
            for pair in weights
        ]

    def _look_again(
        self,
        step: int,
        pair: Pair,
        grads: Mapping[tuple[str, str], Pair],
        link: ParameterLink,
        noise: NoiseScale,
    ) -> Pair:
        grad = grads.get((pair.raw_route, pair.tensor))
        if grad is None or grad.status != "pass" or grad.metrics is None:
            return pair
        name = next(name for name in link.raw if self._comparer.local_name(name, link) == pair.tensor)
        gradient = _values(self._comparer.base_tensor(link, name, "gradient"))
        base = self._comparer.base_tensor(link, name, "value")
        raw = self._comparer.raw_tensor(name, "value")
        floor = _MARGIN * max(self._comparer.noise_of(link, noise), grad.metrics.max_abs)
        noisy = self._noisy.get(name, np.zeros(gradient.shape, bool)) | (np.abs(gradient) <= floor)
        self._noisy[name] = noisy
        apart = np.abs(_values(raw) - _values(base))
        reach = _REACH * self._optimizer.options["lr"] * (step + 1)
        if not noisy.any() or base.spec != raw.spec or apart[noisy].max() > reach:
            return pair
        why = (
            f"{int(noisy.sum())} of {noisy.size} elements have a gradient that is rounding noise (at most {floor:.2g}) and "
            f"are left out: {self._optimizer.name} moves them by about lr either way"
        )
        if noisy.all():
            return replace(pair, status="skipped", failure="", why=why, metrics=None)
        without = raw.to_array().copy()
        without[noisy] = base.to_array()[noisy]
        verdict = self._comparer.compare_tensors("weights", base, Tensor.from_array(without, raw.spec.dtype))
        why = f"{verdict.why}; {why}" if verdict.why else why
        return replace(pair, status=verdict.status, failure=verdict.failure, why=why, metrics=verdict.metrics)


def _values(tensor: Tensor) -> np.ndarray:
    flat = np.frombuffer(tensor.data, tensor.spec.dtype.storage)
    return np.array(to_float64(flat, tensor.spec.dtype), np.float64).reshape(tensor.spec.shape)
