"""A pair takes its verdict over whole, at once and when it is judged anew."""

from __future__ import annotations

from dataclasses import fields

from padiff_rpc.result import Metrics, Pair, Verdict

_METRICS = Metrics(1.0, 1.0, 1.0, 1.0, 1.0, 1, 2, 0, 0, (0,), 0.5, 1.0, "rel_l2")
_FAILED = Verdict("fail", "values", "they differ", _METRICS)


def pair(verdict: Verdict) -> Pair:
    return Pair.of(
        verdict, step=1, stage="grads", base_route="a", raw_route="b", tensor="weight", call=2, base_tensor="w"
    )


def verdict_of(one: Pair) -> Verdict:
    return Verdict(**{field.name: getattr(one, field.name) for field in fields(Verdict)})


def test_a_pair_has_its_place_and_all_of_its_verdict() -> None:
    expected = Pair(1, "grads", "a", "b", 2, "weight", "fail", "they differ", "values", _METRICS, "w")
    assert expected == pair(_FAILED)


def test_a_pair_that_is_judged_anew_keeps_its_place_and_nothing_of_the_verdict_before() -> None:
    skipped = Verdict.skip("it need not be compared")
    again = pair(_FAILED).judged_anew(skipped)
    assert pair(skipped) == again
    assert skipped == verdict_of(again)


def test_a_skipped_verdict_has_no_failure_and_no_metrics() -> None:
    assert Verdict("skipped", "", "why", None) == Verdict.skip("why")
