"""auto_diff and assign_weight on native models of the NumPy framework: what needs no real framework."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc import PadiffError, Reason, assign_weight, auto_diff, create_model
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from tests.interface.planted import model_of, native_inputs

STRICT: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"}


def both(factory: str = "mlp") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return native_inputs(factory), native_inputs(factory)


def hooks(model: nn.Layer) -> int:
    tensors = [tensor for layer in model.walk() for tensor in layer.parameters().values()]
    return sum(len(layer._hooks) for layer in model.walk()) + sum(len(getattr(one, "_hooks", ())) for one in tensors)


def refused(call: Any, message: str, hint: str = "", reason: Reason = Reason.BAD_CONFIG) -> None:
    with pytest.raises(PadiffError) as caught:
        call()
    assert reason is caught.value.reason
    assert message in caught.value.message
    assert hint in caught.value.hint


# -- options ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [("loss_fn", "loss_fns"), ("optimizer", "optimizers"), ("singel_step", "single_step"), ("rtoll", "rtol")],
)
def test_an_unknown_keyword_is_an_error_that_names_the_nearest(unknown: str, nearest: str) -> None:
    models = model_of("mlp"), model_of("mlp")
    options: dict[str, Any] = {unknown: None}
    refused(
        lambda: auto_diff(*models, both(), **options),
        f"auto_diff has no option {unknown!r}",
        f"did you mean {nearest!r}? there are loss_fns, optimizers, atol, rtol, auto_init, compare_mode",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compare_mode": "strct"}, "no compare mode 'strct'"),
        ({"diff_phase": "forwards"}, "'forwards'"),
        ({"diff_phase": "backward"}, "diff_phase 'backward' alone needs single_step"),
        ({"steps": 0}, "steps is 0, it must be 1 or more"),
        ({"atol": -1.0}, "atol is -1.0, it must be a number of 0 or more"),
        ({"rtol": "small"}, "rtol is 'small', it must be a number of 0 or more"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error(options: dict[str, Any], message: str) -> None:
    refused(lambda: auto_diff(model_of("mlp"), model_of("mlp"), both(), **options), message)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("loss_fns", [lambda output: output], "loss_fns is a pair (base's, raw's), got list of 1"),
        ("loss_fns", lambda output: output, "loss_fns is a pair (base's, raw's), got function"),
        ("optimizers", ["SGD"] * 3, "optimizers is a pair (base's, raw's), got list of 3"),
        ("optimizers", "SGD", "optimizers is a pair (base's, raw's), got str"),
    ],
)
def test_what_comes_in_pairs_is_demanded_as_a_pair(name: str, value: Any, shown: str) -> None:
    refused(lambda: auto_diff(model_of("mlp"), model_of("mlp"), both(), **{name: value}), shown)


@pytest.mark.parametrize(
    ("inputs", "shown", "reason"),
    [
        ([native_inputs("mlp")], "inputs is a pair (base's, raw's), got list of 1", Reason.BAD_CONFIG),
        (native_inputs("mlp"), "inputs is a pair (base's, raw's), got dict of 1", Reason.BAD_CONFIG),
        ([np.ones(3), np.ones(3)], "base's inputs are a dict of forward's keyword arguments", Reason.BAD_INPUTS),
        (({"x": 1, "y": 2}, {"x": np.ones((4, 8))}), "does not take the inputs x, y: it has no y", Reason.BAD_INPUTS),
    ],
)
def test_inputs_are_a_pair_of_dicts(inputs: Any, shown: str, reason: Reason) -> None:
    refused(lambda: auto_diff(model_of("mlp"), model_of("mlp"), inputs), shown, reason=reason)


def test_inputs_may_be_arrays() -> None:
    array = native_inputs("mlp")["x"].values
    assert auto_diff(model_of("mlp"), model_of("mlp", seed=1), [{"x": array}, {"x": array}], **STRICT)


def test_what_is_no_model_is_an_error() -> None:
    refused(lambda: auto_diff(3, model_of("mlp"), both()), "a builtins.int is no model of a known framework")


def test_a_model_is_not_compared_with_itself_nor_with_its_proxy() -> None:
    model = model_of("mlp")
    for one, other in ((model, model), (create_model(model), model), (model, create_model(model))):
        refused(lambda one=one, other=other: auto_diff(one, other, both()), "are the same model")


def test_the_options_are_shown_as_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert auto_diff(model_of("mlp"), model_of("mlp"), both(), steps=2, atol=1e-6, compare_mode="abs_mean")
    out = capsys.readouterr().out
    for line in ("atol: `1e-06`", "rtol: `1e-07`", "compare_mode: `abs_mean`", "steps: `2`", "use_loss: `False`"):
        assert f"  {line}\n" in out
    assert out.endswith("[AutoDiff] SUCCESS !!!\n")


def test_options_hold_for_one_call_only() -> None:
    def differ(**options: Any) -> bool:
        return auto_diff(model_of("mlp"), model_of("mlp_wrong_scale"), both(), **options)

    assert differ(atol=1e9, rtol=1e9)
    assert not differ()


# -- runs ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("single_step", [False, True])
def test_weights_are_assigned_and_healthy_models_agree(single_step: bool) -> None:
    base, raw = model_of("mlp"), model_of("mlp", seed=1, layout="io")
    assert auto_diff(base, raw, both(), single_step=single_step, **STRICT)
    np.testing.assert_array_equal(base.head.weight.values.T, raw.head.weight.values)


def test_without_auto_init_other_weights_differ() -> None:
    raw = model_of("mlp", seed=1)
    before = raw.head.weight.values.copy()
    assert not auto_diff(model_of("mlp"), raw, both(), auto_init=False, **STRICT)
    np.testing.assert_array_equal(before, raw.head.weight.values)
    assert auto_diff(model_of("mlp", seed=1), raw, both(), auto_init=False, **STRICT)


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("diff_phase", ["forward", "both"])
def test_a_fault_is_found_and_shown(single_step: bool, diff_phase: Any, capsys: pytest.CaptureFixture[str]) -> None:
    models = model_of("mlp"), model_of("mlp_wrong_scale")
    assert not auto_diff(*models, both(), single_step=single_step, diff_phase=diff_phase, **STRICT)
    out = capsys.readouterr().out
    assert "    Diff found in Forward Stage\n" in out
    assert "    Route: Mlp(base_model).body\n[AutoDiff]            Mlp(raw_model).body\n" in out
    assert out.endswith("[AutoDiff] FAILED !!!\n")
    tree = Path("padiff_log/report_Mlp(raw_model).log").read_text().splitlines()
    assert [" |--- Body    <---  *** HERE ***"] == [line[4:] for line in tree if "HERE" in line]


def test_a_fault_that_shows_in_the_second_step_only_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    for single_step in (False, True):
        raw = model_of("mlp")
        raw.body = _Failing(raw.body, after=1)
        base = model_of("mlp")
        base.body = _Failing(base.body, after=1000)
        assert not auto_diff(base, raw, both(), steps=2, single_step=single_step, **STRICT)
        assert "Diff found in Forward Stage of step 1\n" in capsys.readouterr().out


def test_losses_may_be_functions(capsys: pytest.CaptureFixture[str]) -> None:
    models = model_of("mlp"), model_of("mlp", seed=1)
    assert auto_diff(*models, both(), loss_fns=[_squares, _squares], **STRICT)
    assert "  use_loss: `True`\n" in capsys.readouterr().out
    assert not auto_diff(*models, both(), loss_fns=[_squares, lambda output: _squares(output) * 2], **STRICT)
    out = capsys.readouterr().out
    assert "Diff found in Loss Stage\n" in out


def test_a_loss_that_raises_is_an_error_and_leaves_no_hook() -> None:
    models = model_of("mlp"), model_of("mlp")

    def wrong(output: Tensor) -> Tensor:
        raise ValueError("no such label")

    with pytest.raises(PadiffError, match="no such label"):
        auto_diff(*models, both(), loss_fns=[_squares, wrong])
    assert [0, 0] == [hooks(model) for model in models]


def test_a_loss_by_name_is_the_same_on_both_sides() -> None:
    assert auto_diff(model_of("mlp"), model_of("mlp"), both(), loss_fns=["projection", "projection"], **STRICT)
    refused(
        lambda: auto_diff(model_of("mlp"), model_of("mlp"), both(), loss_fns=["maen", "mean"]),
        "maen",
        reason=Reason.UNKNOWN_NAME,
    )


@pytest.mark.parametrize("form", ["functions", "objects", "names"])
def test_optimisers_step_and_weights_are_compared(form: str) -> None:
    base, raw = model_of("mlp"), model_of("mlp", seed=1)
    made = [_Descent(base), _Descent(raw)]
    optimizers = {
        "functions": [one.step for one in made],
        "objects": made,
        "names": ["SGD(lr=0.1)", "SGD(lr=0.1)"],
    }[form]
    before = base.head.weight.values.copy()
    assert auto_diff(base, raw, both(), optimizers=optimizers, steps=3, **STRICT)
    assert np.abs(before - base.head.weight.values).max() > 1e-3
    np.testing.assert_allclose(base.head.weight.values, raw.head.weight.values, atol=1e-6)


def test_an_optimiser_that_differs_is_found_in_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = model_of("mlp"), model_of("mlp")
    optimizers = [_Descent(base), _Descent(raw, lr=0.5)]
    assert not auto_diff(base, raw, both(), optimizers=optimizers, **STRICT)
    assert "Diff found when compare weights, please check report\n" in capsys.readouterr().out
    assert "    Mlp(raw_model).head.weight\n" in Path("padiff_log/weights_diff.log").read_text()


def test_an_optimiser_on_one_side_only_is_an_error() -> None:
    models = model_of("mlp"), model_of("mlp")
    refused(
        lambda: auto_diff(*models, both(), optimizers=[None, _Descent(models[1])]), "only one side has an optimiser"
    )


def test_optimisers_are_not_used_in_the_forward_phase(capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = model_of("mlp"), model_of("mlp")
    before = base.head.weight.values.copy()
    optimizers = [_Descent(base), _Descent(raw)]
    assert auto_diff(base, raw, both(), optimizers=optimizers, diff_phase="forward", **STRICT)
    assert "Diff_phase is `forward`, optimizer will not be used." in capsys.readouterr().out
    np.testing.assert_array_equal(before, base.head.weight.values)


# -- lists, maps, switches ----------------------------------------------------------------------------------------
def test_a_black_list_leaves_a_layer_out_of_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = create_model(model_of("mlp"), name="b"), create_model(model_of("mlp_wrong_scale"), name="r")
    for proxy in (base, raw):
        proxy.update_black_list("body")
    assert not auto_diff(base, raw, both(), **STRICT)
    out = capsys.readouterr().out
    assert "Route: b\n" in out
    assert "left out, on the black list: body" in out


def test_lists_of_one_side_hold_for_both(capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = create_model(model_of("mlp"), name="b"), create_model(model_of("mlp"), name="r")
    base.update_white_list("head")
    raw.update_black_list("body.act")
    assert auto_diff(base, raw, both(), **STRICT)
    out = capsys.readouterr().out
    assert "not on the white list" in out
    assert "on the black list: body.act" in out


@pytest.mark.parametrize("call", [auto_diff, lambda base, raw, _: assign_weight(base, raw)])
def test_layer_maps_of_unequal_length_are_an_error_that_shows_both(call: Any) -> None:
    base, raw = create_model(model_of("mlp")), create_model(model_of("mlp"))
    base.set_layer_map(["body.fc1", "body.fc2"])
    raw.set_layer_map(["body.fc1"])
    refused(
        lambda: call(base, raw, both()),
        "base's layer map has 2 layers, raw's 1: they correspond in order",
        "base maps body.fc1, body.fc2; raw maps body.fc1",
    )


def test_a_layer_map_pairs_in_its_order() -> None:
    base, raw = create_model(model_of("tuple_outputs")), create_model(model_of("tuple_outputs", seed=1))
    base.set_layer_map(["split.left", "split.right"])
    raw.set_layer_map(["split.right", "split.left"])
    assert assign_weight(base, raw)
    np.testing.assert_array_equal(base.model.split.left.weight.values, raw.model.split.right.weight.values)
    np.testing.assert_array_equal(base.model.split.right.weight.values, raw.model.split.left.weight.values)


def test_what_assign_weight_takes_for_granted_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    apart, packed = nn.Layer(), nn.Layer()
    for name in ("q_proj", "k_proj", "v_proj"):
        setattr(apart, name, nn.Linear(4, 4))
    packed.qkv_proj = nn.Linear(4, 12)
    assert assign_weight(create_model(apart), create_model(packed))
    printed = capsys.readouterr().out
    assert "qkv_proj is taken to hold q_proj, k_proj, v_proj" in printed
    assert "assign_weight runs no model, so that this was not tried" in printed


@pytest.mark.parametrize("name", ["PADIFF_SIKP_WRAP_LAYER", "PADIFF_SKIP_WRAP_LAYER"])
def test_wrap_layers_are_skipped_by_the_switch(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "ON")
    assert auto_diff(model_of("mlp"), model_of("mlp"), both(), **STRICT)
    assert "(PADIFF_SIKP_WRAP_LAYER): body, body.act\n" in capsys.readouterr().out


def test_functional_calls_are_compared_where_the_switch_is_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differ() -> str:
        assert not auto_diff(model_of("calls"), model_of("calls", gate="gelu"), both("calls"), **STRICT)
        return capsys.readouterr().out

    assert "relu" not in differ()
    monkeypatch.setenv("PADIFF_API_CHECK", "ON")
    assert "relu" in differ()
    assert auto_diff(model_of("calls"), model_of("calls", seed=1), both("calls"), **STRICT)


def test_a_switch_that_is_neither_on_nor_off_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADIFF_API_CHECK", "perhaps")
    refused(
        lambda: auto_diff(model_of("calls"), model_of("calls"), both("calls")),
        "the environment variable PADIFF_API_CHECK is 'perhaps'",
        "set it to ON or OFF",
    )


# -- weights ------------------------------------------------------------------------------------------------------
def test_weights_that_do_not_fit_are_told_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    raw = model_of("mlp", seed=1)
    raw.head = nn.Linear(16, 5)
    before = raw.body.fc1.weight.values.copy()
    assert assign_weight(model_of("mlp"), raw) is False
    out = capsys.readouterr().out
    assert "Assign weight Failed !!!" in out
    assert "`Mlp(base_model).head.weight`" in out
    assert "[4, 16] vs [5, 16]" in out
    assert "HERE" in Path("padiff_log/weight_init_Mlp(raw_model).log").read_text()
    np.testing.assert_array_equal(before, raw.body.fc1.weight.values)
    assert not auto_diff(model_of("mlp"), raw, both())


# -- what is left behind ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("single_step", [False, True])
def test_no_hook_stays(single_step: bool) -> None:
    models = model_of("mlp"), model_of("mlp_wrong_scale")
    auto_diff(*models, both(), single_step=single_step)
    assert [0, 0] == [hooks(model) for model in models]


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("side", [0, 1])
def test_no_hook_stays_when_a_model_raises(single_step: bool, side: int) -> None:
    models = model_of("mlp"), model_of("mlp")
    models[side].head.forward = _raise
    with pytest.raises(PadiffError, match="half way"):
        auto_diff(*models, both(), single_step=single_step)
    assert [0, 0] == [hooks(model) for model in models]


def test_the_users_own_hooks_stay() -> None:
    models = model_of("mlp"), model_of("mlp")
    seen: list[int] = []
    for number, model in enumerate(models):
        model.head.register_hook(lambda args, kwargs: None, lambda *_, number=number: seen.append(number))
    assert auto_diff(*models, both(), **STRICT)
    assert [0, 1] == seen
    assert [1, 1] == [hooks(model) for model in models]


def test_an_agreeing_run_writes_no_file_and_a_failing_one_only_logs(own_folder: Path) -> None:
    assert auto_diff(model_of("mlp"), model_of("mlp"), both(), **STRICT)
    assert [] == os.listdir(own_folder)
    assert not auto_diff(model_of("mlp"), model_of("mlp_wrong_scale"), both(), **STRICT)
    assert ["padiff_log"] == os.listdir(own_folder)


# -- helpers ------------------------------------------------------------------------------------------------------
def _squares(output: Tensor) -> Tensor:
    return (output * output).mean()


def _raise(x: Tensor) -> Tensor:
    raise RuntimeError("half way")


class _Descent:
    """Plain gradient descent, as a user's own optimiser: step() also clears the gradients."""

    def __init__(self, model: nn.Layer, lr: float = 0.1) -> None:
        self._parameters = [tensor for layer in model.walk() for tensor in layer.parameters().values()]
        self._lr = lr

    def step(self) -> None:
        for parameter in self._parameters:
            assert parameter.grad is not None
            parameter.overwrite((parameter.values - self._lr * parameter.grad.values).astype(np.float32))
            parameter.grad = None


class _Failing(nn.Layer):
    """A layer that computes something else from its call number `after` on."""

    def __init__(self, layer: nn.Layer, after: int) -> None:
        super().__init__()
        self.layer = layer
        self._after = after
        self._calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self._calls += 1
        return self.layer(x) * (1.0 if self._calls <= self._after else 1.5)
