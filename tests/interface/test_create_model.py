"""create_model on native models of the NumPy framework: what is recorded, when it is dumped, and what is left behind."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc import PadiffError, Reason, check_params, check_report, create_model, get_dump_root_path
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from tests.interface.planted import STRICT, model_of, native_inputs, node_of, run_once


def steps_of(name: str) -> list[str]:
    return sorted(path.name for path in (Path(get_dump_root_path()) / name).iterdir())


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def hooks(model: nn.Layer) -> int:
    return sum(len(layer._hooks) for layer in model.walk())


# -- the proxy ----------------------------------------------------------------------------------------------------
def test_the_proxy_returns_what_the_model_returns() -> None:
    model = model_of("mlp")
    proxy = create_model(model)
    assert model is proxy.model
    np.testing.assert_array_equal(model(**native_inputs("mlp")).values, proxy(**native_inputs("mlp")).values)


def test_positional_arguments_are_the_models_own() -> None:
    proxy = create_model(model_of("mlp"))
    x = native_inputs("mlp")["x"]
    np.testing.assert_array_equal(proxy(x=x).values, proxy(x).values)


def test_backward_is_the_users_and_gradients_are_the_models() -> None:
    model, alone = model_of("mlp"), model_of("mlp")
    run_once(create_model(model), "mlp")
    output = alone(**native_inputs("mlp"))
    (output * output).mean().backward()
    np.testing.assert_array_equal(alone.head.weight.grad.values, model.head.weight.grad.values)


@pytest.mark.parametrize("dump_freq", [0, -1, 1.5, True, "2"])
def test_a_dump_freq_that_is_no_count_is_an_error(dump_freq: Any) -> None:
    with pytest.raises(PadiffError, match="it must be 1 or more") as caught:
        create_model(model_of("mlp"), dump_freq=dump_freq)
    assert Reason.BAD_CONFIG is caught.value.reason


def test_backward_of_what_is_no_loss_is_an_error() -> None:
    proxy = create_model(model_of("mlp"))
    proxy(**native_inputs("mlp"))
    with pytest.raises(PadiffError, match="backward takes the loss, a tensor of numpy, got float"):
        proxy.backward(0.5)


# -- what is recorded, and when -----------------------------------------------------------------------------------
def test_every_dump_freqth_step_is_dumped_under_its_own_number() -> None:
    proxy = create_model(model_of("mlp"), name="net", dump_freq=3)
    for _ in range(7):
        run_once(proxy, "mlp")
        proxy.try_dump()
    assert ["step_0", "step_3", "step_6"] == steps_of("net")


def test_steps_between_run_without_a_hook() -> None:
    model = model_of("mlp")
    proxy = create_model(model, dump_freq=2)
    seen: list[int] = []
    model.body.register_hook(lambda args, kwargs: None, lambda *_: seen.append(hooks(model)))
    for _ in range(4):
        run_once(proxy, "mlp")
        proxy.try_dump()
    recorded, bare = seen[::2], seen[1::2]
    assert [1, 1] == bare
    assert all(count > 6 for count in recorded)


def test_the_report_grows_until_it_is_cleared() -> None:
    proxy = create_model(model_of("mlp"))

    def roots() -> int:
        proxy.dump_report("grown")
        return len(report_of(Path("grown"))["tree"])

    run_once(proxy, "mlp")
    run_once(proxy, "mlp")
    assert 2 == roots()
    assert 2 == roots()
    proxy.clear_report()
    assert 0 == roots()
    run_once(proxy, "mlp")
    assert 1 == roots()


def test_try_dump_clears_the_report_and_clear_report_does_not_count() -> None:
    proxy = create_model(model_of("mlp"), name="net")
    for _ in range(2):
        run_once(proxy, "mlp")
        proxy.clear_report()
        run_once(proxy, "mlp")
        proxy.try_dump()
    assert ["step_0", "step_1"] == steps_of("net")
    for step in ("step_0", "step_1"):
        assert 1 == len(report_of(Path(get_dump_root_path()) / "net" / step / "rank_0")["tree"])


def test_forwards_of_a_step_are_dumped_and_compared_in_their_order() -> None:
    for name, seeds in (("base", (0, 1)), ("same", (0, 1)), ("turned", (1, 0))):
        proxy = create_model(model_of("mlp"), name=name)
        for seed in seeds:
            x = Tensor(np.random.RandomState(seed).standard_normal((4, 8)).astype(np.float32))
            output = proxy(x)
            proxy.backward((output * output).mean())
        proxy.try_dump()
    root = Path(get_dump_root_path())
    assert check_report(root / "base", root / "same", STRICT)
    assert check_params(root / "base", root / "turned", STRICT)
    assert not check_report(root / "base", root / "turned", STRICT)


def test_one_backward_of_two_forwards_reaches_both() -> None:
    for name in ("base", "raw"):
        proxy = create_model(model_of("mlp"), name=name)
        outputs = [proxy(**native_inputs("mlp")) for _ in range(2)]
        proxy.backward((outputs[0] * outputs[0] + outputs[1] * 2.0).mean())
        proxy.dump_report(name)
    trees = report_of(Path("base"))["tree"]
    assert [1, 1] == [len(root["children"][1]["bwd_grads"]) for root in trees]
    assert check_report("base", "raw", STRICT)


def test_the_path_given_to_try_dump_is_taken_as_it_is() -> None:
    proxy = create_model(model_of("mlp"))
    run_once(proxy, "mlp")
    proxy.try_dump("here")
    assert {"report.json", "params.json", "tensors", "weights", "grads"} == set(os.listdir("here"))


def test_only_listed_layers_are_recorded() -> None:
    model = model_of("mlp")
    proxy = create_model(model, name="net")
    proxy.update_white_list("body.fc1")
    run_once(proxy, "mlp")
    proxy.dump_report("dumped")
    content = report_of(Path("dumped"))
    assert ["net.body.fc1"] == [child["route"] for child in content["tree"][0]["children"]]
    # In and out of the model and of one layer, and as many gradients: no tensor of another layer.
    assert 4 + 3 >= len(os.listdir("dumped/tensors"))


def test_the_stack_names_the_users_file_and_none_of_ours() -> None:
    proxy = create_model(model_of("mlp"), name="net")
    run_once(proxy, "mlp")
    proxy.dump_report("dumped")
    content = report_of(Path("dumped"))
    stack = node_of(content, "body.fc1")["stack"]
    assert "File numpy_models.py: " in stack
    assert "self.fc2(self.act(self.fc1(x) * self._scale))" in stack
    assert "File test_create_model.py: " in stack
    assert "proxy_host.py" not in stack
    assert "numpy_nn.py" not in stack


# -- names and folders --------------------------------------------------------------------------------------------
def test_models_of_one_class_are_numbered(capsys: pytest.CaptureFixture[str]) -> None:
    proxies = [create_model(model_of("mlp")) for _ in range(3)]
    assert ["Mlp", "Mlp_1", "Mlp_2"] == [proxy.name for proxy in proxies]
    assert "another model is called 'Mlp': this one dumps as 'Mlp_1'" in capsys.readouterr().out


def test_two_living_models_of_one_given_name_do_not_share_a_folder() -> None:
    first, second = (create_model(model_of("mlp"), name="net") for _ in range(2))
    for proxy in (first, second):
        run_once(proxy, "mlp")
    first.try_dump()
    with pytest.raises(PadiffError, match="two living models are called 'net'"):
        second.try_dump()


def test_nothing_is_written_but_below_the_dump_root(own_folder: Path) -> None:
    proxy = create_model(model_of("conv_net"), name="net")
    assert [] == os.listdir(own_folder)
    run_once(proxy, "conv_net")
    assert [] == os.listdir(own_folder)
    proxy.try_dump()
    assert ["padiff_dump"] == os.listdir(own_folder)
    assert ["net"] == os.listdir(own_folder / "padiff_dump")
    assert ["rank_0"] == os.listdir(own_folder / "padiff_dump" / "net" / "step_0")


# -- when something goes wrong ------------------------------------------------------------------------------------
def test_no_hook_stays_after_a_run() -> None:
    model = model_of("mlp")
    proxy = create_model(model)
    run_once(proxy, "mlp")
    assert 0 == hooks(model)


def test_a_model_that_raises_raises_its_own_error_leaves_no_hook_and_can_run_again() -> None:
    model = model_of("mlp")
    proxy = create_model(model, name="net")
    forward = model.head.forward
    model.head.forward = _raise
    with pytest.raises(RuntimeError, match="half way"):
        proxy(**native_inputs("mlp"))
    assert 0 == hooks(model)
    model.head.forward = forward
    run_once(proxy, "mlp")
    proxy.try_dump()
    assert 1 == len(report_of(Path(get_dump_root_path()) / "net" / "step_0" / "rank_0")["tree"])


def test_functional_calls_are_dumped_where_the_switch_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> set[str]:
        proxy = create_model(model_of("calls"), name="net")
        run_once(proxy, "calls")
        proxy.dump_report("dumped")
        nodes = node_of(report_of(Path("dumped")), "gate")["children"]
        return {node["name"] for node in nodes if node["type"] == "api"}

    assert set() == names()
    monkeypatch.setenv("PADIFF_API_CHECK", "ON")
    assert {"relu", "softmax", "exp"} <= names()


def _raise(x: Tensor) -> Tensor:
    raise RuntimeError("half way")


class _Elsewhere:
    """A model that hides that it lives in this process, and so is taken for a worker's."""

    def __init__(self, model: nn.Layer, known: bool = True) -> None:
        self._hosted = HostedModel(model)
        self._known = known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hosted, name)

    def describe(self) -> Any:
        description = self._hosted.describe()
        return description if self._known else replace(description, forward=None)


