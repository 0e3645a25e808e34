"""Write a checkpoint, in the format that its file's suffix names, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from padiff_rpc.checkpoint.pdparams_file import write_pdparams
from padiff_rpc.checkpoint.pt_file import PT_DTYPES, write_pt
from padiff_rpc.checkpoint.safetensors_file import write_safetensors
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.system.atomic_file import replacing_binary
from padiff_rpc.tensors.tensor import DType, TensorSpec, TensorStream

_WRITERS = {".safetensors": write_safetensors, ".pdparams": write_pdparams, ".pt": write_pt}
_NOT_HELD = {
    ".safetensors": {DType.C128},
    # NumPy has no float8, and paddle would take uint16 for bfloat16.
    ".pdparams": {DType.F8_E4M3, DType.F8_E5M2, DType.U16},
    ".pt": set(DType) - PT_DTYPES,
}
"""The element types that each format cannot hold."""


def check_format(path: Path, specs: Mapping[str, TensorSpec]) -> None:
    """Refuse a file that cannot be written: by its suffix, or because its format lacks the type of a tensor.

    Raises:
        PadiffError: BAD_CONFIG for an unknown suffix; NOT_SUPPORTED for a tensor that the format cannot hold.
    """
    if path.suffix not in _WRITERS:
        raise PadiffError(
            f"{str(path)!r} has not the suffix of a checkpoint",
            reason=Reason.BAD_CONFIG,
            hint=f"name a file that ends in {', '.join(_WRITERS)}",
        )
    alien = [name for name, spec in specs.items() if spec.dtype in _NOT_HELD[path.suffix]]
    if alien:
        raise PadiffError(
            f"a {path.suffix} file cannot hold {alien[0]}, which is of {specs[alien[0]].dtype.value}",
            reason=Reason.NOT_SUPPORTED,
            hint="write a .safetensors file",
        )


@contextmanager
def written(
    path: Path, specs: Mapping[str, TensorSpec], streams: Iterator[TensorStream], metadata: Mapping[str, str]
) -> Iterator[None]:
    """Write a checkpoint, which takes the place of `path` at the end of the block; where the block raises, nothing is left of it.

    So the block can still verify what is written before anybody sees it.

    Args:
        path: the file; its suffix names the format.
        specs: the specs of all tensors, by name, in the order of the streams.
        streams: the tensors.
        metadata: texts by name, which only safetensors keeps.

    Raises:
        PadiffError: as `check_format` does; BAD_CONFIG where the file cannot be written; DATA_LOSS for a stream that is too short
            or too long.
    """
    check_format(path, specs)
    try:
        with replacing_binary(path) as file:
            _WRITERS[path.suffix](file, specs, streams, metadata)
            yield
    except OSError as err:
        raise PadiffError(
            f"the checkpoint {str(path)!r} cannot be written: {err.strerror or err}",
            reason=Reason.BAD_CONFIG,
            hint="name a file in a directory that exists, that you may write to, and that has room",
        ) from err
