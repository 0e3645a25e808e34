"""Pairing: which of raw's boundaries belongs to which of base's."""

from __future__ import annotations

import threading

import pytest

from padiff_rpc.align.run.pairing import Pairing
from padiff_rpc.model.model import Boundary, Record
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import Digest, DType, TensorSpec

DIGEST = Digest(1, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, bytes(16))


def gradient(seq: int, route: str = "fc") -> Boundary:
    record = Record(seq, "0", TensorSpec(DType.F32, (1,)), DIGEST)
    return Boundary(seq, "backward", route, 0, "output", ("", 0), (record,))


def call(seq: int, layer: str) -> Boundary:
    return Boundary(seq, "forward", f"{layer}.relu", 0, "output", (layer, 0), (), api=True)


def test_who_waits_for_a_place_gets_the_first_that_comes_there_and_then_the_second() -> None:
    pairing = Pairing({"fc": "fc"})
    got: list[Boundary | None] = []
    waits = threading.Event()

    def raw() -> None:
        got.append(pairing.await_base(gradient(0), waits.set))
        got.append(pairing.await_base(gradient(1), lambda: None))

    thread = threading.Thread(target=raw)
    thread.start()
    assert waits.wait(10)
    with pairing._arrived:  # both come before raw's thread can wake
        for seq in (0, 1):
            assert None is pairing.add("base", gradient(seq))
    thread.join(10)
    assert [0, 1] == [one.seq for one in got if one is not None]
    assert PerSide([], []) == pairing.take_leftovers()


@pytest.mark.parametrize("routes", [{"1": "0", "2": "1"}, {"0": "1", "1": "0"}, {"0": "0", "1": "1"}])
@pytest.mark.parametrize("lag", [0, 1, 2, 4])
def test_functional_calls_are_paired_in_their_order_whatever_the_layers_are_called(
    routes: dict[str, str], lag: int
) -> None:
    pairing = Pairing(routes)
    to_raw = {base: raw for raw, base in routes.items()}
    base = [call(seq, layer) for seq, layer in enumerate(["0", "0", "1", "1"])]
    raw = [call(one.seq, to_raw[one.route.split(".")[0]]) for one in base]
    pairs = []
    for at in range(len(base) + lag):
        pairs += [pairing.add("base", base[at])] if at < len(base) else []
        pairs += [pairing.add("raw", raw[at - lag])] if at >= lag else []
    assert [(0, 0), (1, 1), (2, 2), (3, 3)] == [(one[0].seq, one[1].seq) for one in pairs if one is not None]
