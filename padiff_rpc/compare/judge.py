"""Judge a pair of tensors: first by their specs, then by their digests, and only where these leave it open by their bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from padiff_rpc.compare.kernel import Differences, Limit, measure
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.tolerances import Tolerance, tolerance
from padiff_rpc.result import Failure, Metrics, Stage, Status
from padiff_rpc.tensor import Digest, DType, TensorSpec, TensorStream

_PADIFF_ATOL, _PADIFF_RTOL = 0.0, 1e-7
"""PaDiff's defaults, those of numpy.testing.assert_allclose."""


@dataclass(frozen=True)
class Verdict:
    """The outcome for one pair of tensors. `why` is a sentence for people; empty where a pass needs none."""

    status: Status
    failure: Failure
    why: str
    metrics: Metrics | None


def compare_specs(base: TensorSpec, raw: TensorSpec, rules: CompareRules) -> Verdict | None:
    """Fail where shapes or element types differ; None where the values can be compared.

    With rules.allow_dtype_difference, two floating types may meet, or two complex ones, or two integer ones that
    fit into a common one; a boolean, or an integer against a float, may not.
    """
    if base.shape != raw.shape:
        return Verdict("fail", "shape", f"shapes differ: {base} in base, {raw} in raw", None)
    if base.dtype is raw.dtype:
        return None
    why = f"element types differ: {base.dtype.value} in base, {raw.dtype.value} in raw"
    if not rules.allow_dtype_difference:
        return Verdict("fail", "dtype", why, None)
    if not _comparable(base.dtype, raw.dtype):
        return Verdict("fail", "dtype", f"{why}, which are of different kinds", None)
    return None


def compare_digests(
    base_spec: TensorSpec,
    base: Digest,
    raw_spec: TensorSpec,
    raw: Digest,
    rules: CompareRules,
    stage: Stage,
    single_step: bool,
    noise_scale: float = 0.0,
) -> Verdict | None:
    """Settle what needs no tensor; None where the tensors are needed.

    Settled are: specs that differ; empty tensors; NaN on either side or both; numbers of Infs that differ; equal hashes; and
    the modes "mean" and "abs_mean" of floating tensors without Inf. `noise_scale` as in compare_streams.
    """
    mismatch = compare_specs(base_spec, raw_spec, rules)
    if mismatch is not None:
        return mismatch
    if base_spec.count == 0:
        return _EMPTY
    if base.nan_count or raw.nan_count or base.inf_count != raw.inf_count:
        counts = (base.nan_count, raw.nan_count), (base.inf_count, raw.inf_count)
        return Verdict("fail", "nan", _nonfinite_text(*counts), _unknown_metrics(_parts(base_spec), *counts))
    judging = _Judging(rules, stage, single_step, noise_scale, base_spec, raw_spec)
    if base.hash == raw.hash and base_spec == raw_spec:
        return judging.identical(base.inf_count)
    if not (base_spec.dtype.is_floating or base_spec.dtype.is_complex) or base.inf_count:
        return None
    if rules.mode == "mean":
        return judging.means(base.mean, raw.mean)
    if rules.mode == "abs_mean":
        return judging.means(base.abs_mean, raw.abs_mean)
    return None


def compare_streams(
    base: TensorStream,
    raw: TensorStream,
    base_digest: Digest,
    raw_digest: Digest,
    rules: CompareRules,
    stage: Stage,
    single_step: bool,
    noise_scale: float = 0.0,
) -> Verdict:
    """Read both streams abreast and judge every element. A stream is left unread where the specs settle it.

    Integers and booleans must be equal in every mode. NaN fails, on both sides too. Inf fails unless it stands at the same
    places with the same sign on both sides (as in attention masks); such places are counted and left out of all other
    metrics. -0.0 equals 0.0. `noise_scale`: the size of the rounding noise that these tensors may hold (a sum that cancels to
    zero leaves nothing else); in mode "scaled" absolute differences up to it pass. DATA_LOSS when a stream is short or long.
    """
    mismatch = compare_specs(base.spec, raw.spec, rules)
    if mismatch is not None:
        return mismatch
    if base.spec.count == 0:
        return _EMPTY
    judging = _Judging(rules, stage, single_step, noise_scale, base.spec, raw.spec)
    peak = _peak(base_digest)
    with_means = rules.mode in ("mean", "abs_mean")
    found = measure(base, raw, judging.limit(peak), max(peak, _peak(raw_digest)), with_means)
    if found.nonfinite_at is not None:
        return judging.nonfinite(found)
    if judging.exact:
        return judging.exactly(found)
    if rules.mode == "strict":
        return judging.strictly(found)
    if rules.mode == "scaled":
        return judging.scaled(found)
    verdict = judging.means(*(found.means if rules.mode == "mean" else found.absolute_means))
    return replace(verdict, why=_joined(verdict.why, _matching_inf_text(found.matching_inf)))


_EMPTY = Verdict("skipped", "", "empty: there is nothing to compare", None)


