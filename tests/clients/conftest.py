"""Run the command line in this process, as its user would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from click.testing import CliRunner, Result
from padiff_clients.commands import commands

from tests.servers.harness import numpy_model, serving


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Return a function: arguments -> exit status, stdout, stderr. An exception that escapes is the test's failure."""

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(commands, [str(one) for one in arguments], prog_name="padiff-rpc")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def worker() -> Iterator[Callable[..., str]]:
    """Return a function: factory and its arguments -> address of a worker that hosts the model in this process."""
    with ExitStack() as stack:

        def start(factory: str, **model_args: Any) -> str:
            return stack.enter_context(serving(numpy_model(factory, **model_args))).address

        yield start
