"""The table of functional calls holds each name once, and each spelling for one name."""

from __future__ import annotations

from typing import Literal

import pytest

from padiff_rpc.model import api_names
from padiff_rpc.model.api_names import NAMES, api_name, api_route, spellings

FRAMEWORKS: tuple[Literal["torch", "paddle"], ...] = ("torch", "paddle")


def test_no_name_stands_in_both_parts_of_the_table() -> None:
    assert set() == set(api_names._ALIKE) & set(api_names._UNLIKE)
    assert len(set(api_names._ALIKE)) == len(api_names._ALIKE)


@pytest.mark.parametrize("column", [0, 1], ids=FRAMEWORKS)
def test_no_spelling_stands_for_two_names(column: int) -> None:
    listed = [*api_names._ALIKE, *(one for spelled in api_names._UNLIKE.values() for one in spelled[column].split())]

    assert sorted(set(listed)) == sorted(listed)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_name_has_a_spelling_and_every_spelling_a_name(framework: Literal["torch", "paddle"]) -> None:
    assert NAMES == set(spellings(framework).values())


@pytest.mark.parametrize(
    ("spelling", "torch", "paddle"),
    [
        ("cat", "concat", None),
        ("relu_", "relu", "relu"),
        ("__radd__", "add", "add"),
        ("gather", "gather", "index_select"),
        ("take_along_axis", None, "gather"),
        ("reshape", None, None),
        ("__getitem__", None, None),
    ],
)
def test_a_spelling_is_read_in_its_framework(spelling: str, torch: str | None, paddle: str | None) -> None:
    assert (torch, paddle) == tuple(spellings(framework).get(spelling) for framework in FRAMEWORKS)


@pytest.mark.parametrize("layer", ["", "encoder.0", "odd/name"])
def test_a_name_is_read_out_of_its_route(layer: str) -> None:
    assert "relu" == api_name(api_route(layer, "relu"), layer)
