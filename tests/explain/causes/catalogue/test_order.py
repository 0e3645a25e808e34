"""The same elements at other places."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.order import order
from tests.explain.causes.seen import evidence, first, layers, random, rounded

X = random(4, 6, 24)


@pytest.mark.parametrize(
    ("raw", "name", "words"),
    [
        (X.transpose(0, 2, 1).reshape(X.shape), "axes", "axes 1 and 2 are swapped"),
        (np.roll(X, 1, axis=2), "order", "indices of axis 2 are rotated by -1"),
        (X.reshape(4, 6, 4, 6)[:, :, [2, 0, 3, 1]].reshape(X.shape), "order", "blocks of 6 of axis 2"),
        (X.reshape(4, 6, 2, 12).transpose(0, 1, 3, 2).reshape(X.shape), "order", "axis 2 is interleaved otherwise"),
        (X.reshape(4, 6, 2, 12)[:, :, ::-1].reshape(X.shape), "order", "the halves of axis 2 are swapped"),
        (X[[1, 2, 3, 0]], "order", "indices of axis 0 are rotated by 1"),
    ],
)
def test_elements_that_moved_are_found(raw, name, words):
    cause = first(evidence(X, rounded(raw)))

    assert name == cause.name
    assert words in cause.words


def test_heads_that_are_not_put_back_are_found():
    context = random(3, 6, 32)
    raw = context.reshape(3, 6, 4, 8).transpose(0, 2, 1, 3).reshape(3, 6, 32)

    cause = first(evidence(context, rounded(raw), layers=layers("Attention", num_heads=4)))
    assert "heads and positions are not put back in order (4 heads)" == cause.words


def test_gates_in_another_order_are_called_gates():
    gates = random(64, 5).reshape(4, 16, 5)[[0, 1, 3, 2]].reshape(64, 5)

    cause = first(evidence(random(64, 5), gates, "grads", layers=layers("LSTM")))
    assert "the gates are in another order along axis 0: [0, 1, 3, 2]" == cause.words


def test_a_shift_that_lets_something_else_in_is_found():
    raw = np.concatenate([random(4, 1, 24, seed=3), X[:, :-1]], axis=1)

    cause = first(evidence(X, rounded(raw)))
    assert ("shift", "raw is shifted by +1 along axis 1") == (cause.name, cause.words)
    assert "raw[i] = base[i -1]" in cause.evidence


def test_other_elements_are_no_other_order():
    assert () == order(evidence(X, random(4, 6, 24, seed=8)))


def test_a_second_direction_that_is_not_turned_is_found():
    base = random(3, 8, 16)
    raw = base.copy()
    raw[..., 8:] = raw[:, ::-1, 8:]

    assert "in the second half of the last axis, axis 1 is reversed (its direction)" == first(evidence(base, raw)).words
