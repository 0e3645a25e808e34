"""One suite for every Model: hosted here, behind gRPC, and recorded on disk give the same step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ForwardRequest, Model, RecordOptions
from padiff_rpc.remote.connect import connect
from padiff_rpc.tensors.tensor import collect_all
from tests.align.pairs import hosted, inputs_of
from tests.servers.harness import serving
from tests.tape.tapes import LOSS, SGD, recorded, run_step

FACTORIES = ["mlp", "conv_net", "shared", "tuple_outputs", "tied", "bert_like"]
MakeModel = Callable[[str], Model]


@pytest.fixture(params=["hosted", "remote", "recorded"])
def make_model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeModel]:
    """Give a fresh model of a factory, wherever it lives; the recorded one has two steps."""
    with ExitStack() as stack:

        def make(factory: str) -> Model:
            if request.param == "recorded":
                return recorded(tmp_path / "tape", factory, steps=2)
            if request.param == "hosted":
                return hosted(factory)
            return stack.enter_context(connect(stack.enter_context(serving(hosted(factory))).address))

        yield make


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_model_is_described_alike(make_model: MakeModel, factory: str) -> None:
    assert hosted(factory).describe() == make_model(factory).describe()


@pytest.mark.parametrize("factory", FACTORIES)
def test_two_steps_bring_the_same_to_the_last_bit(make_model: MakeModel, factory: str) -> None:
    local, model = hosted(factory), make_model(factory)
    for step in range(2):
        expected = run_step(local, factory, RecordOptions(), step)
        assert expected == run_step(model, factory, RecordOptions(), step)
        assert expected["backward"]
        assert expected["gradients"]


@pytest.mark.parametrize(
    "options",
    [
        RecordOptions(routes=("", "body.fc2", "head")),
        RecordOptions(routes=("body.fc1", "body.act")),
        RecordOptions(routes=()),
        RecordOptions(inputs=False),
        RecordOptions(gradients=False),
    ],
)
def test_only_what_is_asked_for_is_heard_of(make_model: MakeModel, options: RecordOptions) -> None:
    assert run_step(hosted("mlp"), "mlp", options) == run_step(make_model("mlp"), "mlp", options)


def test_a_caller_that_is_not_asked_for_is_passed_over(make_model: MakeModel) -> None:
    found = run_step(make_model("mlp"), "mlp", RecordOptions(routes=("", "body.fc2")))
    assert {None, ("", 0)} == {caller for *_, caller, _ in found["forward"]}


def test_a_run_nobody_observes_records_only_its_outputs(make_model: MakeModel) -> None:
    result = make_model("mlp").forward(ForwardRequest(inputs_of("mlp"), seed=0))
    assert ["0"] == [record.name for record in result.outputs]


def test_released_records_are_no_error(make_model: MakeModel) -> None:
    model = make_model("mlp")
    result = model.forward(ForwardRequest(inputs_of("mlp"), seed=0))
    model.release_activations([record.id for record in result.outputs])
    model.release_activations([record.id for record in result.outputs])


def test_records_of_an_earlier_step_are_gone(make_model: MakeModel) -> None:
    model = make_model("mlp")
    first = model.forward(ForwardRequest(inputs_of("mlp"), seed=0))
    model.backward(LOSS)
    model.optimizer_step(SGD)
    model.forward(ForwardRequest(inputs_of("mlp"), seed=1))
    with pytest.raises(PadiffError) as caught:
        [stream.collect() for stream in model.read_activations([record.id for record in first.outputs])]
    assert Reason.UNKNOWN_NAME is caught.value.reason


def test_a_part_of_a_parameter_is_read_by_itself(make_model: MakeModel) -> None:
    model, names = make_model("mlp"), ["body.fc1.weight[1]", "body.fc1.weight[0]"]
    whole = collect_all(hosted("mlp").read_parameters(["body.fc1.weight"]))["body.fc1.weight"].to_array()
    read = collect_all(model.read_parameters(names))
    assert [read[name].to_array().tolist() for name in names] == [whole[1].tolist(), whole[0].tolist()]
    assert model.digest_parameters(names) == hosted("mlp").digest_parameters(names)
    with pytest.raises(PadiffError) as raised:
        list(model.read_parameters([f"body.fc1.weight[{len(whole)}]"]))
    assert raised.value.reason is Reason.UNKNOWN_NAME


def test_there_is_no_gradient_before_a_backward(make_model: MakeModel) -> None:
    model = make_model("mlp")
    assert {} == model.digest_parameters(["head.weight"], "gradient")
    model.forward(ForwardRequest(inputs_of("mlp"), seed=0))
    model.backward(LOSS)
    assert ["head.weight"] == list(model.digest_parameters(["head.weight"], "gradient"))
    model.reset()
    assert {} == model.digest_parameters(["head.weight"], "gradient")


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda model: list(model.read_parameters(["head.wieght"])), Reason.UNKNOWN_NAME),
        (lambda model: model.digest_parameters(["nothing"]), Reason.UNKNOWN_NAME),
        (lambda model: model.backward(LOSS), Reason.OUT_OF_ORDER),
        (
            lambda model: model.forward(
                ForwardRequest(inputs_of("mlp"), seed=0, record=RecordOptions(routes=("bodi",)))
            ),
            Reason.UNKNOWN_NAME,
        ),
    ],
)
def test_what_cannot_be_is_refused_alike(make_model: MakeModel, act: Callable[[Model], object], reason: Reason) -> None:
    with pytest.raises(PadiffError) as caught:
        act(make_model("mlp"))
    assert reason is caught.value.reason


def test_a_backward_takes_a_forward_with_gradients(make_model: MakeModel) -> None:
    model = make_model("mlp")
    model.forward(ForwardRequest(inputs_of("mlp"), seed=0, gradients=False))
    with pytest.raises(PadiffError) as caught:
        model.backward(LOSS)
    assert Reason.OUT_OF_ORDER is caught.value.reason
