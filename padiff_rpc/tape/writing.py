"""Turn what keeps a folder from being written into an error that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from padiff_rpc.errors import PadiffError, Reason


@contextmanager
def writing(what: str, folder: str | os.PathLike[str], hint: str) -> Iterator[None]:
    """Raise BAD_CONFIG where the system refuses to write `what` to a folder: no right, no room, no such place."""
    try:
        yield
    except OSError as err:
        raise PadiffError(
            f"cannot write {what} to {os.fspath(folder)!r}: {err}", reason=Reason.BAD_CONFIG, hint=hint
        ) from err