class _Starred(nn.Layer):
    def forward(self, x: Any, *others: Any, scale: float = 1.0) -> Any:
        for other in others:
            x = x + other
        return x * scale


def test_a_model_elsewhere_takes_positional_arguments_by_its_signature() -> None:
    proxy = create_model(_Elsewhere(model_of("mlp")))
    x = native_inputs("mlp")["x"].values
    np.testing.assert_array_equal(proxy(x=x), proxy(x))
    starred = create_model(_Elsewhere(_Starred()))
    np.testing.assert_array_equal(starred(x, x, x, scale=2.0), x * 6)


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        (2, {}, "it takes 1 by position, and got 2"),
        (1, {"x": 1}, "x is given twice"),
    ],
)
def test_arguments_that_a_model_elsewhere_does_not_take_show_its_signature(
    args: int, kwargs: dict[str, Any], said: str
) -> None:
    proxy = create_model(_Elsewhere(model_of("mlp")))
    x = native_inputs("mlp")["x"].values
    with pytest.raises(PadiffError, match=said) as caught:
        proxy(*[x] * args, **kwargs)
    assert (Reason.BAD_INPUTS, "it is forward(x)") == (caught.value.reason, caught.value.hint)


def test_without_a_known_signature_a_model_elsewhere_takes_keywords_only() -> None:
    proxy = create_model(_Elsewhere(model_of("mlp"), known=False))
    with pytest.raises(PadiffError, match="takes keyword arguments only"):
        proxy(native_inputs("mlp")["x"].values)


