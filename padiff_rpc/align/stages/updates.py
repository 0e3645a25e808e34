"""Judge the parameters after an optimiser's step by the step itself, which is small against the parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from padiff_rpc.align.sides import Sides
from padiff_rpc.align.stages.compare_parameters import NoiseScale, ParameterComparer
from padiff_rpc.align.stages.step_size import StepSize, StepSizes
from padiff_rpc.align.stages.update_elements import (
    ElementsApart,
    NoisyElements,
    find_noisy_elements,
    measure_apart,
    unpacked,
)
from padiff_rpc.compare.tolerances import EPSILON, tolerance
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_OPTIMIZERS
from padiff_rpc.model.model import OptimizerSpec
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.tensor import Digest, Tensor, told

_NORMALISING = ("Adam", "AdamW")
_ROUNDING = 4.0
"""Roundings of a parameter, in units of epsilon, that a step's own arithmetic may add to it."""
_SENSITIVITY = 10.0
"""How many times the relative error of its gradient a step may be off: an optimiser's moments add up those of all steps."""
_ARITHMETIC = 1e-4
"""The share of a step by which two right optimisers differ on equal gradients. Bias corrections that are computed in float32
leave 3e-5 (1 - 0.999 has lost four digits); on MiniLM under AdamW 2.5e-5 was found."""
_OPPOSITE = 2.5
"""Two Adam steps in opposite directions end 2 lr apart; a little more after bias correction. Other optimisers likewise."""


@dataclass(frozen=True)
class _UpdatedParameter:
    """One of raw's parameters after the step.

    Attributes:
        name: is its name in raw.
        link: says to what of base's it corresponds.
        grad: tells how the two sides' own gradients compare.
        value: is the digest of raw's value.
        gradient: is the digest of the gradient that raw's optimiser took.
        shared: says that this was base's.
    """

    name: str
    link: ParameterLink
    grad: Pair
    value: Digest
    gradient: Digest | None
    shared: bool


@dataclass(frozen=True)
class _StepTaken:
    """One step.

    Attributes:
        number: counts from 0.
        noise: bounds the rounding noise of raw's own gradients.
        measured: holds what was measured of base's step, by the parameter's name in base.
        goes_on: says that another step follows.
        own: is the greatest relative error of the gradients that raw kept, where it took base's for others.
    """

    number: int
    noise: NoiseScale
    measured: Mapping[str, StepSize]
    goes_on: bool
    own: float


@dataclass(frozen=True)
class _Allowance:
    """How far apart a step may leave the sides, and the bound of all steps so far that it follows from; both are L2 norms."""

    steps: float
    apart: float


@dataclass
class JudgedUpdates:
    """The comparison of the parameters after one step.

    Attributes:
        pairs: hold one comparison for each of raw's parameters, in the links' order.
        left_out: counts the elements that were left out, by the parameter's name in raw.
    """

    pairs: list[Pair] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


