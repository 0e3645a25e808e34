"""Ordinary uses that were once answered wrongly: each test was a fault before it was a test."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import torch

from padiff_rpc import (
    PadiffError,
    add_special_init,
    assign_weight,
    auto_diff,
    check_dataloader,
    check_grads,
    check_params,
    check_report,
    check_weights,
    create_model,
    set_dump_root_path,
)
from tests.match.special_inits import special_inits_kept
from tests.together.models import load

T, P = load("simple_torch"), load("simple_paddle")
PADDLES_OWN = pytest.mark.filterwarnings("ignore:When training, we now always track")  # each BatchNorm's in train mode
STRICT: dict[str, Any] = {"atol": 1e-4, "rtol": 0, "compare_mode": "strict"}


def inputs(*shape: int, name: str = "x") -> tuple[dict[str, Any], dict[str, Any]]:
    x = np.random.default_rng(0).normal(size=shape or (4, 20)).astype("float32")
    return {name: torch.as_tensor(x)}, {name: paddle.to_tensor(x)}


def test_each_kind_of_parameter_dump_is_checked_by_itself() -> None:
    one, other = create_model(T.Residual(), name="one"), create_model(T.Residual(), name="other")
    other.model.load_state_dict(one.model.state_dict())
    for proxy in (one, other):
        proxy.backward(proxy(**inputs()[0]).mean())
        proxy.dump_weights(f"{proxy.name}/weights")
        proxy.dump_grads(f"{proxy.name}/grads")
        proxy.dump_params(f"{proxy.name}/params")
    assert check_weights("one/weights", "other/weights")
    assert check_grads("one/grads", "other/grads")
    assert check_params("one/params", "other/params")


def test_the_layer_map_lies_in_each_kind_of_dump() -> None:
    one, other = create_model(T.Attention(), name="one"), create_model(P.Attention(), name="other")
    one.set_layer_map(["attn"])
    for proxy in (one, other):
        proxy.dump_weights(proxy.name)
    with pytest.raises(PadiffError, match="the layer map of 'one' has 1 layers, that of 'other' 0"):
        check_weights("one", "other")


def test_models_that_share_a_parameter_are_refused() -> None:
    one, other = T.Residual(), T.Residual()
    other.linear1.weight.data = one.linear1.weight.data
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1), torch.optim.SGD(other.parameters(), lr=0.3)]
    given = inputs()[0]
    with pytest.raises(PadiffError, match=r"base's 'linear1\.weight' and raw's 'linear1\.weight' are"):
        auto_diff(one, other, (given, given), optimizers=optimizers, **STRICT)


def test_memory_shared_across_frameworks_is_seen() -> None:
    module, layer = T.Residual(), P.Residual()
    module.linear1.bias.data = torch.utils.dlpack.from_dlpack(layer.linear1.bias.detach())
    with pytest.raises(PadiffError, match=r"base's 'linear1\.bias' and raw's 'linear1\.bias' are"):
        auto_diff(module, layer, inputs(), **STRICT)


def test_the_users_generators_are_left_as_they_were() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(())), paddle.rand([1]).item()]

    def seed() -> None:
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
        paddle.seed(5)

    seed()
    expected = draw()
    seed()
    module, layer = T.SimpleModule(20), P.SimpleLayer(20)
    seed()
    assert auto_diff(module, layer, inputs(), **STRICT)
    assert expected == draw()


@pytest.mark.parametrize("leaf", [True, False])
def test_inputs_that_want_a_gradient_get_it_in_a_copy(leaf: bool, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = inputs()[0]["x"].requires_grad_(), inputs()[1]["x"]
    y.stop_gradient = False
    given = (x, y) if leaf else (x * 1.0, y * 1.0)
    optimizers = ["SGD(lr=0.1)", "SGD(lr=0.1)"]
    pair = ({"x": given[0]}, {"x": given[1]})
    assert auto_diff(T.Residual(), P.Residual(), pair, optimizers=optimizers, steps=2, single_step=True, **STRICT)
    assert (None, None) == (x.grad, y.grad)
    capsys.readouterr()
    doubled = T.Residual(), T.Residual()
    doubled[1].act.register_full_backward_hook(lambda layer, inward, outward: (inward[0] * 2,))
    assert not auto_diff(*doubled, ({"x": given[0]}, {"x": given[0]}), **STRICT)


def test_a_model_may_write_into_an_input_that_wants_a_gradient() -> None:
    class Writing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(20, 4)

        def forward(self, x: Any) -> Any:
            return self.fc(x.mul_(2))

    x = inputs()[0]["x"].requires_grad_() * 1.0
    assert auto_diff(Writing(), Writing(), ({"x": x}, {"x": x}), **STRICT)
    assert torch.equal(x, inputs()[0]["x"])


def test_optimisers_that_do_nothing_are_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert not auto_diff(T.Residual(), P.Residual(), inputs(), optimizers=[lambda: None, lambda: None], **STRICT)
    assert (
        "NOTE: the optimisers changed no parameter that has a gradient, so this is no pass" in capsys.readouterr().out
    )


def test_one_optimiser_that_does_nothing_is_seen_within_any_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = T.Residual(), P.Residual()
    optimizers = [torch.optim.SGD(module.parameters(), lr=1e-5), lambda: None]
    assert not auto_diff(module, layer, inputs(), optimizers=optimizers, **STRICT)
    assert "raw's optimiser changed no parameter, base's did" in capsys.readouterr().out


def test_optimisers_that_start_from_a_rate_of_zero_may(capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = T.Residual(), P.Residual()
    ours = torch.optim.SGD(module.parameters(), lr=0.0)
    theirs = paddle.optimizer.SGD(learning_rate=0.0, parameters=layer.parameters())

    def torch_step() -> None:
        ours.step()
        ours.param_groups[0]["lr"] += 0.1

    def paddle_step() -> None:
        theirs.step()
        theirs.set_lr(theirs.get_lr() + 0.1)

    assert auto_diff(module, layer, inputs(), optimizers=[torch_step, paddle_step], steps=2, **STRICT)


@pytest.mark.parametrize("mode", ["mean", "strict", "scaled"])
def test_a_loss_without_any_gradient_is_no_pass(mode: Any, capsys: pytest.CaptureFixture[str]) -> None:
    losses = [lambda output: (output * 0).sum()] * 2
    assert not auto_diff(T.Residual(), P.Residual(), inputs(), loss_fns=losses, compare_mode=mode, atol=1e-4)
    assert "step 0: every gradient is zero on both sides, so that no error could show" in capsys.readouterr().out


def test_frozen_models_with_an_optimiser_are_judged_by_what_they_have() -> None:
    module, layer = T.Residual(), P.Residual()
    module.linear2.requires_grad_(False)
    for parameter in layer.linear2.parameters():
        parameter.stop_gradient = True
    assert auto_diff(module, layer, inputs(), optimizers=["SGD(lr=0.1)", "SGD(lr=0.1)"], **STRICT)


def test_a_call_that_only_one_side_makes_is_told_with_the_first_that_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Activated(torch.nn.Module):
        def __init__(self, activation: Any) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(20, 20)
            self.activation = activation

        def forward(self, x: Any) -> Any:
            return self.activation(self.fc(x)) + x

    monkeypatch.setenv("PADIFF_API_CHECK", "ON")
    given = inputs()[0]
    models = Activated(torch.nn.functional.relu), Activated(torch.nn.functional.leaky_relu)
    assert not auto_diff(*models, (given, given), **STRICT)
    why = (
        "its call 0 of add is the first to differ of those that both sides make; only base calls relu here; "
        "only raw calls leaky_relu here"
    )
    assert f"[AutoDiff]     Why: {why}" in capsys.readouterr().out.splitlines()


def test_a_special_initialiser_that_writes_into_base_is_refused() -> None:
    def emptying(base: Any, raw: Any) -> None:
        for parameter in (*base.parameters(), *raw.parameters()):
            parameter.data.zero_()

    one, other = create_model(T.WithOwn()), create_model(T.WithOwn())
    given = inputs(3, 4)[0]
    for proxy in (one, other):
        proxy.set_layer_map(["own"])
    with special_inits_kept():
        add_special_init("torch", "Own", "torch", "Own", emptying)
        with pytest.raises(PadiffError, match=r"a special initialiser has changed base's own\.packed"):
            auto_diff(one, other, (given, given), **STRICT)


class TorchNorm(torch.nn.Module):
    def __init__(self, momentum: float = 0.1, calls: int = 1) -> None:
        super().__init__()
        self.bn = torch.nn.BatchNorm1d(20, momentum=momentum)
        self.calls = calls

    def forward(self, x: Any) -> Any:
        return sum(self.bn(x * (call + 1)) for call in range(self.calls))


class PaddleNorm(paddle.nn.Layer):
    def __init__(self, calls: int = 1) -> None:
        super().__init__()
        self.bn = paddle.nn.BatchNorm1D(20)
        self.calls = calls

    def forward(self, x: Any) -> Any:
        return sum(self.bn(x * (call + 1)) for call in range(self.calls))


@PADDLES_OWN
@pytest.mark.parametrize("torch_first", [True, False])
@pytest.mark.parametrize("with_report", [True, False])
def test_running_variances_in_dumps_may_be_apart_by_their_definition_only(
    with_report: bool, torch_first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def dumped(model: Any, name: str, x: Any) -> str:
        proxy = create_model(model, name=name)
        for step in range(3):
            proxy.backward((proxy(x) ** 2).mean())
            proxy.dump_params(f"{name}/step_{step}")
            if with_report:
                proxy.dump_report(f"{name}/step_{step}")
        return name

    one, other = inputs(50, 20)
    right, wrong = dumped(TorchNorm(), "right", one["x"]), dumped(TorchNorm(momentum=0.9), "wrong", one["x"])
    theirs = dumped(PaddleNorm(), "theirs", other["x"])
    for name in (right, wrong):
        paths = (name, theirs) if torch_first else (theirs, name)
        assert (name == "right") is check_weights_of_params(*paths)
    told = "how many values this layer saw is not known" in capsys.readouterr().out
    assert told is not with_report


def check_weights_of_params(one: str, other: str) -> bool:
    return check_params(one, other, {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"})


@PADDLES_OWN
def test_a_normalisation_that_is_called_twice_in_a_step_is_converted() -> None:
    for steps in (1, 3):
        assert auto_diff(TorchNorm(calls=2), PaddleNorm(calls=2), inputs(50, 20), steps=steps, **STRICT)
    assert not auto_diff(TorchNorm(calls=2, momentum=0.5), PaddleNorm(calls=2), inputs(50, 20), **STRICT)


def test_parameters_of_a_forward_alone_agree(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = create_model(T.Residual(), name="one"), create_model(T.Residual(), name="other")
    other.model.load_state_dict(one.model.state_dict())
    for proxy in (one, other):
        proxy(**inputs()[0])
        proxy.dump_params(proxy.name)
        proxy.dump_grads(proxy.name)
    assert check_params("one", "other")
    assert "NOTE: no gradient was compared, for there is none in common" in capsys.readouterr().out
    assert not check_grads("one", "other")


Use = Callable[[], object]
BAD: dict[str, tuple[Use, str]] = {
    "steps as text": (lambda: diff(steps="2"), "steps is '2', it must be a number of 1 or more"),
    "steps as a float": (lambda: diff(steps=1.5), "steps is 1.5, it must be a number of 1 or more"),
    "steps as a switch": (lambda: diff(steps=True), "steps is True, it must be a number of 1 or more"),
    "single_step as text": (lambda: diff(single_step="False"), "single_step is 'False', it must be True or False"),
    "auto_init as text": (lambda: diff(auto_init="no"), "auto_init is 'no', it must be True or False"),
    "rtol as a switch": (lambda: diff(rtol=True), "rtol is True, it must be a number of 0 or more"),
    "a number for a loss": (
        lambda: diff(loss_fns=[3, 4]),
        "a loss is a function of the model's output, or a name, got 3",
    ),
    "a number for an optimiser": (
        lambda: diff(optimizers=[3, 4]),
        "an optimiser has step(), or is a function without arguments, or a name such as 'SGD(lr=0.1)', got 3",
    ),
    "a layer for a class": (
        lambda: create_model(T.Residual()).update_black_list_with_class(torch.nn.Linear(2, 2)),  # pyright: ignore
        "a class is given itself or by its name, got a Linear",
    ),
    "a number for a name": (
        lambda: create_model(T.Residual(), name=3),  # pyright: ignore
        "3 cannot be the name of a model: a folder gets it",
    ),
    "a number for a dump's path": (
        lambda: create_model(T.Residual()).dump_weights(3),  # pyright: ignore
        "a folder is given as text or as a Path, got 3",
    ),
    "no root": (lambda: set_dump_root_path(None), "a folder is given as text or as a Path, got None"),  # pyright: ignore
    "no path to check": (lambda: check_weights(None, None), "a folder is given as text or as a Path, got None"),  # pyright: ignore
    "no loader": (
        lambda: check_dataloader(None, []),  # pyright: ignore
        "loader 0 is a NoneType, over which nothing can be iterated",
    ),
}


def diff(**options: Any) -> bool:
    return auto_diff(T.Residual(), P.Residual(), inputs(), **options)


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_errors_that_name_them(what: str) -> None:
    use, message = BAD[what]
    with pytest.raises(PadiffError) as raised:
        use()
    assert message == raised.value.message


@pytest.mark.parametrize("dump", ["dump_report", "dump_params", "dump_weights", "dump_grads", "try_dump"])
def test_a_folder_that_cannot_be_written_to_is_named(dump: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PadiffError, match=r"cannot write a dump to '.*file/below'"):
        getattr(create_model(T.Residual()), dump)(tmp_path / "file" / "below")


@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated")
def test_models_that_were_made_static_are_refused() -> None:
    static = paddle.jit.to_static(P.Residual())
    with pytest.raises(PadiffError, match=r"a Residual was made static by paddle\.jit\.to_static"):
        auto_diff(T.Residual(), static, inputs(), **STRICT)
    paddle.jit.enable_to_static(False)
    try:
        assert auto_diff(T.Residual(), static, inputs(), **STRICT)
    finally:
        paddle.jit.enable_to_static(True)
    with pytest.raises(PadiffError, match=r"a Residual was made static by torch\.jit"):
        auto_diff(torch.jit.trace(T.Residual(), inputs()[0]["x"]), P.Residual(), inputs(), **STRICT)


class TorchEncoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.enc(x)


class PaddleEncoder(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.enc = paddle.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0)

    def forward(self, x: Any) -> Any:
        return self.enc(x)


@pytest.mark.parametrize("api_calls", ["ON", "OFF"])
def test_dumps_of_the_frameworks_own_encoders_agree(api_calls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADIFF_API_CHECK", api_calls)
    one, other = create_model(TorchEncoder(), name="one"), create_model(PaddleEncoder(), name="other")
    assert assign_weight(one, other)
    for proxy, given in zip((one, other), inputs(2, 5, 16), strict=True):
        proxy.backward((proxy(**given) ** 2).mean())
        proxy.dump_report(proxy.name)
        proxy.dump_params(proxy.name)
    assert check_report("one", "other", {"atol": 1e-4, "rtol": 1e-4, "compare_mode": "strict"})
    assert check_params("one", "other", {"atol": 1e-4, "rtol": 1e-4, "compare_mode": "strict"})


def test_dumps_of_cells_that_return_their_state_in_other_ways_agree() -> None:
    class TorchCell(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = torch.nn.GRUCell(20, 20)

        def forward(self, x: Any) -> Any:
            return self.cell(x, self.cell(x))

    class PaddleCell(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.cell = paddle.nn.GRUCell(20, 20)

        def forward(self, x: Any) -> Any:
            return self.cell(x, self.cell(x)[0])[0]

    one, other = create_model(TorchCell(), name="one"), create_model(PaddleCell(), name="other")
    assert assign_weight(one, other)
    for proxy, given in zip((one, other), inputs(), strict=True):
        proxy.backward((proxy(**given) ** 2).mean())
        proxy.dump_report(proxy.name)
    assert check_report("one", "other", {"atol": 1e-4, "rtol": 1e-4, "compare_mode": "strict"})


class TorchHeads(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.one, self.other = torch.nn.Embedding(9, 6), torch.nn.Linear(6, 2), torch.nn.Linear(6, 3)

    def forward(self, ids: Any, mask: Any = None) -> Any:
        h = self.table(ids)
        h = h if mask is None else h * mask.float().reshape(*h.shape[:2], 1)
        return self.one(h), self.other(h)


class PaddleHeads(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.one, self.other = paddle.nn.Embedding(9, 6), paddle.nn.Linear(6, 2), paddle.nn.Linear(6, 3)

    def forward(self, ids: Any, mask: Any = None) -> Any:
        h = self.table(ids)
        h = h if mask is None else h * mask.astype("float32").reshape([*h.shape[:2], 1])
        return self.one(h), self.other(h)


IDS = np.arange(12).reshape(3, 4) % 9


@pytest.mark.parametrize("single_step", [True, False])
def test_each_side_may_be_given_its_inputs_in_its_own_form(
    single_step: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(ids: np.ndarray, mask: np.ndarray) -> bool:
        one = {"ids": torch.as_tensor(IDS), "mask": torch.as_tensor(IDS > 3)}
        other = {"ids": paddle.to_tensor(ids), "mask": paddle.to_tensor(mask)}
        return auto_diff(TorchHeads(), PaddleHeads(), (one, other), single_step=single_step, **STRICT)

    assert run(IDS.astype(np.int32), (IDS > 3).astype(np.float32)[..., None])
    why = "the two models are given this input in different forms: BOOL[3, 4] in base, F32[3, 4, 1] in raw"
    assert f"skipped 1: {why}" in capsys.readouterr().out
    assert not run((IDS + 1).astype(np.int32) % 9, (IDS > 3).astype(np.float32))
    assert "[AutoDiff]     Tensor: input.ids" in capsys.readouterr().out
    assert not run(IDS[:2].astype(np.int32), (IDS > 3)[:2])
    assert "[AutoDiff]     Tensor: input.ids" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["", "first", "second"])
def test_several_backwards_through_one_forward_are_compared_one_by_one(wrong: str) -> None:
    one, other = create_model(TorchHeads(), name="one"), create_model(PaddleHeads(), name="other")
    assert assign_weight(one, other)
    mine, theirs = one(ids=torch.as_tensor(IDS)), other(ids=paddle.to_tensor(IDS))
    (mine[0] ** 2).mean().mul(3 if wrong == "first" else 1).backward(retain_graph=True)
    one.backward((mine[1] ** 2).mean() * (3 if wrong == "second" else 1))
    (theirs[0] ** 2).mean().backward(retain_graph=True)
    other.backward((theirs[1] ** 2).mean())
    one.dump_report("one")
    other.dump_report("other")
    assert (not wrong) is check_report("one", "other", {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"})


def test_parameters_of_mapped_layers_are_passed_over_in_dumps(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = create_model(T.Attention(), name="one"), create_model(P.Attention(), name="other")
    for proxy in (one, other):
        proxy.set_layer_map(["attn"])
    assert assign_weight(one, other)
    for proxy in (one, other):
        proxy.dump_weights(proxy.name)
    assert not check_weights("one", "other")
    out = capsys.readouterr().out
    assert "skipped 6: left out of raw: inside the mapped layer 'attn'" in out
    assert "NOTE: there is no parameter to compare, so this is no pass" in out


class Masking(torch.nn.Module):
    """Its own code changes the indices by `shift` on their way to the table, and masks what comes of them."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(20, 4)
        self.shift = shift

    def forward(self, ids: Any, mask: Any) -> Any:
        return self.table(ids + self.shift) * mask.float()[..., None]


@pytest.mark.parametrize("single_step", [True, False])
@pytest.mark.parametrize("fault", ["", "mask", "shift"])
def test_single_step_replaces_no_tensor_that_it_could_not_compare(single_step: bool, fault: str) -> None:
    ids, mask = torch.as_tensor(IDS), torch.as_tensor(IDS > 3)
    theirs = (~mask if fault == "mask" else mask).to(torch.int64)
    given = {"ids": ids, "mask": mask}, {"ids": ids.to(torch.int32), "mask": theirs}
    models = Masking(), Masking(shift=1 if fault == "shift" else 0)
    assert (not fault) is auto_diff(*models, given, single_step=single_step, **STRICT)
