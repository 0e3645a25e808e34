"""Layers that run in another order."""

from __future__ import annotations

from padiff_rpc.explain.causes.catalogue.order_of_calls import order_of_calls
from padiff_rpc.per_side import PerSide
from tests.explain.causes.seen import evidence, first, random


def case(base, raw):
    return evidence(
        random(4, 8), random(4, 8, seed=1), tensor="input.0 of 'blocks.1.norm2'", before_it=PerSide(base, raw)
    )


def test_a_norm_that_comes_after_what_it_came_before_is_told():
    cause = first(case(("norm1", "attn"), ("norm1", "attn", "mlp")))

    assert "the norm norm2 comes at another place" in cause.words
    assert "before the tensor comes, raw alone has run mlp" == cause.evidence


def test_the_same_layers_in_another_order_before_the_tensor_are_no_cause():
    assert () == order_of_calls(case(("k", "q"), ("q", "k")))
