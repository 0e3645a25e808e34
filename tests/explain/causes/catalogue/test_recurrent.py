"""Recurrent layers, run anew."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.recurrent import recurrent
from tests.explain.causes.seen import evidence, first, layers, random, rounded

X = random(2, 6, 5)
HELD = {
    f"{name}_l0{end}": random(*shape, seed=at) * 0.5
    for end, start in (("", 1), ("_reverse", 11))
    for at, (name, shape) in enumerate(
        (("weight_ih", (16, 5)), ("weight_hh", (16, 4)), ("bias_ih", (16,)), ("bias_hh", (16,))), start
    )
}


def lstm(end="", x=X, order=(0, 1, 2, 3), start=0.0, forget=0.0):
    hidden = cell = np.full((2, 4), start)
    states = []
    for at in range(6):
        gates = x[:, at] @ HELD[f"weight_ih_l0{end}"].T + hidden @ HELD[f"weight_hh_l0{end}"].T
        gates = gates + HELD[f"bias_ih_l0{end}"] + HELD[f"bias_hh_l0{end}"]
        parts = np.split(gates, 4, axis=1)
        i, f, g, o = (parts[place] for place in order)
        i, f, o = (1 / (1 + np.exp(-each)) for each in (i, f + forget, o))
        cell = f * cell + i * np.tanh(g)
        hidden = o * np.tanh(cell)
        states.append(hidden)
    return np.stack(states, 1)


def case(base, raw):
    return evidence(
        rounded(base), rounded(raw), sources={"input.0": X}, parameters=HELD, layers=layers("LSTM", batch_first=True)
    )


def one_way(**changes):
    alone = {name: value for name, value in HELD.items() if not name.endswith("reverse")}
    given = case(lstm(), lstm(**changes))
    return type(given)(**{**vars(given), "parameters": alone})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": (0, 1, 3, 2)}, "the gates are in another order: input, forget, cell, output in base"),
        ({"start": 1.0}, "the initial state is 0 in base, 1 in raw"),
        ({"forget": 1.0}, "the forget gate has another bias: 0 is added in base, 1 in raw"),
    ],
)
def test_what_is_run_otherwise_is_named(changes, words):
    assert first(one_way(**changes)).words.startswith(words)


def test_a_second_direction_that_is_not_turned_back_is_found():
    back = lstm("_reverse", X[:, ::-1])
    base, raw = (np.concatenate([lstm(), second], -1) for second in (back[:, ::-1], back))

    assert "the backward direction's results are turned back in time in base, not turned back in raw" in (
        first(case(base, raw)).words
    )


def test_a_random_difference_has_no_cause():
    both = np.concatenate([lstm(), lstm("_reverse", X[:, ::-1])[:, ::-1]], -1)

    assert () == recurrent(case(both, both + 0.1 * random(2, 6, 8, seed=5)))
