"""The pass over two streams: metrics equal to plain NumPy, whatever the chunks, sizes and magnitudes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from padiff_rpc.compare.kernel import Differences, Known, Limit, measure
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.float64 import BLOCK_ITEMS
from padiff_rpc.tensors.tensor import Tensor
from tests.compare.streams import bfloat16, cut, tensor

ODD_CHUNKS = (4099, 70001)
"""Chunk sizes that cut elements in two, differently on the two sides."""


def found(base: Tensor, raw: Tensor, limit: Limit | None = None, **options: object) -> Differences:
    return measure(cut(base, ODD_CHUNKS[0]), cut(raw, ODD_CHUNKS[1]), limit or Limit(), **options)  # type: ignore[arg-type]


def random_pair(count: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    base = rng.normal(size=count)
    return base.astype(dtype), (base + 1e-3 * rng.normal(size=count)).astype(dtype)


@pytest.mark.parametrize("count", [1, 17, BLOCK_ITEMS - 1, BLOCK_ITEMS, BLOCK_ITEMS + 1, 3 * BLOCK_ITEMS + 5])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_metrics_equal_those_of_plain_numpy(count: int, dtype: type) -> None:
    base, raw = random_pair(count, np.float64)
    if dtype is np.int32:
        base, raw = np.rint(base * 1000), np.rint(raw * 1000)
    base, raw = base.astype(dtype), raw.astype(dtype)
    b, r = base.astype(np.float64), raw.astype(np.float64)
    gap = np.abs(r - b)
    got = found(tensor(base), tensor(raw), Limit(absolute=1e-4, relative=1e-3), with_means=True)
    assert (count, gap.max(), int(gap.argmax())) == (got.total, got.max_abs, got.worst_at)
    assert got.mismatched == np.count_nonzero(gap > 1e-4 + 1e-3 * np.abs(b))
    nonzero = b != 0
    assert got.max_rel == pytest.approx((gap[nonzero] / np.abs(b[nonzero])).max(), rel=1e-12)
    assert got.mean_abs == pytest.approx(gap.mean(), rel=1e-12)
    assert got.rel_l2 == pytest.approx(np.linalg.norm(gap) / np.linalg.norm(b), rel=1e-12)
    assert got.cosine == pytest.approx(b @ r / np.linalg.norm(b) / np.linalg.norm(r), abs=1e-14)
    assert got.peak == np.abs(b).max()
    assert got.max_of_limit == pytest.approx((gap / (1e-4 + 1e-3 * np.abs(b))).max(), rel=1e-12)
    assert got.means == pytest.approx((b.mean(), r.mean()), rel=1e-12)
    assert got.absolute_means == pytest.approx((np.abs(b).mean(), np.abs(r).mean()), rel=1e-12)
    assert got.worst == (b[gap.argmax()], r[gap.argmax()])


def test_what_digests_tell_changes_no_metric() -> None:
    base, raw = (tensor(array) for array in random_pair(2 * BLOCK_ITEMS + 7))
    limit = Limit(absolute=1e-4, relative=1e-3)
    norms = [float(np.linalg.norm(side.to_array().astype(np.float64))) for side in (base, raw)]
    peak = float(np.abs(base.to_array()).max())
    told, measured = found(base, raw, limit, known=Known(norms[0], norms[1], peak)), found(base, raw, limit)
    assert (told.rel_l2, told.cosine) == pytest.approx((measured.rel_l2, measured.cosine), rel=1e-12)
    assert replace(told, rel_l2=0.0, cosine=0.0) == replace(measured, rel_l2=0.0, cosine=0.0)


def singles(seed: int, count: int = 2 * BLOCK_ITEMS + 7) -> tuple[np.ndarray, np.ndarray]:
    """Give float32 that agree closely, of all sizes, with zeros, and with some that are not within twice of each other."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=count) * 10.0 ** rng.integers(-12, 3, count)
    raw = base * (1 + 1e-6 * rng.normal(size=count))
    base[rng.random(count) < 0.2] = 0.0
    far = rng.random(count) < 0.05
    raw = np.where(far, 1e-7 * rng.normal(size=count), np.where(base == 0.0, 0.0, raw))
    return base.astype(np.float32), raw.astype(np.float32)


def with_known(base: np.ndarray, raw: np.ndarray, limit: Limit) -> Differences:
    wide = base.astype(np.float64), raw.astype(np.float64)
    norms = [float(np.linalg.norm(side)) for side in wide]
    return found(tensor(base), tensor(raw), limit, known=Known(norms[0], norms[1], float(np.abs(wide[0]).max())))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("relative", [0.0, 1e-7, 1e-6, 1e-4])
