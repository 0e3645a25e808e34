"""`padiff-rpc check`: compare two dumps that lie on disk."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from padiff_clients.report_errors import ALIGNED, DIFFERS, handled
from padiff_rpc.interface.check_dumps import check_grads, check_params, check_report, check_weights

_CHECKS: dict[str, Callable[..., bool]] = {
    "report": check_report,
    "params": check_params,
    "weights": check_weights,
    "grads": check_grads,
}


@click.command()
@click.argument("what", type=click.Choice(list(_CHECKS)))
@click.argument("dir0", metavar="DIR0")
@click.argument("dir1", metavar="DIR1")
@click.option("--atol", type=click.FloatRange(0), help="Absolute tolerance; default 0.")
@click.option(
    "--rtol", type=click.FloatRange(0), help="Relative tolerance; default 1e-7, in scaled by dtype and stage."
)
@click.option(
    "--compare-mode",
    type=click.Choice(["mean", "abs_mean", "strict", "scaled"]),
    default="mean",
    show_default=True,
    help="What must agree: means, means of absolute values, each element, or norms (scaled).",
)
@handled
def check(what: str, dir0: str, dir1: str, **cfg: float | str | None) -> None:
    """Compare two dumps that lie on disk.

    report: what the layers returned, and the gradients at their boundaries. params: parameters, buffers and parameter
    gradients, as try_dump() writes them. weights, grads: what dump_weights() and dump_grads() wrote; `record` writes weights too.

    DIR0 and DIR1 are folders that create_model's proxies, `record`, or PaDiff 0.3 wrote: of one dump, or of steps and
    ranks, of which every one is compared. Trees and lists of what differs go to ./padiff_log.
    """
    sys.exit(
        ALIGNED
        if _CHECKS[what](dir0, dir1, {key: value for key, value in cfg.items() if value is not None})
        else DIFFERS
    )
