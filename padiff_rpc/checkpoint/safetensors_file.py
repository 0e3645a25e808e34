"""Write a safetensors file: a header in JSON, and the tensors' bytes one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from padiff_rpc.checkpoint.copy_stream import copy_stream
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

_ALIGNMENT = 8
"""The bytes begin at a multiple of this."""


def write_safetensors(
    file: BinaryIO, specs: Mapping[str, TensorSpec], streams: Iterator[TensorStream], metadata: Mapping[str, str]
) -> None:
    """Write tensors and metadata; see `written` for the arguments."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, spec in specs.items():
        end = begin + spec.size_bytes
        header[name] = {"dtype": spec.dtype.value, "shape": list(spec.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for spec, stream in zip(specs.values(), streams, strict=True):
        copy_stream(stream, spec, file)
