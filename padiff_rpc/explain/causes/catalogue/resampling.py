"""Another interpolation or pooling of the same image: align_corners, another mode, padding counted or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import best_two, told_share
from padiff_rpc.result import Cause

_PLANES = 1 << 16
"""So many elements of the source, in whole images, show how it was resampled."""


def resampling(evidence: Evidence) -> Sequence[Cause]:
    """Resample each image that the layer took to the size of its output, in each known way."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim != 4:
        return ()
    base, raw = pair
    for name, source in list(evidence.sources.items())[-3:]:
        if source.ndim != 4 or source.shape[:2] != base.shape[:2] or not np.isfinite(source).all():
            continue
        planes = source.reshape(-1, *source.shape[2:])
        every = max(1, -(-source.size // _PLANES))
        cut_base, cut_raw = (array.reshape(-1, *array.shape[2:])[::every] for array in (base, raw))
        fit = best_two(cut_base, cut_raw, _candidates(evidence, planes[::every], cut_base.shape[1:]))
        if fit is not None:
            words = f"base computes {fit.base}, raw computes {fit.raw}"
            shown = f"computed anew from {name}, these make the two sides; this {told_share(fit.share)}"
            return (Cause("other resampling", words, shown, 0.985 * fit.share),)
    return ()


def _candidates(evidence: Evidence, planes: np.ndarray, size: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    if planes.shape[1:] != size:
        for name, matrix in INTERPOLATIONS.items():
            rows, columns = (matrix(source, target) for source, target in zip(planes.shape[1:], size, strict=True))
            yield name, np.matmul(np.matmul(rows, planes), columns.T)
    for kernel, stride, padding in _windows(evidence, planes.shape[1:], size):
        yield from _pooled(planes, kernel, stride, padding, size)


# -- interpolation: a matrix [target, source] along each axis ----------------------------------------------------------
def _places(source: int, target: int, align_corners: bool, from_zero: bool = False) -> np.ndarray:
    """Return where in the source each element of the target lies."""
    at = np.arange(target, dtype=np.float64)
    if align_corners:
        return at * ((source - 1) / (target - 1) if target > 1 else 0.0)
    scale = source / target
    return at * scale if from_zero else (at + 0.5) * scale - 0.5


def _linear(align_corners: bool, from_zero: bool = False) -> Callable[[int, int], np.ndarray]:
    def matrix(source: int, target: int) -> np.ndarray:
        places = np.clip(_places(source, target, align_corners, from_zero), 0.0, source - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, source - 1)
        made = np.zeros((target, source))
        np.add.at(made, (np.arange(target), low), 1.0 - (places - low))
        np.add.at(made, (np.arange(target), high), places - low)
        return made

    return matrix


def _nearest(centred: bool) -> Callable[[int, int], np.ndarray]:
    def matrix(source: int, target: int) -> np.ndarray:
        places = (np.arange(target) + (0.5 if centred else 0.0)) * source / target
        made = np.zeros((target, source))
        made[np.arange(target), np.clip(np.floor(places).astype(int), 0, source - 1)] = 1.0
        return made

    return matrix


def _cubic(align_corners: bool, a: float = -0.75) -> Callable[[int, int], np.ndarray]:
    def weight(distance: np.ndarray) -> np.ndarray:
        x = np.abs(distance)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    def matrix(source: int, target: int) -> np.ndarray:
        places = _places(source, target, align_corners)
        low = np.floor(places).astype(int)
        made = np.zeros((target, source))
        for offset in (-1, 0, 1, 2):
            at = np.clip(low + offset, 0, source - 1)
            np.add.at(made, (np.arange(target), at), weight(places - (low + offset)))
        return made

    return matrix


def _area(source: int, target: int) -> np.ndarray:
    made = np.zeros((target, source))
    for at in range(target):
        low, high = at * source // target, -(-(at + 1) * source // target)
        made[at, low:high] = 1.0 / (high - low)
    return made


INTERPOLATIONS: dict[str, Callable[[int, int], np.ndarray]] = {
    "bilinear interpolation with align_corners=False": _linear(False),
    "bilinear interpolation with align_corners=True": _linear(True),
    "nearest interpolation": _nearest(False),
    "bicubic interpolation with align_corners=False": _cubic(False),
    "bicubic interpolation with align_corners=True": _cubic(True),
    "bilinear interpolation with paddle's align_mode=1": _linear(False, from_zero=True),
    "nearest-exact interpolation": _nearest(True),
    "interpolation by area": _area,
}


# -- pooling -----------------------------------------------------------------------------------------------------------
def _windows(evidence: Evidence, source: tuple[int, ...], target: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Yield (kernel, stride, padding), alike along both axes, that lead from one size to the other; the layer's own first."""
    own = [
        [_one(layer.hyperparameters.get(name)) for name in ("kernel_size", "stride", "padding")]
        for layer in evidence.layers
    ]
    tried = [(kernel, stride or kernel, padding or 0) for kernel, stride, padding in own if kernel]
    if not tried:
        tried = [(k, s, p) for k in (2, 3, 4, 5, 7) for s in range(1, k + 1) for p in range(k // 2 + 1)]
    for kernel, stride, padding in dict.fromkeys(tried):
        sizes = tuple((size + 2 * padding - kernel) // stride + 1 for size in source)
        if kernel > 1 and sizes == target:
            yield kernel, stride, padding


def _one(value: object) -> int | None:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    same = bool(items) and all(item == items[0] for item in items)
    return items[0] if same and isinstance(items[0], int) and not isinstance(items[0], bool) else None


def _pooled(
    planes: np.ndarray, kernel: int, stride: int, padding: int, size: tuple[int, ...]
) -> Iterator[tuple[str, np.ndarray]]:
    def views(array: np.ndarray, fill: float) -> np.ndarray:
        edges = ((0, 0), (padding, padding), (padding, padding)) if array.ndim == 3 else ((padding, padding),) * 2
        padded = np.pad(array, edges, constant_values=fill)
        seen = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(-2, -1))
        return seen[..., ::stride, ::stride, :, :][..., : size[0], : size[1], :, :]

    total = views(planes, 0.0).sum(axis=(-2, -1))
    inside = views(np.ones(planes.shape[1:]), 0.0).sum(axis=(-2, -1))
    yield f"avg_pool of {kernel} that counts the padding", total / kernel**2
    if padding:
        yield f"avg_pool of {kernel} that leaves the padding out", total / inside
    yield f"max_pool of {kernel}", views(planes, -np.inf).max(axis=(-2, -1))
