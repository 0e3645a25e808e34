"""`padiff-rpc serve`: become a worker."""

from __future__ import annotations

import os
import shutil
import sys

import click

from padiff_clients.report_errors import handled
from padiff_rpc.errors import PadiffError, Reason


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--python", metavar="PYTHON", help="The Python to run the worker in; default: this one.")
@click.argument("arguments", metavar="SPEC [OPTIONS]", nargs=-1, required=True, type=click.UNPROCESSED)
@handled
def serve(python: str | None, arguments: tuple[str, ...]) -> None:
    """Host one model for a `diff` elsewhere to connect to.

    The same as `PYTHON -m padiff_servers SPEC [OPTIONS]`, whose --help lists the options (--listen ADDRESS and more).
    """
    program = shutil.which(python or sys.executable)
    if program is None:
        raise PadiffError(
            f"there is no program {python!r}",
            reason=Reason.BAD_CONFIG,
            hint="name the python of the model's environment",
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(program, [program, "-m", "padiff_servers", *arguments])
