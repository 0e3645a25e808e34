"""Apply the rules to measured differences, and give the reason in words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from padiff_rpc.compare.floor import WRONG, Floor
from padiff_rpc.compare.kernel import Differences, Limit
from padiff_rpc.compare.rules import PADIFF_ATOL, PADIFF_RTOL
from padiff_rpc.compare.standard import Standard
from padiff_rpc.compare.tolerances import Tolerance, tolerance
from padiff_rpc.result import Metrics, Verdict
from padiff_rpc.tensors.tensor import Digest, DType, TensorSpec, told

_NONE = Tolerance(0.0, 0.0)
_ROUNDING = 1.0 + 1e-9
"""Sums over the same elements in another order round in another way."""


class Criteria:
    """The rules for one pair of comparable specs. `exact` holds for integers and booleans, which must be equal in every mode."""

    def __init__(self, standard: Standard, base: TensorSpec, raw: TensorSpec) -> None:
        rules = standard.rules
        self.exact: bool = not (base.dtype.is_floating or base.dtype.is_complex)
        self._rules = rules
        self._spec = base
        self._dtypes = base.dtype.value, raw.dtype.value
        self._noise = standard.noise_scale
        if rules.mode == "scaled":
            table = _NONE if self.exact else tolerance(base.dtype, raw.dtype, standard.stage, standard.single_step)
            self._factor = table.factor
            self._atol = 0.0 if rules.atol is None else rules.atol
            self._rtol = table.rtol if rules.rtol is None else rules.rtol
        else:
            self._factor = 0.0
            self._atol = PADIFF_ATOL if rules.atol is None else rules.atol
            self._rtol = PADIFF_RTOL if rules.rtol is None else rules.rtol

    def limit(self, peak: float) -> Limit:
        """Return the bound on |raw - base| beyond which an element is mismatched; `peak` is max |base|, or 0 if unknown."""
        if self.exact:
            return Limit()
        if self._rules.mode == "scaled":
            return Limit(of_peak=self._factor * self._rtol, peak=peak)
        return Limit(absolute=self._atol, relative=self._rtol)

    def identical(self, inf: int, floor: Floor | None = None) -> Verdict:
        """Pass equal bytes."""
        measures = {"scaled": ("rel_l2", self._rtol), "strict": ("max_of_allowed", 1.0)}
        name, allowed = measures.get(self._rules.mode, (self._rules.mode, self._atol))
        if self.exact:
            name, allowed = "mismatched", 0.0
        metrics = Metrics(
            max_abs=0.0,
            max_rel=0.0,
            mean_abs=0.0,
            rel_l2=0.0,
            cosine=1.0,
            mismatched=0,
            total=_parts(self._spec),
            nan=0,
            inf=2 * inf,
            index=(0,) * len(self._spec.shape),
            allowed=allowed,
            measured=0.0,
            measure=name,
            base_dtype=self._dtypes[0],
            raw_dtype=self._dtypes[1],
            floor=None if floor is None else floor.relative,
            ratio=None if floor is None else 0.0,
        )
        return Verdict("pass", "", _matching_inf_text(inf), metrics)

    def means(self, base: float, raw: float) -> Verdict:
        """Compare two means as numpy.testing.assert_allclose would compare two scalars."""
        gap = abs(raw - base)
        allowed = self._atol + self._rtol * abs(base)
        relative = gap / abs(base) if base else 0.0
        passes = gap <= allowed
        metrics = Metrics(
            max_abs=gap,
            max_rel=relative,
            mean_abs=gap,
            rel_l2=relative if base else gap,
            cosine=math.nan,
            mismatched=0 if passes else 1,
            total=1,
            nan=0,
            inf=0,
            index=(),
            allowed=allowed,
            measured=gap,
            measure=self._rules.mode,
            base_value=base,
            raw_value=raw,
            base_dtype=self._dtypes[0],
            raw_dtype=self._dtypes[1],
        )
        if passes:
            return Verdict("pass", "", "", metrics)
        name = "means" if self._rules.mode == "mean" else "means of absolute values"
        why = f"the {name} differ by {gap:.3g}, allowed are {allowed:.3g}: {base:.9g} in base, {raw:.9g} in raw"
        return Verdict("fail", "values", why, metrics)

    def figures_agree(self, base: Digest, raw: Digest) -> bool:
        """Tell whether two digests leave it possible that the elements, in some order, are within the mode's tolerance.

        Where ||raw - base|| <= rtol ||base||, the norms are no further apart, and the means no further than rtol times the root
        mean square. Raises INTERNAL where a digest lacks one of these figures.
        """
        norm = told(base.norm)
        rtol = 0.0 if self.exact else self._rtol
        of_means = rtol * norm / math.sqrt(max(base.count, 1)) * _ROUNDING
        of_extremes = self._factor * rtol * base.peak
        return (
            abs(told(raw.norm) - norm) <= rtol * norm * _ROUNDING
            and abs(told(raw.mean) - told(base.mean)) <= of_means
            and abs(told(raw.abs_mean) - told(base.abs_mean)) <= of_means
            and abs(raw.min - base.min) <= of_extremes
            and abs(raw.max - base.max) <= of_extremes
        )

    def judge(self, found: Differences, floor: Floor | None = None) -> Verdict:
        """Return the verdict on the differences that a pass over both tensors has measured, with `limit()` as its bound.

        Args:
            found: are the differences.
            floor: is how far base's tensor moves by rounding alone, where that was measured.
        """
        if found.nonfinite_at is not None:
            return self._nonfinite(found, found.nonfinite_at)
        if self.exact:
            return self._exactly(found)
        if self._rules.mode == "strict":
            return self._strictly(found)
        if self._rules.mode == "scaled":
            return self._scaled(found, floor)
        verdict = self.means(*(found.means if self._rules.mode == "mean" else found.absolute_means))
        return replace(verdict, why=_joined(verdict.why, _matching_inf_text(found.matching_inf)))

    def _nonfinite(self, found: Differences, place: int) -> Verdict:
        values = found.nonfinite or (math.nan, math.nan)
        index = self._index(place)
        metrics = replace(
            self._metrics(found, "nan", math.nan, 0.0), index=index, base_value=values[0], raw_value=values[1]
        )
        why = f"{_nonfinite_text(found.nan, found.inf)}; first at {list(index)}: {_both(values)}"
        return Verdict("fail", "nan", why, metrics)

    def _exactly(self, found: Differences) -> Verdict:
        metrics = self._metrics(found, "mismatched", float(found.mismatched), 0.0)
        if not found.mismatched:
            return Verdict("pass", "", "", metrics)
        what = "booleans" if self._spec.dtype is DType.BOOL else "integers"
        return Verdict(
            "fail", "values", f"{found.mismatched} of {found.total} {what} differ; {self._worst(found)}", metrics
        )

    def _strictly(self, found: Differences) -> Verdict:
        metrics = self._metrics(found, "max_of_allowed", found.max_of_limit, 1.0)
        inf = _matching_inf_text(found.matching_inf)
        if not found.mismatched:
            return Verdict("pass", "", inf, metrics)
        why = (
            f"{found.mismatched} of {found.total} elements differ by more than {self._atol:.3g} + {self._rtol:.3g} * |base|; "
            f"{self._worst(found)}"
        )
        return Verdict("fail", "values", _joined(why, inf), metrics)

    def _scaled(self, found: Differences, floor: Floor | None) -> Verdict:
        inf = _matching_inf_text(found.matching_inf)
        max_scaled = _ratio(found.max_abs, found.peak)
        # Written so that a NaN, were there one, fails.
        passes = found.rel_l2 <= self._rtol and max_scaled <= self._factor * self._rtol
        by_size = max_scaled > self._factor * found.rel_l2
        if by_size:
            metrics = self._metrics(found, "max_scaled", max_scaled, self._factor * self._rtol)
        else:
            metrics = self._metrics(found, "rel_l2", found.rel_l2, self._rtol)
        if floor is not None:
            metrics = replace(metrics, floor=floor.relative, ratio=found.rel_l2 / floor.relative)
        if passes:
            return Verdict("pass", "", inf, replace(metrics, mismatched=0))
        for name, bound in (("atol", self._atol), ("rounding noise", self._noise)):
            if found.max_abs <= bound:
                why = f"within {name}: the greatest difference is {found.max_abs:.3g}, {bound:.3g} is allowed"
                metrics = replace(metrics, measure="max_abs", measured=found.max_abs, allowed=bound, mismatched=0)
                return Verdict("pass", "", _joined(why, inf), metrics)
        if floor is not None and floor.excuses(found.rel_l2, max_scaled / self._factor):
            why = f"{found.rel_l2 / floor.relative:.1f} times this run's floor ({floor.relative:.2g}), beyond the table"
            metrics = replace(
                metrics, measure="rel_l2", measured=found.rel_l2, allowed=WRONG * floor.relative, mismatched=0
            )
            return Verdict("pass", "", _joined(why, inf), metrics)
        if by_size:
            why = (
                f"the greatest difference is {max_scaled:.3g} of the greatest value, "
                f"allowed are {metrics.allowed:.3g}; {self._worst(found)}"
            )
        else:
            why = f"the relative L2 error is {found.rel_l2:.3g}, allowed are {self._rtol:.3g}; {self._worst(found)}"
        return Verdict("fail", "values", _joined(why, inf), metrics)

    def _metrics(self, found: Differences, measure_name: str, measured: float, allowed: float) -> Metrics:
        return Metrics(
            max_abs=found.max_abs,
            max_rel=found.max_rel,
            mean_abs=found.mean_abs,
            rel_l2=found.rel_l2,
            cosine=found.cosine,
            mismatched=found.mismatched,
            total=found.total,
            nan=sum(found.nan),
            inf=sum(found.inf),
            index=self._index(found.worst_at),
            allowed=allowed,
            measured=measured,
            measure=measure_name,
            base_value=None if found.worst is None else float(found.worst[0]),
            raw_value=None if found.worst is None else float(found.worst[1]),
            base_dtype=self._dtypes[0],
            raw_dtype=self._dtypes[1],
        )

    def _index(self, place: int) -> tuple[int, ...]:
        item = place // 2 if self._spec.dtype.is_complex else place
        return tuple(int(axis) for axis in np.unravel_index(item, self._spec.shape))

    def _worst(self, found: Differences) -> str:
        return f"greatest at {list(self._index(found.worst_at))}: {_both(found.worst or (math.nan, math.nan))}"


def nonfinite_by_digests(spec: TensorSpec, base: Digest, raw: Digest) -> Verdict:
    """Fail tensors whose digests count NaN, or different numbers of Inf; nothing but these counts is known of them."""
    nan, inf = (base.nan_count, raw.nan_count), (base.inf_count, raw.inf_count)
    metrics = Metrics(
        max_abs=math.nan,
        max_rel=math.nan,
        mean_abs=math.nan,
        rel_l2=math.nan,
        cosine=math.nan,
        mismatched=max(*nan, abs(inf[0] - inf[1])),
        total=_parts(spec),
        nan=sum(nan),
        inf=sum(inf),
        index=(),
        allowed=0.0,
        measured=math.nan,
        measure="nan",
    )
    return Verdict("fail", "nan", _nonfinite_text(nan, inf), metrics)


def _parts(spec: TensorSpec) -> int:
    return spec.count * (2 if spec.dtype.is_complex else 1)


def _ratio(value: float, reference: float) -> float:
    if reference > 0.0:
        return value / reference
    return math.inf if value > 0.0 else 0.0


def _nonfinite_text(nan: tuple[int, int], inf: tuple[int, int]) -> str:
    texts = []
    if all(nan):
        same = f"{nan[0]} elements" if nan[0] == nan[1] else f"{nan[0]} elements in base, {nan[1]} in raw"
        texts.append(f"NaN on both sides ({same})")
    elif any(nan):
        side = "base" if nan[0] else "raw"
        texts.append(f"NaN in {side} ({sum(nan)} elements)")
    if inf[0] != inf[1]:
        texts.append(f"{inf[0]} Inf in base, {inf[1]} in raw")
    elif any(inf):
        texts.append(
            f"{inf[0]} Inf on each side" if texts else f"{inf[0]} Inf on each side, at different places or signs"
        )
    return "; ".join(texts)


def _matching_inf_text(count: int) -> str:
    return f"{count} Inf at the same places on both sides, left out of the metrics" if count else ""


def _both(values: tuple[float, float] | tuple[int, int]) -> str:
    base, raw = (str(value) if isinstance(value, int) else f"{value:.9g}" for value in values)
    return f"{base} in base, {raw} in raw"


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)
