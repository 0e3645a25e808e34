"""launch(): start a worker in another environment's Python on this host, and connect to it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
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
    """Start a worker process for a factory SPEC on this host, and connect to it.

    The model is a context manager. Its close() ends the worker, which also ends when this process does.

    Args:
        spec: `torch@FILE.py:FACTORY` or `paddle@PACKAGE.MODULE:FACTORY`.
        python: Interpreter of the environment that holds the framework; None takes this one.
        device: Where the model goes, as its framework writes it, such as `cuda:0` or `gpu:0`.
        dtype: What floating parameters and buffers are cast to: `float64`, `float32`, `bfloat16`, `float16`.
        model_args: Keyword arguments of the factory, JSON values.
        losses: Names of losses to offer beside the neutral ones, each with its `file.py:function`.
        optimizers: Names of optimisers to offer beside the neutral ones, each with its `file.py:function`.
        store_memory_bytes: How much memory its records may take; None takes a sixteenth of the host's (256 MiB to 4
            GiB).
        store_disk_bytes: How much disk they may take beyond that; None takes a quarter of what is free (at most 64
            GiB).
        threads: How many CPU threads one operation uses.
        cwd: The worker's folder, where relative paths start; None takes this process's.
        env: Environment variables to set beside those of this process.
        start_timeout_s: How many seconds importing the framework and building the model may take.
        shared_memory: As in connect().

    Raises:
        PadiffError: BAD_SPEC, FACTORY_FAILED, FRAMEWORK_MISSING or BAD_CONFIG as the worker reports them.
        PadiffError: BAD_CONFIG if the Python cannot run a worker, or `cwd` is no folder.
        PadiffError: WORKER_DIED if the process ended before it served, TIMED_OUT if it was not ready in time.
    """
    _check_launchable(spec, cwd)
    single: dict[str, Any] = {"--device": device, "--dtype": dtype, "--threads": threads}
    single |= {"--store-memory": store_memory_bytes, "--store-disk": store_disk_bytes}
    named = {"--model-arg": _as_json(model_args or {}), "--loss": losses or {}, "--optimizer": optimizers or {}}
    arguments = [spec, *_options(single), *_named_options(named)]
    folder = None if cwd is None else os.fspath(cwd)
    worker = WorkerProcess(_interpreter(python), arguments, name=spec, cwd=folder, env=env)
    return _session_with(worker, start_timeout_s, shared_memory)


def _check_launchable(spec: str, cwd: str | os.PathLike[str] | None) -> None:
    if parse_spec(spec).kind != "factory":
        raise PadiffError(
            f"cannot launch {spec!r}: it names no factory",
            reason=Reason.BAD_SPEC,
            hint="connect() takes a worker that runs already",
        )
    if cwd is not None and not os.path.isdir(cwd):
        raise PadiffError(f"cannot launch {spec!r} in {os.fspath(cwd)!r}: no such folder", reason=Reason.BAD_CONFIG)


def _options(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield options of the worker program and their values; an option whose value is None is left out."""
    for option, value in values.items():
        if value is not None:
            yield from (option, str(value))


def _named_options(values: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield options of the worker program that may be repeated, each with NAME=VALUE."""
    for option, named in values.items():
        for name, value in named.items():
            yield from (option, f"{name}={value}")


def _session_with(worker: WorkerProcess, start_timeout_s: float, shared_memory: bool) -> RemoteModel:
    """Wait until a worker serves and open a session, whose close() ends the worker; end it now if that fails."""
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
    """Return the interpreter as a path that is valid in another folder too.

    Links are not resolved: they are what a venv is made of.
    """
    if python is None:
        return sys.executable
    text = os.path.expanduser(os.fspath(python))
    if os.sep in text:
        return os.path.abspath(text)
    return shutil.which(text) or text


def _as_json(model_args: Mapping[str, Any]) -> dict[str, str]:
    return {name: _json(name, value) for name, value in model_args.items()}


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as err:
        raise PadiffError(
            f"model argument {name!r} is {value!r}, which JSON cannot express",
            reason=Reason.BAD_CONFIG,
            hint="pass numbers, texts, booleans, None, lists and dicts",
        ) from err
