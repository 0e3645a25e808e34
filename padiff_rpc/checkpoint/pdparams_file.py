"""Write a .pdparams file: a pickle of NumPy arrays by name, of which `paddle.load` makes tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from padiff_rpc.checkpoint import pickle_code as code
from padiff_rpc.checkpoint.copy_stream import copy_stream
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

_PROTOCOL = 4
"""The first one whose bytes may exceed 4 GiB; paddle (3.3.1) saves in it."""
_EMPTY_ARRAY = (
    # Under this name every NumPy has it: 2.0 moved it, and still reads the old name in pickles.
    code.name_in("numpy.core.multiarray", "_reconstruct")
    + code.tuple_of(code.name_in("numpy", "ndarray"), code.numbers([0]), code.bytes_head(1) + b"b")
    + code.CALL
)
_STATE_VERSION = code.whole_number(1)
_DTYPE_STATE_VERSION = code.whole_number(3)


def write_pdparams(
    file: BinaryIO, specs: Mapping[str, TensorSpec], streams: Iterator[TensorStream], metadata: Mapping[str, str]
) -> None:
    """Write tensors; the format holds no metadata. bfloat16 goes as uint16, which paddle takes for bfloat16.

    See `written` for the arguments.
    """
    file.write(code.begin(_PROTOCOL) + code.BEGIN_DICT)
    for (name, spec), stream in zip(specs.items(), streams, strict=True):
        state = _STATE_VERSION + code.numbers(spec.shape) + _dtype(spec) + code.FALSE  # in C's order, not in Fortran's
        file.write(code.text(name) + _EMPTY_ARRAY + code.BEGIN_TUPLE + state + code.bytes_head(spec.size_bytes))
        copy_stream(stream, spec, file)
        file.write(code.END_TUPLE + code.SET_STATE)
    file.write(code.END_DICT + code.END)


def _dtype(spec: TensorSpec) -> bytes:
    """Return a NumPy dtype as NumPy pickles it."""
    storage = spec.dtype.storage
    made = code.name_in("numpy", "dtype") + code.tuple_of(code.text(storage.str[1:]), code.FALSE, code.TRUE) + code.CALL
    order = "<" if storage.itemsize > 1 else "|"
    rest = [code.NONE] * 3 + [code.whole_number(-1)] * 2 + [code.whole_number(0)]
    return made + code.tuple_of(_DTYPE_STATE_VERSION, code.text(order), *rest) + code.SET_STATE
