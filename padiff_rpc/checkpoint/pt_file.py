"""Write a .pt file: a ZIP archive of a pickle that names the tensors, and of their bytes, which `torch.load` reads."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast

from padiff_rpc.checkpoint import pickle_code as code
from padiff_rpc.checkpoint.copy_stream import copy_stream
from padiff_rpc.tensors.tensor import DType, TensorSpec, TensorStream

_FOLDER = "archive"
_PROTOCOL = 2
"""The one that torch.load(weights_only=True) demands."""
_VERSION = b"3\n"
_STORAGES = {
    DType.BOOL: "BoolStorage",
    DType.U8: "ByteStorage",
    DType.I8: "CharStorage",
    DType.I16: "ShortStorage",
    DType.I32: "IntStorage",
    DType.I64: "LongStorage",
    DType.BF16: "BFloat16Storage",
    DType.F16: "HalfStorage",
    DType.F32: "FloatStorage",
    DType.F64: "DoubleStorage",
    DType.C64: "ComplexFloatStorage",
    DType.C128: "ComplexDoubleStorage",
}
"""torch's class of the memory of each element type."""
PT_DTYPES = frozenset(_STORAGES)
"""The element types that the format holds."""


def write_pt(
    file: BinaryIO, specs: Mapping[str, TensorSpec], streams: Iterator[TensorStream], metadata: Mapping[str, str]
) -> None:
    """Write tensors; the format holds no metadata. See `written` for the arguments."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/data.pkl"), _named(specs))
        archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/byteorder"), b"little")
        for number, (spec, stream) in enumerate(zip(specs.values(), streams, strict=True)):
            info = zipfile.ZipInfo(f"{_FOLDER}/data/{number}")
            with archive.open(info, "w", force_zip64=True) as entry:
                copy_stream(stream, spec, cast(BinaryIO, entry))
        archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/version"), _VERSION)


def _named(specs: Mapping[str, TensorSpec]) -> bytes:
    """Return the pickle of all tensors by name, each as a view of the bytes with its number."""
    tensors = (code.text(name) + _tensor(spec, number) for number, (name, spec) in enumerate(specs.items()))
    return code.begin(_PROTOCOL) + code.BEGIN_DICT + b"".join(tensors) + code.END_DICT + code.END


def _tensor(spec: TensorSpec, number: int) -> bytes:
    storage = code.tuple_of(
        code.text("storage"),
        code.name_in("torch", _STORAGES[spec.dtype]),
        code.text(str(number)),
        code.text("cpu"),
        code.whole_number(spec.count),
    )
    no_hooks = code.name_in("collections", "OrderedDict") + code.tuple_of() + code.CALL
    view = code.tuple_of(
        code.kept_elsewhere(storage),
        code.whole_number(0),
        code.numbers(spec.shape),
        code.numbers(_strides(spec.shape)),
        code.FALSE,
        no_hooks,
    )
    return code.name_in("torch._utils", "_rebuild_tensor_v2") + view + code.CALL


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Return by how many elements each axis of a row-major tensor steps."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * max(shape[axis], 1)
    return strides
