"""A refusal is short however many layers are alike."""

from __future__ import annotations

from typing import Any

import pytest

from padiff_rpc.align.assign.alike_lines import Problem, alike_lines
from padiff_rpc.align.assign.assign_weights import refuse_extras
from padiff_rpc.errors import PadiffError
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.numpy_framework import nn


def test_alike_problems_become_one_line_with_their_number() -> None:
    problems = [
        Problem(f"layers.{at}.attn.{name}", f"raw's layers.{at}.attn.{name} [4]: shape [4] against [5]")
        for at in range(2)
        for name in "qkv"
    ]
    assert [
        "raw's layers.0.attn.q [4]: shape [4] against [5] (and 5 alike: layers.0.attn.k, layers.0.attn.v, ...)"
    ] == alike_lines(problems, 8)


@pytest.mark.parametrize("other", ["layers.1.q [5]: too long", "layers.1.q [4]: too short", "blocks.1.q [4]: too long"])
def test_another_shape_reason_or_layer_has_a_line_of_its_own(other: str) -> None:
    problems = [Problem("layers.0.q", "layers.0.q [4]: too long"), Problem(other.partition(" ")[0], other)]
    assert [problem.text for problem in problems] == alike_lines(problems, 8)


def test_a_problem_that_comes_twice_counts_once_and_what_is_left_out_is_counted() -> None:
    problems = [Problem(name, f"{name}: wrong in way {name}") for name in ("a", "a", "b", "c", "d")]
    problems = [Problem(each.name, f"{each.text} {each.name * 2}") for each in problems]
    assert ["a: wrong in way a aa", "b: wrong in way b bb", "and 2 more"] == alike_lines(problems, 2)


def test_the_line_for_a_map_follows_its_problem() -> None:
    proposal = '[layers]\n"a.*" = "b.*"'
    problems = [Problem(f"b.{at}", f"raw's layer b.{at} is alone", proposal=proposal) for at in range(3)]
    assert [
        "raw's layer b.0 is alone (and 2 alike: b.1, b.2)",
        '  put into [layers] of a map: "a.*" = "b.*"',
    ] == alike_lines(problems, 8)


class Deep(nn.Layer):
    """Forty blocks with a Linear, and one with a parameter that the other side lacks."""

    def __init__(self, extra: bool, size: int) -> None:
        super().__init__()
        self.layers = nn.LayerList(*(self._block(extra, size) for _ in range(40)))

    def _block(self, extra: bool, size: int) -> nn.Layer:
        block: Any = nn.Layer()
        block.fc, block.norm = nn.Linear(4, size), nn.LayerNorm(4)
        if extra:
            block.conv = nn.Conv2D(2, 2, 1)
        return block


def test_a_refusal_of_many_layers_fits_on_a_screen() -> None:
    base, raw = HostedModel(Deep(False, 4)), HostedModel(Deep(True, 5))
    with pytest.raises(PadiffError) as raised:
        refuse_extras(base.describe(), raw.describe(), match_models(base.describe(), raw.describe()))
    lines = str(raised.value).splitlines()
    assert len(lines) < 15
    assert any("layers.0.conv" in line and "39 alike" in line for line in lines)
