"""Judge the parameters after an optimiser's step by the step itself, which is small against the parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from padiff_rpc.align.sides import Sides
from padiff_rpc.align.stages.compare_parameters import NoiseScale, ParameterComparer
from padiff_rpc.align.stages.step_size import StepSize, StepSizes
from padiff_rpc.compare.tolerances import EPSILON, tolerance
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_OPTIMIZERS
from padiff_rpc.model.model import OptimizerSpec
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.float64 import to_float64
from padiff_rpc.tensors.tensor import Digest, Tensor, told

_NORMALISING = ("Adam", "AdamW")
_ROUNDING = 4.0
"""Roundings of a parameter, in units of epsilon, that a step's own arithmetic may add to it."""
_MARGIN = 10.0
"""Gradients up to this many times the noise are taken for noise: what is left of their sign and ratio is not reliable."""
_OPPOSITE = 2.5
"""Two Adam steps in opposite directions end 2 lr apart; a little more after bias correction. Other optimisers likewise."""


@dataclass(frozen=True)
class _UpdatedParameter:
    """One of raw's parameters after the step: its name, its link, and the digests of its value and gradient."""

    name: str
    link: ParameterLink
    value: Digest
    gradient: Digest | None


class UpdateJudge:
    """Judges the stage `weights` in mode "scaled" more strictly than the table of tolerances does.

    Two parameters that agree to 1e-3 may have been moved in opposite directions. So the distance of the two sides must also be
    small against the steps, by the tolerance that holds for gradients. The size of a step follows from a neutral optimiser's
    formula, and is measured on base for an optimiser that the worker offers.

    Adam divides a gradient by its own running size (Kingma and Ba, "Adam", 2015), so a gradient that is zero but for rounding
    still moves its element by lr, in a direction that two right models do not share. Such elements are left out, and raw is given
    base's where another step follows: else everything that uses them would differ from there on. SGD moves them by as little
    as their gradient is large, but a parameter that begins at zero holds nothing else.
    """

    def __init__(self, sides: Sides, comparer: ParameterComparer, optimizer: OptimizerSpec) -> None:
        self._sides = sides
        self._comparer = comparer
        self._optimizer = optimizer
        self._neutral = optimizer.name in NEUTRAL_OPTIMIZERS
        self._linear = self._neutral and optimizer.name not in _NORMALISING
        self._sizes = StepSizes(sides.base, sides.traffic)
        self._moved: dict[str, float] = {}  # L2 norms of all steps so far, by base name

    def before_step(self, links: Sequence[ParameterLink]) -> None:
        """Remember the parameters that the step is about to change, where its size has to be measured."""
        if self._applies and not self._neutral:
            self._sizes.remember([name for link in links for name in link.base])

    @property
    def _applies(self) -> bool:
        return self._sides.rules.mode == "scaled"

    def judge(
        self,
        step: int,
        weights: Sequence[Pair],
        grads: Sequence[Pair],
        links: Sequence[ParameterLink],
        noise: NoiseScale,
        goes_on: bool,
    ) -> list[Pair]:
        """Return the pairs of stage `weights` with the verdicts that the steps demand.

        Args:
            step: counts the steps from 0.
            weights: are the comparisons of the parameters, in the links' order.
            grads: are the comparisons of their gradients, in the same order.
            links: say which parameters correspond.
            noise: bounds the rounding noise of a gradient.
            goes_on: says that another step follows.
        """
        if not self._applies:
            return list(weights)
        measured = {} if self._neutral else self._sizes.measure([name for link in links for name in link.base])
        for base_name, size in measured.items():
            self._moved[base_name] = self._moved.get(base_name, 0.0) + size.norm
        names = [(name, link) for link in links for name in link.raw]
        values = self._sides.raw.digest_parameters([name for name, _ in names], "value")
        gradients = self._sides.raw.digest_parameters([name for name, _ in names], "gradient")
        judged: list[Pair] = []
        for pair, grad, (name, link) in zip(weights, grads, names, strict=True):
            held = _UpdatedParameter(name, link, values[name], gradients.get(name))
            verdict = self._within_steps(step, pair, held)
            if verdict.failure == "values":
                verdict = self._without_noise(step, verdict, grad, held, noise, measured, goes_on)
            judged.append(verdict)
        return judged

    def _within_steps(self, step: int, pair: Pair, held: _UpdatedParameter) -> Pair:
        """Fail a pair whose values agree by the table, but which the two sides' steps moved differently."""
        if pair.status != "pass" or pair.metrics is None or not pair.metrics.rel_l2 or held.gradient is None:
            return pair
        base_dtype, raw_dtype = self._comparer.dtypes(held.link, held.name)
        rtol = tolerance(base_dtype, raw_dtype, "grads", self._sides.single_step).rtol
        rounding = _ROUNDING * max(EPSILON[base_dtype], EPSILON[raw_dtype]) * told(held.value.norm)
        steps = self._steps_norm(step, held, held.gradient)
        apart, allowed = pair.metrics.rel_l2 * told(held.value.norm), rtol * steps + (step + 1) * rounding
        if apart <= allowed:
            return pair
        why = (
            f"the optimisers' steps differ: the sides are {apart:.3g} apart (L2 norm), where steps of {steps:.3g} may "
            f"leave them {allowed:.3g} apart"
        )
        metrics = replace(pair.metrics, measure="step_l2", measured=apart, allowed=allowed)
        return pair.judged_anew(Verdict("fail", "values", why, metrics))

    def _steps_norm(self, step: int, held: _UpdatedParameter, gradient: Digest) -> float:
        """Bound the L2 norm by which all steps so far have moved a parameter."""
        if not self._neutral:
            return math.hypot(*(self._moved[name] for name in held.link.base))
        options, value = self._optimizer.options, held.value
        if not self._linear:
            return (step + 1) * options["lr"] * (math.sqrt(value.count) + options["weight_decay"] * told(value.norm))
        return self._sgd_moves(step, told(gradient.norm) + options["weight_decay"] * told(value.norm))

    def _sgd_moves(self, step: int, pull: float) -> float:
        """Bound how far all steps of SGD so far have moved an element (or a norm) that was pulled by at most `pull` in each."""
        options = self._optimizer.options
        return (step + 1) * options["lr"] * pull / max(1.0 - options["momentum"], 0.01)

    def _largest_move(
        self, step: int, gradient: float, held: _UpdatedParameter, measured: Mapping[str, StepSize]
    ) -> float:
        """Bound how far an element has moved whose gradients are at most `gradient`: under SGD in all steps, else in one."""
        if not self._neutral:
            return max(measured[name].largest for name in held.link.base)
        return self._sgd_moves(step, gradient) if self._linear else self._optimizer.options["lr"]

    def _without_noise(
        self,
        step: int,
        pair: Pair,
        grad: Pair,
        held: _UpdatedParameter,
        noise: NoiseScale,
        measured: Mapping[str, StepSize],
        goes_on: bool,
    ) -> Pair:
        """Judge a failing pair anew without the elements whose gradient is noise, where these are at most a step apart."""
        if grad.status != "pass" or grad.metrics is None:
            return pair
        gradient = _values(self._comparer.base_tensor(held.link, held.name, "gradient"))
        base = self._comparer.base_tensor(held.link, held.name, "value")
        raw = self._comparer.raw_tensor(held.name, "value")
        floor = _MARGIN * max(self._comparer.noise_of(held.link, noise), grad.metrics.max_abs)
        largest = self._largest_move(step, floor, held, measured)
        noisy = np.abs(gradient) <= floor
        apart = np.abs(_values(raw) - _values(base))[noisy]
        if base.spec != raw.spec or not apart.size or apart.max() > _OPPOSITE * largest:
            return pair
        moves = "by nothing else" if self._linear else "as far as others, either way"
        why = (
            f"{int(noisy.sum())} of {noisy.size} elements are left out: their gradient is rounding noise (at most "
            f"{floor:.2g}), and {self._optimizer.name} moves them {moves}"
        )
        array = raw.to_array().copy()
        array[noisy] = base.to_array()[noisy]
        without = Tensor.from_array(array, raw.spec.dtype)
        if goes_on and not self._linear:  # SGD leaves no more than what is too small for all that uses it
            if self._sides.raw.info().recorded:
                why = f"{why}; raw is a dump and goes on with its own, so later steps may differ by that"
            else:
                self._sides.raw.write_parameters([without.stream(held.name)])
        if noisy.all():
            return pair.judged_anew(Verdict.skip(why))
        again = pair.judged_anew(self._comparer.compare_tensors("weights", base, without))
        again = self._within_steps(step, again, held)
        return replace(again, why=f"{again.why}; {why}" if again.why else why)


def _values(tensor: Tensor) -> np.ndarray:
    flat = np.frombuffer(tensor.data, tensor.spec.dtype.storage)
    return np.array(to_float64(flat, tensor.spec.dtype), np.float64).reshape(tensor.spec.shape)
