"""launch(): start a worker in another environment's Python on this host, and connect to it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.spec import parse_spec
from padiff_rpc.remote.connect import open_session
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.remote.worker_process import WorkerProcess
from padiff_rpc.wire.channel import open_channel, parse_address

START_TIMEOUT_S = 300.0
"""Importing a framework and building a large model take minutes on a slow disk."""


def launch(
    spec: str,
    *,
    python: str | os.PathLike[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    losses: Mapping[str, str] | None = None,
    optimizers: Mapping[str, str] | None = None,
    store_memory_bytes: int | None = None,
    store_disk_bytes: int | None = None,
    threads: int | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    start_timeout_s: float = START_TIMEOUT_S,
    shared_memory: bool = True,
) -> RemoteModel:
    """Start a worker for a factory SPEC and connect to it; close() ends it.

    `python`: the interpreter of the environment that holds the framework (default: this one). `model_args`: the
    factory's keyword arguments, JSON values. `losses`, `optimizers`: name -> `file.py:function`, offered beside the neutral
    ones. `cwd`: where relative paths start. `env`: further environment variables. `shared_memory`: as in connect().
    Raises what the worker reports (BAD_SPEC, FACTORY_FAILED, FRAMEWORK_MISSING, BAD_CONFIG), BAD_CONFIG for a Python that
    cannot run a worker, WORKER_DIED, or TIMED_OUT.
    """
    if parse_spec(spec).kind != "factory":
        raise PadiffError(
            f"cannot launch {spec!r}: it names no factory",
            reason=Reason.BAD_SPEC,
            hint="connect() takes a worker that runs already",
        )
    if cwd is not None and not os.path.isdir(cwd):
        raise PadiffError(f"cannot launch {spec!r} in {os.fspath(cwd)!r}: no such folder", reason=Reason.BAD_CONFIG)
    options: dict[str, Any] = {
        "--device": device,
        "--dtype": dtype,
        "--threads": threads,
        "--store-memory": store_memory_bytes,
        "--store-disk": store_disk_bytes,
    }
    arguments = [spec, *(text for name, value in options.items() if value is not None for text in (name, str(value)))]
    for name, value in (model_args or {}).items():
        arguments += ["--model-arg", f"{name}={_json(name, value)}"]
    for name, place in (losses or {}).items():
        arguments += ["--loss", f"{name}={place}"]
    for name, place in (optimizers or {}).items():
        arguments += ["--optimizer", f"{name}={place}"]
    worker = WorkerProcess(
        _interpreter(python), arguments, name=spec, cwd=None if cwd is None else os.fspath(cwd), env=env
    )
    try:
        worker.wait_until_ready(start_timeout_s)
        address = parse_address(worker.address)
        return open_session(
            open_channel(address),
            address,
            explain=worker.explain,
            after_close=worker.end,
            shared_memory=shared_memory,
        )
    except BaseException:
        worker.end()
        raise


def _interpreter(python: str | os.PathLike[str] | None) -> str:
    """Return the interpreter as a path that holds in another folder too; links stay, they are what a venv is made of."""
    if python is None:
        return sys.executable
    text = os.path.expanduser(os.fspath(python))
    if os.sep in text:
        return os.path.abspath(text)
    return shutil.which(text) or text


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as err:
        raise PadiffError(
            f"model argument {name!r} is {value!r}, which JSON cannot express",
            reason=Reason.BAD_CONFIG,
            hint="pass numbers, texts, booleans, None, lists and dicts",
        ) from err
