"""Rounding to shorter types."""

from __future__ import annotations

import numpy as np

from padiff_rpc.explain.causes.round_to import rounded_to


def test_values_are_rounded_to_the_nearest_and_ties_to_even():
    assert [1.0, 1.015625, 1.0] == rounded_to(np.array([1 + 2**-9, 1 + 3 * 2**-8, 1 + 2**-8]), "bfloat16").tolist()
    assert [1.0, 1.0009765625] == rounded_to(np.array([1 + 2**-12, 1 + 2**-10]), "float16").tolist()
    assert [1.0] == rounded_to(np.array([1 + 2**-30]), "float32").tolist()
