"""Sizes as people write them."""

from __future__ import annotations

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.store.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("12", 12),
        ("7B", 7),
        ("2G", 2_000_000_000),
        ("2GiB", 2 << 30),
        ("1.5k", 1500),
        ("1.5GB", 1_500_000_000),
        (" 512 MB ", 512_000_000),
        ("1tib", 1 << 40),
        ("4Ki", 4096),
    ],
)
def test_a_size_is_read_with_its_unit(text: str, expected: int) -> None:
    assert expected == parse_size(text)


@pytest.mark.parametrize("text", ["", "lots", "4 bananas", "-1", "1e9", "G", "2GG", "1,5G", "inf"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(PadiffError) as caught:
        parse_size(text)
    assert (Reason.BAD_CONFIG, f"{text!r} is no size") == (caught.value.reason, caught.value.message)
    assert "512MB, 2GiB" in caught.value.hint
