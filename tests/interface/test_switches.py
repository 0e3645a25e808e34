"""PaDiff's environment variables, and the ranks of launchers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.ranks import current_rank
from padiff_rpc.interface.switches import api_check, path_log, skip_wrap_layers


@pytest.mark.parametrize(
    ("name", "switch"),
    [
        ("PADIFF_SIKP_WRAP_LAYER", skip_wrap_layers),
        ("PADIFF_SKIP_WRAP_LAYER", skip_wrap_layers),
        ("PADIFF_PATH_LOG", path_log),
        ("PADIFF_API_CHECK", api_check),
    ],
)
@pytest.mark.parametrize(
    ("value", "expected"), [("ON", True), ("TRUE", True), ("1", True), ("OFF", False), ("", False)]
)
def test_a_switch_is_read_at_each_use(
    monkeypatch: pytest.MonkeyPatch, name: str, switch: Callable[[], bool], value: str, expected: bool
) -> None:
    assert switch() is False
    monkeypatch.setenv(name, value)
    assert expected is switch()


def test_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADIFF_API_CHECK", "maybe")
    with pytest.raises(PadiffError) as raised:
        api_check()
    assert raised.value.reason is Reason.BAD_CONFIG
    assert "the environment variable PADIFF_API_CHECK is 'maybe'" == raised.value.message


def test_the_rank_is_the_launchers_of_the_models_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 == current_rank("paddle")
    monkeypatch.setenv("PADDLE_TRAINER_ID", "3")
    monkeypatch.setenv("RANK", "5")
    assert (3, 5) == (current_rank("paddle"), current_rank("torch"))


def test_a_rank_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(PadiffError) as raised:
        current_rank("torch")
    assert raised.value.reason is Reason.BAD_CONFIG
