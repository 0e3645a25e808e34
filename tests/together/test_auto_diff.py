"""auto_diff and assign_weight on native models of both frameworks in one process, as PaDiff's documentation has them."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import torch

from padiff_rpc import PadiffError, Reason, add_special_init, assign_weight, auto_diff, create_model
from tests.match.special_inits import special_inits_kept
from tests.together.models import load

T, P = load("simple_torch"), load("simple_paddle")
STRICT: dict[str, Any] = {"atol": 1e-4, "rtol": 0, "compare_mode": "strict"}


def inputs(*shape: int) -> tuple[dict[str, Any], dict[str, Any]]:
    x = np.random.default_rng(0).normal(size=shape or (100, 100)).astype("float32")
    return {"x": torch.as_tensor(x)}, {"x": paddle.to_tensor(x)}


def test_the_documented_example() -> None:
    module, layer = T.SimpleModule(), P.SimpleLayer()
    assert auto_diff(
        module, layer, inputs(), atol=1e-4, rtol=0, auto_init=True, compare_mode="strict", single_step=False
    )
    np.testing.assert_array_equal(module.linear1.weight.detach().numpy().T, layer.linear1.weight.numpy())


def test_the_defaults_are_those_of_assert_allclose(capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = T.Residual().double(), P.Residual().to(dtype="float64")
    x = np.random.default_rng(0).normal(size=(4, 20))
    assert auto_diff(module, layer, ({"x": torch.as_tensor(x)}, {"x": paddle.to_tensor(x)}))
    out = capsys.readouterr().out
    assert "[AutoDiff] Your options:\n{\n  atol: `0`\n  auto_init: `True`\n  single_step: `False`\n" in out
    assert "  rtol: `1e-07`\n  compare_mode: `mean`\n" in out
    assert "[AutoDiff] Assign weight success !!!" in out
    assert out.endswith("[AutoDiff] SUCCESS !!!\n")


def test_paddle_as_base_and_torch_as_raw() -> None:
    module, layer = T.Residual(), P.Residual()
    one, other = inputs(4, 20)
    assert auto_diff(layer, module, (other, one), **STRICT)
    assert auto_diff(layer, module, (other, one), single_step=True, **STRICT)


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("diff_phase", ["forward", "both"])
def test_a_wrong_activation_is_found_and_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, single_step: bool, diff_phase: Any
) -> None:
    module, layer = T.Residual(act=torch.nn.ReLU()), P.Residual(act=paddle.nn.LeakyReLU())
    assert not auto_diff(module, layer, inputs(4, 20), single_step=single_step, diff_phase=diff_phase, **STRICT)
    out = capsys.readouterr().out
    for line in (
        "[AutoDiff] FAILED !!!",
        "[AutoDiff]     Diff found in Forward Stage",
        "[AutoDiff]     Type of layer is: ReLU vs LeakyReLU",
        "[AutoDiff]     Route: Residual(base_model).act",
        "[AutoDiff]            Residual(raw_model).act",
        "AssertionError:",
        "Not equal to tolerance rtol=0, atol=0.0001",
        "[AutoDiff] Check model struct:",
        "[AutoDiff] The forward stage comparing failed !!!",
    ):
        assert line in out.splitlines()
    assert re.search(r"^ x: array\(\S+, dtype=float32\)  at \[\d, \d+\], where they differ most$", out, re.MULTILINE)
    assert re.search(r"^ y: array\(\S+, dtype=float32\)", out, re.MULTILINE)
    assert out.endswith("[AutoDiff] FAILED !!!\n")
    log = tmp_path / "padiff_log" / "report_Residual(raw_model).log"
    assert f"      {log}" in out.splitlines()
    assert log.read_text().splitlines() == [
        "Residual(raw_model)",
        "========================================",
        "    Residual",
        "     |--- Linear",
        "     |--- Linear",
        "     +--- LeakyReLU    <---  *** HERE ***",
    ]


def test_backward_alone_needs_single_step() -> None:
    module, layer = T.SimpleModule(), P.SimpleLayer()
    with pytest.raises(PadiffError) as raised:
        auto_diff(module, layer, inputs(), diff_phase="backward", **STRICT)
    assert raised.value.reason is Reason.BAD_CONFIG
    assert auto_diff(module, layer, inputs(), diff_phase="backward", single_step=True, **STRICT)


def test_single_step_of_both_phases_runs_the_models_twice() -> None:
    module, layer = T.SimpleModule(), P.SimpleLayer()
    calls: list[str] = []
    module.register_forward_hook(lambda *_: calls.append("torch"))
    layer.register_forward_post_hook(lambda *_: calls.append("paddle"))
    assert auto_diff(module, layer, inputs(), single_step=True, **STRICT)
    assert ["torch", "paddle", "torch", "paddle"] == calls


def test_functions_as_losses() -> None:
    label = np.random.default_rng(1).normal(size=(4, 10)).astype("float32")

    def torch_loss(output: Any, label: Any) -> Any:
        return output.mean() - torch.tensor(label).mean()

    def paddle_loss(output: Any, label: Any) -> Any:
        return output.mean() - paddle.to_tensor(label).mean()

    module, layer = T.Residual(), P.Residual()
    losses = [partial(torch_loss, label=label), partial(paddle_loss, label=label)]
    assert auto_diff(module, layer, inputs(4, 20), loss_fns=losses, **STRICT)
    mse = [
        partial(torch.nn.MSELoss(), target=torch.tensor(label)),
        partial(paddle.nn.MSELoss(), label=paddle.to_tensor(label)),
    ]
    assert auto_diff(module, layer, inputs(4, 20), loss_fns=mse, **STRICT)


def test_a_loss_that_differs_is_found() -> None:
    module, layer = T.Residual(), P.Residual()
    losses = [lambda output: output.mean(), lambda output: 2 * output.mean()]
    assert not auto_diff(module, layer, inputs(4, 20), loss_fns=losses, atol=0, rtol=1e-4)


@pytest.mark.parametrize("as_functions", [False, True])
def test_optimisers_step_and_the_weights_are_compared(as_functions: bool, capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = T.Residual(), P.Residual()
    ours = torch.optim.SGD(module.parameters(), lr=0.1)
    theirs = paddle.optimizer.SGD(learning_rate=0.1, parameters=layer.parameters())

    def torch_step() -> None:
        ours.step()
        ours.zero_grad()

    def paddle_step() -> None:
        theirs.step()
        theirs.clear_grad()

    optimizers = [torch_step, paddle_step] if as_functions else [ours, theirs]
    assert auto_diff(module, layer, inputs(4, 20), optimizers=optimizers, steps=3, **STRICT)
    np.testing.assert_allclose(module.linear1.weight.detach().numpy().T, layer.linear1.weight.numpy(), atol=1e-6)


def test_an_optimiser_that_differs_is_found_in_the_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    module, layer = T.Residual(), P.Residual()
    optimizers = [
        torch.optim.SGD(module.parameters(), lr=0.1),
        paddle.optimizer.SGD(learning_rate=0.5, parameters=layer.parameters()),
    ]
    assert not auto_diff(module, layer, inputs(4, 20), optimizers=optimizers, **STRICT)
    assert "[AutoDiff] Diff found when compare weights, please check report" in capsys.readouterr().out
    text = (tmp_path / "padiff_log" / "weights_diff.log").read_text()
    assert "base_model param path:\n    Residual(base_model).linear2.bias\n" in text
    assert "raw_model param path:\n    Residual(raw_model).linear2.bias\n" in text
    assert "Not equal to tolerance rtol=0, atol=0.0001" in text


def test_without_auto_init_the_weights_stay_and_differ() -> None:
    module, layer = T.SimpleModule(), P.SimpleLayer()
    before = layer.linear1.weight.numpy()
    assert not auto_diff(module, layer, inputs(), auto_init=False, **STRICT)
    np.testing.assert_array_equal(before, layer.linear1.weight.numpy())


def test_a_misspelt_keyword_is_an_error() -> None:
    with pytest.raises(PadiffError) as raised:
        auto_diff(T.SimpleModule(), P.SimpleLayer(), inputs(), loss_fn=[None, None])
    assert raised.value.reason is Reason.BAD_CONFIG
    assert "auto_diff has no option 'loss_fn'" == raised.value.message
    assert raised.value.hint.startswith("did you mean 'loss_fns'?")


def test_one_model_is_not_compared_with_itself() -> None:
    module = T.SimpleModule()
    with pytest.raises(PadiffError) as raised:
        auto_diff(module, module, (inputs()[0], inputs()[0]))
    assert raised.value.reason is Reason.BAD_CONFIG


def test_torch_against_torch_with_dropout_agrees_for_both_draw_the_same() -> None:
    given = inputs(4, 8)[0]
    assert auto_diff(T.Dropping(), T.Dropping(), (given, given), **STRICT)


def test_random_layers_are_named_when_they_make_the_sides_differ(capsys: pytest.CaptureFixture[str]) -> None:
    assert not auto_diff(T.Dropping(), P.Dropping(), inputs(4, 8), **STRICT)
    out = capsys.readouterr().out
    assert "drop (Dropout, p=0.5)" in out


def test_models_without_parameters_align() -> None:
    given = inputs(4, 8)
    assert assign_weight(T.NoParameters(), P.NoParameters())
    assert auto_diff(T.NoParameters(), P.NoParameters(), given, diff_phase="forward", **STRICT)


def test_models_in_float64_align_more_closely() -> None:
    x = np.random.default_rng(0).normal(size=(4, 20))
    module, layer = T.Residual().double(), P.Residual().to(dtype="float64")
    given = {"x": torch.as_tensor(x)}, {"x": paddle.to_tensor(x)}
    assert auto_diff(module, layer, given, atol=1e-12, rtol=0, compare_mode="strict")


def test_assign_weight_copies_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = T.SimpleModule(), P.SimpleLayer()
    assert assign_weight(module, layer)
    np.testing.assert_array_equal(module.linear1.weight.detach().numpy().T, layer.linear1.weight.numpy())
    assert "[AutoDiff] Assign weight success !!!" in capsys.readouterr().out


def test_a_failing_assignment_is_told_as_documented(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    module, layer = T.SimpleModule(100, 4), P.SimpleLayer(100, 10)
    before = layer.linear1.weight.numpy()
    assert assign_weight(module, layer) is False
    out = capsys.readouterr().out
    assert "[AutoDiff] Assign weight Failed !!!" in out
    assert "    base_model: `Linear(" in out
    assert "`SimpleModule(base_model).linear1.weight`" in out
    assert "`SimpleLayer(raw_model).linear1.weight`" in out
    assert "[4, 100] vs [100, 10]" in out
    assert (
        "Weight init log saved to\n    " + str(tmp_path / "padiff_log" / "weight_init_SimpleModule(base_model).log")
        in out
    )
    assert "Hint:\n    1. Check the definition order of params is same in submodels." in out
    log = (tmp_path / "padiff_log" / "weight_init_SimpleLayer(raw_model).log").read_text()
    assert log.splitlines()[2:] == ["    SimpleLayer (skip)", "     +--- Linear    <---  *** HERE ***"]
    np.testing.assert_array_equal(before, layer.linear1.weight.numpy())


def test_queries_that_are_a_parameter_here_and_an_embedding_there() -> None:
    assert auto_diff(T.Queries(), P.Queries(), inputs(3, 16), **STRICT)


def test_another_definition_order_is_matched_by_name_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = T.Ordered(), P.Ordered()
    assert auto_diff(module, layer, inputs(3, 8), **STRICT)
    assert "definition order differs" in capsys.readouterr().out


@pytest.mark.parametrize("torch_first", [True, False])
def test_multi_head_attention_in_the_layer_map(torch_first: bool) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 16)).astype("float32")
    module, layer = create_model(T.Attention()), create_model(P.Attention())
    module.set_layer_map([module.model.attn])
    layer.set_layer_map([layer.model.attn])
    given = [{name: make(x) for name in "qkv"} for make in (torch.as_tensor, paddle.to_tensor)]
    models = [module, layer]
    order = slice(None) if torch_first else slice(None, None, -1)
    assert auto_diff(*models[order], given[order], **STRICT)


def test_auto_layer_map_finds_what_a_special_initialiser_is_known_for() -> None:
    module, layer = create_model(T.Attention()), create_model(P.Attention())
    assert module.auto_layer_map("base")
    assert layer.auto_layer_map("raw")
    assert (("attn",), ("attn",)) == (module.layer_map, layer.layer_map)


@pytest.mark.parametrize("form", ["live", "arrays"])
def test_a_special_initialiser_of_the_users_own(form: str) -> None:
    def live(base: Any, raw: Any) -> None:
        packed = base.packed.detach().numpy()
        raw.top.set_value(packed[:2])
        raw.bottom.set_value(packed[2:4])
        raw.shift.set_value(packed[4])

    def arrays(base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        packed = base["packed"]
        return {"top": packed[:2], "bottom": packed[2:4], "shift": packed[4]}

    module, layer = create_model(T.WithOwn()), create_model(P.WithOwn())
    module.set_layer_map([module.model.own])
    layer.set_layer_map([layer.model.own])
    assert assign_weight(module, layer) is False
    with special_inits_kept():
        add_special_init("torch", "Own", "paddle", "Own", live if form == "live" else arrays)
        assert assign_weight(module, layer)
        assert auto_diff(module, layer, inputs(3, 4), **STRICT)


def test_a_black_list_hides_a_difference_of_a_layer_but_not_of_what_follows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = create_model(T.Residual(act=torch.nn.ReLU()))
    layer = create_model(P.Residual(act=paddle.nn.LeakyReLU()))
    for proxy in (module, layer):
        proxy.update_black_list([proxy.model.act], "all")
    assert not auto_diff(module, layer, inputs(4, 20), **STRICT)
    out = capsys.readouterr().out
    assert "on the black list" in out
    assert "[AutoDiff]     Route: Residual.act" not in out


def test_a_white_list_compares_only_its_layers() -> None:
    module, layer = create_model(T.Residual()), create_model(P.Residual())
    for proxy in (module, layer):
        proxy.update_white_list([proxy.model.linear1], "self")
    assert auto_diff(module, layer, inputs(4, 20), **STRICT)


def test_wrap_layers_are_skipped_by_the_switch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PADIFF_SIKP_WRAP_LAYER", "TRUE")
    assert auto_diff(T.Residual(), P.Residual(), inputs(4, 20), **STRICT)
    assert "it holds no parameters of its own (PADIFF_SIKP_WRAP_LAYER): act" in capsys.readouterr().out


def test_api_check_names_the_functional_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not auto_diff(T.ApiCalls(), P.ApiCalls(wrong=True), inputs(4, 8), **STRICT)
    assert "multiply" not in capsys.readouterr().out
    monkeypatch.setenv("PADIFF_API_CHECK", "ON")
    assert auto_diff(T.ApiCalls(), P.ApiCalls(), inputs(4, 8), **STRICT)
    capsys.readouterr()
    assert not auto_diff(T.ApiCalls(), P.ApiCalls(wrong=True), inputs(4, 8), **STRICT)
    assert "[AutoDiff]     Type of layer is: ApiCalls vs ApiCalls" in capsys.readouterr().out