class _Judging:
    """The rules, brought to bear on one pair of comparable specs."""

    def __init__(
        self,
        rules: CompareRules,
        stage: Stage,
        single_step: bool,
        noise_scale: float,
        base: TensorSpec,
        raw: TensorSpec,
    ) -> None:
        self.exact = not (base.dtype.is_floating or base.dtype.is_complex)
        self._rules = rules
        self._spec = base
        self._noise = noise_scale
        if rules.mode == "scaled":
            table = Tolerance(0.0, 0.0) if self.exact else tolerance(base.dtype, raw.dtype, stage, single_step)
            self._factor = table.factor
            self._atol = 0.0 if rules.atol is None else rules.atol
            self._rtol = table.rtol if rules.rtol is None else rules.rtol
        else:
            self._factor = 0.0
            self._atol = _PADIFF_ATOL if rules.atol is None else rules.atol
            self._rtol = _PADIFF_RTOL if rules.rtol is None else rules.rtol

    def limit(self, peak: float) -> Limit:
        """Return when an element counts as mismatched; `peak` is max |base| where it is known, else 0."""
        if self.exact:
            return Limit()
        if self._rules.mode == "scaled":
            return Limit(of_peak=self._factor * self._rtol, peak=peak)
        return Limit(absolute=self._atol, relative=self._rtol)

    def identical(self, inf: int) -> Verdict:
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
        )
        if passes:
            return Verdict("pass", "", "", metrics)
        name = "means" if self._rules.mode == "mean" else "means of absolute values"
        why = f"the {name} differ by {gap:.3g}, allowed are {allowed:.3g}: {base:.9g} in base, {raw:.9g} in raw"
        return Verdict("fail", "values", why, metrics)

    def nonfinite(self, found: Differences) -> Verdict:
        why = _nonfinite_text(found.nan, found.inf)
        place, values = found.nonfinite_at or 0, found.nonfinite or (math.nan, math.nan)
        index = self._index(place)
        metrics = replace(
            self._metrics(found, "nan", math.nan, 0.0), index=index, base_value=values[0], raw_value=values[1]
        )
        return Verdict("fail", "nan", f"{why}; first at {list(index)}: {_both(values)}", metrics)

    def exactly(self, found: Differences) -> Verdict:
        metrics = self._metrics(found, "mismatched", float(found.mismatched), 0.0)
        if not found.mismatched:
            return Verdict("pass", "", "", metrics)
        what = "booleans" if self._spec.dtype is DType.BOOL else "integers"
        return Verdict(
            "fail", "values", f"{found.mismatched} of {found.total} {what} differ; {self._worst(found)}", metrics
        )

    def strictly(self, found: Differences) -> Verdict:
        metrics = self._metrics(found, "max_of_allowed", found.max_of_limit, 1.0)
        inf = _matching_inf_text(found.matching_inf)
        if not found.mismatched:
            return Verdict("pass", "", inf, metrics)
        why = (
            f"{found.mismatched} of {found.total} elements differ by more than {self._atol:.3g} + {self._rtol:.3g} * |base|; "
            f"{self._worst(found)}"
        )
        return Verdict("fail", "values", _joined(why, inf), metrics)

    def scaled(self, found: Differences) -> Verdict:
        inf = _matching_inf_text(found.matching_inf)
        max_scaled = _ratio(found.max_abs, found.peak)
        # Written so that a NaN, were there one, fails.
        passes = found.rel_l2 <= self._rtol and max_scaled <= self._factor * self._rtol
        by_size = max_scaled > self._factor * found.rel_l2
        if by_size:
            metrics = self._metrics(found, "max_scaled", max_scaled, self._factor * self._rtol)
        else:
            metrics = self._metrics(found, "rel_l2", found.rel_l2, self._rtol)
        if passes:
            return Verdict("pass", "", inf, replace(metrics, mismatched=0))
        for name, floor in (("atol", self._atol), ("rounding noise", self._noise)):
            if found.max_abs <= floor:
                why = f"within {name}: the greatest difference is {found.max_abs:.3g}, {floor:.3g} is allowed"
                metrics = replace(metrics, measure="max_abs", measured=found.max_abs, allowed=floor, mismatched=0)
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
        )

    def _index(self, place: int) -> tuple[int, ...]:
        item = place // 2 if self._spec.dtype.is_complex else place
        return tuple(int(axis) for axis in np.unravel_index(item, self._spec.shape))

    def _worst(self, found: Differences) -> str:
        return f"greatest at {list(self._index(found.worst_at))}: {_both(found.worst or (math.nan, math.nan))}"


def _comparable(base: DType, raw: DType) -> bool:
    if base.is_floating or raw.is_floating:
        return base.is_floating and raw.is_floating
    if base.is_complex or raw.is_complex:
        return base.is_complex and raw.is_complex
    # NumPy promotes booleans to integers, and int64 with uint64 to float64: neither is compared exactly.
    return DType.BOOL not in (base, raw) and np.promote_types(base.storage, raw.storage).kind in "iu"


def _parts(spec: TensorSpec) -> int:
    return spec.count * (2 if spec.dtype.is_complex else 1)


def _peak(digest: Digest) -> float:
    """Return max |element|, 0 where NaN or Inf hides it."""
    peak = max(abs(digest.min), abs(digest.max))
    return peak if math.isfinite(peak) else 0.0


def _ratio(value: float, reference: float) -> float:
    if reference > 0.0:
        return value / reference
    return math.inf if value > 0.0 else 0.0


def _unknown_metrics(total: int, nan: tuple[int, int], inf: tuple[int, int]) -> Metrics:
    """What digests tell of tensors that hold NaN, or a different number of Infs: counts alone."""
    unknown = math.nan
    return Metrics(
        max_abs=unknown,
        max_rel=unknown,
        mean_abs=unknown,
        rel_l2=unknown,
        cosine=unknown,
        mismatched=max(*nan, abs(inf[0] - inf[1])),
        total=total,
        nan=sum(nan),
        inf=sum(inf),
        index=(),
        allowed=0.0,
        measured=unknown,
        measure="nan",
    )


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
