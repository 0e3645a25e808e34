"""Tables of sines and cosines."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.position_tables import position_tables
from padiff_rpc.explain.causes.round_to import rounded_to
from tests.explain.causes.seen import evidence, first, random, rounded

RATES = 1e4 ** -(np.arange(8) / 8)
PLACES = np.arange(32.0)


def table(rates=RATES, places=PLACES):
    angles = np.outer(places, rates)
    return rounded(np.concatenate([np.cos(angles)] * 2, axis=1))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (table(1e3 ** -(np.arange(8) / 8)), "rates (frequencies) of theta 1000 in raw"),
        (table(places=PLACES + 1), "at positions +1 in raw"),
        (table(rounded_to(RATES, "bfloat16")), "in bfloat16 in raw: lower precision inside"),
    ],
)
def test_what_the_table_was_made_with_is_named(raw, words):
    assert words in first(evidence(table(), raw)).words


def test_positions_that_the_layer_took_are_used():
    times = np.array([7.0, 333.0, 40.0, 5.0])
    base, raw = (
        np.concatenate([np.cos(a), np.sin(a)], 1)
        for a in (np.outer(times, 1e3 ** -(np.arange(8) / last)) for last in (8, 7))
    )

    assert "theta 1000 whose last is 1 / theta in raw" in first(evidence(base, raw, sources={"input.0": times})).words


def test_a_random_difference_has_no_cause():
    assert () == position_tables(evidence(table(), np.clip(table() + 0.1 * random(32, 16), -1, 1)))
