"""Deciding between alternatives by how far each leaves the models apart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from padiff_rpc.align.trying.decide import Decision, Fit, Trial
from padiff_rpc.match.layer_map import Alternative, Choice, ParameterLink

WORDS = ("whole", "by heads", "by turns", "backwards")


def choice(what: str, words: Sequence[str] = WORDS, contrary: Sequence[str] = ("backwards",)) -> Choice:
    def links(rule: str) -> tuple[ParameterLink, ...]:
        return (ParameterLink("", "", (what,), (what,), rule, "parameter"),)

    alternatives = tuple(Alternative(word, links(word), word in contrary) for word in words)
    return Choice(what, "", "", alternatives, "a guess")


def decided(*layers: Sequence[float], words: Sequence[str] = WORDS) -> tuple[list[Decision], int]:
    """Try until decided; layers: for each, the error that each alternative leaves. Return the decisions and the rounds."""
    trial = Trial({f"layers.{at}": [choice(f"layers.{at}.qkv", words)] for at in range(len(layers))}, "the outputs of")
    while (numbers := trial.next) is not None:
        errors = [errors[numbers[0]] for errors in layers]
        trial.take(numbers, [Fit(error, error <= 1e-4) for error in errors])
    return trial.decisions(), len(trial.fits)


def test_what_is_expected_and_fits_is_taken_after_one_other() -> None:
    (found,), rounds = decided([2e-7, 0.9, 1e-9, 1e-9])
    assert ("fits", "whole", 2e-7, "by heads", 0.9, False) == (
        found.outcome, found.taken.words, found.error, found.next and found.next.words, found.next_error, found.lead
    )  # fmt: skip
    assert 2 == rounds


def test_what_is_not_expected_is_taken_where_it_alone_fits() -> None:
    (found,), _ = decided([0.9, 0.8, 2e-7, 1.0])
    assert ("fits", "by turns", "by heads", 0.8) == (
        found.outcome, found.taken.words, found.next and found.next.words, found.next_error
    )  # fmt: skip


def test_the_nearest_is_taken_where_a_fault_beside_it_keeps_it_from_fitting() -> None:
    (found,), _ = decided([0.9, 2e-3, 0.9, 1.0])
    assert ("nearest", "by heads") == (found.outcome, found.taken.words)


@pytest.mark.parametrize("errors", [[0.9, 0.02, 0.9, 1.0], [0.9, 0.9, 0.9, 0.9], [float("inf")] * 4])
def test_where_nothing_is_clear_what_is_expected_is_kept(errors: list[float]) -> None:
    (found,), _ = decided(errors)
    assert ("none", "whole") == (found.outcome, found.taken.words)


def test_where_several_fit_the_expected_one_is_kept_and_said_to_be_undecided() -> None:
    (found,), rounds = decided([1e-7, 1e-6, 0.0, 0.9])
    assert ("alike", "whole") == (found.outcome, found.taken.words)
    assert 3 == rounds


def test_what_goes_against_the_name_is_told_and_never_taken() -> None:
    (found,), _ = decided([0.9, 0.9, 0.9, 1e-7])
    assert ("none", "whole", True, "backwards") == (
        found.outcome, found.taken.words, found.lead, found.next and found.next.words
    )  # fmt: skip


def test_one_layer_alone_does_not_change_what_the_others_take() -> None:
    right, wrong = [1e-7, 0.9, 0.9, 0.9], [0.9, 1e-7, 0.9, 0.9]
    for layers in ([right, wrong, right], [wrong, right]):
        found, _ = decided(*layers)
        assert {"whole"} == {one.taken.words for one in found}
    grouped = [0.9, 1e-7, 0.9, 0.9]
    found, _ = decided(grouped, [0.9, 0.9, 1e-7, 0.9], grouped)
    assert {("fits", "by heads")} == {(one.outcome, one.taken.words) for one in found}


def test_matrices_of_one_layer_fall_alike() -> None:
    words = ("as it is", "transposed")
    trial = Trial({"x": [choice("q", words), choice("k", words), choice("w", ("merged", "split"))]}, "the outputs of")
    tried: list[tuple[int, ...]] = []
    while (numbers := trial.next) is not None:
        tried.append(numbers)
        trial.take(numbers, [Fit(1.0, False)])
    assert [(0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)] == sorted(tried)


def test_the_number_of_combinations_is_bounded() -> None:
    words = tuple(map(str, range(30)))
    choices = [choice("a", words), choice("b", words[1:]), choice("c", words[2:])]
    trial = Trial({"x": choices}, "the outputs of")
    rounds = 0
    while (numbers := trial.next) is not None:
        trial.take(numbers, [Fit(1.0, False)])
        rounds += 1
    assert 64 == rounds