class UpdateJudge:
    """Judges the stage `weights` in mode "scaled" more strictly than the table of tolerances does.

    Two parameters that agree to 1e-3 may have been moved in opposite directions. So the distance of the two sides must also be
    small against the steps. Where raw's optimiser took base's gradients, nothing but arithmetic may lie between them, and a decay
    that one side forgets is seen. Where it took raw's own, the steps may be apart as these are. The size of a step follows from
    a neutral optimiser's formula, and is measured on base for an optimiser that the worker offers.

    Of raw's own gradients, Adam divides each by its own running size (Kingma and Ba, "Adam", 2015), so one that is zero but for
    rounding still moves its element by lr, in a direction that two right models do not share. Such elements are left out, and
    raw is given base's where another step follows: else everything that uses them would differ from there on. SGD moves them by
    as little as their gradient is large, but a parameter that begins at zero holds nothing else.
    """

    def __init__(self, sides: Sides, comparer: ParameterComparer, optimizer: OptimizerSpec) -> None:
        self._sides = sides
        self._comparer = comparer
        self._optimizer = optimizer
        self._neutral = optimizer.name in NEUTRAL_OPTIMIZERS
        self._linear = self._neutral and optimizer.name not in _NORMALISING
        self._sizes = StepSizes(sides.base, sides.traffic)
        self._moved: dict[str, float] = {}  # L2 norms of all steps so far, by base name
        self._errors: dict[str, float] = {}  # the greatest relative error of the gradients so far, by raw name
        self._noisy: dict[str, np.ndarray] = {}  # which elements were noise in the last step, packed, by raw name

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
        shared: Collection[str] = (),
    ) -> JudgedUpdates:
        """Return the pairs of stage `weights` with the verdicts that the steps demand.

        Args:
            step: counts the steps from 0.
            weights: are the comparisons of the parameters, in the links' order.
            grads: are the comparisons of their gradients, in the same order.
            links: say which parameters correspond.
            noise: bounds the rounding noise of a gradient.
            goes_on: says that another step follows.
            shared: names raw's parameters whose step was taken on base's gradients.
        """
        if not self._applies:
            return JudgedUpdates(list(weights))
        measured = {} if self._neutral else self._sizes.measure([name for link in links for name in link.base])
        for base_name, size in measured.items():
            self._moved[base_name] = self._moved.get(base_name, 0.0) + size.norm
        names = [(name, link) for link in links for name in link.raw]
        values = self._sides.raw.digest_parameters([name for name, _ in names], "value")
        gradients = self._sides.raw.digest_parameters([name for name, _ in names], "gradient")
        every = [
            _UpdatedParameter(name, link, grad, values[name], gradients.get(name), name in shared)
            for grad, (name, link) in zip(grads, names, strict=True)
        ]
        # An optimiser may scale all gradients by their common norm, into which those that raw keeps go as well.
        own = max((self._error(held) for held in every if not held.shared), default=0.0) if shared else 0.0
        taken = _StepTaken(step, noise, measured, goes_on, own)
        judged = JudgedUpdates()
        for pair, held in zip(weights, every, strict=True):
            verdict, left_out = self._judge(taken, pair, held)
            judged.pairs.append(verdict)
            if left_out:
                judged.left_out[held.name] = left_out
        return judged

    def _judge(self, taken: _StepTaken, pair: Pair, held: _UpdatedParameter) -> tuple[Pair, int]:
        """Return the verdict on one parameter, and how many of its elements it leaves out."""
        if pair.failure not in ("", "values") or pair.metrics is None or held.grad.failure == "missing":
            return pair, 0
        allowed = self._allowed(taken, held)
        plain = _within(pair, pair.metrics.rel_l2 * told(held.value.norm), allowed)
        # SGD leaves no more than what is too small for all that uses it.
        carried_on = taken.goes_on and not self._linear
        if held.shared or not pair.metrics.rel_l2 or (plain.status == "pass" and not carried_on):
            return plain, 0
        base_dtype, raw_dtype = self._comparer.dtypes(held.link, held.name)
        if held.grad.status != "pass" or held.grad.metrics is None or base_dtype is not raw_dtype:
            return plain, 0
        noisy = self._noisy_elements(taken, held)
        with self._comparer.abreast(held.link, held.name, "value") as streams:
            apart = measure_apart(*streams, noisy)
        if not noisy.count or apart.noisy > _OPPOSITE * self._largest_move(taken, noisy.floor, held):
            return plain, 0
        given = self._give_values_of_base(held, noisy) if carried_on and apart.noisy else ""
        if plain.status == "pass":
            return plain, 0
        return self._without_noise(taken, pair, held, noisy, apart, allowed, given), noisy.count

    def _allowed(self, taken: _StepTaken, held: _UpdatedParameter) -> _Allowance:
        """Bound how far apart the two sides may be after the steps so far."""
        step, dtypes = taken.number, self._comparer.dtypes(held.link, held.name)
        epsilon = max(EPSILON[dtype] for dtype in dtypes)
        # Moments round as the parameters do.
        error = max(taken.own, _SENSITIVITY * epsilon) if held.shared else self._error(held)
        error = self._errors[held.name] = max(self._errors.get(held.name, 0.0), error)
        steps = self._steps_norm(step, held)
        rounding = _ROUNDING * epsilon * told(held.value.norm)
        return _Allowance(steps, min(max(error, _ARITHMETIC), self._most(held)) * steps + (step + 1) * rounding)

    def _error(self, held: _UpdatedParameter) -> float:
        """Bound the relative error of a step on raw's own gradient.

        Where neither side has a gradient other than zero, nothing is apart that a step could be apart by.
        """
        if held.grad.status == "skipped" and (held.gradient is None or held.gradient.is_zero):
            return 0.0
        metrics = held.grad.metrics if held.grad.status == "pass" else None
        return self._most(held) if metrics is None else min(_SENSITIVITY * metrics.rel_l2, self._most(held))

    def _most(self, held: _UpdatedParameter) -> float:
        """Return the tolerance of a parameter's gradients, by which a step may differ at most."""
        dtypes = self._comparer.dtypes(held.link, held.name)
        return tolerance(*dtypes, "grads", self._sides.single_step).rtol

    def _noisy_elements(self, taken: _StepTaken, held: _UpdatedParameter) -> NoisyElements:
        scale, before = self._comparer.noise_of(held.link, taken.noise), self._noisy.get(held.name)
        with self._comparer.abreast(held.link, held.name, "gradient") as streams:
            noisy = find_noisy_elements(*streams, scale, before)
        if taken.goes_on:
            self._noisy[held.name] = noisy.mask
        return noisy

    def _steps_norm(self, step: int, held: _UpdatedParameter) -> float:
        """Bound the L2 norm by which all steps so far have moved a parameter."""
        if not self._neutral:
            return math.hypot(*(self._moved[name] for name in held.link.base))
        options, value = self._optimizer.options, held.value
        if not self._linear:
            return (step + 1) * options["lr"] * (math.sqrt(value.count) + options["weight_decay"] * told(value.norm))
        pull = 0.0 if held.gradient is None else told(held.gradient.norm)
        return self._sgd_moves(step, pull + options["weight_decay"] * told(value.norm))

    def _sgd_moves(self, step: int, pull: float) -> float:
        """Bound how far all steps of SGD so far have moved an element (or a norm) that was pulled by at most `pull` in each."""
        options = self._optimizer.options
        return (step + 1) * options["lr"] * pull / max(1.0 - options["momentum"], 0.01)

    def _largest_move(self, taken: _StepTaken, gradient: float, held: _UpdatedParameter) -> float:
        """Bound how far apart noise has moved an element whose gradients are at most `gradient`.

        SGD adds up all steps. Other optimisers move it by one step, since raw was given base's value after each step before;
        a dump was given none.
        """
        if self._linear:
            return self._sgd_moves(taken.number, gradient)
        steps = taken.number + 1 if self._sides.raw.info().recorded else 1
        if not self._neutral:
            return steps * max(taken.measured[name].largest for name in held.link.base)
        return steps * self._optimizer.options["lr"]

    def _give_values_of_base(self, held: _UpdatedParameter, noisy: NoisyElements) -> str:
        """Write base's values of noisy elements into raw, before another step; say so where raw takes none."""
        if self._sides.raw.info().recorded:
            return "; raw is a dump and goes on with its own, so later steps may differ by that"
        base = self._comparer.base_tensor(held.link, held.name, "value")
        raw = self._comparer.raw_tensor(held.name, "value")
        self._sides.raw.write_parameters([_replaced(raw, base, noisy).stream(held.name)])
        return ""

    def _without_noise(
        self,
        taken: _StepTaken,
        pair: Pair,
        held: _UpdatedParameter,
        noisy: NoisyElements,
        apart: ElementsApart,
        allowed: _Allowance,
        given: str,
    ) -> Pair:
        """Judge a failing pair anew without the elements whose gradient is noise."""
        moves = "by nothing else" if self._linear else "as far as others, either way"
        if noisy.count == noisy.total:
            why = "its gradient holds nothing but rounding noise on both sides"
            return pair.judged_anew(Verdict.skip(f"{why}, and {self._optimizer.name} moves it {moves}{given}"))
        why = (
            f"{noisy.count} of {noisy.total} elements are left out: their gradient is rounding noise (at most "
            f"{noisy.floor:.2g}), and {self._optimizer.name} moves them {moves}{given}"
        )
        if pair.status == "fail":
            base = self._comparer.base_tensor(held.link, held.name, "value")
            raw = self._comparer.raw_tensor(held.name, "value")
            pair = pair.judged_anew(self._comparer.compare_tensors("weights", base, _replaced(raw, base, noisy)))
        if taken.number and not self._linear:  # moments hold the rounding of all gradients so far
            mixed = _SENSITIVITY * noisy.reach * self._largest_move(taken, noisy.floor, held)
            allowed = replace(allowed, apart=allowed.apart + mixed)
        again = _within(pair, apart.others, allowed)
        return replace(again, why=f"{again.why}; {why}" if again.why else why)


def _within(pair: Pair, apart: float, allowed: _Allowance) -> Pair:
    """Fail a pair whose values agree by the table, but which the two sides' steps moved differently."""
    if pair.status != "pass" or pair.metrics is None or apart <= allowed.apart:
        return pair
    why = (
        f"the optimisers' steps differ: the sides are {apart:.3g} apart (L2 norm), where steps of {allowed.steps:.3g} may "
        f"leave them {allowed.apart:.3g} apart"
    )
    metrics = replace(pair.metrics, measure="step_l2", measured=apart, allowed=allowed.apart)
    return pair.judged_anew(Verdict("fail", "values", why, metrics))


def _replaced(raw: Tensor, base: Tensor, noisy: NoisyElements) -> Tensor:
    """Return raw's tensor with base's values in the noisy elements."""
    array = raw.to_array().copy()
    mask = unpacked(noisy).reshape(*array.shape, -1).any(axis=-1)
    array[mask] = base.to_array()[mask]
    return Tensor.from_array(array, raw.spec.dtype)
