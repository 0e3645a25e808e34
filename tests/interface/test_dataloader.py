"""check_dataloader: what agrees, and every way to differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.dataloader import check_dataloader


def batches(count: int = 3) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        {"x": rng.normal(size=(2, 4)).astype("float32"), "label": [np.arange(2), "cat", 3.5, None]}
        for _ in range(count)
    ]


def changed(**changes: Any) -> list[Any]:
    loader = batches()
    loader[1] = {**loader[1], **changes}
    return loader


def test_equal_loaders_agree_in_every_mode(capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("mean", "abs_mean", "strict"):
        assert check_dataloader(batches(), iter(batches()), compare_mode=mode)
    assert "[AutoDiff] dataloaders agree: 15 items compared" in capsys.readouterr().out


def permuted() -> np.ndarray:
    return batches()[1]["x"][::-1].copy()


@pytest.mark.parametrize(
    ("other", "options", "said"),
    [
        (batches(2), {}, "loader 1 ends after 2 batches, the other goes on"),
        (batches(4), {}, "loader 0 ends after 3 batches, the other goes on"),
        (changed(x=batches()[1]["x"] + 1), {}, "batch 1, x: the means differ by 1"),
        (changed(x=batches()[1]["x"].astype("float64")), {}, "batch 1, x: element types differ"),
        (changed(x=batches()[1]["x"][:1]), {}, "batch 1, x: shapes differ"),
        (changed(x=np.full((2, 4), np.nan, "float32")), {}, "batch 1, x: NaN in raw (8 elements)"),
        (changed(x=permuted()), {"compare_mode": "strict"}, "batch 1, x: 8 of 8 elements differ"),
        (changed(label=[np.arange(2) + 1, "cat", 3.5, None]), {}, "batch 1, label.0: 2 of 2 integers differ"),
        (changed(label=[np.arange(2), "dog", 3.5, None]), {}, "batch 1, label.1: 'cat' against 'dog'"),
        (changed(label=[np.arange(2), "cat", "3.5", None]), {}, "batch 1, label.2: F64[] against '3.5'"),
        (changed(label=[np.arange(2), "cat", 3.5]), {}, "batch 1, label.3: only loader 0 has it"),
        (changed(more=1), {}, "batch 1, more: only loader 1 has it"),
    ],
)
def test_each_difference_is_told_for_what_it_is(
    capsys: pytest.CaptureFixture[str], other: list[Any], options: dict[str, Any], said: str
) -> None:
    assert not check_dataloader(batches(), other, **options)
    out = capsys.readouterr().out.splitlines()
    assert "[AutoDiff] check dataloader failed!!!" == out[0]
    assert out[1].startswith(said)


@pytest.mark.parametrize("loader", [[], [{}], [[]], [np.zeros((0, 2))]])
def test_loaders_without_anything_to_compare_do_not_agree(loader: list[Any]) -> None:
    assert not check_dataloader(loader, loader)


def test_a_nan_on_both_sides_is_a_difference() -> None:
    loader = [np.array([np.nan, 1.0])]
    assert not check_dataloader(loader, loader)


def test_tolerances_are_those_given() -> None:
    other = changed(x=batches()[1]["x"] + np.float32(1e-4))
    assert check_dataloader(batches(), other, atol=1e-3, compare_mode="strict")
    assert not check_dataloader(batches(), other, atol=1e-5, compare_mode="strict")


def test_items_that_cannot_be_compared_are_refused_by_name() -> None:
    with pytest.raises(PadiffError) as raised:
        check_dataloader([object()], [object()])
    assert raised.value.reason is Reason.BAD_INPUTS
    assert "items of type object and object cannot be compared" == raised.value.message
