"""Another function of the same tensor: tanh GELU for erf GELU, ReLU for ReLU6, another slope, softmax over another axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import permutations

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import TwoFits, best_two, explained, sampled, square, told_share
from padiff_rpc.result import Cause

Elementwise = Callable[[np.ndarray], np.ndarray]

_ELEMENTS = 1 << 13
"""An elementwise function shows in so many elements as well as in all."""
_IN_WHOLE = 1 << 17
"""So many elements are taken where whole axes count."""
_SOURCES = 4
"""How many of the tensors that were there last are tried."""
_CAPS = (10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 100.0)
_SLOPES = (0.0, 0.01, 0.1, 0.2, 0.25, 0.3, 1.0)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


FUNCTIONS: dict[str, Elementwise] = {
    "no function": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "gelu by tanh": lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
    "gelu by sigmoid(1.702 x)": lambda x: x * _sigmoid(1.702 * x),
    "silu": lambda x: x * _sigmoid(x),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softplus": _softplus,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0.0))),
    "hardswish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "hardsigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "hardsigmoid of slope 0.2": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "hardtanh": lambda x: np.clip(x, -1.0, 1.0),
    "leaky_relu(0.01)": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky_relu(0.1)": lambda x: np.where(x > 0, x, 0.1 * x),
    "leaky_relu(0.2)": lambda x: np.where(x > 0, x, 0.2 * x),
    "leaky_relu(0.25)": lambda x: np.where(x > 0, x, 0.25 * x),
    "leaky_relu(0.3)": lambda x: np.where(x > 0, x, 0.3 * x),
    "relu squared": lambda x: np.maximum(x, 0.0) ** 2,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "log_sigmoid": lambda x: -_softplus(-x),
    "exp": np.exp,
    "square": np.square,
}
_GATES = ("silu", "gelu", "gelu by tanh", "sigmoid", "relu", "no function")


def other_function(evidence: Evidence) -> Sequence[Cause]:
    """Fit both sides by the known functions of each tensor that the layer had, then of gated products of two of them."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward":
        return ()
    base, raw = pair
    sources = [
        (name, source)
        for name, source in list(evidence.sources.items())[-_SOURCES:]
        if source.shape == base.shape and np.isfinite(source).all()
    ]
    found: list[Cause] = []
    for name, source in sources:
        cut_base, cut_raw, cut = sampled(_ELEMENTS, base, raw, source)
        fit = best_two(cut_base, cut_raw, _elementwise(cut_base, cut_raw, cut))
        fit = fit or best_two(_front(base), _front(raw), _along_axes(_front(source)))
        if fit is not None:
            found.append(_cause(fit, name))
    for (name, gate), (other, up) in permutations(sources, 2):
        cut_base, cut_raw, cut_gate, cut_up = sampled(_ELEMENTS, base, raw, gate, up)
        fit = best_two(cut_base, cut_raw, _gated(name, cut_gate, other, cut_up))
        if fit is not None:
            found.append(_cause(fit, f"{name} and {other}"))
    return found or list(_added(base, raw))


def _cause(fit: TwoFits, of: str) -> Cause:
    return Cause(
        "other function",
        f"base computes {fit.base}, raw computes {fit.raw}",
        f"computed anew from {of}, the two make both sides; this {told_share(fit.share)}",
        0.98 * fit.share,
    )


def _added(base: np.ndarray, raw: np.ndarray) -> Iterator[Cause]:
    """Find a function that one side alone applies to what the other returns."""
    for side, plain, changed in (("raw", base, raw), ("base", raw, base)):
        other = "base" if side == "raw" else "raw"
        cut, cut_changed = sampled(_ELEMENTS, plain, changed)
        tried: list[tuple[str, float]] = [
            (name, _explained(cut, cut_changed, function(cut)))
            for name, function in FUNCTIONS.items()
            if name != "no function"
        ]
        tried += [
            (f"a cap, {cap:g} x tanh(x / {cap:g})", _explained(cut, cut_changed, cap * np.tanh(cut / cap)))
            for cap in _CAPS
        ]
        tried += [(name, _explained(_front(plain), _front(changed), one)) for name, one in _along_axes(_front(plain))]
        name, share = max(tried, key=lambda each: each[1])
        if share >= 0.98:
            yield Cause(
                "other function",
                f"{side} applies {name} here, and {other} does not",
                f"{side} is {name} of {other}'s tensor; this {told_share(share)}",
                0.94 * share,
            )
            return


def _explained(plain: np.ndarray, changed: np.ndarray, alternative: np.ndarray) -> float:
    """Return the share that is explained, also of how the changed tensor varies: a softmax is all but constant."""
    varies = square(changed - changed.mean())
    rest = square(changed - alternative) if alternative.shape == changed.shape else np.inf
    return min(explained(plain, changed, alternative), 1.0 - rest / varies) if varies else 0.0


def _elementwise(base: np.ndarray, raw: np.ndarray, source: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for name, function in FUNCTIONS.items():
        yield name, function(source)
    below = np.minimum(source, 0.0)
    for tensor in (base, raw):
        for name, shape in (("leaky_relu", below), ("elu", np.expm1(below))):
            size = float(np.vdot(shape, shape))
            slope = float(np.vdot(shape, tensor)) / size if size else 0.0
            if not any(abs(slope - known) < 1e-3 for known in _SLOPES):
                yield f"{name}({slope:.4g})", np.where(source > 0, source, slope * shape)
    for cap in _CAPS:
        yield f"a cap, {cap:g} x tanh(x / {cap:g})", cap * np.tanh(source / cap)


def _front(array: np.ndarray) -> np.ndarray:
    """Return the first entries of the first axis, so that the others are whole and not too much is computed."""
    return array[: max(1, _IN_WHOLE // max(1, array.size // len(array)))] if array.ndim else array


def _along_axes(source: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for axis in range(source.ndim):
        if source.shape[axis] > 1:
            shifted = source - source.max(axis=axis, keepdims=True)
            total = np.exp(shifted).sum(axis=axis, keepdims=True)
            yield f"softmax over axis {axis}", np.exp(shifted) / total
            yield f"log_softmax over axis {axis}", shifted - np.log(total)


def _gated(name: str, gate: np.ndarray, other: str, up: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    for function in _GATES:
        yield f"{function}({name}) x {other}", FUNCTIONS[function](gate) * up
        if function != "no function":
            yield f"{function}({other}) x {name}", FUNCTIONS[function](up) * gate
