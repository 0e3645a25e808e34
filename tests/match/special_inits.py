"""Special initialisers for the length of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from padiff_rpc.match import special_init


@contextmanager
def special_inits_kept() -> Iterator[None]:
    """Undo at the end of the block what was added or removed in it."""
    before = dict(special_init._added)
    try:
        yield
    finally:
        special_init._added.clear()
        special_init._added.update(before)


def remove_special_init(base: str, raw: str) -> None:
    """Forget what was added for two classes (`framework::ClassName`)."""
    del special_init._added[base, raw]
