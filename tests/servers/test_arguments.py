"""The worker program's options."""

from __future__ import annotations

import pytest
from padiff_servers.arguments import parse_arguments


def test_all_options_together() -> None:
    parsed = parse_arguments(
        [
            "torch@a.py:f",
            *("--listen", "unix:/w", "--model-arg", "depth=3", "--model-arg", 'name="x"', "--model-arg", "q=[1, null]"),
            *("--loss", "mine=l.py:loss", "--optimizer", "slow=o.py:make", "--threads", "2", "--lease", "0.5"),
            *("--store-memory", "512MiB", "--store-disk", "1.5GB"),
        ]
    )
    assert {"depth": 3, "name": "x", "q": [1, None]} == dict(parsed.model_arg)
    assert ({"mine": "l.py:loss"}, {"slow": "o.py:make"}) == (dict(parsed.loss), dict(parsed.optimizer))
    assert (512 << 20, 1_500_000_000, 2, 0.5) == (
        parsed.store_memory,
        parsed.store_disk,
        parsed.threads,
        parsed.lease,
    )


def test_it_listens_at_loopback_by_default() -> None:
    assert "127.0.0.1:0" == parse_arguments(["torch@a.py:f"]).listen


def test_sizes_are_written_as_for_diff() -> None:
    parsed = parse_arguments(["torch@a.py:f", "--store-memory", "2G", "--store-disk", "512 mib"])
    assert (2_000_000_000, 512 << 20) == (parsed.store_memory, parsed.store_disk)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "SPEC"),
        (["s", "--model-arg", "depth"], "write NAME=JSON"),
        (["s", "--model-arg", "depth=three"], "is no JSON"),
        (["s", "--model-arg", "not-a-name=1"], "write NAME=JSON"),
        (["s", "--loss", "l.py:loss"], "write NAME=FILE.py:FUNCTION"),
        (["s", "--store-memory", "4 bananas"], "'4 bananas' is no size: write 4096, 512MiB or 4GiB"),
        (["s", "--threads", "0"], "at least 1"),
        (["s", "--lease", "-1"], "no positive number"),
        (["s", "--lease", "inf"], "no positive number"),
        (["s", "--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_bad_usage_ends_with_status_2(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(arguments)
    assert 2 == caught.value.code
    assert text in capsys.readouterr().err
