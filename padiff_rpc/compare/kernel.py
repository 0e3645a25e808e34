"""Measure how far two tensor streams are apart: one pass, block by block, in memory of a few MiB."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from padiff_rpc.tensors.blocks import abreast
from padiff_rpc.tensors.float64 import BLOCK_ITEMS, single_square_sum, single_sum, square_sum, to_float64
from padiff_rpc.tensors.scratch import scratch
from padiff_rpc.tensors.tensor import DType, TensorSpec, TensorStream

_SAFE_PEAKS = (1e-100, 1e100)
"""Magnitudes between which squares and their sums neither overflow nor vanish in float64."""


_SINGLE_PEAKS = (1e-20, 1e30)
"""Magnitudes of float32 at which differences neither overflow nor vanish among its denormal numbers."""
_MARGIN = 1.0 + 2.0**-20
"""By how much the roundings of float32 may misjudge a limit, with room to spare."""


@dataclass(frozen=True)
class Limit:
    """The limit beyond which an element mismatches.

    That is |raw - base| > of_peak * max |base| or, with of_peak 0, |raw - base| > absolute + relative * |base|.

    `peak` is max |base| where it is known beforehand, else 0. Then the greatest element read so far stands in, so that the
    count of mismatched elements may come out too high.
    """

    absolute: float = 0.0
    relative: float = 0.0
    of_peak: float = 0.0
    peak: float = 0.0


@dataclass(frozen=True)
class Known:
    """Figures from the digests of two tensors that are finite throughout: their L2 norms, and max |base|."""

    base_norm: float
    raw_norm: float
    peak: float


@dataclass(frozen=True)
class Differences:
    """The findings of one pass over two tensors, over the elements that are finite on both sides unless said otherwise.

    Complex tensors are taken as their real and imaginary parts. Places are flat places of parts. max_abs, max_rel, mean_abs,
    rel_l2, cosine and mismatched are as in padiff_rpc.result.Metrics.

    Attributes:
        total: counts the elements, or the parts.
        peak: is max |base|.
        max_of_limit: is the greatest quotient of |raw - base| and its own limit; it is taken where of_peak is 0.
        worst_at: is the place of max_abs.
        worst: holds base's and raw's element there; None where nothing differs.
        means: holds the means of base and of raw, where these were asked for.
        absolute_means: holds the means of the absolute values, where these were asked for.
        nan: counts the NaN on base's and on raw's side.
        inf: counts the Inf on base's and on raw's side.
        matching_inf: counts the places with the same Inf on both sides.
        nonfinite_at: is the first place where either side is NaN, or Inf but not matching; None without such a place.
        nonfinite: holds base's and raw's element there.
    """

    total: int
    max_abs: float
    max_rel: float
    mean_abs: float
    rel_l2: float
    cosine: float
    peak: float
    mismatched: int
    max_of_limit: float
    worst_at: int
    worst: tuple[float, float] | tuple[int, int] | None
    means: tuple[float, float]
    absolute_means: tuple[float, float]
    nan: tuple[int, int]
    inf: tuple[int, int]
    matching_inf: int
    nonfinite_at: int | None
    nonfinite: tuple[float, float] | None


def measure(
    base: TensorStream,
    raw: TensorStream,
    limit: Limit,
    magnitude: float = 1.0,
    with_means: bool = False,
    known: Known | None = None,
) -> Differences:
    """Read both streams abreast and measure their differences.

    Chunks may be cut anywhere, and differently on the two sides.

    Args:
        base: streams a tensor.
        raw: streams a tensor of the same shape. Both types are floating, or complex, integer or boolean.
        limit: says when an element counts as mismatched.
        magnitude: is the greatest absolute value on either side. Sums are scaled by it where their squares would leave float64.
        with_means: takes the means as well.
        known: gives figures that are then not taken anew.

    Raises:
        PadiffError: DATA_LOSS when a stream is short or long.
    """
    integer = not (base.spec.dtype.is_floating or base.spec.dtype.is_complex)
    single = base.spec.dtype is raw.spec.dtype is DType.F32 and known is not None and not with_means
    single = single and _SINGLE_PEAKS[0] < magnitude < _SINGLE_PEAKS[1]
    measuring = _Measuring(base.spec, raw.spec, limit, magnitude, with_means, known)
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        for base_block, raw_block in abreast(base, raw):
            if integer:
                measuring.add_integers(base_block, raw_block)
            elif not (single and measuring.add_singles(base_block, raw_block)):
                measuring.add_floats(base_block, raw_block)
        return measuring.finish()


@dataclass(frozen=True, slots=True)
class _Singles:
    """A block of float32 that differs. gap is |raw - base|, size is |base|, and work is memory for an interim result."""

    base: np.ndarray
    raw: np.ndarray
    gap: np.ndarray
    size: np.ndarray
    greatest: float
    smallest: float
    work: np.ndarray


class _Measuring:
    """The state of a pass, of which a thread has one at a time.

    Its sums are in units of 1 / scale, and its temporaries are so few that they stay in the cache.
    """

    def __init__(
        self,
        base: TensorSpec,
        raw: TensorSpec,
        limit: Limit,
        magnitude: float,
        with_means: bool,
        known: Known | None,
    ) -> None:
        self._types = base.dtype, raw.dtype
        self._limit = limit
        self._with_means = with_means
        self._known = known
        low, high = _SAFE_PEAKS
        lost = magnitude > 0 and math.isfinite(magnitude) and not low < magnitude < high
        # A power of two, so that scaling rounds nothing; 2**1024 would overflow.
        self._scale = 2.0 ** max(-1000, min(1000, -math.frexp(magnitude)[1])) if lost else 1.0
        room = min(base.count, BLOCK_ITEMS) * (2 if base.dtype.is_complex else 1)
        self._base, self._raw, self._gap, self._work = (scratch(f"compare.{n}", room) for n in range(4))
        self._beyond = scratch("compare.beyond", room, np.bool_)
        self._gap32, self._size32, self._work32 = (scratch(f"compare.single.{n}", room, np.float32) for n in range(3))
        self._total = self._compared = self._mismatched = 0
        self._max_abs = self._max_rel = self._max_of_limit = self._sum_abs = 0.0
        self._peak = 0.0 if known is None else known.peak * self._scale
        self._squares = [0.0, 0.0, 0.0]  # of the difference, of base, of raw
        self._sums = [0.0, 0.0]
        self._absolute_sums = [0.0, 0.0]
        self._worst_at = 0
        self._worst: tuple[float, float] | tuple[int, int] | None = None
        self._nan = [0, 0]
        self._inf = [0, 0]
        self._matching_inf = 0
        self._nonfinite_at: int | None = None
        self._nonfinite: tuple[float, float] | None = None

    def add_singles(self, base: np.ndarray, raw: np.ndarray) -> bool:
        """Take in a block of float32 whose own sums are known, at half the cost; False where it has to go through float64.

        The difference of two float32 is exact in float32 where one is at most twice the other (Sterbenz, "Floating-Point
        Computation", 1974), and else off by 2**-24 of itself. The elements that come out greatest are measured in float64,
        and so is a whole block in which any comes near its limit.
        """
        gap = np.subtract(raw, base, out=self._gap32[: base.size])
        np.abs(gap, out=gap)
        greatest = float(gap.max())
        if not math.isfinite(greatest):
            return False
        if greatest > 0.0:
            size = np.abs(base, out=self._size32[: base.size])
            one = _Singles(base, raw, gap, size, greatest, float(size.min()), self._work32[: base.size])
            if self._near_limit(one):
                return False
            self._add_single_relative(one)
            self._add_single_sums(gap, greatest)
            if greatest * _MARGIN > self._max_abs:
                at = int(gap.argmax())
                apart, _ = _measured(base, raw, at)
                if apart > self._max_abs:
                    self._max_abs, self._worst_at = apart, self._total + at
                    self._worst = float(base[at]), float(raw[at])
        self._total += base.size
        self._compared += base.size
        return True

    def _near_limit(self, one: _Singles) -> bool:
        """Tell whether any element may be beyond its limit; if not, note how near the nearest comes."""
        limit = self._limit
        if limit.of_peak:
            return one.greatest * _MARGIN > limit.of_peak * max(limit.peak, self._peak)
        bar = min(self._max_of_limit, 1.0) / _MARGIN
        if not self._any_reaches(one, limit.absolute * bar, limit.relative * bar):
            return False
        work = np.multiply(one.size, np.float32(limit.relative), out=one.work)
        np.add(work, np.float32(limit.absolute), out=work)
        np.divide(one.gap, work, out=work)
        work[one.gap == 0.0] = 0.0
        at = int(work.argmax())
        if not float(work[at]) * _MARGIN < 1.0:
            return True
        apart, own = _measured(one.base, one.raw, at)
        self._max_of_limit = max(self._max_of_limit, apart / (limit.absolute + limit.relative * own))
        return False

    def _add_single_relative(self, one: _Singles) -> None:
        if not self._any_reaches(one, 0.0, self._max_rel / _MARGIN):
            return
        work = np.divide(one.gap, one.size, out=one.work)
        work[one.size == 0.0] = 0.0
        apart, own = _measured(one.base, one.raw, int(work.argmax()))
        self._max_rel = max(self._max_rel, apart / own if own else 0.0)

    def _any_reaches(self, one: _Singles, absolute: float, relative: float) -> bool:
        """Tell whether any element is further apart than absolute + relative * |base|."""
        if one.greatest <= (absolute + relative * one.smallest) / _MARGIN:
            return False  # no pass over the block is needed
        work = np.multiply(one.size, np.float32(relative), out=one.work)
        if absolute:
            np.add(work, np.float32(absolute), out=work)
        return self._any_beyond(one.gap, work)

    def _add_single_sums(self, gap: np.ndarray, greatest: float) -> None:
        # Where a limit is a part of the peak, the L2 norm is judged as well, and so summed in float64.
        squares = None if self._limit.of_peak else single_square_sum(gap, greatest)
        if squares is not None:
            self._squares[0] += squares
            self._sum_abs += single_sum(gap)
            return
        wide = self._gap[: gap.size]
        np.copyto(wide, gap)
        self._sum_abs += float(wide.sum())
        self._squares[0] += square_sum(wide)

    def add_floats(self, base_block: np.ndarray, raw_block: np.ndarray) -> None:
        base = to_float64(base_block, self._types[0], self._base)
        raw = to_float64(raw_block, self._types[1], self._raw)
        if self._scale != 1.0:
            base = np.multiply(base, self._scale, out=self._base[: base.size])
            raw = np.multiply(raw, self._scale, out=self._raw[: raw.size])
        gap, greatest = self._apart(base, raw)
        aside = 0
        if not math.isfinite(greatest):
            base, raw, aside = self._set_aside_nonfinite(base, raw)
            gap, greatest = self._apart(base, raw)
        at = self._add(base, raw, gap, greatest, aside)
        if at is not None:
            self._worst = self._element(base_block, 0, at), self._element(raw_block, 1, at)

    def add_integers(self, base_block: np.ndarray, raw_block: np.ndarray) -> None:
        """Subtract as integers: float64 is blind beyond 2**53. Only the sizes of differences are rounded."""
        if self._types[0] is DType.BOOL:
            # Any byte but zero means true.
            base_block, raw_block = base_block.view(np.uint8) != 0, raw_block.view(np.uint8) != 0
        wide = np.uint64 if DType.U64 in self._types else np.int64
        base, raw = base_block.astype(wide), raw_block.astype(wide)
        # The difference of two 64-bit integers fits 64 bits unsigned; wrapping subtraction gives it.
        gap = np.maximum(base, raw).view(np.uint64) - np.minimum(base, raw).view(np.uint64)
        wide_gap = gap.astype(np.float64)
        at = self._add(base.astype(np.float64), raw.astype(np.float64), wide_gap, float(wide_gap.max()), 0)
        if at is not None:
            self._worst = int(base[at]), int(raw[at])

    def finish(self) -> Differences:
        difference, base, raw = (math.sqrt(square) for square in self._squares)
        if self._known is not None:
            base, raw = self._known.base_norm * self._scale, self._known.raw_norm * self._scale
        cosine = 1.0 if base == raw else 0.0
        if base > 0.0 and raw > 0.0:
            # base . raw = (|base|^2 + |raw|^2 - |raw - base|^2) / 2, sound also next to 1.
            cosine = (base / raw + raw / base - (difference / base) * (difference / raw)) / 2
        count = max(self._compared, 1)
        return Differences(
            total=self._total,
            max_abs=self._max_abs / self._scale,
            max_rel=self._max_rel,
            mean_abs=self._sum_abs / count / self._scale,
            rel_l2=difference / base if base > 0.0 else difference / self._scale,
            cosine=max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else cosine,
            peak=self._peak / self._scale,
            mismatched=self._mismatched,
            max_of_limit=self._max_of_limit,
            worst_at=self._worst_at,
            worst=self._worst,
            means=(self._sums[0] / count / self._scale, self._sums[1] / count / self._scale),
            absolute_means=(self._absolute_sums[0] / count / self._scale, self._absolute_sums[1] / count / self._scale),
            nan=(self._nan[0], self._nan[1]),
            inf=(self._inf[0], self._inf[1]),
            matching_inf=self._matching_inf,
            nonfinite_at=self._nonfinite_at,
            nonfinite=self._nonfinite,
        )

    def _apart(self, base: np.ndarray, raw: np.ndarray) -> tuple[np.ndarray, float]:
        """Return |raw - base| and the greatest of it: NaN or Inf if there is any."""
        gap = np.subtract(raw, base, out=self._gap[: base.size])
        np.abs(gap, out=gap)
        return gap, float(gap.max())

    def _add(self, base: np.ndarray, raw: np.ndarray, gap: np.ndarray, greatest: float, aside: int) -> int | None:
        """Take in a block of finite elements; return where its gap is greatest if no block before had a greater one.

        base's own buffer does not survive it.
        """
        if self._with_means:
            self._add_means(base, raw)
        if self._known is None:
            self._squares[1] += square_sum(base)
            self._squares[2] += square_sum(raw)
        start = self._total
        self._total += base.size
        self._compared += base.size - aside
        size = None
        if self._known is None or greatest > 0.0:
            size = np.abs(base, out=self._base[: base.size])
        if self._known is None and size is not None:
            self._peak = max(self._peak, float(size.max()))
        if greatest == 0.0 or size is None:
            return None
        self._sum_abs += float(gap.sum())
        self._squares[0] += square_sum(gap)
        self._add_relative(gap, size)
        self._mismatched += self._beyond_limit(gap, size, greatest)
        if greatest <= self._max_abs:
            return None
        self._max_abs = greatest
        at = int(gap.argmax())
        self._worst_at = start + at
        return at

    def _add_relative(self, gap: np.ndarray, size: np.ndarray) -> None:
        # A product costs half of a quotient, and few blocks hold a new maximum. Where a product is rounded across the
        # quotient's own rounding, the maximum is right to its last digit but one.
        work = np.multiply(size, self._max_rel, out=self._work[: size.size])
        if not self._any_beyond(gap, work):
            return
        np.divide(gap, size, out=work)
        work[size == 0.0] = 0.0
        self._max_rel = max(self._max_rel, float(work.max()))

    def _any_beyond(self, gap: np.ndarray, limit: np.ndarray) -> bool:
        return bool(np.greater(gap, limit, out=self._beyond[: gap.size]).any())

    def _add_means(self, base: np.ndarray, raw: np.ndarray) -> None:
        for side, block in enumerate((base, raw)):
            self._sums[side] += float(block.sum())
            self._absolute_sums[side] += float(np.abs(block, out=self._work[: block.size]).sum())

    def _beyond_limit(self, gap: np.ndarray, size: np.ndarray, greatest: float) -> int:
        limit = self._limit
        if limit.of_peak:
            allowed = limit.of_peak * max(limit.peak * self._scale, self._peak)
            return int(np.count_nonzero(gap > allowed)) if greatest > allowed else 0
        absolute = limit.absolute * self._scale
        # As in _add_relative: first whether the block holds a new maximum, or a mismatch, at all.
        bar = min(self._max_of_limit, 1.0)
        work = np.multiply(size, limit.relative * bar, out=self._work[: size.size])
        if absolute:
            np.add(work, absolute * bar, out=work)
        if not self._any_beyond(gap, work):
            return 0
        np.multiply(size, limit.relative, out=work)
        np.add(work, absolute, out=work)
        mismatched = int(np.count_nonzero(np.greater(gap, work, out=self._beyond[: gap.size])))
        np.divide(gap, work, out=work)
        work[gap == 0.0] = 0.0
        self._max_of_limit = max(self._max_of_limit, float(work.max()))
        return mismatched

    def _element(self, block: np.ndarray, side: int, at: int) -> float:
        """Return one element, or one part of a complex one, of a block as the stream brought it."""
        item, part = divmod(at, 2) if self._types[side].is_complex else (at, 0)
        return float(to_float64(block[item : item + 1], self._types[side])[part])

    def _set_aside_nonfinite(self, base: np.ndarray, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Count NaN and Inf; return both blocks with 0 wherever either is not finite, and the number of such places."""
        matching = np.isinf(base) & (base == raw)
        for side, block in enumerate((base, raw)):
            self._nan[side] += int(np.count_nonzero(np.isnan(block)))
            self._inf[side] += int(np.count_nonzero(np.isinf(block)))
        self._matching_inf += int(np.count_nonzero(matching))
        aside = ~(np.isfinite(base) & np.isfinite(raw))
        differing = aside & ~matching
        self._mismatched += int(np.count_nonzero(differing))
        if self._nonfinite_at is None and differing.any():
            at = int(differing.argmax())
            self._nonfinite_at = self._total + at
            self._nonfinite = float(base[at]), float(raw[at])
        return np.where(aside, 0.0, base), np.where(aside, 0.0, raw), int(np.count_nonzero(aside))


def _measured(base: np.ndarray, raw: np.ndarray, at: int) -> tuple[float, float]:
    """Return |raw - base| and |base| of one element of two blocks of float32, in float64."""
    own = float(base[at])
    return abs(float(raw[at]) - own), abs(own)
