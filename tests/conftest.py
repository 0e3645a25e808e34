"""Every suite: a test that starts a process carries the mark `processes` (or `e2e`), or it fails."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest

# gRPC writes lines of its own ("Got goaway") into stderr, which some tests read; when it does, hangs on the machine's load.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_STARTS = {"subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec"}
_started: list[str] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in _STARTS:
        _started.append(f"{event} {arguments[0] if arguments else ''}")


# Python raises these events wherever the call comes from, so that no way to start a process goes past the mark.
# Not while coverage traces: under Python 3.11 two threads then cannot start at once, since sys.settrace is no more atomic
# where there is a hook, and fails ("Cannot install a trace function while another trace function is being installed").
if sys.gettrace() is None:
    sys.addaudithook(_note)


def pytest_collection_finish() -> None:
    _started.clear()  # what importing a framework starts is no test's
    # A worker collects garbage after each session. Without this it would walk all the tests' modules every time.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def processes_are_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process without a mark: `make test-fast` would grow slow by it."""
    yield
    started = _started.copy()
    _started.clear()
    marks = {mark.name for mark in request.node.iter_markers()}
    if not marks & {"processes", "e2e"}:
        assert [] == started, "a test that starts a process needs @pytest.mark.processes"
