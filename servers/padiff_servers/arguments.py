"""The worker program's options."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from padiff_rpc.errors import PadiffError
from padiff_rpc.model.store.sizes import parse_size
from padiff_servers.session import DEFAULT_LEASE_S


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of a worker. Bad usage ends the process with exit status 2, as argparse does."""
    parser = argparse.ArgumentParser(prog="padiff_servers", description="Host one model for a padiff-rpc coordinator.")
    parser.add_argument("spec", metavar="SPEC", help="torch@FILE.py:FACTORY or paddle@PACKAGE.MODULE:FACTORY")
    parser.add_argument(
        "--listen", default="127.0.0.1:0", metavar="ADDRESS", help="HOST:PORT (port 0: any free one) or unix:PATH"
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model-arg", action="append", default=[], type=_model_arg, metavar="NAME=JSON", help="of the factory"
    )
    model.add_argument("--device", help="as the framework writes it, such as cuda:0 or gpu:0")
    model.add_argument("--dtype", help="cast floating parameters and buffers: float64, float32, bfloat16, float16")
    model.add_argument("--threads", type=_count, help="CPU threads of one operation")
    model.add_argument(
        "--loss", action="append", default=[], type=_named_place, metavar="NAME=FILE.py:FUNCTION", help="offer a loss"
    )
    model.add_argument(
        "--optimizer",
        action="append",
        default=[],
        type=_named_place,
        metavar="NAME=FILE.py:FUNCTION",
        help="offer an optimizer",
    )
    store = parser.add_argument_group("records")
    store.add_argument(
        "--store-memory", type=_size, metavar="SIZE", help="such as 4GiB; default: a sixteenth of the memory"
    )
    store.add_argument(
        "--store-disk", type=_size, metavar="SIZE", help="where memory ends; default: a quarter of what is free"
    )
    access = parser.add_argument_group("access")
    access.add_argument("--token-file", metavar="FILE", help="a coordinator must know the token in it")
    access.add_argument("--tls-cert", metavar="FILE", help="certificate chain, PEM")
    access.add_argument("--tls-key", metavar="FILE", help="its private key, PEM")
    access.add_argument("--insecure", action="store_true", help="other hosts may connect without TLS and token")
    access.add_argument(
        "--lease",
        type=_seconds,
        default=DEFAULT_LEASE_S,
        metavar="SECONDS",
        help="how long a silent coordinator keeps the worker",
    )
    launched = parser.add_argument_group("for launch()")
    launched.add_argument("--announce-fd", type=int, metavar="N", help="say there, in one JSON line, how starting went")
    launched.add_argument(
        "--lifeline",
        action="store_true",
        help="end at once when stdin does, and remove the unix socket with its folder",
    )
    return parser.parse_args(argv)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except PadiffError as err:
        raise argparse.ArgumentTypeError(f"{err.message}: write 4096, 512MiB or 4GiB") from err


def _model_arg(text: str) -> tuple[str, Any]:
    name, value = _split(text, "NAME=JSON")
    try:
        return name, json.loads(value)
    except ValueError as err:
        raise argparse.ArgumentTypeError(
            f"{value!r} is no JSON; a text takes quotes of its own: {name}='\"{value}\"'"
        ) from err


def _named_place(text: str) -> tuple[str, str]:
    return _split(text, "NAME=FILE.py:FUNCTION")


def _split(text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r}: write {form}")
    return name, value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return value
