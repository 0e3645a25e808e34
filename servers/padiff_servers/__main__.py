"""The worker program: `python -m padiff_servers SPEC --listen ADDRESS` hosts one model."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import zlib  # noqa: F401 - with gRPC, before any framework: libpaddle exports an old zlib, on which later users crash
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from padiff_rpc.errors import WORKER_REASONS, PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel, Placement
from padiff_rpc.wire.channel import Address, parse_address
from padiff_servers.access import read_access
from padiff_servers.arguments import parse_arguments
from padiff_servers.model_thread import ModelThread, worker_ends
from padiff_servers.process import prepare_process
from padiff_servers.service import WorkerService
from padiff_servers.serving import check_free, remove_socket, start_server
from padiff_servers.session import Sessions

log: logging.Logger = logging.getLogger("padiff_servers")

STOP_TIMEOUT_S = 2.0
"""How long the server may take to end its calls, before the process ends all the same."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Stop(BaseException):
    """SIGTERM or SIGINT came. It is no Exception, so that no model's `except Exception` keeps it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model and serve it until a signal comes.

    Args:
        argv: The program's arguments (arguments.py); None takes those of the process.

    Returns:
        The exit status: 0 after SIGTERM or SIGINT, 2 for an error of the user's, 3 for one of the worker's.
    """
    arguments = parse_arguments(argv)
    prepare_process()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    faulthandler.enable()
    ready_fd = _take_stdout()
    announcement = _Announcement(arguments.announce_fd)
    _stop_on_signal()
    try:
        _serve(arguments, announcement, ready_fd)
    except _Stop:
        log.info("stopped")
        return 0
    except PadiffError as err:
        return _fail(err, announcement)
    except Exception as err:
        log.exception("an unexpected failure")
        return _fail(
            PadiffError(
                f"the worker failed: {type(err).__name__}: {err}",
                reason=Reason.INTERNAL,
                hint="the trace is in the worker's log; please report it",
            ),
            announcement,
        )
    return 0


def _serve(arguments: argparse.Namespace, announcement: _Announcement, ready_fd: int) -> None:
    address = parse_address(arguments.listen)
    if arguments.lifeline:
        _follow_stdin(address)
    access = read_access(
        address,
        token_file=arguments.token_file,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        insecure=arguments.insecure,
    )
    check_free(address)  # before the model is loaded, which may take minutes
    model = HostedModel.from_spec(
        arguments.spec,
        model_args=dict(arguments.model_arg),
        placement=Placement(device=arguments.device, dtype=arguments.dtype, threads=arguments.threads),
        losses=dict(arguments.loss),
        optimizers=dict(arguments.optimizer),
        store_memory_bytes=arguments.store_memory,
        store_disk_bytes=arguments.store_disk,
        summarise_apart=True,
    )
    model_thread, sessions = ModelThread(), Sessions(arguments.lease)
    service = WorkerService(model, model_thread, sessions)
    server, address = start_server(service, address, access)
    _stop_on_signal(model_thread.stop)
    try:
        announcement.send({"address": str(address)})
        _say_ready(ready_fd, address, model)
        model_thread.run()
    finally:
        sessions.stop(worker_ends())
        server.stop(None).wait(STOP_TIMEOUT_S)
        model.close()
        remove_socket(address)


def _say_ready(fd: int, address: Address, model: HostedModel) -> None:
    info, name = model.info(), model.describe().class_name
    line = f"padiff-rpc worker ready at {address} ({info.framework} {info.framework_version}, {info.device}, {name})\n"
    os.write(fd, line.encode())
    os.close(fd)


def _take_stdout() -> int:
    """Return a descriptor of stdout for the one line that this program prints.

    From now on what a model prints goes to stderr.
    """
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    return own


class _Announcement:
    """Writes one JSON line for launch() to a descriptor: how starting went.

    Without a descriptor, and after the first line, send() does nothing.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        if fd is not None:
            os.set_inheritable(fd, False)

    def send(self, content: dict[str, Any]) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with os.fdopen(fd, "w") as stream:
                stream.write(json.dumps(content) + "\n")


def _follow_stdin(address: Address) -> None:
    """End this process at once when stdin ends.

    Its other end is held by the coordinator that launched it, and by nobody else.
    """
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # a model that reads stdin must not eat the lifeline
    os.close(nothing)
    threading.Thread(target=_await_end, args=(lifeline, address), name="lifeline", daemon=True).start()


def _await_end(lifeline: int, address: Address) -> NoReturn:
    with contextlib.suppress(OSError):
        while os.read(lifeline, 1 << 12):
            continue
    if address.is_unix:  # the coordinator, whose folder it is, can no longer remove it
        with contextlib.suppress(OSError):
            os.unlink(address.path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(address.path))
    os._exit(1)


def _stop_on_signal(also: Callable[[], None] = lambda: None) -> None:
    """Have a signal raise _Stop in the main thread, after calling `also`.

    `also` is for a signal that comes in a finaliser: Python ignores what is raised there.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
        also()
        raise _Stop

    for number in _SIGNALS:
        signal.signal(number, on_signal)


def _fail(error: PadiffError, announcement: _Announcement) -> int:
    text = "\n".join(
        part for part in (error.metadata.get("traceback", ""), f"error: {error.message}", error.hint) if part
    )
    sys.stderr.write(text + "\n")
    announcement.send(
        {
            "error": {
                "reason": error.reason.value,
                "message": error.message,
                "hint": error.hint,
                "metadata": error.metadata,
            }
        }
    )
    return 3 if error.reason in WORKER_REASONS else 2


if __name__ == "__main__":
    status: int = main()
    logging.shutdown()
    sys.stderr.flush()
    # Neither a handler that still waits nor the teardown of a framework may hold an ended worker, or change its status.
    os._exit(status)
