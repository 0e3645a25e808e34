"""What a person reads: verdict, place, numbers, trees, advice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from padiff_rpc.result import Divergence, Extra, LayerRef, Unmatched
from tests.report import results


def test_the_first_line_says_that_pairs_are_guessed_also_where_all_agrees(render):
    pairs = [results.pair("a", "x", 0.5, status="fail")]

    for count, words in ((1, "1 pair of layers is a guess"), (2, "2 pairs of layers are a guess")):
        guessed = [("a", "x"), ("b", "y")][:count]
        assert (
            render(results.result(pairs, guessed_routes=guessed)).splitlines()[0].endswith(f"; {words}: see the notes")
        )
        first = f"ALIGNED  the two models agree; {words}: see the notes"
        assert render(results.aligned(guessed_routes=guessed)).splitlines()[0] == first


def test_an_aligned_result_says_so_with_counts_and_the_worst_error_of_each_stage(render):
    lines = render(results.aligned()).splitlines()

    assert lines[0] == "ALIGNED  the two models agree"
    assert lines[1] == "67 pairs compared: 67 passed, 0 failed; 4 skipped"
    assert lines[2] == "  4 skipped: no gradient on either side"
    assert "  forward     60       0  rel_l2 4e-07    1e-05  encoder output.0" in lines
    assert "  grads        7       0  rel_l2 3e-06    1e-05  embeddings.LayerNorm weight" in lines
    assert "Try next" not in "\n".join(lines)


def test_a_difference_names_layer_tensor_index_allowed_and_found(render):
    text = render(results.bert_differs())

    assert text.startswith("DIFFERS  first at encoder.layer.3.output.LayerNorm (step 0, forward)\n")
    assert "67 pairs compared: 36 passed, 31 failed; 1 skipped" in text
    assert "raw       encoder.layers.3.output.norm2  LayerNorm" in text
    assert "why       its inputs agree, its output does not" in text
    assert "relative L2 error 0.0312, allowed 1e-05 (3,120 times)" in text
    assert "difference 0.125 at [0, 3, 17]: base 0.5321, raw 0.6569" in text
    assert "812 of 98,304 out of tolerance (0.826 %)" in text


def test_both_trees_stand_side_by_side_with_the_layer_marked(render):
    lines = render(results.bert_differs()).splitlines()

    here = [line for line in lines if line.endswith("<--- HERE")]
    assert len(here) == 1
    assert here[0].split() == ["└╴LayerNorm", "LayerNorm", "≠", "└╴norm2", "LayerNorm", "<---", "HERE"]
    assert "      ├╴dense  Linear           =      ├╴linear2  Linear" in lines
    assert any("└╴encoder.layer.3  BertLayer  ≠  └╴encoder.layers.3  TransformerEncoderLayer" in line for line in lines)


def test_hyperparameters_that_differ_are_shown_under_their_own_names(render):
    text = render(results.bert_differs())

    assert "  eps=1e-12  epsilon=0.001\n" in text
    assert "normalized_shape" not in text


def test_the_three_best_causes_are_shown_each_with_its_evidence(render):
    scores = (0.9, 0.85, 0.8, 0.79)
    causes = [
        replace(results.CAUSE, name=str(at), words=f"cause {at}", evidence=f"proof {at}", score=score)
        for at, score in enumerate(scores)
    ]
    lines = [line.strip() for line in render(results.bert_differs(causes=causes)).splitlines()]

    start = lines.index("Likely cause")
    shown = [" ".join(line.split()) for line in lines[start + 1 : start + 7]]
    assert ["cause cause 0", "shown by proof 0", "or else cause 1", "shown by proof 1"] == shown[:4]
    assert not any("cause 3" in line for line in lines)
    assert "Likely cause" not in render(results.bert_differs())
    assert "or else" not in render(results.bert_differs(causes=[causes[0], replace(causes[1], score=0.5)]))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_none_ends_in_blanks(render, width):
    notes = [
        "a note that is long enough to need more than one line at every width that is tried here, and then some more"
    ]
    unmatched = [
        Unmatched("parameter", "encoder.layer.3.attention.self.relative_position_bias_table.weight", "why " * 30, True)
    ]
    for result in (results.bert_differs(notes=notes, unmatched_base=unmatched), results.aligned(notes=notes)):
        lines = render(result, width=width).splitlines()
        assert [line for line in lines if len(line) > width or line != line.rstrip()] == []


def test_piped_text_holds_no_escape_and_a_terminal_gets_colour(render):
    assert "\x1b" not in render(results.bert_differs())
    assert "\x1b[1;31mDIFFERS" in render(results.bert_differs(), terminal=True)


def test_an_ascii_stream_gets_ascii_only(render):
    text = render(results.bert_differs(), encoding="ascii")

    assert "`-LayerNorm  LayerNorm    !      `-norm2  LayerNorm" in text


def test_a_route_that_looks_like_markup_is_printed_as_it_is(render):
    found = results.pair("blocks[red].0", "x", 0.5)
    text = render(
        results.result([found], [results.divergence(found, LayerRef("blocks[red].0", "A"), LayerRef("x", "B"))])
    )

    assert "first at blocks[red].0 " in text


def test_nothing_compared_differs_and_says_why(render):
    skipped = [results.pair("a", "b", None, status="skipped", why="a layer that runs in one model only")]
    text = render(results.result(skipped, aligned=False))

    assert text.startswith("DIFFERS  nothing was compared, so nothing is known to agree\n0 pairs compared:")
    assert "1 skipped: a layer that runs in one model only" in text
    assert "Try next: see above why nothing was compared" in text


def test_a_parameter_without_partner_alone_is_a_difference_that_is_told(render):
    lacking = Unmatched("parameter", "fc.bias", "raw's 'fc' has no such parameter", True)
    text = render(results.result([results.pair("fc", "fc")], aligned=False, unmatched_base=[lacking]))

    assert text.startswith("DIFFERS  what was compared agrees, but 1 has no partner\n")
    assert "  parameter fc.bias: raw's 'fc' has no such parameter [fails]" in text
    assert "--pair BASE=RAW" in text


def test_a_stage_that_should_have_been_compared_and_was_not_is_a_difference_that_is_told(render):
    note = "step 0: no gradient was compared, so this is no pass"
    text = render(results.result([results.pair("fc", "fc")], aligned=False, notes=[note]))

    assert text.startswith("DIFFERS  no pair failed, but not all that was asked was compared: see the notes\n")
    assert note in text


def test_single_step_lists_every_further_layer(render):
    def bad(route: str, error: float) -> Divergence:
        return results.divergence(
            results.pair(route, route, error), LayerRef(route, "Linear"), LayerRef(route, "Linear")
        )

    first, second, third = bad("a", 0.5), bad("b", 0.25), bad("c", math.nan)
    third = replace(third, found_at=replace(third.found_at, failure="nan", why="raw has 3 NaN, base none"))
    pairs = [one.found_at for one in (first, second, third)]
    text = render(results.result(pairs, [first, second, third], settings={"single_step": True}))

    assert text.startswith("DIFFERS  first at a (step 0, forward), and at 2 more layers\n")
    assert "  b  forward, step 0, output.0: values out of tolerance: relative L2 error 0.25, allowed 1e-05" in text
    assert "  c  forward, step 0, output.0: NaN or Inf: raw has 3 NaN, base none" in text


def test_a_bug_between_children_marks_the_parent_and_where_it_was_seen(render):
    trees = {"base": [("", "M"), ("attn", "Attention"), ("attn.q", "Linear"), ("attn.o", "Linear"), ("fc", "Linear")]}
    trees["raw"] = trees["base"]
    found = results.pair("attn.o", "attn.o", 0.5, tensor="input.0")
    one = results.divergence(found, LayerRef("attn", "Attention"), LayerRef("attn", "Attention"))
    paired = [(route, route) for route, _ in trees["base"]]
    text = render(results.result([found], [one], trees=trees, paired_routes=paired))

    marked = [
        line.strip("│├└╴ ").split()[0] + line.partition("<---")[2] for line in text.splitlines() if "<---" in line
    ]
    assert marked == ["attn HERE", "o seen here"]
    assert "tensor    input.0 of attn.o" in text


def test_a_functional_call_is_named_and_the_layer_around_it_is_marked(render):
    trees = {"base": [("", "M"), ("attn", "Attention"), ("attn.q", "Linear"), ("fc", "Linear")]}
    trees["raw"] = trees["base"]
    found = results.pair("attn/divide", "attn/divide", 0.5, call=1)
    why = "its call 1 of divide is the first to differ"
    one = results.divergence(found, LayerRef("attn", "Attention"), LayerRef("attn", "Attention"), why)
    paired = [(route, route) for route, _ in trees["base"]]
    text = render(results.result([found], [one], trees=trees, paired_routes=paired))

    marked = [
        line.strip("│├└╴ ").split()[0] + line.partition("<---")[2] for line in text.splitlines() if "<---" in line
    ]
    assert marked == ["attn HERE"]
    assert f"why       {why}" in text
    assert "tensor    output.0 of attn/divide" in text


def test_the_worst_pair_of_a_stage_is_nan_before_any_number(render):
    pairs = [results.pair("a", "a", 0.5), results.pair("b", "b", 0.5, metrics=results.metrics(math.nan), failure="nan")]
    text = render(results.result(pairs, aligned=False))

    assert "  forward      2       2   rel_l2 nan    1e-05  b output.0" in text.splitlines()


def test_long_lists_are_cut_with_a_count(render):
    unmatched = [Unmatched("layer", f"extra.{i}", f"base has no layer like number {i}", False) for i in range(12)]
    text = render(results.aligned(unmatched_raw=unmatched))

    assert "extra.7:" in text
    assert "extra.8:" not in text
    assert "  ... 4 more (--json FILE has them all)" in text


def test_what_lacks_a_partner_for_one_reason_is_one_line(render):
    unmatched = [Unmatched("buffer", f"bn{i}.num_batches_tracked", "raw counts no batches", False) for i in range(1200)]
    text = render(results.aligned(unmatched_base=unmatched), width=140)

    assert "  base's 1,200 buffers: bn*.num_batches_tracked: raw counts no batches\n" in text


def test_what_needs_a_partner_stands_before_the_notes_with_the_line_for_a_map(render):
    proposal = '[parameters]\n"layers.*.a" = "layers.*.b"'
    lost = [
        Unmatched("parameter", f"layers.{at}.a", f"raw's 'layers.{at}' has no such parameter", True, (), proposal)
        for at in range(24)
    ]
    idle = [Unmatched("layer", "drop", "raw has no Dropout in the same place", False)]
    lines = render(
        results.result([results.pair("fc", "fc")], aligned=False, unmatched_base=[*lost, *idle], notes=["a note"]),
        width=100,
    ).splitlines()

    at = lines.index("Only base has, and needs a partner")
    assert lines[at + 1 : at + 3] == [
        "  24 parameters: layers.*.a: raw's 'layers.*' has no such parameter [fails]",
        '    put into [parameters] of a map: "layers.*.a" = "layers.*.b"',
    ]
    assert at < lines.index("Notes") < lines.index("Without a partner, and needing none")
    assert "  base's layer drop: raw has no Dropout in the same place" in lines
    assert lines[-1].startswith("Try next: put the lines above that are right into a map")


def test_a_line_to_copy_is_not_wrapped(render):
    line = f'"{"a" * 50}" = "{"b" * 50}"'
    assert f"    {line}" in render(results.aligned(notes=[f"to settle it:\n{line}"]), width=60).splitlines()


def test_a_reason_that_is_a_note_is_not_told_twice(render):
    why = "base's table is made from the configuration"
    text = render(results.aligned(notes=[why], unmatched_base=[Unmatched("parameter", "table", why, False)]))
    assert text.count(why) == 1


POOLER = [
    Extra("raw", "parameter", "pooler.dense.weight", "pooler.dense", "fails", "base has no counterpart"),
    Extra("raw", "parameter", "pooler.dense.bias", "pooler.dense", "fails", "base has no counterpart"),
    Extra("raw", "output", "output.1", "pooler", "fails", "only raw returns this output: pooler makes it"),
]


def test_what_one_side_alone_has_is_a_headline_of_its_own_with_the_option_that_accepts_it(render):
    text = render(results.result([results.pair("fc", "fc")], aligned=False, extras=POOLER))

    assert " ".join(text.split()).startswith(
        "DIFFERS only in what one side has: all that both have agrees; only raw has pooler.dense (2 parameters) and output.1 "
    )
    assert "  output.1: only raw returns this output: pooler makes it [fails]" in text
    assert "--allow-extra 'pooler*'" in " ".join(text.split())


def test_what_is_allowed_stands_in_the_first_line(render):
    extras = [
        replace(extra, status="allowed") for extra in (*POOLER, replace(POOLER[0], side="base", name="cls", layer=""))
    ]
    text = render(results.result([results.pair("fc", "fc")], extras=extras))

    assert " ".join(text.split()).startswith(
        "ALIGNED all that both have agrees; allowed: only base has cls; only raw has pooler.dense (2 parameters) and output.1 "
    )


def test_extras_come_after_a_layer_that_differs_and_are_told_where_that_layer_holds_them(render):
    held = Extra("raw", "parameter", "encoder.layers.3.output.norm2.extra", "", "allowed", "allowed by '*'")
    text = render(results.bert_differs(extras=[*POOLER, held]))

    assert text.startswith("DIFFERS  first at encoder.layer.3.output.LayerNorm (step 0, forward)\n")
    assert "only raw has encoder.layers.3.output.norm2.extra here, with values of its own" in " ".join(text.split())


def test_extras_do_not_hide_that_something_was_not_compared(render):
    lacking = ["step 0: no gradient was compared, so this is no pass"]
    text = render(results.result([results.pair("fc", "fc")], aligned=False, extras=POOLER, lacking=lacking))

    assert text.startswith("DIFFERS  no pair failed, but not all that was asked was compared: see the notes\n")
