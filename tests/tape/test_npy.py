"""The header of a .npy file: the bytes that we write, and what is read or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tape.npy import open_npy, write_npy
from padiff_rpc.tensors.tensor import DType, Tensor

MAGIC = b"\x93NUMPY"


@pytest.mark.parametrize(
    ("tensor", "header"),
    [
        (
            Tensor.from_array(np.zeros((2, 3), np.float32)),
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
        ),
        (Tensor.from_array(np.array(1.5)), b"{'descr': '<f8', 'fortran_order': False, 'shape': (), }"),
        (Tensor.from_array(np.array([True])), b"{'descr': '|b1', 'fortran_order': False, 'shape': (1,), }"),
        (
            Tensor.from_array(np.zeros((30522, 0, 1024), np.uint16), DType.BF16),
            b"{'descr': '<u2', 'fortran_order': False, 'shape': (30522, 0, 1024), }",
        ),
    ],
)
def test_a_file_holds_these_bytes(tmp_path: Path, tensor: Tensor, header: bytes) -> None:
    write_npy(tmp_path / "x.npy", tensor.stream("x"))
    padded = header + b" " * (128 - 10 - len(header) - 1) + b"\n"
    expected = MAGIC + b"\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(tensor.data)
    assert expected == (tmp_path / "x.npy").read_bytes()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: tuple[int, int], order: str) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).copy(order)
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    read = open_npy(tmp_path / "x.npy")
    assert ((2, 3), DType.F32) == (read.shape, read.dtype)
    assert array.tobytes("C") == b"".join(read.chunks())


def with_header(text: str, version: bytes = b"\x01\x00", length: bytes | None = None) -> bytes:
    return MAGIC + version + (length or len(text).to_bytes(2, "little")) + text.encode()


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is no .npy file"),
        (b"\x93NUMPZ\x01\x00", "is no .npy file"),
        (with_header(GOOD, b"\x04\x00"), "is no .npy file"),
        (with_header(GOOD)[:20], "has a broken header"),
        (with_header(GOOD, b"\x02\x00", b"\xff\xff\xff\x7f"), "has a broken header"),
        (with_header("{"), "has a broken header"),
        (with_header("(" * 5000), "has a broken header"),
        (with_header("[]"), "has a broken header"),
        (with_header(GOOD.replace("'descr'", "'desc'")), "has a broken header"),
        (with_header(GOOD.replace("<f4", "<f5")), "has a broken header"),
        (with_header(GOOD.replace("(0,)", "(-1,)")), "has a broken header: its shape is (-1,)"),
        (with_header(GOOD.replace("(0,)", "(True,)")), "has a broken header: its shape is (True,)"),
        (with_header(GOOD.replace("<f4", "|O")), "holds Python objects, which are never unpickled"),
        (with_header(GOOD.replace("<f4", "<U3")), "holds elements of dtype <U3, which no tensor has"),
        (with_header(GOOD) + b"\x00", "is too long: it holds 1 bytes of elements, 0 belong there"),
        (with_header(GOOD.replace("0", "2", 1)), "is truncated: it holds 0 bytes of elements, 8 belong there"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(PadiffError) as caught:
        open_npy(tmp_path / "x.npy")
    assert Reason.DATA_LOSS is caught.value.reason
    assert caught.value.message.startswith(f"the tensor file '{tmp_path / 'x.npy'}' {what}")
    assert len(caught.value.message) < 400
