"""Every way a command can end badly: what is printed, and the exit status."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner, Result
from padiff_clients.report_errors import handled

from padiff_rpc.errors import WORKER_REASONS, PadiffError, Reason


def run(err: BaseException) -> Result:
    @click.command()
    @handled
    def command() -> None:
        raise err

    return CliRunner().invoke(command, [])


@pytest.mark.parametrize("reason", Reason)
def test_the_reason_decides_between_bad_usage_and_a_failed_worker(reason: Reason):
    result = run(PadiffError("it broke", reason=reason))

    assert result.exit_code == (3 if reason in WORKER_REASONS else 2)
    assert result.stderr == f"error [{reason.value}]: it broke\n"
    assert result.stdout == ""


def test_the_users_frames_and_the_hint_follow_the_message():
    trace = '  File "m.py", line 3, in build\n    1 / 0\nZeroDivisionError: division by zero\n'
    result = run(PadiffError("it raised", reason=Reason.FACTORY_FAILED, hint="mend it", metadata={"traceback": trace}))

    assert result.stderr == (
        "error [FACTORY_FAILED]: it raised\n"
        "in your code:\n"
        '    File "m.py", line 3, in build\n'
        "      1 / 0\n"
        "  ZeroDivisionError: division by zero\n"
        "hint: mend it\n"
    )


def test_an_unexpected_exception_is_called_a_bug_and_shows_its_traceback():
    result = run(KeyError("lost"))

    assert result.exit_code == 3
    assert "Traceback (most recent call last)" in result.stderr
    assert "KeyError: 'lost'" in result.stderr
    assert result.stderr.endswith("this is a bug in padiff-rpc; please report it with the lines above\n")


def test_ctrl_c_is_no_difference():
    assert run(KeyboardInterrupt()).exit_code == 130


def test_clicks_own_usage_errors_stay_2():
    result = run(click.UsageError("no"))

    assert result.exit_code == 2
    assert "Error: no" in result.stderr
