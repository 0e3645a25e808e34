"""Dumps that PaDiff 0.3 itself wrote are read as models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ForwardRequest, RecordOptions
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.texts import dtype_from_text, hyperparameters_from_text, shape_from_text
from padiff_rpc.tensors.tensor import DType, TensorSpec, collect_all
from tests.tape.tapes import LOSS, PADIFF_DUMPS, SGD, Listener, edit

LEAF = Path("step_0") / "rank_0"
F32 = DType.F32


@pytest.fixture
def leaf(tmp_path: Path) -> Path:
    shutil.copytree(PADIFF_DUMPS / "paddle_good" / LEAF, tmp_path / "leaf")
    return tmp_path / "leaf"


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_layers_and_parameters_are_described(framework: str) -> None:
    description = RecordedModel(PADIFF_DUMPS / f"{framework}_good").describe()
    root, *layers = description.layers
    assert (framework, f"{framework[0].upper()}Net") == (description.framework, description.class_name)
    assert (root.route, root.children) == ("", ("emb", "norm", "fc1", "act", "fc2"))
    assert [f"{framework}.nn.{name}" for name in ("Embedding", "LayerNorm", "Linear", "GELU", "Linear")] == [
        layer.class_path for layer in layers
    ]
    assert "TNet" == root.class_path if framework == "torch" else "PNet" == root.class_path
    shape = (16, 8) if framework == "torch" else (8, 16)
    assert TensorSpec(F32, shape) == description.parameter("fc1.weight").spec
    assert 7 == len(description.parameters)
    assert 1e-5 == layers[1].hyperparameters["eps" if framework == "torch" else "epsilon"]


def test_outputs_come_as_their_calls_ended_and_gradients_in_reverse(leaf: Path) -> None:
    model = RecordedModel(leaf)
    forward, backward = Listener(model), Listener(model)
    result = model.forward(ForwardRequest({}), forward)
    came = model.backward(LOSS, backward)
    assert ["emb", "norm", "fc1", "act", "fc2", ""] == [each[2] for each in forward.boundaries]
    assert {"output"} == {each[4] for each in forward.boundaries}
    assert [*[("", 0)] * 5, None] == [each[5] for each in forward.boundaries]
    assert ["fc2", "act", "fc1", "norm"] == [each[2] for each in backward.boundaries]
    assert {"input"} == {each[4] for each in backward.boundaries}
    assert np.load(leaf / "tensors" / "tensor_0.npy").tobytes() == bytes(forward.values[-1].data)
    assert np.load(leaf / "tensors" / "tensor_9.npy").tobytes() == bytes(backward.values[0].data)
    assert ["0"] == [record.name for record in result.outputs]
    assert np.isnan(came.loss)
    assert ("loss", "output", "parts") == came.unrecorded


def test_torchs_dump_without_gradients_says_so() -> None:
    model = RecordedModel(PADIFF_DUMPS / "torch_good")
    model.forward(ForwardRequest({}))
    assert ("loss", "input", "output") == model.backward(LOSS).unrecorded


def test_weights_and_gradients_are_read(leaf: Path) -> None:
    model = RecordedModel(leaf)
    assert {} == collect_all(model.read_parameters(["fc1.weight"], "gradient"))
    model.forward(ForwardRequest({}))
    model.backward(LOSS)
    value = collect_all(model.read_parameters(["fc1.weight"]))["fc1.weight"]
    gradient = collect_all(model.read_parameters(["fc1.weight"], "gradient"))["fc1.weight"]
    assert np.load(leaf / "weights" / "weights_3.npy").tobytes() == bytes(value.data)
    assert np.load(leaf / "grads" / "grads_3.npy").tobytes() == bytes(gradient.data)


def test_what_it_does_not_hold_is_refused(leaf: Path) -> None:
    model = RecordedModel(leaf)
    model.forward(ForwardRequest({}))
    model.backward(LOSS)
    with pytest.raises(PadiffError, match=r"does not hold the parameters after") as caught:
        model.optimizer_step(SGD)
    assert Reason.NOT_SUPPORTED is caught.value.reason


def test_three_steps_are_replayed_one_by_one() -> None:
    model = RecordedModel(PADIFF_DUMPS / "paddle_good")
    outputs = [model.forward(ForwardRequest({})).outputs[0].digest.hash for _ in range(model.steps)]
    assert 3 == len(set(outputs))


def test_where_it_ran_is_told_as_far_as_the_dump_knows(leaf: Path) -> None:
    info = RecordedModel(leaf).info()
    assert ("paddle", "cpu", True) == (info.framework, info.device, info.recorded)
    assert RecordedModel(leaf).inputs is None
    assert RecordedModel(leaf).recorded is None


def test_uint16_is_bfloat16(leaf: Path) -> None:
    bits = np.arange(16, dtype=np.uint16)
    np.save(leaf / "weights" / "weights_4.npy", bits)
    np.save(leaf / "grads" / "grads_4.npy", bits)
    np.save(leaf / "tensors" / "tensor_1.npy", np.zeros((2, 5, 8), np.uint16))
    edit(leaf / "report.json", lambda c: c["tree"][0]["children"][0]["fwd_outputs"][0].update(dtype="paddle.bfloat16"))
    model = RecordedModel(leaf)
    assert TensorSpec(DType.BF16, (16,)) == model.describe().parameter("fc1.bias").spec
    heard = Listener(model)
    model.forward(ForwardRequest({}, record=RecordOptions(routes=("emb",))), heard)
    model.backward(LOSS)
    assert DType.BF16 is heard.values[0].spec.dtype
    assert DType.BF16 is next(model.read_parameters(["fc1.bias"], "gradient")).spec.dtype


def test_paddles_running_statistics_are_buffers(leaf: Path) -> None:
    def as_batch_norm(content: dict[str, Any]) -> None:
        norm = content["tree"]["children"][1]
        norm["weights"].update(_mean=norm["weights"]["weight"], _variance=norm["weights"]["bias"])
        norm["grads"].update(_mean=None, _variance=None)

    edit(leaf / "params.json", as_batch_norm)
    description = RecordedModel(leaf).describe()
    kinds = [(info.kind, info.trainable) for info in description.parameters if info.name.startswith("norm.")]
    assert [("parameter", True)] * 2 + [("buffer", False)] * 2 == kinds
    assert "buffers" == description.unrecorded


def test_a_report_alone_is_described_by_what_ran(leaf: Path) -> None:
    (leaf / "params.json").unlink()
    description = RecordedModel(leaf).describe()
    assert ["", "emb", "norm", "fc1", "act", "fc2"] == [layer.route for layer in description.layers]
    assert ((), "tensors") == (description.parameters, description.unrecorded)


def test_functional_calls_stand_below_their_layer(leaf: Path) -> None:
    def add_call(content: dict[str, Any]) -> None:
        root = content["tree"][0]
        call = {**root["children"][3], "name": "relu_", "route": "", "type": "api", "metas": {"fwd_step": 9}}
        root["children"].append(call)

    edit(leaf / "report.json", add_call)
    model = RecordedModel(leaf)
    heard = Listener(model)
    model.forward(ForwardRequest({}, record=RecordOptions(api_calls=True)), heard)
    assert ["emb", "norm", "fc1", "act", "fc2", "/relu", ""] == [each[2] for each in heard.boundaries]
    model.reset()
    plain = Listener(model)
    model.forward(ForwardRequest({}), plain)
    assert ["emb", "norm", "fc1", "act", "fc2", ""] == [each[2] for each in plain.boundaries]


def test_functional_calls_that_were_not_recorded_are_not_made_up(leaf: Path) -> None:
    with pytest.raises(PadiffError) as raised:
        RecordedModel(leaf).forward(ForwardRequest({}, record=RecordOptions(api_calls=True)))
    assert raised.value.reason is Reason.NOT_SUPPORTED
    assert raised.value.message.endswith("holds no functional calls")


def test_a_layer_called_twice_has_two_calls(leaf: Path) -> None:
    def again(content: dict[str, Any]) -> None:
        root = content["tree"][0]
        root["children"].append({**root["children"][2], "metas": {"fwd_step": 9}})

    edit(leaf / "report.json", again)
    model = RecordedModel(leaf)
    heard = Listener(model)
    model.forward(ForwardRequest({}, record=RecordOptions(routes=("fc1",))), heard)
    assert [("fc1", 0), ("fc1", 1)] == [each[2:4] for each in heard.boundaries]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Linear(in_features=8, out_features=16, bias=True)", {"in_features": 8, "out_features": 16, "bias": True}),
        ("LayerNorm((8,), eps=1e-05, elementwise_affine=True)", {"eps": 1e-5, "elementwise_affine": True}),
        ("Conv2d(3, 6, kernel_size=(3, 3), stride=(1, 1))", {"kernel_size": [3, 3], "stride": [1, 1]}),
        ("Dropout(p=0.5, axis=None, mode=upscale_in_train)", {"p": 0.5, "axis": None, "mode": "upscale_in_train"}),
        ("TNet()", {}),
        ("strange", {}),
    ],
)
def test_hyperparameters_are_read_off_the_printed_layer(text: str, expected: dict[str, Any]) -> None:
    assert expected == hyperparameters_from_text(text)


def test_shapes_and_dtypes_are_read_as_the_frameworks_print_them() -> None:
    assert [(2, 5, 4), (), (3,), None] == [
        shape_from_text(text) for text in ("torch.Size([2, 5, 4])", "paddle.Size([])", "[3]", "?")
    ]
    assert [DType.F32, DType.BF16, DType.BOOL, None] == [
        dtype_from_text(text) for text in ("torch.float32", "paddle.bfloat16", "bool", "paddle.pstring")
    ]
