"""The group of all commands."""

from __future__ import annotations

import click

from padiff_clients.check import check
from padiff_clients.convert import convert
from padiff_clients.diff import diff
from padiff_clients.doctor import doctor
from padiff_clients.inspect import inspect
from padiff_clients.match import match
from padiff_clients.record import record
from padiff_clients.serve import serve
from padiff_rpc.version import __version__


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 aligned, 1 differs, 2 bad usage or configuration, 3 a worker or its connection failed.",
)
@click.version_option(__version__, prog_name="padiff-rpc")
def commands() -> None:
    """Align two implementations of one model, each in its own process, environment or host."""


for _command in (diff, match, convert, record, check, serve, inspect, doctor):
    commands.add_command(_command)
