"""Write the JSON files of a dump, whole or not at all, and read them with errors that name the file and the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.system.atomic_file import replacing

OURS = "padiff_rpc"
"""The key under which everything lies that PaDiff's own files do not have: at the top, in nodes, and in tensor entries."""

FORMAT = 1

_MISSING = "give the folder that holds it; a dump without it was never finished"
_WRITTEN_BY = {
    "report.json": "try_dump() and dump_report() write it; give the folder that holds it",
    "params.json": "try_dump() and dump_params() write it; give the folder that holds it",
    "weights.json": "dump_weights() writes it; check_params compares the weights that try_dump() wrote",
    "grads.json": "dump_grads() writes it; check_params compares the gradients that try_dump() wrote",
}

T = TypeVar("T")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object so that a file of this name is always a whole one."""
    with replacing(path) as file:
        json.dump(content, file, indent=1)


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
        PadiffError: DATA_LOSS if the file is missing or broken; BAD_CONFIG if its format is newer than this release reads.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise damaged(path, "is missing", _WRITTEN_BY.get(path.name, _MISSING)) from err
    except OSError as err:
        raise damaged(path, f"cannot be read: {err}") from err
    except (ValueError, RecursionError) as err:
        raise damaged(path, f"is broken: {err}") from err
    if not isinstance(content, dict):
        raise damaged(path, f"holds a {type(content).__name__}, not an object")
    ours = content.get(OURS)
    if ours is not None:
        found = need(ours if isinstance(ours, dict) else {}, "format", int, path)
        if found > FORMAT:
            raise PadiffError(
                f"{str(path)!r} has format {found}, this release reads up to {FORMAT}",
                reason=Reason.BAD_CONFIG,
                hint="upgrade padiff-rpc here, or record again with this release",
            )
    return content


def need(node: Mapping[str, Any], key: str, kind: type[T], path: Path) -> T:
    """Return node[key]; raise DATA_LOSS, naming the file and the key, if it is missing or not of that kind."""
    where = f" of {node['route']!r}" if isinstance(node.get("route"), str) else ""
    if key not in node:
        raise damaged(path, f"lacks the key {key!r}{where}")
    value = node[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise damaged(path, f"has a {type(value).__name__} under {key!r}{where}, where a {kind.__name__} belongs")
    return value


def need_nodes(node: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """Return node[key], a list of objects; raise as need() does."""
    items = need(node, key, list, path)
    if not all(isinstance(item, dict) for item in items):
        raise damaged(path, f"has something else than objects in the list {key!r}")
    return items


def damaged(path: Path, what: str, hint: str = "the dump is damaged: write it again") -> PadiffError:
    """Return the error that says what is wrong with a file of a dump."""
    return damaged_file(f"the dump file {str(path)!r} {what}", path, hint)


def damaged_file(message: str, path: Path, hint: str) -> PadiffError:
    """Return a DATA_LOSS error for a file on this disk.

    The `file` in its metadata tells it from the DATA_LOSS of a stream that a worker cut short.
    """
    return PadiffError(message, reason=Reason.DATA_LOSS, hint=hint, metadata={"file": str(path)})
