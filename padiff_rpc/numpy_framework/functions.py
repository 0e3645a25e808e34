"""Functions of the NumPy autograd's tensors, of which layers are made."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from padiff_rpc.numpy_framework.autograd import Tensor, apply

_random = threading.local()


def seed_generator(seed: int) -> None:
    """Seed this thread's generator.

    Each thread has its own, so that two models side by side do not share a sequence.
    """
    _random.generator = np.random.RandomState(seed % (1 << 32))


def generator() -> np.random.RandomState:
    """Return this thread's generator, whose sequence for a seed is the same in every NumPy version."""
    if not hasattr(_random, "generator"):
        _random.generator = np.random.RandomState()
    return _random.generator


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map x [..., in] to [..., out] by `weight` [in, out] and `bias` [out]."""
    rows = x.reshape(-1, x.shape[-1]) @ weight
    y = rows.reshape(*x.shape[:-1], weight.shape[1])
    return y if bias is None else y + bias


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Look up rows of `weight` [count, size]: ids [...] become [..., size].

    Raises:
        TypeError: The ids are no integers.
        IndexError: An id lies outside 0..count-1.
    """
    index = ids.values
    if index.dtype.kind not in "iu":
        raise TypeError(f"embedding takes integer ids, not {ids.dtype.value}")
    if index.size and not (index.min() >= 0 and index.max() < weight.shape[0]):
        raise IndexError(f"ids from {index.min()} to {index.max()} do not fit an embedding of {weight.shape[0]} rows")
    return weight[index]


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Normalise exp(x) along one axis; a row of -inf alone gives NaN, as in torch."""
    e = np.exp(x.values - x.values.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return apply(y, (x,), lambda g: (y * (g - (g * y).sum(axis=axis, keepdims=True)),), saves_result=True)


def log_softmax(x: Tensor) -> Tensor:
    """Return the logarithm of softmax along the last axis."""
    shifted = x.values - x.values.max(axis=-1, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return apply(y, (x,), lambda g: (g - np.exp(y) * g.sum(axis=-1, keepdims=True),), saves_result=True)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Return the Gaussian error linear unit, exact ("none") or by "tanh" (Hendrycks and Gimpel, arXiv 1606.08415)."""
    if approximate == "tanh":
        return x * 0.5 * (((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)).tanh() + 1)
    if approximate != "none":
        raise ValueError(f"approximate is 'none' or 'tanh', not {approximate!r}")
    values = x.values
    cdf = np.fromiter(map(math.erf, (values.ravel() * math.sqrt(0.5)).tolist()), np.float64, values.size)
    cdf = (0.5 * (1 + cdf)).reshape(values.shape).astype(values.dtype)

    def vjp(g: np.ndarray) -> tuple[np.ndarray]:
        return (g * (cdf + values * np.exp(-0.5 * values * values) * (1 / math.sqrt(2 * math.pi))),)

    return apply(values * cdf, (x,), vjp, (x,))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise over the last axes, as many as `weight` has, with the biased variance; scale by `weight` and add `bias`."""
    axes = tuple(range(-weight.ndim, 0))
    centred = x - x.mean(axes, keepdims=True)
    return centred / ((centred * centred).mean(axes, keepdims=True) + eps).sqrt() * weight + bias


def batch_norm(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise x [N, C, ...] by mean and variance of shape [C]; scale by `weight` [C] and add `bias` [C]."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    scale = (weight / (variance + eps).sqrt()).reshape(*shape)
    return (x - mean.reshape(*shape)) * scale + bias.reshape(*shape)


def attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float, mask: Tensor | None = None
) -> Tensor:
    """Attend from query [N, L, E] to key and value [N, S, E], in `heads` parts of E.

    Args:
        query: The queries.
        key: The keys.
        value: The values.
        heads: The number of heads, which divides E.
        scale: Multiplies the scores.
        mask: Boolean, broadcast to [N, heads, L, S]; true where a position may be attended to.
    """

    def split(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)

    scores = split(query) @ split(key).transpose(0, 1, 3, 2) * scale
    if mask is not None:
        scores = where(mask, scores, Tensor(np.asarray(-1e4, scores.values.dtype)))
    return (softmax(scores) @ split(value)).transpose(0, 2, 1, 3).reshape(*query.shape)


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element with probability p and scale the rest by 1 / (1 - p), by this thread's generator."""
    kept = generator().random_sample(x.shape) >= p
    return x * Tensor(np.asarray(kept / (1 - p) if p < 1 else kept, x.values.dtype))


def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Choose a where the condition holds and b elsewhere; all three are broadcast to one shape."""
    chosen = condition.values.astype(bool)
    shape = np.broadcast_shapes(chosen.shape, a.shape, b.shape)
    # Adding to zeros broadcasts a and b in the graph, so that NaN in the one not chosen does not leak through a product.
    a, b = (part + Tensor(np.zeros(shape, part.values.dtype)) for part in (a, b))
    return apply(
        np.where(chosen, a.values, b.values), (a, b), lambda g: (np.where(chosen, g, 0), np.where(chosen, 0, g))
    )


def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors along an axis."""
    cuts = np.cumsum([tensor.shape[axis] for tensor in tensors])[:-1]
    values = np.concatenate([tensor.values for tensor in tensors], axis)
    return apply(values, tuple(tensors), lambda g: tuple(np.split(g, cuts, axis)))


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Cross-correlate x [N, C, H, W] with `weight` [O, C, kh, kw], through windows [N, C, H', W', kh, kw].

    The result is [N, O, H', W']; `bias` has the shape [O].

    Raises:
        ValueError: The shapes do not fit each other.
    """
    w = weight.values
    if x.ndim != 4 or x.shape[1] != w.shape[1]:
        raise ValueError(f"an input of shape {x.shape} does not fit a convolution of shape {w.shape}")
    kh, kw = w.shape[2:]
    padded = np.pad(x.values, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, (kh, kw), axis=(2, 3))[:, :, ::stride, ::stride]
    rows, columns = windows.shape[2:4]

    def vjp(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = np.tensordot(g, w, ([1], [0]))  # [N, H', W', C, kh, kw]: what each window gets
        full = np.zeros_like(padded)
        for i in range(kh):
            for j in range(kw):
                place = full[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
                place += parts[..., i, j].transpose(0, 3, 1, 2)
        inner = full[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
        return inner, np.tensordot(g, windows, ([0, 2, 3], [0, 2, 3]))

    y = np.tensordot(windows, w, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)
    result = apply(np.ascontiguousarray(y), (x, weight), vjp, (weight,))  # `padded` is a copy of x
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)
