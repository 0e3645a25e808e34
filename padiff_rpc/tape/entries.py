"""Tensor entries in a dump's JSON: PaDiff's keys, and under our own key what brings the tensor back exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from padiff_rpc.errors import PadiffError
from padiff_rpc.model.model import Record
from padiff_rpc.model.part_names import part_spec
from padiff_rpc.tape.json_files import OURS, damaged, need
from padiff_rpc.tape.npy import NpyFile, open_npy
from padiff_rpc.tape.texts import dtype_from_text, shape_from_text, tensor_texts
from padiff_rpc.tensors.digest import digest_chunks
from padiff_rpc.tensors.tensor import Digest, DType, TensorSpec, TensorStream, told
from padiff_rpc.tensors.transpose import transposed_spec

_FLOATS = ("mean", "abs_mean", "norm", "min", "max")
_COUNTS = ("count", "nan_count", "inf_count")
_BITS = (DType.BF16, DType.F8_E4M3, DType.F8_E5M2)
"""Element types that NumPy holds as integers."""


@dataclass(frozen=True)
class TensorRef:
    """A tensor in a .npy file whose header agrees with the JSON that refers to it.

    Attributes:
        name: The name of the record or of the parameter.
        file: The file.
        spec: The tensor's spec. The file holds bfloat16 and float8 as integers of their bits.
        recorded: The digest that was written into the JSON; None if there is none.
        floor: The floor that was written beside a tensor without a digest; None if there is none.
    """

    name: str
    file: NpyFile
    spec: TensorSpec
    recorded: Digest | None = None
    floor: float | None = None

    def stream(self, name: str) -> TensorStream:
        """Stream the file's elements, under this name."""
        return TensorStream(name, self.spec, self.file.chunks())

    def transposed(self) -> TensorRef:
        """Return the transpose of a matrix: the same file, read in the other order.

        Raises:
            PadiffError: BAD_TENSOR if the tensor is no matrix.
        """
        spec = transposed_spec(self.name, self.spec)
        file = replace(self.file, shape=spec.shape, column_major=not self.file.column_major)
        return replace(self, file=file, spec=spec, recorded=None)

    def part(self, at: int) -> TensorRef:
        """Return what lies at a place of the tensor's first axis; raises NOT_SUPPORTED as NpyFile.part does."""
        return replace(self, file=self.file.part(at), spec=part_spec(self.spec), recorded=None)

    def digest(self) -> Digest:
        """Summarise the file's elements as they are now.

        The digest in the JSON is returned only if its hash is that of the elements, since files get edited.
        """
        if self.recorded is not None:
            hasher = xxhash.xxh3_128()
            for chunk in self.file.chunks():
                hasher.update(chunk)
            if hasher.digest() == self.recorded.hash:
                return self.recorded
        return replace(digest_chunks(self.file.chunks, self.spec), floor=self.floor)


def record_entry(record: Record, path: str, framework: str, device: str, seq: int | None = None) -> dict[str, Any]:
    """Return the JSON entry of a recorded tensor.

    Args:
        record: The tensor's name, spec and digest.
        path: Its file, as the JSON names it.
        framework: The model's framework.
        device: The tensor's device, as its framework names it.
        seq: Number of a gradient's boundary; None for tensors of the forward, whose call has the numbers.
    """
    ours: dict[str, Any] = {"name": record.name, **spec_json(record.spec), "digest": _digest_json(record.digest)}
    if seq is not None:
        ours["seq"] = seq
    return {"path": path, **tensor_texts(framework, record.spec, device), OURS: ours}


def spec_json(spec: TensorSpec) -> dict[str, Any]:
    """Return a spec as JSON: element type (safetensors' name) and shape."""
    return {"dtype": spec.dtype.value, "shape": list(spec.shape)}


def spec_from_json(node: Mapping[str, Any], source: Path) -> TensorSpec:
    """Read a spec.

    Args:
        node: An object with the keys that spec_json() writes; it may have others.
        source: The JSON file, for errors.

    Raises:
        PadiffError: DATA_LOSS, naming the file, if the element type is unknown or the shape is invalid.
    """
    text, shape = need(node, "dtype", str, source), need(node, "shape", list, source)
    if text not in DType.__members__:
        raise damaged(source, f"names the unknown element type {text!r}")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise damaged(source, f"holds the shape {shape!r}")
    return TensorSpec(DType(text), tuple(shape))


class Paths:
    """Finds the tensor files that a JSON file refers to, wherever the dump lies now.

    Args:
        source: The JSON file.
        written_as: Its path when it was written (its `file_path`). The folder in it stands for the one it lies in now.
    """

    def __init__(self, source: Path, written_as: str) -> None:
        self.source = source
        self._written_in = written_as.replace("\\", "/").rpartition("/")[0]

    def find(self, path: str) -> Path:
        """Return the file that a path in the JSON means.

        A path below the folder that the dump was written to means the same place beside the JSON file, and never the
        place where it was written, while the dump is read elsewhere: that may hold another dump by now. Any other path
        holds if it exists; else its last folder and name are looked for beside the JSON file.
        """
        plain = path.replace("\\", "/")
        if plain.startswith(f"{self._written_in}/"):
            return self.source.parent / plain[len(self._written_in) + 1 :]
        if Path(path).exists():
            return Path(path)
        return self.source.parent.joinpath(*plain.split("/")[-2:])


