"""A long short-term memory run anew: gates in another order, another forget bias, first state, direction or activation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import best_two, told_share
from padiff_rpc.result import Cause

_ENTRIES = 2
_MOST_STEPS = 8
"""Of a sequence that is run in one direction so many steps show how."""
_MOST = 1 << 24
"""Products of one run up to which it is tried in all ways."""
_GATES = ("input", "forget", "cell", "output")


@dataclass(frozen=True)
class _Form:
    """How it is run; each field is one thing to get wrong."""

    order: tuple[int, ...] = (0, 1, 2, 3)
    forget: float = 0.0
    start: float = 0.0
    time: str = "forward"
    activation: str = "sigmoid"
    second: str = "turned back"
    halves: str = "forward first"


def recurrent(evidence: Evidence) -> Sequence[Cause]:
    """Run the gates that go in through the recurrent matrix, in every known way."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim != 3:
        return ()
    base, raw = pair
    first = evidence.layers.base.hyperparameters.get("batch_first", True)
    if first is False:
        base, raw = base.transpose(1, 0, 2), raw.transpose(1, 0, 2)
    base, raw = base[:_ENTRIES], raw[:_ENTRIES]
    for directions in _directions(evidence, base, first is not False):
        forms: dict[str, _Form] = {}
        if len(directions) == 1:
            directions = [_Direction(one.entering[:, :_MOST_STEPS], one.kept) for one in directions]
        steps = directions[0].entering.shape[1]
        if sum(one.entering[..., 0].size * one.kept.size for one in directions) > _MOST:
            continue

        def named(directions: Sequence[_Direction] = directions, forms: dict[str, _Form] = forms):
            for form in _forms(len(directions)):
                forms[str(form)] = form
                yield str(form), _run(form, directions)

        fit = best_two(base[:, :steps], raw[:, :steps], named())
        if fit is not None:
            words = _in_words(forms[fit.base], forms[fit.raw])
            shown = (
                f"run anew from its weights and what it took, these make the two sides; this {told_share(fit.share)}"
            )
            return (Cause("recurrent", words, shown, 0.97 * fit.share),)
    return ()


@dataclass(frozen=True)
class _Direction:
    """What goes into the gates at each step, [batch, length, 4 width], and the matrix [width, 4 width] of the state."""

    entering: np.ndarray
    kept: np.ndarray


def _directions(evidence: Evidence, base: np.ndarray, batch_first: bool) -> Iterator[list[_Direction]]:
    """Yield the directions' gates and matrices that the layer may have: of a framework's LSTM, or of one written out."""
    held = evidence.parameters
    for source in evidence.sources.values():
        if source.ndim != 3:
            continue
        taken = (source if batch_first else source.transpose(1, 0, 2))[:_ENTRIES]
        if taken.shape[:2] != base.shape[:2] or not np.isfinite(taken).all():
            continue
        found: list[_Direction] = []
        for end in ("", "_reverse"):
            entering, kept = held.get(f"weight_ih_l0{end}"), held.get(f"weight_hh_l0{end}")
            if entering is None or kept is None or entering.shape[1] != taken.shape[-1]:
                break
            biases = [value for name in ("bias_ih", "bias_hh") if (value := held.get(f"{name}_l0{end}")) is not None]
            found.append(_Direction(taken @ entering.T + sum(biases), kept.T))
        if (
            found
            and sum(len(each.kept) for each in found) == base.shape[-1]
            and len(found[0].kept) * 4 == len(found[0].kept.T)
        ):
            yield found
        width = base.shape[-1]
        if taken.shape[-1] == 4 * width:
            for value in held.values():
                if value.shape == (4 * width, width):
                    yield [_Direction(taken, value.T)]
                elif value.shape == (width, 4 * width):
                    yield [_Direction(taken, value)]


def _forms(directions: int) -> Iterator[_Form]:
    usual = _Form()
    yield usual
    for name, values in (
        ("forget", (1.0, -1.0)),
        ("start", (1.0,)),
        ("activation", ("hard sigmoid", "hard sigmoid of slope 0.2")),
        ("time", ("backward",)),
        ("second", ("not turned back",) * (directions > 1)),
        ("halves", ("backward first",) * (directions > 1)),
    ):
        for value in values:
            yield replace(usual, **{name: value})
    for order in permutations(range(4)):
        if order != usual.order:
            yield replace(usual, order=order)


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "hard sigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "hard sigmoid of slope 0.2": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
}


def _run(form: _Form, directions: Sequence[_Direction]) -> np.ndarray:
    made: list[np.ndarray] = []
    for at, direction in enumerate(directions):
        turned = (at == 1) != (form.time == "backward")
        entering = direction.entering[:, ::-1] if turned else direction.entering
        states = _states(form, entering, direction.kept)
        made.append(states[:, ::-1] if turned and not (at == 1 and form.second == "not turned back") else states)
    return np.concatenate(made if form.halves == "forward first" else made[::-1], axis=-1)


def _states(form: _Form, entering: np.ndarray, kept: np.ndarray) -> np.ndarray:
    width, activate = len(kept), _ACTIVATIONS[form.activation]
    hidden = cell = np.full((len(entering), width), form.start)
    states = np.empty((*entering.shape[:2], width))
    for at in range(entering.shape[1]):
        gates = entering[:, at] + hidden @ kept
        parts = [gates[:, place * width : (place + 1) * width] for place in form.order]
        cell = activate(parts[1] + form.forget) * cell + activate(parts[0]) * np.tanh(parts[2])
        hidden = activate(parts[3]) * np.tanh(cell)
        states[:, at] = hidden
    return states


def _in_words(base: _Form, raw: _Form) -> str:
    told: list[str] = []
    for one in fields(_Form):
        mine, theirs = getattr(base, one.name), getattr(raw, one.name)
        if mine != theirs:
            told.append(_WORDS[one.name].format(_told(mine), _told(theirs)))
    return "; ".join(told)


_WORDS = {
    "order": "the gates are in another order: {} in base, {} in raw",
    "forget": "the forget gate has another bias: {} is added in base, {} in raw",
    "start": "the initial state is {} in base, {} in raw",
    "time": "the sequence is run {} in base, {} in raw (direction)",
    "activation": "the gates' activation is {} in base, {} in raw",
    "second": "the backward direction's results are {} in time in base, {} in raw (order)",
    "halves": "the two directions are joined {} in base, {} in raw (order)",
}


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(_GATES[value.index(at)] for at in range(4))
    return f"{value:g}" if isinstance(value, float) else str(value)