@pytest.mark.parametrize("absolute", [0.0, 1e-9, 1e-6, 1e-3])
def test_float32_is_judged_as_float64_would(seed: int, relative: float, absolute: float) -> None:
    base, raw = singles(seed)
    b, r = base.astype(np.float64), raw.astype(np.float64)
    gap, allowed = np.abs(r - b), absolute + relative * np.abs(b)
    got = with_known(base, raw, Limit(absolute=absolute, relative=relative))
    assert got.mismatched == np.count_nonzero(gap > allowed)
    assert (got.max_abs, got.worst_at) == (gap.max(), int(gap.argmax()))
    assert got.worst == (b[got.worst_at], r[got.worst_at])
    assert got.mean_abs == pytest.approx(gap.mean(), rel=1e-6)
    assert got.rel_l2 == pytest.approx(np.linalg.norm(gap) / np.linalg.norm(b), rel=1e-6)
    assert got.max_rel == pytest.approx((gap[b != 0] / np.abs(b[b != 0])).max(), rel=1e-6)
    if absolute:
        assert got.max_of_limit == pytest.approx((gap / allowed).max(), rel=1e-6)


@pytest.mark.parametrize("absolute", [0.0, 1e-6])
@pytest.mark.parametrize("place", [0, BLOCK_ITEMS + 3, 3 * BLOCK_ITEMS - 1])
def test_the_worst_element_is_found_where_all_are_of_one_size(place: int, absolute: float) -> None:
    rng = np.random.default_rng(place)
    base = rng.uniform(1.0, 2.0, 3 * BLOCK_ITEMS).astype(np.float32)
    raw = base + (1e-6 * rng.integers(-2, 3, base.size)).astype(np.float32)
    base[place], raw[place] = 1.0, 1.0 + 2.0**-18  # the greatest by every measure, if by little
    gap, allowed = np.abs(raw.astype(np.float64) - base), absolute + 1e-5 * base.astype(np.float64)
    got = with_known(base, raw, Limit(absolute=absolute, relative=1e-5))
    assert place == int((gap / allowed).argmax())
    assert (got.max_rel, got.worst_at) == (pytest.approx((gap / base).max(), rel=1e-6), place)
    assert got.max_of_limit == pytest.approx((gap / allowed).max(), rel=1e-6)