def read_entry(entry: Mapping[str, Any], paths: Paths, default_name: str) -> TensorRef:
    """Read a tensor's entry, of our dumps or of PaDiff's, and compare it with the header of its file.

    Args:
        entry: The JSON object.
        paths: Finds the tensor's file.
        default_name: The tensor's name if the entry is PaDiff's, which gives none.

    Raises:
        PadiffError: DATA_LOSS, naming the file, if the entry or the file is missing, damaged, or not what the other
            says.
    """
    file = open_npy(paths.find(need(entry, "path", str, paths.source)))
    if OURS in entry:
        ours = need(entry, OURS, dict, paths.source)
        recorded = _digest_from_json(need(ours, "digest", dict, paths.source), paths.source)
        name = need(ours, "name", str, paths.source)
        return TensorRef(name, file, check_spec(file, spec_from_json(ours, paths.source)), recorded)
    return TensorRef(default_name, file, _spec_in_words(entry, file, paths.source))


def check_spec(file: NpyFile, spec: TensorSpec) -> TensorSpec:
    """Return the spec.

    Raises:
        PadiffError: DATA_LOSS if the file has another shape, or elements of another type.
    """
    if file.shape != spec.shape or file.stored != spec.dtype.storage:
        raise unlike(file, str(spec))
    return spec


def natural_spec(file: NpyFile) -> TensorSpec:
    """Return the spec of a file whose element type no JSON names.

    16-bit unsigned integers are taken for bfloat16, which paddle writes so.
    """
    return TensorSpec(DType.BF16 if file.dtype is DType.U16 else file.dtype, file.shape)


def unlike(file: NpyFile, said: str) -> PadiffError:
    """Make the DATA_LOSS error for a file that is something else than its JSON says. `said` is what it says."""
    return damaged(file.path, f"holds {file.stored}{list(file.shape)}, the JSON file that refers to it says {said}")


def _spec_in_words(entry: Mapping[str, Any], file: NpyFile, source: Path) -> TensorSpec:
    said_dtype, said_shape = need(entry, "dtype", str, source), need(entry, "shape", str, source)
    shape, dtype = shape_from_text(said_shape), dtype_from_text(said_dtype)
    if shape is not None and shape != file.shape:
        raise unlike(file, f"{said_dtype} {said_shape}")
    if dtype is not None and dtype in _BITS:
        if file.stored.kind in "iu" and file.stored.itemsize == dtype.item_bytes:
            return TensorSpec(dtype, file.shape)
        if file.dtype is DType.F32:  # PaDiff widens torch's bfloat16, which NumPy lacks
            return natural_spec(file)
    if dtype is not None and file.dtype is not dtype:
        raise unlike(file, f"{said_dtype} {said_shape}")
    return TensorSpec(file.dtype, file.shape)


def _digest_json(digest: Digest) -> dict[str, Any]:
    """Return a digest as JSON, which has no NaN and no infinity, so these become words."""
    floats = {name: _number_or_word(told(getattr(digest, name))) for name in _FLOATS}
    floor = {} if digest.floor is None else {"floor": digest.floor}
    return {**{name: getattr(digest, name) for name in _COUNTS}, **floats, **floor, "hash": digest.hash.hex()}


def _number_or_word(value: float) -> float | str:
    return value if value - value == 0.0 else repr(value)


def _digest_from_json(node: Mapping[str, Any], source: Path) -> Digest:
    try:
        mean, abs_mean, norm, low, high = (float(node[name]) for name in _FLOATS)
        count, nan_count, inf_count = (need(node, name, int, source) for name in _COUNTS)
        text = need(node, "hash", str, source)
        floor = None if node.get("floor") is None else float(node["floor"])
        return Digest(count, mean, abs_mean, norm, low, high, nan_count, inf_count, bytes.fromhex(text), floor)
    except (KeyError, TypeError, ValueError) as err:
        raise damaged(source, f"holds a broken digest: {dict(node)!r:.200}") from err


def entries(node: Mapping[str, Any], key: str, paths: Paths) -> Iterator[tuple[int | None, TensorRef]]:
    """Yield (seq, tensor) for each entry of a list.

    `seq` is the number of the entry's boundary, or None if the entry has none. A tensor that PaDiff wrote is named by
    its index.

    Args:
        node: The JSON object that has the list.
        key: The list's key.
        paths: Finds the tensors' files.

    Raises:
        PadiffError: As read_entry() does.
    """
    for index, entry in enumerate(need(node, key, list, paths.source)):
        if not isinstance(entry, dict):
            raise damaged(paths.source, f"has something else than objects in the list {key!r}")
        ours = entry.get(OURS)
        seq = need(ours, "seq", int, paths.source) if isinstance(ours, dict) and "seq" in ours else None
        yield seq, read_entry(entry, paths, str(index))
