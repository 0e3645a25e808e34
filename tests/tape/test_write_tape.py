"""A tape knows with what it was recorded, gives that back, and refuses whatever else it is asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.losses_and_optimizers import parse_loss, parse_optimizer
from padiff_rpc.model.model import ForwardRequest, LossSpec, RecordOptions
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.remote.connect import connect
from padiff_rpc.tape.header import Header
from padiff_rpc.tape.parameter_file import read_parameter_file
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_params import write_params, write_weights
from padiff_rpc.tape.write_tape import record
from padiff_rpc.tensors.tensor import CHUNK_BYTES, DType, Tensor, TensorSpec, TensorStream, collect_all
from tests.align.pairs import hosted, inputs_of
from tests.servers.harness import serving
from tests.tape.tapes import LOSS, SGD, Listener, one_layer, record_tape, recorded

TARGET = Tensor.from_array(np.zeros((4, 4), np.float32))
MSE = LossSpec("mse", {}, {"target": TARGET})


def test_a_tape_gives_back_with_what_it_was_recorded(tmp_path: Path) -> None:
    model = recorded(tmp_path / "tape", "bert_like", steps=2, training=True, seed=5)
    settings = model.recorded
    assert settings is not None
    assert inputs_of("bert_like") == model.inputs
    assert ("net", 2, True, 5) == (settings.model_name, settings.steps, settings.training, settings.seed)
    assert (LOSS, SGD) == (settings.loss, settings.optimizer)
    assert model.info().recorded
    assert hosted("mlp").info().framework_version == model.info().framework_version
    assert not hosted("mlp").info().recorded


def test_nested_inputs_and_targets_come_back(tmp_path: Path) -> None:
    tape = record_tape(tmp_path / "tape", loss=MSE)
    model = RecordedModel(tape)
    assert model.recorded is not None
    assert MSE == model.recorded.loss
    assert ["input_0.npy", "target_0.npy"] == sorted(path.name for path in (tape / "inputs").iterdir())


def test_a_remote_model_is_recorded_like_one_in_this_process(tmp_path: Path) -> None:
    record_tape(tmp_path / "hosted", "conv_net")
    with serving(hosted("conv_net")) as worker, connect(worker.address) as model:
        record(model, inputs_of("conv_net"), tmp_path / "remote", model_name="net", loss=LOSS, optimizer=SGD)
    files = sorted(path.relative_to(tmp_path / "hosted") for path in (tmp_path / "hosted").rglob("*.npy"))
    assert files == sorted(path.relative_to(tmp_path / "remote") for path in (tmp_path / "remote").rglob("*.npy"))
    for file in files:
        assert (tmp_path / "hosted" / file).read_bytes() == (tmp_path / "remote" / file).read_bytes()


def forward(model: RecordedModel, **request: Any) -> None:
    model.forward(ForwardRequest({}, **request))


def one_step(model: RecordedModel, loss: LossSpec = LOSS, optimizer: str = "SGD(lr=0.1)") -> None:
    forward(model)
    model.backward(loss)
    model.optimizer_step(parse_optimizer(optimizer))


def forward_twice(model: RecordedModel) -> None:
    forward(model)
    forward(model)


@pytest.mark.parametrize(
    ("act", "asked", "was"),
    [
        (lambda model: forward(model, training=False), "training=False", "training=True"),
        (lambda model: forward(model, seed=3), "seed=3", "seed=0"),
        (lambda model: one_step(model, parse_loss("mean")), "mean over", r"projection\(seed=0\)"),
        (lambda model: one_step(model, parse_loss("projection(seed=1)")), "seed=1", "seed=0"),
        (lambda model: one_step(model, MSE), "mse", "projection"),
        (lambda model: one_step(model, optimizer="SGD(lr=0.2)"), "lr=0.2", "lr=0.1"),
        (lambda model: one_step(model, optimizer="Adam"), "Adam", "SGD"),
        (forward_twice, "no optimiser", "SGD"),
    ],
)
def test_what_contradicts_the_recording_is_refused_and_both_are_named(
    tmp_path: Path, act: Callable[[RecordedModel], object], asked: str, was: str
) -> None:
    model = recorded(tmp_path / "tape", steps=2)
    with pytest.raises(PadiffError, match=f"asked for with .*{asked}.*recorded with .*{was}") as caught:
        act(model)
    assert Reason.BAD_CONFIG is caught.value.reason


def test_seeds_go_on_with_the_steps(tmp_path: Path) -> None:
    model = recorded(tmp_path / "tape", steps=2, optimizer=None, seed=7)
    forward(model, seed=7)
    with pytest.raises(PadiffError, match="step 1 is asked for with seed=7, the tape was recorded with seed=8"):
        forward(model, seed=7)


def test_a_tape_without_seed_says_no_to_one(tmp_path: Path) -> None:
    model = recorded(tmp_path / "tape", seed=None)
    with pytest.raises(PadiffError, match="seed=0, the tape was recorded with seed=None"):
        forward(model, seed=0)
    forward(model, seed=None)


def test_another_target_is_another_loss(tmp_path: Path) -> None:
    model = recorded(tmp_path / "tape", loss=MSE)
    other = LossSpec("mse", {}, {"target": Tensor.from_array(np.ones((4, 4), np.float32))})
    with pytest.raises(PadiffError) as caught:
        one_step(model, other)
    assert Reason.BAD_CONFIG is caught.value.reason
    model.reset()
    one_step(model, MSE)


@pytest.mark.parametrize(
    ("loss", "outputs", "allowed"),
    [
        ("projection", ("last_hidden_state", "pooled"), True),
        ("projection", ("pooled", "last_hidden_state"), False),
        ("projection", ("pooled",), False),
        ("mean", ("pooled", "last_hidden_state"), True),
        ("mean", ("pooled",), False),
    ],
)
def test_a_loss_over_other_outputs_is_another_loss(
    tmp_path: Path, loss: str, outputs: tuple[str, ...], allowed: bool
) -> None:
    spec = parse_loss(loss)
    model = recorded(tmp_path / "tape", "bert_like", loss=spec)
    forward(model)
    asked = LossSpec(spec.name, spec.options, outputs=outputs)
    if allowed:
        live = hosted("bert_like")
        live.forward(ForwardRequest(inputs_of("bert_like"), seed=0))
        assert live.backward(spec).loss == model.backward(asked).loss
        return
    with pytest.raises(PadiffError, match="pooled") as caught:
        model.backward(asked)
    assert Reason.BAD_CONFIG is caught.value.reason


@pytest.mark.parametrize(
    ("settings", "act", "reason"),
    [
        ({}, lambda model: forward(model, record=RecordOptions(sync=True)), Reason.NOT_SUPPORTED),
        ({}, lambda model: model.write_parameters([]), Reason.NOT_SUPPORTED),
        ({}, lambda model: model.optimizer_step(SGD), Reason.OUT_OF_ORDER),
        ({}, lambda model: [one_step(model), forward(model)], Reason.OUT_OF_ORDER),
        ({"optimizer": None}, one_step, Reason.BAD_CONFIG),
        ({"optimizer": None, "backward": False}, one_step, Reason.NOT_SUPPORTED),
    ],
)
def test_what_a_tape_cannot_do_is_refused(
    tmp_path: Path, settings: dict[str, Any], act: Callable[[RecordedModel], object], reason: Reason
) -> None:
    model = recorded(tmp_path / "tape", **settings)
    with pytest.raises(PadiffError) as caught:
        act(model)
    assert reason is caught.value.reason
    assert caught.value.hint


def test_buffers_are_those_of_after_the_forward_once_it_has_run(tmp_path: Path) -> None:
    live, model = hosted("conv_net"), recorded(tmp_path / "tape", "conv_net", optimizer=None)
    names = ["bn1.running_mean", "bn1.weight"]
    before = live.digest_parameters(names)
    assert before == model.digest_parameters(names)
    for each in (live, model):
        each.forward(ForwardRequest(inputs_of("conv_net"), seed=0))
    after = live.digest_parameters(names)
    assert after == model.digest_parameters(names)
    assert before[names[0]] != after[names[0]]
    model.reset()
    assert before == model.digest_parameters(names)


def files_of(leaf: Path) -> list[list[str]]:
    """List the tensor files of what params.json and weights.json hold, by their names."""
    files = [read_parameter_file(leaf / name) for name in ("params.json", "weights.json")]
    return [sorted(ref.file.path.name for ref in file.values.values()) for file in files]


def test_what_a_step_without_optimiser_leaves_unchanged_is_written_once(tmp_path: Path) -> None:
    leaf = record_tape(tmp_path / "tape", "conv_net", steps=2, optimizer=None) / "step_1" / "rank_0"
    before, after = files_of(leaf)
    statistics = [f"buffers_shared_{number}.npy" for number in range(4)]
    assert statistics == [name for name in before if name not in after]
    assert [f"buffers_only_{number}.npy" for number in range(4)] == [name for name in after if name not in before]
    assert len(before) + 4 == len([*leaf.glob("weights/*.npy"), *leaf.glob("buffers/*.npy")])


def test_a_step_with_an_optimiser_has_files_of_its_own_for_before_and_after(tmp_path: Path) -> None:
    before, after = files_of(record_tape(tmp_path / "tape") / "step_0" / "rank_0")
    assert [] == sorted({*before} & {*after})


def test_a_parameter_that_the_forward_changes_is_written_as_it_was_and_as_it_is(tmp_path: Path) -> None:
    live = hosted("mlp")
    head, forward_of_head = live.model.head, live.model.head.forward

    def forward(x: Any) -> Any:
        head.bias.data[-1] += 1
        return forward_of_head(x)

    head.forward = forward
    was = live.digest_parameters(["head.bias", "head.weight"])
    record(live, inputs_of("mlp"), tmp_path / "tape", model_name="net", loss=LOSS)
    leaf = tmp_path / "tape" / "step_0" / "rank_0"
    before, after = (RecordedModel(leaf, only=name) for name in ("params.json", "weights.json"))
    assert was == before.digest_parameters([*was])
    assert live.digest_parameters([*was]) == after.digest_parameters([*was])
    assert was["head.bias"] != after.digest_parameters(["head.bias"])["head.bias"]


def test_a_file_of_a_tape_that_is_written_anew_leaves_the_other_whole(tmp_path: Path) -> None:
    leaf = record_tape(tmp_path / "tape", optimizer=None) / "step_0" / "rank_0"
    live, other = hosted("mlp"), hosted("mlp", seed=5)
    write_params(
        leaf, Header("net", "numpy"), other.describe(), EVERYTHING, other.read_parameters, other.read_parameters
    )
    names = [info.name for info in live.describe().parameters]
    for model, file in ((other, "params.json"), (live, "weights.json")):
        assert collect_all(model.read_parameters(names)) == collect_all(
            RecordedModel(leaf, only=file).read_parameters(names)
        )


def test_only_selected_layers_are_recorded(tmp_path: Path) -> None:
    selection = Selection({"body.act": "on the black list", "body.fc1": "on the black list"})
    model = recorded(tmp_path / "tape", selection=selection)
    assert selection == model.selection
    heard = Listener(model)
    model.forward(ForwardRequest({}), heard)
    assert {"", "body", "body.fc2", "head"} == {each[2] for each in heard.boundaries}


@pytest.mark.parametrize("change", [{"steps": 0}, {"model_name": ""}, {"model_name": "a/b"}, {"backward": False}])
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(PadiffError) as caught:
        record_tape(tmp_path / "tape", **change)
    assert Reason.BAD_CONFIG is caught.value.reason


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "tape").mkdir()
    record_tape(tmp_path / "tape")
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(PadiffError, match="tape' is there already") as caught:
        record_tape(tmp_path / "tape", "shared")
    assert Reason.BAD_CONFIG is caught.value.reason
    assert before == sorted(path for path in tmp_path.rglob("*"))


def test_writing_and_reading_hold_a_few_chunks_only(tmp_path: Path) -> None:
    spec = TensorSpec(DType.F32, (16, CHUNK_BYTES // 4))
    chunk = memoryview(bytes(CHUNK_BYTES))

    def read(names: object) -> Any:
        yield TensorStream("w", spec, (chunk for _ in range(16)))

    tracemalloc.start()
    try:
        write_weights(tmp_path, Header("net", "torch"), one_layer({"w": spec}), EVERYTHING, read)
        model = RecordedModel(tmp_path, only="weights.json")
        model.digest_parameters(["w"])
        for stream in model.read_parameters(["w"]):
            assert spec.size_bytes == sum(piece.nbytes for piece in stream.chunks)
        assert tracemalloc.get_traced_memory()[1] < 6 * CHUNK_BYTES
    finally:
        tracemalloc.stop()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PadiffError, match=r"cannot write a tape to '.*file/below'"):
        record_tape(tmp_path / "file" / "below")