@pytest.mark.parametrize("beyond", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("place", [0, BLOCK_ITEMS + 3])
def test_one_float32_at_its_limit_is_judged_to_the_last_digit(beyond: int, place: int) -> None:
    base = np.full(2 * BLOCK_ITEMS, 1.0, np.float32)
    raw = base.copy()
    for _ in range(1000 + beyond):
        raw[place] = np.nextafter(raw[place], np.float32(2))
    limit = 1000 * 2.0**-23
    got = with_known(base, raw, Limit(relative=limit))
    assert (max(beyond, 0) and 1) == got.mismatched
    scaled = with_known(base, raw, Limit(of_peak=limit))
    assert (max(beyond, 0) and 1) == scaled.mismatched


@pytest.mark.parametrize("place", [0, BLOCK_ITEMS - 1, BLOCK_ITEMS, 2 * BLOCK_ITEMS, 2 * BLOCK_ITEMS + 6])
def test_greatest_difference_is_found_on_either_side_of_a_block_border(place: int) -> None:
    base, raw = random_pair(2 * BLOCK_ITEMS + 7)
    raw[place] = base[place] - 3
    got = found(tensor(base), tensor(raw))
    assert (got.worst_at, got.worst) == (place, (float(base[place]), float(raw[place])))


def test_first_of_equally_great_differences_is_named() -> None:
    base = np.zeros(2 * BLOCK_ITEMS, np.float32)
    raw = base.copy()
    raw[[100, BLOCK_ITEMS + 3]] = 1.0
    assert found(tensor(base), tensor(raw)).worst_at == 100


@pytest.mark.parametrize("chunks", [(1, 3), (7, 1 << 20), (1 << 20, 4)])
def test_chunks_may_be_cut_anywhere(chunks: tuple[int, int]) -> None:
    base, raw = (tensor(side) for side in random_pair(1000))
    whole = measure(cut(base, 1 << 20), cut(raw, 1 << 20), Limit())
    assert measure(cut(base, chunks[0]), cut(raw, chunks[1]), Limit()) == whole


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("side", ["base", "raw"])
def test_stream_of_the_wrong_length_is_data_loss(side: str, change: int) -> None:
    right = tensor(np.ones(1000, np.float32))
    wrong = cut(tensor(np.ones(1000 + change, np.float32)), 300, "short")
    wrong.spec = right.spec
    streams = (wrong, cut(right, 300)) if side == "base" else (cut(right, 300), wrong)
    with pytest.raises(
        PadiffError, match=rf"'short' of F32\[1000\] takes 4000 bytes, its stream brought {4000 + 4 * change}"
    ) as error:
        measure(*streams, Limit())
    assert error.value.reason is Reason.DATA_LOSS


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_magnitudes_whose_squares_leave_float64_are_still_measured(size: float) -> None:
    base, raw = random_pair(1000, np.float64)
    plain = found(tensor(base), tensor(raw), Limit(of_peak=3e-4))
    got = found(tensor(base * size), tensor(raw * size), Limit(of_peak=3e-4), magnitude=4 * size)
    assert got.rel_l2 == pytest.approx(plain.rel_l2, rel=1e-9)
    assert got.cosine == pytest.approx(plain.cosine, abs=1e-12)
    assert got.max_abs == pytest.approx(plain.max_abs * size, rel=1e-9)
    assert got.mean_abs == pytest.approx(plain.mean_abs * size, rel=1e-9)
    assert got.mismatched == plain.mismatched > 0


def test_smallest_numbers_of_float64_are_told_apart() -> None:
    got = found(tensor(np.array([0.0, 5e-324])), tensor(np.array([5e-324, 5e-324])), magnitude=5e-324)
    assert (got.max_abs, got.rel_l2, got.worst_at) == (5e-324, 1.0, 0)


def test_differences_beyond_float64_range_do_not_vanish() -> None:
    got = found(tensor(np.array([1.7e308])), tensor(np.array([-1.7e308])), magnitude=1.7e308)
    assert (got.rel_l2, got.nonfinite_at) == (2.0, None)


def test_base_of_zeros_gives_an_absolute_norm() -> None:
    got = found(tensor(np.zeros(4, np.float32)), tensor(np.array([3, 0, 4, 0], np.float32)))
    assert (got.rel_l2, got.cosine, got.max_rel, got.peak) == (5.0, 0.0, 0.0, 0.0)


def test_negative_zero_equals_zero() -> None:
    got = found(tensor(np.array([0.0, -0.0])), tensor(np.array([-0.0, 0.0])))
    assert (got.max_abs, got.mismatched, got.cosine, got.worst) == (0.0, 0, 1.0, None)


def test_nan_and_inf_are_counted_and_left_out_of_the_sums() -> None:
    inf, nan = np.inf, np.nan
    base = np.array([1, inf, -inf, inf, nan, 2, 0], np.float32)
    raw = np.array([1, inf, inf, 5, nan, 3, -inf], np.float32)
    got = found(tensor(base), tensor(raw))
    assert (got.nan, got.inf, got.matching_inf) == ((1, 1), (3, 3), 1)
    assert (got.nonfinite_at, got.nonfinite) == (2, (-inf, inf))
    assert (got.max_abs, got.worst_at, got.peak) == (1.0, 5, 2.0)
    assert got.mean_abs == 0.5
    assert got.rel_l2 == pytest.approx(1 / np.sqrt(5))
    assert got.mismatched == 5


def test_nan_in_a_later_block_is_placed() -> None:
    base, raw = random_pair(2 * BLOCK_ITEMS)
    raw[BLOCK_ITEMS + 9] = np.nan
    assert found(tensor(base), tensor(raw)).nonfinite_at == BLOCK_ITEMS + 9


def test_int64_beyond_2_to_53_is_compared_as_integers() -> None:
    base = np.array([0, 1 << 60, -(1 << 63)], np.int64)
    raw = np.array([0, (1 << 60) + 1, (1 << 63) - 1], np.int64)
    got = found(tensor(base[:2]), tensor(raw[:2]))
    assert (got.max_abs, got.mismatched, got.worst) == (1.0, 1, (1 << 60, (1 << 60) + 1))
    assert found(tensor(base), tensor(raw)).max_abs == 2.0**64


def test_uint64_does_not_wrap() -> None:
    got = found(tensor(np.array([1, 2**64 - 1], np.uint64)), tensor(np.array([2, 0], np.uint64)))
    assert (got.max_abs, got.mismatched, got.worst) == (2.0**64, 2, (2**64 - 1, 0))


def test_any_byte_but_zero_is_true() -> None:
    base = tensor(np.array([True, False, True]))
    raw = Tensor(base.spec, memoryview(bytes([255, 0, 0])))
    got = found(base, raw)
    assert (got.mismatched, got.worst_at, got.worst) == (1, 2, (1, 0))


def test_bfloat16_is_promoted_before_it_is_subtracted() -> None:
    values = np.array([1.0, 2.5, -3e38], np.float32)
    got = found(tensor(values), bfloat16(values + np.array([0, 2**-7, 0], np.float32)))
    assert got.worst_at == 2
    assert got.max_abs == abs(float(np.array([0xFF62 << 16], np.uint32).view(np.float32)[0]) - float(values[2]))


def test_complex_is_taken_by_parts() -> None:
    base = np.array([1 + 2j, 3 - 4j], np.complex64)
    raw = np.array([1 + 2j, 3 - 3j], np.complex64)
    got = found(tensor(base), tensor(raw))
    assert (got.total, got.max_abs, got.worst_at) == (4, 1.0, 3)
    assert got.rel_l2 == pytest.approx(np.linalg.norm(raw - base) / np.linalg.norm(base), rel=1e-12)
