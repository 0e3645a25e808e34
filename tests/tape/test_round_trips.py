"""Every kind of tensor comes back from disk as it was, bit by bit, and equal ones are written once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ForwardRequest, RecordOptions
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.tape.header import Header
from padiff_rpc.tape.npy import open_npy, write_npy
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_params import ReadNamed, write_grads, write_params, write_weights
from padiff_rpc.tape.write_report import Run, write_report
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import DType, Tensor, TensorSpec, TensorStream, collect_all
from tests.tape.tapes import LOSS, Held, Listener, boundary, one_layer

HEADER = Header("net", "torch")
RANDOM = np.random.RandomState(0)
TENSORS = {
    "bf16": Tensor.from_array(RANDOM.randint(0, 1 << 16, (2, 3)).astype(np.uint16), DType.BF16),
    "e4m3": Tensor.from_array(np.arange(256, dtype=np.uint8).reshape(16, 16), DType.F8_E4M3),
    "e5m2": Tensor.from_array(np.arange(256, dtype=np.uint8), DType.F8_E5M2),
    "f16": Tensor.from_array(np.array([65504, -0.0, 6e-8], np.float16)),
    "0-d": Tensor.from_array(np.array(1.5)),
    "0-d bool": Tensor.from_array(np.array(True)),
    "empty": Tensor.from_array(np.zeros((3, 0, 2), np.int64)),
    "> 4 MiB": Tensor.from_array(RANDOM.standard_normal((3, 500_001))),
    "not finite": Tensor.from_array(np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)),
    "int8": Tensor.from_array(np.array([[-128], [127]], np.int8)),
    "uint64": Tensor.from_array(np.array([2**64 - 1], np.uint64)),
    "complex": Tensor.from_array(np.array([1 + 2j, -3j], np.complex64)),
}


def reader(tensors: dict[str, Tensor]) -> ReadNamed:
    """Stream tensors by name, as a model does."""

    def read(names: Sequence[str]) -> Iterator[TensorStream]:
        return (tensors[name].stream(name) for name in names if name in tensors)

    return read


def test_activations_of_every_type_come_back(tmp_path: Path) -> None:
    held = Held()
    records = [held.record(name, tensor) for name, tensor in TENSORS.items()]
    forward = [boundary(0, "input", *records), boundary(1, "output", *records[:1])]
    write_report(tmp_path, HEADER, one_layer({}), [Run(forward, backward_ran=False)], held.read)
    model = RecordedModel(tmp_path)
    heard = Listener(model)
    model.forward(ForwardRequest({}), heard)
    assert [*TENSORS.values(), TENSORS["bf16"]] == heard.values
    found = [(name, spec, repr(summary)) for *_, tensors in heard.boundaries for name, spec, summary in tensors]
    expected = [
        (name, tensor.spec, repr(digest(np.frombuffer(tensor.data, np.uint8), tensor.spec)))
        for name, tensor in [*TENSORS.items(), ("bf16", TENSORS["bf16"])]
    ]
    assert expected == found


def test_parameters_and_gradients_of_every_type_come_back(tmp_path: Path) -> None:
    description = one_layer({name: tensor.spec for name, tensor in TENSORS.items()})
    gradients = {name: tensor for name, tensor in TENSORS.items() if tensor.spec.dtype.is_floating}
    write_params(tmp_path, HEADER, description, EVERYTHING, reader(TENSORS), reader(gradients))
    model = RecordedModel(tmp_path, only="params.json")
    assert description == model.describe()
    assert collect_all(reader(TENSORS)([*TENSORS])) == collect_all(model.read_parameters([*TENSORS]))
    assert gradients == collect_all(model.read_parameters([*TENSORS], "gradient"))


def test_a_gradient_may_be_wider_than_its_parameter(tmp_path: Path) -> None:
    wide = {"w": Tensor.from_array(np.array([0.1, 0.2], np.float32))}
    description = one_layer({"w": TensorSpec(DType.BF16, (2,))})
    write_grads(tmp_path, HEADER, description, EVERYTHING, reader(wide))
    found = collect_all(RecordedModel(tmp_path, only="grads.json").read_parameters(["w"], "gradient"))
    assert wide == found


def test_the_three_parameter_files_do_not_overwrite_each_other(tmp_path: Path) -> None:
    sets = [{"w": Tensor.from_array(np.full(3, value, np.float32))} for value in (1.0, 2.0, 3.0, 4.0)]
    description = one_layer({"w": sets[0]["w"].spec})
    write_weights(tmp_path, HEADER, description, EVERYTHING, reader(sets[2]))
    write_grads(tmp_path, HEADER, description, EVERYTHING, reader(sets[3]))
    write_params(tmp_path, HEADER, description, EVERYTHING, reader(sets[0]), reader(sets[1]))
    files = {only: RecordedModel(tmp_path, only=only) for only in ("params.json", "weights.json", "grads.json")}
    assert sets[0] == collect_all(files["params.json"].read_parameters(["w"]))
    assert sets[1] == collect_all(files["params.json"].read_parameters(["w"], "gradient"))
    assert sets[2] == collect_all(files["weights.json"].read_parameters(["w"]))
    assert sets[3] == collect_all(files["grads.json"].read_parameters(["w"], "gradient"))


def test_equal_tensors_of_a_report_are_written_once(tmp_path: Path) -> None:
    held = Held()
    value = Tensor.from_array(np.arange(4, dtype=np.float32))
    as_integers = Tensor.from_array(np.frombuffer(bytes(value.data), np.int32))
    records = [held.record(name, value) for name in "ab"] + [held.record("c", as_integers)]
    forward = [boundary(0, "input", *records), boundary(1, "output", *records)]
    write_report(tmp_path, HEADER, one_layer({}), [Run(forward, backward_ran=False)], held.read)
    assert ["tensor_0.npy", "tensor_1.npy"] == sorted(path.name for path in (tmp_path / "tensors").iterdir())


def test_a_second_dump_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    held = Held()
    records = [held.record(str(value), Tensor.from_array(np.array(value))) for value in (1.0, 2.0, 3.0)]
    for count in (3, 1):
        run = Run([boundary(0, "output", *records[:count])], backward_ran=False)
        write_report(tmp_path, HEADER, one_layer({}), [run], held.read)
    assert ["tensor_0.npy"] == [path.name for path in (tmp_path / "tensors").iterdir()]


def test_layers_left_out_are_not_written_and_say_why(tmp_path: Path) -> None:
    values = {"w": Tensor.from_array(np.zeros(2))}
    selection = Selection({"": "on the black list"})
    write_params(tmp_path, HEADER, one_layer({"w": values["w"].spec}), selection, reader(values), reader(values))
    model = RecordedModel(tmp_path, only="params.json")
    assert selection == model.selection
    with pytest.raises(PadiffError, match="on the black list") as caught:
        list(model.read_parameters(["w"]))
    assert Reason.NOT_SUPPORTED is caught.value.reason


def test_several_forwards_become_several_roots_and_are_replayed_one_by_one(tmp_path: Path) -> None:
    held = Held()
    values = [Tensor.from_array(np.array(value)) for value in (1.0, 2.0)]
    runs = [Run([boundary(0, "output", held.record("0", value))], loss=2.5, gradients=False) for value in values]
    write_report(tmp_path, HEADER, one_layer({}), runs, held.read)
    model = RecordedModel(tmp_path)
    heard = Listener(model)
    for _ in range(2):
        model.forward(ForwardRequest({}), heard)
    assert values == heard.values
    with pytest.raises(PadiffError) as caught:
        model.forward(ForwardRequest({}), heard)
    assert Reason.OUT_OF_ORDER is caught.value.reason


def test_a_backward_whose_forward_was_not_kept_comes_back(tmp_path: Path) -> None:
    held = Held()
    gradient = held.record("0", TENSORS["0-d"])
    backward = [replace(boundary(0, "output", gradient), phase="backward")]
    write_report(tmp_path, HEADER, one_layer({}), [Run([], backward, loss=np.float64(0.5))], held.read)
    model = RecordedModel(tmp_path)
    heard = Listener(model)
    model.forward(ForwardRequest({}), heard)
    assert 0.5 == model.backward(LOSS, heard).loss
    assert [TENSORS["0-d"]] == heard.values


def test_functional_calls_are_nodes_of_their_own_and_come_back(tmp_path: Path) -> None:
    held = Held()
    one = held.record("0", Tensor.from_array(np.array(1.0)))
    inner = replace(boundary(1, "output", one), route="/relu", caller=("", 0))
    forward = [boundary(0, "input", one), inner, boundary(2, "output", one)]
    run = Run(forward, backward_ran=False, api_calls=True)
    write_report(tmp_path, HEADER, one_layer({}), [run], held.read)
    model = RecordedModel(tmp_path)
    heard = Listener(model)
    model.forward(ForwardRequest({}, record=RecordOptions(api_calls=True)), heard)
    assert [("", None), ("/relu", ("", 0)), ("", None)] == [(each[2], each[5]) for each in heard.boundaries]


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(RANDOM.standard_normal((300, 70, 3))),
        np.asfortranarray(RANDOM.standard_normal((5, 400_000)).astype(np.float32)),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">f8").reshape(3, 2)),
        np.array(2.0, ">f8"),
        np.zeros((0, 4)),
    ],
    ids=["columns", "long rows", "big-endian", "both", "0-d", "empty"],
)
def test_whatever_numpy_saves_is_read_row_major_and_little_endian(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    file = open_npy(tmp_path / "x.npy")
    stream = TensorStream("x", TensorSpec(file.dtype, file.shape), file.chunks())
    assert np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes() == bytes(stream.collect().data)


@pytest.mark.parametrize("name", TENSORS)
def test_numpy_reads_what_is_written(tmp_path: Path, name: str) -> None:
    write_npy(tmp_path / "x.npy", TENSORS[name].stream(name))
    found = np.load(tmp_path / "x.npy", allow_pickle=False)
    assert TENSORS[name].to_array().tobytes() == found.tobytes()
    assert (TENSORS[name].spec.shape, TENSORS[name].spec.dtype.storage) == (found.shape, found.dtype)
    assert 0 == open_npy(tmp_path / "x.npy").offset % 64


def test_a_stream_that_ends_early_is_no_file_that_reads_as_whole(tmp_path: Path) -> None:
    stream = TensorStream("x", TensorSpec(DType.F32, (4,)), iter([memoryview(bytes(8))]))
    with pytest.raises(PadiffError) as caught:
        write_npy(tmp_path / "x.npy", stream)
    assert Reason.DATA_LOSS is caught.value.reason
    with pytest.raises(PadiffError, match="truncated"):
        open_npy(tmp_path / "x.npy")
