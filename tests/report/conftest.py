"""Render a result as text, at a width, in an encoding. Every result that is shown is held against the schema."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from padiff_rpc.report.terminal import print_result
from padiff_rpc.result import Result
from tests.report.schema import every_result_is_valid

__all__ = ["every_result_is_valid"]

Render = Callable[..., str]


@pytest.fixture(autouse=True)
def _results_are_valid(every_result_is_valid: None) -> None:
    """Check every result that is written."""


@pytest.fixture
def render() -> Render:
    """Return a function: result, width, encoding, terminal -> what is printed."""

    def run(result: Result, width: int = 100, encoding: str = "utf-8", terminal: bool = False) -> str:
        result.to_json()
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        console = Console(
            file=file,
            width=width,
            highlight=False,
            markup=False,
            emoji=False,
            force_terminal=terminal,
            color_system="standard" if terminal else None,
        )
        print_result(result, console)
        file.flush()
        return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]

    return run
