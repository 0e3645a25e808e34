"""What a running step sends: boundaries, as many in a message as are there."""

from __future__ import annotations

from typing import Any

import pytest
from padiff_servers import serve_step as step
from padiff_servers.serve_step import together

from padiff_rpc.model.model import Boundary, Record, StorePlace
from padiff_rpc.tensors.tensor import Digest, DType, TensorSpec
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.serde import boundary_from_proto, boundary_to_proto

DIGEST = Digest(2, 0.5, None, 1.0, -1.0, 2.0, 0, 0, bytes(16))


def boundary(seq: int, records: int = 1) -> Boundary:
    made = tuple(Record(n, str(n), TensorSpec(DType.F32, (2,)), DIGEST) for n in range(records))
    return Boundary(seq, "forward", "fc", seq, "output", ("", 0), made)


def sent(*items: Any) -> list[Any]:
    """Return the messages that these make when they all wait: lists of boundaries, and what else there is as it is."""
    responses: Handover[Any] = Handover(len(items))
    for item in items:
        responses.put(item)
    responses.close()
    wire = [message.SerializeToString() for message in together(responses, pb.ForwardResponse, 0.0)]
    return [
        [boundary_from_proto(each) for each in message.boundaries.boundaries]
        if message.WhichOneof("item") == "boundaries"
        else message
        for message in map(pb.ForwardResponse.FromString, wire)
    ]


def test_boundaries_that_wait_go_in_one_message_and_arrive_as_they_were() -> None:
    made = [boundary(0), boundary(1, records=0), boundary(2, records=3)]
    assert [made] == sent(*made)


def test_where_records_lie_is_told_where_they_lie_somewhere() -> None:
    places = (StorePlace(0, 1), StorePlace(4096, 0), None)
    records = tuple(Record(n, "", TensorSpec(DType.F32, (2,)), DIGEST, place) for n, place in enumerate(places))
    [[told]] = sent(Boundary(0, "forward", "", 0, "input", None, records))
    assert places == tuple(record.place for record in told.records)


def test_what_is_no_boundary_keeps_its_place_between_them() -> None:
    waiting = pb.ForwardResponse(waiting=pb.Waiting(releases=3))
    result = pb.ForwardResponse(result=pb.ForwardResult(wall_s=1.0))
    assert [[boundary(0)], waiting, [boundary(1), boundary(2)], result] == sent(
        boundary(0), waiting, boundary(1), boundary(2), result
    )


def test_a_message_takes_no_more_once_it_has_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [boundary(0), boundary(1), boundary(2), boundary(3, records=9), boundary(4)]
    monkeypatch.setattr(step, "CHUNK_BYTES", sum(boundary_to_proto(each).ByteSize() for each in made[:2]))
    assert [made[:2], made[2:4], made[4:]] == sent(*made)
