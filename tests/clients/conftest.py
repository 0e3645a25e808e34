"""Run the command line in this process, as its user would. Every result that it makes is held against the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import padiff_clients.diff
import pytest
from click.testing import CliRunner, Result
from padiff_clients.commands import commands

from padiff_rpc.result import Result as AlignResult
from tests.report.schema import every_result_is_valid
from tests.servers.harness import numpy_model, serving

__all__ = ["every_result_is_valid"]


@pytest.fixture(autouse=True)
def _results_are_valid(every_result_is_valid: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check what a `diff` finds even where it writes no JSON."""
    run_diff = padiff_clients.diff.run_diff

    def checked(*args: Any, **kwargs: Any) -> AlignResult:
        result = run_diff(*args, **kwargs)
        result.to_json()
        return result

    monkeypatch.setattr(padiff_clients.diff, "run_diff", checked)


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
