"""Live progress on a terminal's stderr; nothing where stderr is no terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich import progress as bars

from padiff_clients.console import log_console
from padiff_rpc.align.progress import Progress

_DETAIL_WIDTH = 32

_NAMES = {"weights_before": "weights", "grads": "gradients"}


@contextlib.contextmanager
def live_progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows the progress that it is given in one line. The line is removed at the end of the block.

    Nothing is shown if `quiet`, or if stderr is no terminal.
    """
    console = log_console()
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=24),
        bars.TextColumn("{task.fields[count]}", markup=False),
        bars.TimeElapsedColumn(),
        bars.TextColumn("{task.fields[detail]}", markup=False, style="dim"),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting workers", total=None, count="", detail="")

        def tell(progress: Progress) -> None:
            bar.update(
                task,
                description=f"step {progress.step}  {_NAMES.get(progress.stage, progress.stage):<9}",
                completed=progress.done,
                total=progress.total or None,
                count=f"{progress.done:,}/{progress.total:,}" if progress.total else f"{progress.done:,}",
                detail=_short(progress.detail),
            )

        yield tell


def _short(detail: str) -> str:
    return detail if len(detail) <= _DETAIL_WIDTH else "…" + detail[1 - _DETAIL_WIDTH :]
