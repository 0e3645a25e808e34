"""A worker's process: start it, hear that it is ready, say how it died, end it."""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.channel import UNIX_PATH_LIMIT_BYTES

log: logging.Logger = logging.getLogger(__name__)

TAIL_LINES = 100
"""How many of the last lines of the worker's stderr are kept."""
TAIL_LINE_BYTES = 1000
"""Longer lines are cut into several."""
SHOWN_LINES = 10
"""How many of the kept lines an error's message shows; all of them are in metadata["stderr"]."""
DEATH_WAIT_S = 2.0
"""How long after its connection broke a process may take to be seen dead."""
END_GRACE_S = 5.0
"""How long a process may take to end after SIGTERM, before it is killed."""
PROBE_TIMEOUT_S = 60.0
# Tells a Python without padiff-rpc, or without what it needs, from a worker that failed for its own reasons.
PROBE = """
try:
    import padiff_servers.service
except ImportError as err:
    print(err.name)
    raise SystemExit(7)
"""


class WorkerProcess:
    """A worker process that lives no longer than this one: its stdin is a pipe whose other end only this process holds.

    It listens at a unix socket in a private folder, `address`, and its stderr is read and its end kept for errors.

    Args:
        python: The interpreter to run.
        arguments: Arguments of the worker program, which begin with the SPEC.
        name: Names the worker in errors and logs, such as by its SPEC.
        cwd: The process's folder; None takes this process's.
        env: Environment variables to set beside this process's own.

    Raises:
        PadiffError: BAD_CONFIG if the interpreter cannot be started.
    """

    def __init__(
        self, python: str, arguments: Sequence[str], *, name: str, cwd: str | None, env: Mapping[str, str] | None
    ) -> None:
        """Start `python -m padiff_servers ARGUMENTS`."""
        self._python = python
        self._name = name
        self._folder = _socket_folder()
        self._ended = False
        self.address: str = f"unix:{self._folder}/worker.sock"
        announced, announce = os.pipe()
        self._announced = announced
        command = [python, "-m", "padiff_servers", *arguments]
        command += ["--listen", self.address, "--announce-fd", str(announce), "--lifeline"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env={**os.environ, **env} if env else None,
                pass_fds=(announce,),
                start_new_session=True,  # Ctrl-C in a terminal is for the coordinator, which then ends its workers
            )
        except OSError as err:
            os.close(announced)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise PadiffError(
                f"cannot start Python {python!r}: {err.strerror}",
                reason=Reason.BAD_CONFIG,
                hint="name the interpreter of the environment that holds the framework, such as .venv/bin/python",
            ) from err
        finally:
            os.close(announce)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._reader = threading.Thread(target=self._read_stderr, name="worker stderr", daemon=True)
        self._reader.start()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return once the worker serves.

        Raises:
            PadiffError: The error that the worker reports; TIMED_OUT if it is not ready after `timeout_s` seconds.
            PadiffError: If its process ended: BAD_CONFIG if this Python lacks what a worker needs, or the worker
                refused its options, otherwise WORKER_DIED.
        """
        line = self._announcement(time.monotonic() + timeout_s)
        if line is None:
            raise PadiffError(
                f"the worker of {self._name!r} was not ready after {timeout_s:g} s{self._last_words()}",
                reason=Reason.TIMED_OUT,
                hint="is its model that slow to load? pass a longer start_timeout_s",
                metadata=self._facts(),
            )
        if not line:
            self._process.wait()
            raise self._unusable_python() or self._death()
        announcement = json.loads(line)
        error = announcement.get("error")
        if error is not None:
            raise PadiffError(
                error["message"], reason=Reason(error["reason"]), hint=error["hint"], metadata=error["metadata"]
            )

    def explain(self, error: PadiffError) -> PadiffError:
        """Return a better error for a connection that broke because the process ended: WORKER_DIED, and how it ended.

        Returns any other error as it is. It is BAD_CONFIG instead if the worker refused its options.
        """
        if error.reason is not Reason.WORKER_UNREACHABLE:
            return error
        try:
            self._process.wait(DEATH_WAIT_S)
        except subprocess.TimeoutExpired:
            return error
        return self._death()

    def end(self) -> None:
        """End the process, by force if it does not end within END_GRACE_S, and remove its socket. Idempotent."""
        if self._ended:
            return
        self._ended = True
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(END_GRACE_S)
        except subprocess.TimeoutExpired:
            log.warning("the worker of %r did not end within %g s; killing it", self._name, END_GRACE_S)
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._reader.join(DEATH_WAIT_S)
        if self._process.stderr is not None and not self._reader.is_alive():
            self._process.stderr.close()
        os.close(self._announced)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _announcement(self, deadline: float) -> bytes | None:
        """Read the one line that the worker writes; b"" if the process ended without it, None if late."""
        line = b""
        poller = select.poll()
        poller.register(self._announced, select.POLLIN | select.POLLHUP)
        while not line.endswith(b"\n"):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            # A child of the worker may hold the pipe open after the worker's death: look at the process too.
            if poller.poll(min(left_s, 0.25) * 1000):
                piece = os.read(self._announced, 1 << 16)
                if not piece:
                    return b""
                line += piece
            elif self._process.poll() is not None:
                return b""
        return line

    def _unusable_python(self) -> PadiffError | None:
        """Ask the interpreter which package it lacks; return None if it can run a worker."""
        try:
            done = subprocess.run(
                [self._python, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            log.debug("probing %r failed: %s", self._python, err)
            return None
        if done.returncode != 7:
            return None
        return PadiffError(
            f"Python {self._python!r} cannot run a worker: it has no {done.stdout.strip()}",
            reason=Reason.BAD_CONFIG,
            hint=f"install padiff-rpc there: {self._python} -m pip install padiff-rpc",
            metadata={"python": self._python},
        )

    def _death(self) -> PadiffError:
        self._reader.join(DEATH_WAIT_S)
        status = self._process.returncode
        how = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with exit status {status}"
        return PadiffError(
            f"the worker of {self._name!r} {how}{self._last_words()}",
            reason=Reason.BAD_CONFIG if status == 2 else Reason.WORKER_DIED,  # 2: it refused its options
            hint="SIGKILL often means that the host ran out of memory" if status == -signal.SIGKILL else "",
            metadata=self._facts(),
        )

    def _last_words(self) -> str:
        lines = list(self._tail)[-SHOWN_LINES:]
        return "".join(["; the last it said:", *(f"\n    {line}" for line in lines)]) if lines else ""

    def _facts(self) -> dict[str, str]:
        status = self._process.poll()
        facts = {"worker": self.address, "stderr": "\n".join(self._tail)}
        return facts if status is None else {**facts, "exit_status": str(status)}

    def _read_stderr(self) -> None:
        stream = self._process.stderr
        if stream is None:
            return
        while line := stream.readline(TAIL_LINE_BYTES):
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            log.debug("worker of %r: %s", self._name, text)


def _socket_folder() -> str:
    """Make a private folder whose path is short enough for a unix socket in it."""
    folder = tempfile.mkdtemp(prefix="padiff-rpc-")
    if len(os.fsencode(folder)) + len("/worker.sock") <= UNIX_PATH_LIMIT_BYTES:
        return folder
    os.rmdir(folder)
    return tempfile.mkdtemp(prefix="padiff-rpc-", dir="/tmp")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return f"signal {number}"
