"""Protocol versions."""

from __future__ import annotations

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire import versions


def test_the_highest_common_version_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PROTOCOL_VERSIONS", (1, 2, 3))
    assert 2 == versions.common_version([0, 1, 2], "unix:/w")


@pytest.mark.parametrize(("theirs", "older"), [([2, 3], "this coordinator"), ([0], "the worker"), ([], "the worker")])
def test_no_common_version_names_both_and_the_older_side(theirs: list[int], older: str) -> None:
    with pytest.raises(PadiffError) as caught:
        versions.common_version(theirs, "unix:/w")
    assert Reason.VERSION_MISMATCH is caught.value.reason
    assert ", ".join(map(str, theirs)) in caught.value.message
    assert "this coordinator 1" in caught.value.message
    assert f"upgrade padiff-rpc in the environment of {older}" == caught.value.hint
