"""Find the dumps below a folder: one folder per step, in it one per rank, in the order of their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tape.json_files import damaged

TAPE, INPUTS = "tape.json", "inputs"


class Dump(NamedTuple):
    """The folder of one dump.

    Attributes:
        step: Number of the step; None if the folder that was searched has no steps.
        rank: Number of the rank; None if its step has no ranks.
        folder: Where the dump's JSON files lie.
    """

    step: int | None
    rank: int | None
    folder: Path


class DumpPair(NamedTuple):
    """Two dumps of the same step and rank.

    Attributes:
        step: Number of the step; None if the folders that were searched have no steps.
        rank: Number of the rank; None if their steps have no ranks.
        folder_0: The first dump's folder.
        folder_1: The second dump's folder.
    """

    step: int | None
    rank: int | None
    folder_0: Path
    folder_1: Path


def walk_one(path: str | Path) -> list[Dump]:
    """List the dumps below a path, by step and rank.

    A folder has steps if the names of all its entries begin with `step_`, and a step has ranks if all begin with
    `rank_`, as PaDiff has it. A tape's own files, and hidden entries, which are dumps that were never finished, are
    passed over.

    Raises:
        PadiffError: BAD_CONFIG if the path is no folder, or the folder is empty.
        PadiffError: DATA_LOSS if a step or rank has no number, or the number of another.
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
    """Pair the dumps below two paths by step and rank.

    Raises:
        PadiffError: BAD_CONFIG, naming them, if only one path has some steps or ranks; otherwise as walk_one() does.
    """
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
    """Return the folders of one rank, by step. A dump without ranks is of rank 0.

    Raises:
        PadiffError: BAD_CONFIG if a step does not have the rank; otherwise as walk_one() does.
    """
    dumps = walk_one(path)
    found = [dump.folder for dump in dumps if dump.rank == (None if dump.rank is None else rank)]
    steps = {dump.step for dump in dumps}
    if len(found) != len(steps) or (rank and dumps[0].rank is None):
        ranks = sorted({dump.rank for dump in dumps if dump.rank is not None})
        have = f"it has the ranks {', '.join(map(str, ranks))}" if ranks else "it has no ranks"
        raise PadiffError(f"{str(path)!r} holds no rank {rank} in every step", reason=Reason.BAD_CONFIG, hint=have)
    return found


def _numbered(folder: Path, prefix: str) -> dict[int | None, Path]:
    """Return the numbered folders in a folder, by number; the folder itself, under None, if it has others."""
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
    """List a folder's entries but hidden ones, which were never finished, and a tape's own files, which are no steps."""
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
