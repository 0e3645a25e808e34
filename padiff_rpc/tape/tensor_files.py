"""The tensor files of one JSON file: numbered, and equal tensors written once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Record
from padiff_rpc.tape.npy import write_npy
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

Read = Callable[[Sequence[int]], Iterator[TensorStream]]
"""Streams recorded tensors by id, as Model.read_activations does."""


@dataclass(frozen=True)
class DumpFolder:
    """A dump's folder.

    Attributes:
        actual: Where its files are written.
        shown: What the JSON calls the folder: the place that it will be renamed to.
    """

    actual: Path
    shown: str

    @classmethod
    def of(cls, folder: str | Path | DumpFolder) -> DumpFolder:
        """Return the folder itself, or make one from a path, which the JSON then names as it is given."""
        return folder if isinstance(folder, DumpFolder) else cls(Path(folder), str(folder))

    def shown_file(self, name: str) -> str:
        """Return a file's path as the JSON names it."""
        return f"{self.shown}/{name}"


class NumberedFiles:
    """Writes `kind/prefix_0.npy`, `kind/prefix_1.npy`, ... Those of an earlier dump are removed first.

    Args:
        folder: The dump's folder.
        kind: The folder in it.
        prefix: How the files' names begin.
    """

    def __init__(self, folder: DumpFolder, kind: str, prefix: str) -> None:
        self._folder = folder
        self._stem = f"{kind}/{prefix}"
        self._count = 0
        for old in (folder.actual / kind).glob(f"{prefix}_*.npy"):
            if old.stem.removeprefix(f"{prefix}_").isdigit():
                old.unlink()

    def write(self, stream: TensorStream) -> str:
        """Write one tensor and return its path as the JSON names it. DATA_LOSS if the stream is short or long."""
        name = f"{self._stem}_{self._count}.npy"
        self._count += 1
        (self._folder.actual / name).parent.mkdir(exist_ok=True)
        write_npy(self._folder.actual / name, stream)
        return self._folder.shown_file(name)


class RecordFiles:
    """Writes the recorded tensors of one report. Those of an earlier report in the folder are removed first.

    A record with the hash and the spec of an earlier one shares its file: a layer's input mostly is what the layer
    before it put out.
    """

    def __init__(self, folder: DumpFolder) -> None:
        shutil.rmtree(folder.actual / "tensors", ignore_errors=True)
        self._files = NumberedFiles(folder, "tensors", "tensor")
        self._paths: dict[tuple[TensorSpec, bytes], str] = {}

    def take(self, records: Sequence[Record], read: Read) -> None:
        """Write those records whose tensors are new, in their order.

        Args:
            records: The records, still held by their model.
            read: Reads their tensors.

        Raises:
            PadiffError: DATA_LOSS if other tensors come than were asked for.
        """
        new: dict[tuple[TensorSpec, bytes], int] = {}
        for record in records:
            if _key(record) not in self._paths:
                new.setdefault(_key(record), record.id)
        if not new:
            return
        came = iter(read(list(new.values())))
        for key, identifier in new.items():
            stream = next(came, None)
            if stream is None or stream.name != str(identifier) or stream.spec != key[0]:
                raise PadiffError(
                    f"record {identifier} ({key[0]}) was asked for, "
                    + ("nothing came" if stream is None else f"{stream.name} ({stream.spec}) came"),
                    reason=Reason.DATA_LOSS,
                )
            self._paths[key] = self._files.write(stream)

    def path(self, record: Record) -> str:
        """Return the path of a record that was taken, as the JSON names it."""
        return self._paths[_key(record)]


def _key(record: Record) -> tuple[TensorSpec, bytes]:
    return record.spec, record.digest.hash
