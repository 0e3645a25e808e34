"""The folder of a proxy's dumps: one living proxy each, and never a mixture of two runs."""

from __future__ import annotations

import os
import shutil
import weakref
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.messages import log
from padiff_rpc.interface.places import get_dump_root_path

_names: weakref.WeakValueDictionary[str, ProxyFolder] = weakref.WeakValueDictionary()
_claims: weakref.WeakValueDictionary[Path, ProxyFolder] = weakref.WeakValueDictionary()


class ProxyFolder:
    """Where one proxy dumps by default: `root/name/step_N/rank_R`. BAD_CONFIG for a name that can be no folder's."""

    def __init__(self, name: str | None, class_name: str) -> None:
        if name is not None and (
            not isinstance(name, str) or not name or name in (".", "..") or {os.sep, "\0"} & set(name)
        ):
            raise PadiffError(
                f"{name!r} cannot be the name of a model: a folder gets it",
                reason=Reason.BAD_CONFIG,
                hint=f"give a plain name such as {class_name!r}",
            )
        self.name = name if name is not None else _free_name(class_name)
        self._claimed: set[tuple[Path, int]] = set()
        _names[self.name] = self

    def of_step(self, step: int, rank: int) -> Path:
        """Return the folder of one step, below the root as it is set now.

        The first time, what an earlier run of the same name left there is set aside: its steps must not be taken for this
        run's. BAD_CONFIG where another living proxy dumps there.
        """
        folder = Path(get_dump_root_path()) / self.name
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
    """Return the class's name, with a number where a living proxy has that already."""
    name, count = class_name, 0
    while name in _names:
        count += 1
        name = f"{class_name}_{count}"
    if count:
        log(f"another model is called {class_name!r}: this one dumps as {name!r}")
    return name


def _set_aside(folder: Path, rank: int) -> None:
    """Move this rank's dumps of an earlier run to `NAME.previous`, in the place of those set aside before."""
    earlier = sorted(folder.glob(f"step_*/rank_{rank}"))
    if not earlier:
        return
    previous = folder.with_name(f"{folder.name}.previous")
    for old in previous.glob(f"step_*/rank_{rank}"):
        shutil.rmtree(old)
    for dump in earlier:
        target = previous / dump.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        dump.rename(target)
        if not any(dump.parent.iterdir()):
            dump.parent.rmdir()
    log(f"dumps of an earlier run in {str(folder)!r} were moved to {str(previous)!r}")
