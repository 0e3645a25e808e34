"""Give each living proxy a dump folder of its own, which never holds the dumps of two runs."""

from __future__ import annotations

import errno
import os
import shutil
import weakref
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.messages import log
from padiff_rpc.interface.places import get_dump_root_path
from padiff_rpc.interface.ranks import world_size

_names: weakref.WeakValueDictionary[str, ProxyFolder] = weakref.WeakValueDictionary()
_claims: weakref.WeakValueDictionary[Path, ProxyFolder] = weakref.WeakValueDictionary()


class ProxyFolder:
    """The folder that one proxy dumps to by default: `root/name/step_N/rank_R`.

    Attributes:
        name: the name of the proxy's model, and of the folder below the root.
    """

    def __init__(self, name: str | None, class_name: str) -> None:
        """Take a name, or the class's with a number if a living proxy has that; BAD_CONFIG if no folder can have it."""
        if name is not None and (
            not isinstance(name, str) or not name or name in (".", "..") or {os.sep, "\0"} & set(name)
        ):
            raise PadiffError(
                f"{name!r} cannot be the name of a model: a folder gets it",
                reason=Reason.BAD_CONFIG,
                hint=f"give a plain name such as {class_name!r}",
            )
        self.name: str = name if name is not None else _free_name(class_name)
        self._claimed: set[tuple[Path, int]] = set()
        _names[self.name] = self

    @property
    def folder(self) -> Path:
        """The folder of all dumps, below the root as it is set now."""
        return Path(get_dump_root_path()) / self.name

    def of_step(self, step: int, rank: int) -> Path:
        """Return the folder for the dump of one step and rank, below the root as it is set now.

        At the first call the dumps that an earlier run of the same name left there are moved to `NAME.previous`, so that its
        steps are not taken for this run's.

        Raises:
            PadiffError: BAD_CONFIG if another living proxy dumps there.
        """
        folder = self.folder
        key = (folder.absolute(), rank)
        if key not in self._claimed:
            other = _claims.get(key[0])
            if other is not None and other is not self:
                raise PadiffError(
                    f"two living models are called {self.name!r}, and both would dump to {str(folder)!r}",
                    reason=Reason.BAD_CONFIG,
                    hint="give each its own name: create_model(model, name=...)",
                )
            _claims[key[0]] = self
            self._claimed.add(key)
            _set_aside(folder, rank)
        return folder / f"step_{step}" / f"rank_{rank}"


def _free_name(class_name: str) -> str:
    """Return the class's name, with a number if a living proxy has that name already."""
    name, count = class_name, 0
    while name in _names:
        count += 1
        name = f"{class_name}_{count}"
    if count:
        log(f"another model is called {class_name!r}: this one dumps as {name!r}")
    return name


def _set_aside(folder: Path, rank: int) -> None:
    """Move this rank's dumps of an earlier run to `NAME.previous`, in the place of the dumps that were moved there before.

    Rank 0 also moves the dumps of ranks that this run does not have. Unfinished dumps of a killed run are removed.
    """
    for partial in folder.glob(f"step_*/.rank_{rank}.partial"):
        shutil.rmtree(partial)
        _remove_if_empty(partial.parent)
    beyond = world_size() if rank == 0 else None
    ranks = [rank] if beyond is None else [rank, *(found for found in _ranks_in(folder) if found >= beyond)]
    earlier = [dump for each in ranks for dump in sorted(folder.glob(f"step_*/rank_{each}"))]
    if not earlier:
        return
    previous = folder.with_name(f"{folder.name}.previous")
    for old in [old for each in ranks for old in previous.glob(f"step_*/rank_{each}")]:
        shutil.rmtree(old)
    for dump in earlier:
        target = previous / dump.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        dump.rename(target)
        _remove_if_empty(dump.parent)
    log(f"dumps of an earlier run in {str(folder)!r} were moved to {str(previous)!r}")


def _ranks_in(folder: Path) -> list[int]:
    names = {dump.name.removeprefix("rank_") for dump in folder.glob("step_*/rank_*")}
    return sorted(int(name) for name in names if name.isdecimal())


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as err:
        if err.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):  # another rank's dump, or it was faster
            raise
