"""A transposed tensor is exactly the transpose, chunk by chunk, wherever the model lives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import Model
from padiff_rpc.numpy_framework import nn
from padiff_rpc.remote.connect import connect
from padiff_rpc.tape.entries import TensorRef
from padiff_rpc.tape.npy import open_npy, write_npy
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import CHUNK_BYTES, DType, Tensor, TensorSpec, TensorStream, collect_all
from padiff_rpc.tensors.transpose import transposed_chunks
from tests.servers.harness import serving

SHAPES = [
    (1, 7),
    (7, 1),
    (0, 5),
    (5, 0),
    (3, 1_000_001),
    (1_000_001, 3),
    (257, 4099),
    (1024, 1024),
    (1, 1 << 19),
    (2, 2),
]
DTYPES = [DType.F32, DType.BF16, DType.U8, DType.C128]


def matrix(shape: tuple[int, int], dtype: DType) -> np.ndarray:
    bits = np.random.default_rng(0).integers(0, 256, shape[0] * shape[1] * dtype.item_bytes, np.uint8)
    return bits.view(dtype.storage).reshape(shape)


def turned(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array.T).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_chunks_are_those_of_the_transpose(shape: tuple[int, int], dtype: DType) -> None:
    array = matrix(shape, dtype)
    chunks = [bytes(chunk) for chunk in transposed_chunks(array)]
    assert turned(array) == b"".join(chunks)
    assert all(len(chunk) == CHUNK_BYTES for chunk in chunks[:-1])


@pytest.mark.parametrize("shape", [(3, 100_001), (257, 1031), (1, 9)])
def test_a_tensor_file_is_read_as_its_transpose(shape: tuple[int, int], tmp_path: Path) -> None:
    array = matrix(shape, DType.BF16)
    tensor = Tensor.from_array(array, DType.BF16)
    write_npy(tmp_path / "a.npy", tensor.stream("a"))
    ref = TensorRef("a", open_npy(tmp_path / "a.npy"), tensor.spec).transposed()
    assert (turned(array), TensorSpec(DType.BF16, shape[::-1])) == (bytes(ref.stream("a").collect().data), ref.spec)
    assert repr(digest(np.frombuffer(turned(array), np.uint8), ref.spec)) == repr(ref.digest())  # NaN is unequal to NaN


class Two(nn.Layer):
    """A wide matrix and a square one, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(1500, 700)
        self.square = nn.Linear(64, 64, bias=False)


@pytest.fixture(params=["hosted", "shared memory", "streams"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    hosted = HostedModel(Two())
    for name, parameter in (("wide.weight", hosted.model.wide.weight), ("square.weight", hosted.model.square.weight)):
        value = np.random.default_rng(len(name)).standard_normal(parameter.shape).astype(np.float32)
        hosted.write_parameters([Tensor.from_array(value).stream(name)])
    if request.param == "hosted":
        yield hosted
        return
    with serving(hosted) as worker, connect(worker.address, shared_memory=request.param == "shared memory") as remote:
        assert request.param == remote.transport
        yield remote


def test_those_asked_for_are_read_and_digested_as_transposes(model: Model) -> None:
    names = ["wide.weight", "wide.bias", "square.weight"]
    plain = collect_all(model.read_parameters(names))
    for chosen in (["wide.weight"], ["square.weight"], ["wide.weight", "square.weight"]):
        expected = {
            name: Tensor.from_array(np.ascontiguousarray(value.to_array().T)) if name in chosen else value
            for name, value in plain.items()
        }
        assert expected == collect_all(model.read_parameters(names, transposed=chosen))
        assert {
            name: digest(np.frombuffer(value.data, np.uint8), value.spec) for name, value in expected.items()
        } == model.digest_parameters(names, transposed=chosen)


def test_what_is_no_matrix_has_no_transpose(model: Model) -> None:
    for call in (
        lambda: list(model.read_parameters(["wide.bias"], transposed=["wide.bias"])),
        lambda: model.digest_parameters(["wide.bias"], transposed=["wide.bias"]),
    ):
        with pytest.raises(PadiffError, match="only a matrix") as caught:
            call()
        assert Reason.BAD_TENSOR is caught.value.reason


@pytest.mark.parametrize("fault", ["short", "long"])
def test_a_written_stream_of_the_wrong_length_is_data_loss(model: Model, fault: str) -> None:
    spec = model.describe().parameter("wide.weight").spec
    size = spec.size_bytes + (4 if fault == "long" else -4)
    value = np.zeros(size, np.uint8).data
    chunks = (value[at : at + 300_000] for at in range(0, size, 300_000))
    with pytest.raises(PadiffError) as caught:
        model.write_parameters([TensorStream("wide.weight", spec, chunks)])
    assert Reason.DATA_LOSS is caught.value.reason
    model.write_parameters(Tensor.from_array(np.ones(spec.shape, np.float32)).stream(n) for n in ["wide.weight"])
    assert {"wide.weight": Tensor.from_array(np.ones(spec.shape, np.float32))} == collect_all(
        model.read_parameters(["wide.weight"])
    )
