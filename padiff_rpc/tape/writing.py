"""Turn an error of the file system, when a folder is written to, into one that names the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from padiff_rpc.errors import PadiffError, Reason


@contextmanager
def writing(what: str, folder: str | os.PathLike[str], hint: str) -> Iterator[None]:
    """Raise BAD_CONFIG if the system refuses to write within the `with`: no right, no room, no such place.

    Args:
        what: What is written, such as "a tape", for the message.
        folder: Where it is written.
        hint: The error's hint: what to do.
    """
    try:
        yield
    except OSError as err:
        raise PadiffError(
            f"cannot write {what} to {os.fspath(folder)!r}: {err}", reason=Reason.BAD_CONFIG, hint=hint
        ) from err