# -- what a proxy has of its model --------------------------------------------------------------------------------
def test_a_proxy_has_its_models_own_methods_and_layers() -> None:
    proxy = create_model(model_of("mlp"))
    assert proxy.parameters() == proxy.model.parameters()
    assert proxy.head is proxy.model.head
    assert proxy.train(False) is proxy
    assert not proxy.training
    assert not proxy.head.training
    with pytest.raises(AttributeError, match="neither the proxy nor its model, a Mlp, has the attribute 'sublayers'"):
        proxy.sublayers()
    assert not hasattr(proxy, "read_activations")


def test_a_model_elsewhere_has_no_methods_here_and_says_what_takes_their_place() -> None:
    proxy = create_model(_Elsewhere(model_of("mlp")))
    for name, cure in (
        ("parameters", r"proxy\.model\.read_parameters\(names\) reads them"),
        ("state_dict", r"proxy\.model\.describe\(\) lists"),
        ("eval", "leaves the mode as the factory made it"),
        ("to", "launch"),
        ("sublayers", "lists and maps take their routes"),
        ("train_batch", "ask the model that launch"),
    ):
        with pytest.raises(AttributeError, match=f"in another process, so that its proxy has no '{name}': .*{cure}"):
            getattr(proxy, name)
    assert not hasattr(proxy, "read_activations")


def test_a_report_has_a_run_for_each_forward_and_its_folder_is_the_names(tmp_path: Path) -> None:
    proxy = create_model(model_of("mlp"), name="net")
    assert proxy.dump_path == f"{tmp_path / 'padiff_dump' / 'net'}"
    run_once(proxy, "mlp")
    run_once(proxy, "mlp", backward=False)
    assert [True, False] == [run.backward_ran for run in proxy.report]
    proxy.try_dump()
    assert proxy.report == ()
    assert (Path(proxy.dump_path) / "step_0").is_dir()


def test_a_proxy_is_copied_as_any_object() -> None:
    proxy = create_model(model_of("mlp"))
    assert copy.copy(proxy).model is proxy.model
