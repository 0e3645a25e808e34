"""A child process that does one thing at each command: JSON lines on its stdin and stdout, its log in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, Any

from padiff_rpc.errors import PadiffError, Reason

_LOG_TAIL_CHARS = 2000
_END_TIMEOUT_S = 20.0


class Child:
    """One such process. It says {"ready": ...} first, and ends when its stdin does. A context manager."""

    def __init__(self, name: str, command: Sequence[str], cwd: str | os.PathLike[str]) -> None:
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        try:
            self.ready = self.answer()
        except PadiffError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for what comes of it."""
        self.send(**command)
        return self.answer()

    def send(self, **command: Any) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(command) + "\n")
            stdin.flush()
        except BrokenPipeError as err:
            raise self._died() from err

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the last command; WORKER_DIED when the process ends first."""
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise self._died()
        answer = json.loads(line)
        if "error" in answer:
            raise PadiffError(f"{self.name}: {answer['error']}", reason=Reason.MODEL_FAILED)
        return answer

    def close(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _died(self) -> PadiffError:
        status = self._process.wait()
        self._log.seek(0)
        tail = self._log.read().decode(errors="replace")[-_LOG_TAIL_CHARS:].strip()
        return PadiffError(f"{self.name} ended with status {status}:\n{tail}", reason=Reason.WORKER_DIED)


def serve(ready: Mapping[str, Any], prepare: Callable[[], Mapping[str, Callable[..., dict[str, Any]]]]) -> None:
    """Be such a process: answer {"do": NAME, ...} by prepare()[NAME](...) until stdin ends. A PadiffError is an answer too."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    commands = prepare()
    _say(out, ready)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = commands[command.pop("do")](**command)
        except PadiffError as err:
            answer = {"error": str(err)}
        _say(out, answer)


def _say(out: IO[str], answer: Mapping[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()
