"""Where the dumps lie below a folder: its steps, in each its ranks, in the order of their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tape.json_files import damaged

TAPE, INPUTS = "tape.json", "inputs"


class Dump(NamedTuple):
    """One dump; None where the folder has no steps, or no ranks."""

    step: int | None
    rank: int | None
    folder: Path


class DumpPair(NamedTuple):
    """Two dumps of the same step and rank."""

    step: int | None
    rank: int | None
    folder_0: Path
    folder_1: Path


def walk_one(path: str | Path) -> list[Dump]:
    """List the dumps below a path.

    Where all entries begin with `step_` each is a step, and in each, where all begin with `rank_`, each is a rank, as PaDiff
    has it; a tape's own files are passed over. BAD_CONFIG for a folder that is not there, or holds nothing.
    """
    root = Path(path)
    if not root.is_dir():
        raise PadiffError(
            f"there is no folder {str(path)!r}",
            reason=Reason.BAD_CONFIG,
            hint="give the folder that a dump was written to, or that of its model, step or rank",
        )
    if not _visible(root):
        raise PadiffError(f"the folder {str(path)!r} is empty: it holds no dump", reason=Reason.BAD_CONFIG)
    found: list[Dump] = []
    for step, folder in _numbered(root, "step_").items():
        found += [Dump(step, rank, leaf) for rank, leaf in _numbered(folder, "rank_").items()]
    return found


def walk(path_0: str | Path, path_1: str | Path) -> list[DumpPair]:
    """Pair the dumps below two paths by step and rank; BAD_CONFIG names what only one of them has."""
    dumps: list[Mapping[tuple[int | None, int | None], Path]] = [
        {(dump.step, dump.rank): dump.folder for dump in walk_one(path)} for path in (path_0, path_1)
    ]
    alone = [[_title(*key) for key in mine if key not in other] for mine, other in (dumps, dumps[::-1])]
    if alone[0] or alone[1]:
        only = [
            f"only {str(path)!r} has {', '.join(keys)}"
            for path, keys in zip((path_0, path_1), alone, strict=True)
            if keys
        ]
        raise PadiffError(
            f"the two dumps do not hold the same steps and ranks: {'; '.join(only)}",
            reason=Reason.BAD_CONFIG,
            hint="dump both sides at the same steps and ranks, or give folders of single ones",
        )
    return [DumpPair(*key, folder, dumps[1][key]) for key, folder in dumps[0].items()]


def of_rank(path: str | Path, rank: int) -> list[Path]:
    """Return the dumps of one rank, by step; BAD_CONFIG where some step lacks it."""
    dumps = walk_one(path)
    found = [dump.folder for dump in dumps if dump.rank == (None if dump.rank is None else rank)]
    steps = {dump.step for dump in dumps}
    if len(found) != len(steps) or (rank and dumps[0].rank is None):
        ranks = sorted({dump.rank for dump in dumps if dump.rank is not None})
        have = f"it has the ranks {', '.join(map(str, ranks))}" if ranks else "it has no ranks"
        raise PadiffError(f"{str(path)!r} holds no rank {rank} in every step", reason=Reason.BAD_CONFIG, hint=have)
    return found


def _numbered(folder: Path, prefix: str) -> dict[int | None, Path]:
    """Return the numbered folders in one, or the folder itself where it is not made of such."""
    entries = _visible(folder)
    if not entries or not all(entry.name.startswith(prefix) for entry in entries):
        return {None: folder}
    found: dict[int | None, Path] = {}
    for entry in entries:
        number = entry.name.removeprefix(prefix)
        if not number.isdecimal() or int(number) in found:
            raise damaged(entry, f"is no {prefix}N, or is one twice", "rename it, or take it away")
        found[int(number)] = entry
    return dict(sorted(found.items(), key=lambda item: item[0] or 0))


def _visible(folder: Path) -> list[Path]:
    """List what counts: hidden entries are dumps that were never finished, and a tape's own files are no steps."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as err:
        raise damaged(folder, f"cannot be listed: {err}") from err
    if (folder / TAPE).exists():
        entries = [entry for entry in entries if entry.name not in (TAPE, INPUTS)]
    return entries


def _title(step: int | None, rank: int | None) -> str:
    parts = [*([f"step {step}"] if step is not None else []), *([f"rank {rank}"] if rank is not None else [])]
    return " ".join(parts) or "a dump without steps and ranks"
