"""Run the command line in this process, as its user would."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from padiff_clients.commands import commands


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Return a function: arguments -> exit status, stdout, stderr. An exception that escapes is the test's failure."""

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(commands, [str(one) for one in arguments], prog_name="padiff-rpc")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
