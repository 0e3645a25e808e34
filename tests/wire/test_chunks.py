"""Tensors cut into chunks come back whole, and a stream that is not as it should be is DATA_LOSS."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensor import CHUNK_BYTES, DType, Tensor, TensorSpec, TensorStream, collect_all
from padiff_rpc.v1.tensor_pb2 import TensorChunk
from padiff_rpc.wire.channel import MESSAGE_LIMIT_BYTES
from padiff_rpc.wire.chunks import stream_to_proto, streams_from_proto, tensors_to_proto

BIG = np.random.RandomState(0).standard_normal(3 * CHUNK_BYTES // 2 + 7).astype(np.float32)
TENSORS = {
    "0-d": Tensor.from_array(np.array(1.5)),
    "empty": Tensor.from_array(np.zeros((3, 0, 2), np.int64)),
    "bf16": Tensor.from_array(np.arange(6, dtype=np.uint16).reshape(2, 3), DType.BF16),
    "bool": Tensor.from_array(np.array([True, False])),
    "complex": Tensor.from_array(np.array([1 + 2j])),
    "non-contiguous": Tensor.from_array(np.arange(24).reshape(4, 6).T[::2]),
    "exactly one chunk": Tensor.from_array(np.arange(CHUNK_BYTES, dtype=np.uint8)),
    "> 4 MiB": Tensor.from_array(BIG),
}


def through_bytes(chunks: list[TensorChunk]) -> list[TensorChunk]:
    return [TensorChunk.FromString(chunk.SerializeToString()) for chunk in chunks]


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back(name: str) -> None:
    tensor = TENSORS[name]
    chunks = through_bytes(list(stream_to_proto(tensor.stream(name))))
    assert {name: tensor} == collect_all(streams_from_proto(chunks))
    assert max(chunk.ByteSize() for chunk in chunks) < MESSAGE_LIMIT_BYTES / 2


def test_many_tensors_follow_each_other_in_order() -> None:
    back = collect_all(streams_from_proto(through_bytes(list(tensors_to_proto(TENSORS)))))
    assert list(TENSORS) == list(back)
    assert back == TENSORS


def test_a_count_reads_no_chunk_more() -> None:
    chunks = iter(list(tensors_to_proto(TENSORS)))
    assert ["0-d", "empty"] == list(collect_all(streams_from_proto(chunks, 2)))
    assert next(chunks).name == "bf16"


def test_a_tensor_that_is_not_read_is_skipped() -> None:
    names = [stream.name for stream in streams_from_proto(tensors_to_proto(TENSORS))]
    assert list(TENSORS) == names


def test_pieces_of_any_size_are_cut_again() -> None:
    tensor = TENSORS["> 4 MiB"]
    for step in (tensor.data.nbytes, 1000 * 1000):
        pieces = (tensor.data[at : at + step] for at in range(0, tensor.data.nbytes, step))
        chunks = list(stream_to_proto(TensorStream("x", tensor.spec, pieces)))
        assert max(len(chunk.payload) for chunk in chunks) <= CHUNK_BYTES
        assert {"x": tensor} == collect_all(streams_from_proto(chunks))


def broken_streams() -> dict[str, list[TensorChunk]]:
    whole = list(stream_to_proto(TENSORS["> 4 MiB"].stream("x")))
    other = list(stream_to_proto(TENSORS["bf16"].stream("y")))

    def changed(index: int, **fields: object) -> list[TensorChunk]:
        chunks = through_bytes(whole)
        for field, value in fields.items():
            setattr(chunks[index], field, value)
        return chunks

    return {
        "the last chunk is missing": whole[:-1],
        "the last chunk is missing and another tensor follows": whole[:-1] + other,
        "a chunk is missing": whole[:2] + whole[3:],
        "a chunk comes twice": whole[:2] + whole[1:],
        "two chunks change places": [whole[0], whole[2], whole[1], *whole[3:]],
        "a chunk is too short": changed(1, payload=whole[1].payload[:-1]),
        "the last chunk is too long": changed(-1, payload=whole[-1].payload + b"x"),
        "an offset is wrong": changed(1, offset=whole[1].offset + 4),
        "the first offset is not 0": changed(0, offset=4),
        "a chunk follows the end": [*whole, whole[-1]],
        "the header is missing": whole[1:],
    }


@pytest.mark.parametrize("fault", broken_streams())
def test_a_broken_stream_is_data_loss(fault: str) -> None:
    with pytest.raises(PadiffError) as caught:
        collect_all(streams_from_proto(broken_streams()[fault]))
    assert Reason.DATA_LOSS is caught.value.reason


@pytest.mark.parametrize("fault", broken_streams())
def test_a_broken_stream_is_data_loss_also_where_it_is_skipped(fault: str) -> None:
    with pytest.raises(PadiffError) as caught:
        list(streams_from_proto(broken_streams()[fault]))
    assert Reason.DATA_LOSS is caught.value.reason


def test_fewer_tensors_than_announced_is_data_loss() -> None:
    with pytest.raises(PadiffError, match="after 8 of 9 tensors") as caught:
        collect_all(streams_from_proto(tensors_to_proto(TENSORS), len(TENSORS) + 1))
    assert Reason.DATA_LOSS is caught.value.reason


def test_a_tensor_above_the_limit_is_refused_before_it_is_allocated() -> None:
    spec = TensorSpec(DType.F32, (1 << 60,))
    chunk = next(stream_to_proto(TensorStream("huge", spec, iter(()))))
    with pytest.raises(PadiffError, match="'huge'") as caught:
        collect_all(streams_from_proto([chunk]))
    assert Reason.BAD_TENSOR is caught.value.reason
