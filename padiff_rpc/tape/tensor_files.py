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
    """A dump's folder: where its files are laid, and as what the JSON names it (another one, until it is renamed)."""

    actual: Path
    shown: str

    @classmethod
    def of(cls, folder: str | Path | DumpFolder) -> DumpFolder:
        return folder if isinstance(folder, DumpFolder) else cls(Path(folder), str(folder))

    def shown_file(self, name: str) -> str:
        return f"{self.shown}/{name}"


class NumberedFiles:
    """`kind/prefix_0.npy`, `kind/prefix_1.npy`, ...; those of an earlier dump are removed first."""

    def __init__(self, folder: DumpFolder, kind: str, prefix: str) -> None:
        self._folder = folder
        self._stem = f"{kind}/{prefix}"
        self._count = 0
        for old in (folder.actual / kind).glob(f"{prefix}_*.npy"):
            if old.stem.removeprefix(f"{prefix}_").isdigit():
                old.unlink()

    def write(self, stream: TensorStream) -> str:
        """Write one tensor and return its path as the JSON names it."""
        name = f"{self._stem}_{self._count}.npy"
        self._count += 1
        (self._folder.actual / name).parent.mkdir(exist_ok=True)
        write_npy(self._folder.actual / name, stream)
        return self._folder.shown_file(name)


class RecordFiles:
    """Recorded tensors of one report. What has the hash and the spec of an earlier one is that one: a layer's input mostly
    is what the layer before it put out."""

    def __init__(self, folder: DumpFolder) -> None:
        shutil.rmtree(folder.actual / "tensors", ignore_errors=True)
        self._files = NumberedFiles(folder, "tensors", "tensor")
        self._paths: dict[tuple[TensorSpec, bytes], str] = {}

    def take(self, records: Sequence[Record], read: Read) -> None:
        """Write those records that are new, in their order."""
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
        return self._paths[_key(record)]


def _key(record: Record) -> tuple[TensorSpec, bytes]:
    return record.spec, record.digest.hash
