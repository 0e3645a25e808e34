"""Judge the parameters after an optimiser's step by the step itself, which is small against what it changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from padiff_rpc.align.boundaries import Sides
from padiff_rpc.align.matching import ParameterLink
from padiff_rpc.align.parameters import NoiseScale, ParameterComparer
from padiff_rpc.compare.tolerances import EPSILON, tolerance
from padiff_rpc.model.model import OptimizerSpec
from padiff_rpc.promote import to_float64
from padiff_rpc.result import Pair
from padiff_rpc.tensor import Digest, Tensor
from padiff_rpc.training import NEUTRAL_OPTIMIZERS

_NORMALISING = ("Adam", "AdamW")
_ROUNDING = 4.0
"""Roundings of a parameter, in units of epsilon, that a step's own arithmetic may add to it."""
_MARGIN = 10.0
"""Gradients up to this many times the noise are taken for noise: what is left of their sign and ratio is not reliable."""
_OPPOSITE = 2.5
"""Two Adam steps in opposite directions end 2 lr apart; a little more after bias correction."""


@dataclass(frozen=True)
class _Held:
    """One of raw's parameters after the step: its name, its link, and the digests of its value and gradient."""

    name: str
    link: ParameterLink
    value: Digest
    gradient: Digest | None


class UpdateJudge:
    """Judges the stage `weights` in mode "scaled" beyond what the table says of whole values.

    Two parameters that agree to 1e-3 may have been moved in opposite directions. So what the sides are apart must also be
    small against the steps, whose size follows from the neutral optimiser's formula: as small as gradients must agree.

    Adam divides a gradient by its own running size (Kingma and Ba, "Adam", 2015), so a gradient that is zero but for
    rounding still moves its element by lr, in a direction that two right models do not share. Such elements are left out,
    and raw is given base's where another step follows: else all that uses them would differ from there on.
    """

    def __init__(self, sides: Sides, comparer: ParameterComparer, optimizer: OptimizerSpec) -> None:
        self._sides = sides
        self._comparer = comparer
        self._optimizer = optimizer

    def judge(
        self,
        step: int,
        weights: Sequence[Pair],
        grads: Sequence[Pair],
        links: Sequence[ParameterLink],
        noise: NoiseScale,
        goes_on: bool,
    ) -> list[Pair]:
        """Return the pairs of stage `weights`, which belong to `links` in order, with the verdicts that the steps demand.

        `goes_on`: another step follows.
        """
        if self._sides.rules.mode != "scaled" or self._optimizer.name not in NEUTRAL_OPTIMIZERS:
            return list(weights)
        names = [(name, link) for link in links for name in link.raw]
        values = self._sides.raw.digest_parameters([name for name, _ in names], "value")
        gradients = self._sides.raw.digest_parameters([name for name, _ in names], "gradient")
        judged: list[Pair] = []
        for pair, grad, (name, link) in zip(weights, grads, names, strict=True):
            held = _Held(name, link, values[name], gradients.get(name))
            verdict = self._within_steps(step, pair, held)
            if verdict.failure == "values" and self._optimizer.name in _NORMALISING:
                verdict = self._without_noise(step, verdict, grad, held, noise, goes_on)
            judged.append(verdict)
        return judged

    def _within_steps(self, step: int, pair: Pair, held: _Held) -> Pair:
        """Fail a pair whose values agree by the table, but which the two sides' steps moved differently."""
        if pair.status != "pass" or pair.metrics is None or not pair.metrics.rel_l2 or held.gradient is None:
            return pair
        base_dtype, raw_dtype = self._comparer.dtypes(held.link, held.name)
        rtol = tolerance(base_dtype, raw_dtype, "grads", self._sides.single_step).rtol
        rounding = _ROUNDING * max(EPSILON[base_dtype], EPSILON[raw_dtype]) * held.value.norm
        steps = (step + 1) * self._step_norm(held.value, held.gradient)
        apart, allowed = pair.metrics.rel_l2 * held.value.norm, rtol * steps + (step + 1) * rounding
        if apart <= allowed:
            return pair
        why = (
            f"the optimisers' steps differ: the sides are {apart:.3g} apart (L2 norm), where steps of {steps:.3g} may "
            f"leave them {allowed:.3g} apart"
        )
        metrics = replace(pair.metrics, measure="step_l2", measured=apart, allowed=allowed)
        return replace(pair, status="fail", failure="values", why=why, metrics=metrics)

    def _step_norm(self, value: Digest, gradient: Digest) -> float:
        """Bound the L2 norm of one step."""
        options = self._optimizer.options
        if self._optimizer.name in _NORMALISING:
            return options["lr"] * (math.sqrt(value.count) + options["weight_decay"] * value.norm)
        pull = gradient.norm + options["weight_decay"] * value.norm
        return options["lr"] * pull / max(1.0 - options["momentum"], 0.01)

    def _without_noise(self, step: int, pair: Pair, grad: Pair, held: _Held, noise: NoiseScale, goes_on: bool) -> Pair:
        """Judge a failing pair anew without the elements whose gradient is noise, if these are apart by a step at most."""
        if grad.status != "pass" or grad.metrics is None:
            return pair
        gradient = _values(self._comparer.base_tensor(held.link, held.name, "gradient"))
        base = self._comparer.base_tensor(held.link, held.name, "value")
        raw = self._comparer.raw_tensor(held.name, "value")
        floor = _MARGIN * max(self._comparer.noise_of(held.link, noise), grad.metrics.max_abs)
        noisy = np.abs(gradient) <= floor
        apart = np.abs(_values(raw) - _values(base))[noisy]
        if base.spec != raw.spec or not apart.size or apart.max() > _OPPOSITE * self._optimizer.options["lr"]:
            return pair
        why = (
            f"{int(noisy.sum())} of {noisy.size} elements are left out: their gradient is rounding noise (at most "
            f"{floor:.2g}), and {self._optimizer.name} moves them by about lr either way"
        )
        array = raw.to_array().copy()
        array[noisy] = base.to_array()[noisy]
        without = Tensor.from_array(array, raw.spec.dtype)
        if goes_on:
            self._sides.raw.write_parameters([(held.name, without)])
        if noisy.all():
            return replace(pair, status="skipped", failure="", why=why, metrics=None)
        verdict = self._comparer.compare_tensors("weights", base, without)
        again = replace(pair, status=verdict.status, failure=verdict.failure, why=verdict.why, metrics=verdict.metrics)
        again = self._within_steps(step, again, held)
        return replace(again, why=f"{again.why}; {why}" if again.why else why)


def _values(tensor: Tensor) -> np.ndarray:
    flat = np.frombuffer(tensor.data, tensor.spec.dtype.storage)
    return np.array(to_float64(flat, tensor.spec.dtype), np.float64).reshape(tensor.spec.shape)
