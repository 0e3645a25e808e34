"""Tensors as a dump's JSON refers to them: PaDiff's words, and beside them what brings the tensor back exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from padiff_rpc.errors import PadiffError
from padiff_rpc.model.model import Record
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
    """A tensor in a file whose header was found to be what the JSON says. `recorded`: its digest as written, if any."""

    name: str
    file: NpyFile
    spec: TensorSpec
    recorded: Digest | None = None

    def stream(self, name: str) -> TensorStream:
        return TensorStream(name, self.spec, self.file.chunks())

    def transposed(self) -> TensorRef:
        """A matrix's transpose: the same file read in the other order. BAD_TENSOR for what is no matrix."""
        spec = transposed_spec(self.name, self.spec)
        file = replace(self.file, shape=spec.shape, column_major=not self.file.column_major)
        return replace(self, file=file, spec=spec, recorded=None)

    def digest(self) -> Digest:
        """Summarise the bytes as they are now. The written digest serves only where its hash is theirs: files get edited."""
        if self.recorded is not None:
            hasher = xxhash.xxh3_128()
            for chunk in self.file.chunks():
                hasher.update(chunk)
            if hasher.digest() == self.recorded.hash:
                return self.recorded
        return digest_chunks(self.file.chunks, self.spec)


def record_entry(record: Record, path: str, framework: str, device: str, seq: int | None = None) -> dict[str, Any]:
    """Describe a recorded tensor; `seq` numbers a gradient's boundary."""
    ours: dict[str, Any] = {"name": record.name, **spec_json(record.spec), "digest": _digest_json(record.digest)}
    if seq is not None:
        ours["seq"] = seq
    return {"path": path, **tensor_texts(framework, record.spec, device), OURS: ours}


def spec_json(spec: TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.dtype.value, "shape": list(spec.shape)}


def spec_from_json(node: Mapping[str, Any], source: Path) -> TensorSpec:
    """Read a spec; `source` is the JSON file, for the errors."""
    text, shape = need(node, "dtype", str, source), need(node, "shape", list, source)
    if text not in DType.__members__:
        raise damaged(source, f"names the unknown element type {text!r}")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise damaged(source, f"holds the shape {shape!r}")
    return TensorSpec(DType(text), tuple(shape))


class Paths:
    """Finds tensor files: where the writer's own folder is in a path, beside the JSON file, wherever the dump lies now."""

    def __init__(self, source: Path, written_as: str) -> None:
        self.source = source
        self._written_in = written_as.replace("\\", "/").rpartition("/")[0]

    def find(self, path: str) -> Path:
        """Return the file that a path of the JSON means.

        Never the place where the dump was once written, while it is being read elsewhere: that may hold another one by now.
        """
        plain = path.replace("\\", "/")
        if plain.startswith(f"{self._written_in}/"):
            return self.source.parent / plain[len(self._written_in) + 1 :]
        if Path(path).exists():
            return Path(path)
        return self.source.parent.joinpath(*plain.split("/")[-2:])


def read_entry(entry: Mapping[str, Any], paths: Paths, default_name: str) -> TensorRef:
    """Read a tensor entry of ours or of PaDiff's, and hold it against its file; DATA_LOSS naming the file."""
    file = open_npy(paths.find(need(entry, "path", str, paths.source)))
    if OURS in entry:
        ours = need(entry, OURS, dict, paths.source)
        recorded = _digest_from_json(need(ours, "digest", dict, paths.source), paths.source)
        name = need(ours, "name", str, paths.source)
        return TensorRef(name, file, check_spec(file, spec_from_json(ours, paths.source)), recorded)
    return TensorRef(default_name, file, _spec_in_words(entry, file, paths.source))


def check_spec(file: NpyFile, spec: TensorSpec) -> TensorSpec:
    """Return the spec where the file is that; DATA_LOSS otherwise."""
    if file.shape != spec.shape or file.stored != spec.dtype.storage:
        raise unlike(file, str(spec))
    return spec


def natural_spec(file: NpyFile) -> TensorSpec:
    """Return the spec of a file that nothing is said about: 16-bit unsigned integers are what paddle makes of bfloat16."""
    return TensorSpec(DType.BF16 if file.dtype is DType.U16 else file.dtype, file.shape)


def unlike(file: NpyFile, said: str) -> PadiffError:
    """Describe a file that is something else than its JSON says."""
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
    """JSON has no NaN and no infinity, so these are words."""
    floats = {name: _number_or_word(told(getattr(digest, name))) for name in _FLOATS}
    return {**{name: getattr(digest, name) for name in _COUNTS}, **floats, "hash": digest.hash.hex()}


def _number_or_word(value: float) -> float | str:
    return value if value - value == 0.0 else repr(value)


def _digest_from_json(node: Mapping[str, Any], source: Path) -> Digest:
    try:
        mean, abs_mean, norm, low, high = (float(node[name]) for name in _FLOATS)
        count, nan_count, inf_count = (need(node, name, int, source) for name in _COUNTS)
        text = need(node, "hash", str, source)
        return Digest(count, mean, abs_mean, norm, low, high, nan_count, inf_count, bytes.fromhex(text))
    except (KeyError, TypeError, ValueError) as err:
        raise damaged(source, f"holds a broken digest: {dict(node)!r:.200}") from err


def entries(node: Mapping[str, Any], key: str, paths: Paths) -> Iterator[tuple[int | None, TensorRef]]:
    """Read a list of entries: each with the number of its boundary, where it has one of its own."""
    for index, entry in enumerate(need(node, key, list, paths.source)):
        if not isinstance(entry, dict):
            raise damaged(paths.source, f"has something else than objects in the list {key!r}")
        ours = entry.get(OURS)
        seq = need(ours, "seq", int, paths.source) if isinstance(ours, dict) and "seq" in ours else None
        yield seq, read_entry(entry, paths, str(index))
