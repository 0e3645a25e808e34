"""Scripts in the shape of PaDiff 0.3's own tests, written anew: what they call, and what they expect of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import torch
from paddle.distributed.fleet.utils import recompute

from padiff_rpc import (
    assign_weight,
    auto_diff,
    check_dataloader,
    check_params,
    check_report,
    create_model,
    set_dump_root_path,
)

CFG = {"atol": 1e-4}
Hook = Callable[[Any], Any]


class LayerOfPaddle(paddle.nn.Layer):
    def __init__(self, dropout: bool = False) -> None:
        super().__init__()
        self.linear1 = paddle.nn.Linear(100, 100)
        self.dropout1 = paddle.nn.Dropout() if dropout else None
        self.linear2 = paddle.nn.Linear(100, 10)
        self.act = paddle.nn.ReLU()

    def forward(self, x: Any) -> Any:
        hidden = self.linear1(x)
        if self.dropout1 is not None:
            hidden = self.dropout1(hidden)
        return self.linear2(self.act(hidden) + x)


class ModuleOfTorch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = torch.nn.Linear(100, 100)
        self.linear2 = torch.nn.Linear(100, 10)
        self.act = torch.nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.linear2(self.act(self.linear1(x)) + x)


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape or (100, 100)).astype("float32")


def given(base: Any, raw: Any, *arrays: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each side's inputs as tensors of its framework; of two arrays base gets the first, raw the second."""
    native = getattr(base, "model", base), getattr(raw, "model", raw)
    made = [torch.as_tensor if isinstance(each, torch.nn.Module) else paddle.to_tensor for each in native]
    return {"x": made[0](arrays[0])}, {"x": made[1](arrays[-1])}


# -- one model, run and dumped ------------------------------------------------------------------------------------
def _plain(proxy: Any, x: Any) -> Any:
    return proxy(x)


def _recomputed(proxy: Any, x: Any) -> Any:
    x.stop_gradient = False
    return recompute(proxy, x)


def _mixed(proxy: Any, x: Any) -> Any:
    with paddle.amp.auto_cast(enable=True, level="O2", dtype="bfloat16"):
        return _recomputed(proxy, x)


# On a CPU, paddle says so and computes as without.
@pytest.mark.filterwarnings("ignore:amp_guard can only be enabled on CUDAPlace:UserWarning")
@pytest.mark.parametrize("call", [_plain, _recomputed, _mixed])
@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_single_model_is_trained_and_dumped(call: Any, white: bool, accumulate: int, tmp_path: Path) -> None:
    set_dump_root_path(str(tmp_path / "here"))
    layer = LayerOfPaddle(dropout=True)
    if call is _mixed:
        layer = paddle.amp.decorate(layer, level="O2", dtype="bfloat16")
    proxy = create_model(layer, dump_freq=2)
    if white:
        proxy.update_white_list_with_class(paddle.nn.Linear, mode="all")
    optimizer = paddle.optimizer.SGD(learning_rate=1e-3, parameters=proxy.model.parameters())
    for step in range(4):
        loss = call(proxy, paddle.to_tensor(array(seed=step))).mean()
        proxy.backward(loss)
        if (step + 1) % accumulate == 0:
            optimizer.step()
            optimizer.clear_grad()
        proxy.try_dump()
        folder = Path(proxy.dump_path + f"/step_{step}/rank_0")
        assert folder.is_dir() == (step % 2 == 0)
        for name in ("report.json", "params.json") if folder.is_dir() else ():
            assert json.loads((folder / name).read_text())["tree"]


# -- two models, dumped and compared ------------------------------------------------------------------------------
def trained(proxy: Any, arrays: list[np.ndarray], every: int = 1) -> None:
    """Train with Adam, which steps after each `every`-th backward, and dump by dump_freq."""
    if isinstance(proxy.model, torch.nn.Module):
        make, optimizer = torch.as_tensor, torch.optim.Adam(lr=0.001, params=proxy.parameters())
    else:
        make = paddle.to_tensor
        optimizer = paddle.optimizer.Adam(learning_rate=0.001, parameters=proxy.parameters())
    for step, each in enumerate(arrays):
        proxy.backward(proxy(make(each)).mean())
        proxy.try_dump()
        if step % every == 0:
            optimizer.step()


@pytest.mark.parametrize(("assigned", "every", "agree"), [(True, 2, True), (True, 1, False), (False, 2, False)])
def test_dumps_of_both_agree_step_by_step_where_both_do_the_same(assigned: bool, every: int, agree: bool) -> None:
    layer, module = create_model(LayerOfPaddle(), dump_freq=2), create_model(ModuleOfTorch(), dump_freq=2)
    if assigned:
        assert assign_weight(layer, module)
    arrays = [array(seed=step) for step in range(6)]
    trained(layer, arrays, every=2)
    trained(module, arrays, every=every)
    for step in (2, 4):  # before the first step of the optimisers nothing can differ
        folders = layer.dump_path + f"/step_{step}", module.dump_path + f"/step_{step}"
        assert check_report(*folders, cfg=CFG) == agree
        assert check_params(*folders, cfg=CFG) == agree


def test_loaders_of_both_frameworks_are_compared() -> None:
    data = [array(seed=seed) for seed in range(5)]

    def loader(make: Any, add: float = 0.0) -> Iterator[Any]:
        for at, each in enumerate(data):
            yield make(each + add if at == 2 else each)

    assert check_dataloader(loader(paddle.to_tensor), loader(torch.as_tensor))
    assert not check_dataloader(loader(paddle.to_tensor), loader(torch.as_tensor, 1.0))


# -- auto_diff ----------------------------------------------------------------------------------------------------
def test_proxies_in_eval_mode_are_assigned_and_compared() -> None:
    layer, module = create_model(LayerOfPaddle(), "layer"), create_model(ModuleOfTorch(), "model")
    layer.eval()
    assert module.eval() is module
    assert assign_weight(module, layer)
    assert auto_diff(module, layer, given(module, layer, array()), atol=1e-4) is True
    assert auto_diff(module, layer, given(module, layer, array(), array(seed=1)), atol=1e-4) is False


def test_lists_of_a_models_own_layers_as_the_proxy_has_them() -> None:
    layer, module = create_model(LayerOfPaddle(), "layer"), create_model(ModuleOfTorch(), "module")
    layer.update_white_list([layer.linear1, layer.linear2], "all")
    layer.update_black_list([layer.linear1], "all")
    module.update_white_list([module.linear1, module.linear2], "all")
    assert assign_weight(module, layer)
    assert auto_diff(module, layer, given(module, layer, array()), atol=1e-4) is True


def test_optimisers_of_the_proxies_parameters() -> None:
    layer, module = create_model(LayerOfPaddle()), create_model(ModuleOfTorch())
    optimizers = [
        paddle.optimizer.Adam(learning_rate=0.001, parameters=layer.parameters()),
        torch.optim.Adam(lr=0.001, params=module.parameters()),
    ]
    assert auto_diff(layer, module, given(layer, module, array()), optimizers=optimizers, atol=1e-4, steps=3) is True


def test_losses_as_partials_of_functions_and_of_loss_layers() -> None:
    label = array(100, 10, seed=3)
    for losses in (
        [lambda output: output.mean() - paddle.to_tensor(label).mean(), lambda output: output.mean() - label.mean()],
        [
            partial(paddle.nn.MSELoss(), label=paddle.to_tensor(label)),
            partial(torch.nn.MSELoss(), target=torch.tensor(label)),
        ],
    ):
        layer, module = LayerOfPaddle(), ModuleOfTorch()
        assert auto_diff(layer, module, given(layer, module, array()), loss_fns=losses, atol=1e-4) is True


def test_a_forward_alone_leaves_no_gradient() -> None:
    for single_step in (False, True):
        layer, module = LayerOfPaddle(), ModuleOfTorch()
        inputs = given(layer, module, array())
        assert auto_diff(layer, module, inputs, atol=1e-4, diff_phase="forward", single_step=single_step) is True
        assert [parameter.grad for parameter in module.parameters()] == [None] * 4


class _SetsBuffer:
    """A buffer that the first forward makes, which has no values before."""

    def forward(self: Any, x: Any) -> Any:
        if self.first:
            self.late, self.first = x * 0, False
        return self.linear(x) + self.late


class SetsBufferPaddle(_SetsBuffer, paddle.nn.Layer):
    def __init__(self) -> None:
        paddle.nn.Layer.__init__(self)
        self.linear, self.first = paddle.nn.Linear(10, 10), True
        self.register_buffer("late", None)


class SetsBufferTorch(_SetsBuffer, torch.nn.Module):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.linear, self.first = torch.nn.Linear(10, 10), True
        self.register_buffer("late", torch.empty(0))


def test_a_buffer_that_the_first_forward_makes() -> None:
    layer, module = create_model(SetsBufferPaddle()), create_model(SetsBufferTorch())
    assert auto_diff(module, layer, given(module, layer, array(1, 10)), atol=1e-4) is True


# -- hooks on tensors, in a model's own forward -------------------------------------------------------------------
class HookedPaddle(paddle.nn.Layer):
    """Changes a gradient on its way: at a layer's output, or at the input of its own."""

    def __init__(self, place: str, hook: Hook | None) -> None:
        super().__init__()
        self.linear1, self.linear2 = paddle.nn.Linear(20, 20), paddle.nn.Linear(20, 20)
        self.place, self.hook = place, hook

    def forward(self, x: Any) -> Any:
        once, twice = self.linear1(x), self.linear2(self.linear1(x))
        if self.hook is not None:
            (twice if self.place == "output" else once).register_hook(self.hook)
        return once + twice


class HookedTorch(torch.nn.Module):
    def __init__(self, place: str, hook: Hook | None) -> None:
        super().__init__()
        self.linear1, self.linear2 = torch.nn.Linear(20, 20), torch.nn.Linear(20, 20)
        self.place, self.hook = place, hook

    def forward(self, x: Any) -> Any:
        once, twice = self.linear1(x), self.linear2(self.linear1(x))
        if self.hook is not None:
            (twice if self.place == "output" else once).register_hook(self.hook)
        return once + twice


class InInputPaddle(paddle.nn.Layer):
    def __init__(self, hook: Hook | None) -> None:
        super().__init__()
        self.linear, self.hook = paddle.nn.Linear(20, 20), hook

    def forward(self, x: Any) -> Any:
        if self.hook is not None:
            x.register_hook(self.hook)
        return self.linear(x)


class InInputTorch(torch.nn.Module):
    def __init__(self, hook: Hook | None) -> None:
        super().__init__()
        self.linear, self.hook = torch.nn.Linear(20, 20), hook

    def forward(self, x: Any) -> Any:
        if self.hook is not None:
            x.register_hook(self.hook)
        return self.linear(x)


def hooked(framework: str, place: str, hook: Hook | None) -> Any:
    if place != "input":
        return HookedPaddle(place, hook) if framework == "paddle" else HookedTorch(place, hook)
    if framework == "paddle":
        return paddle.nn.Sequential(paddle.nn.Linear(20, 20), InInputPaddle(hook))
    return torch.nn.Sequential(torch.nn.Linear(20, 20), InInputTorch(hook))


def doubled(gradient: Any) -> Any:
    return gradient * 2


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("sides", [("paddle", "torch"), ("torch", "paddle")])
@pytest.mark.parametrize("place", ["output", "twice used", "input"])
@pytest.mark.parametrize(
    ("hooks", "agree"),
    [((doubled, doubled), True), ((doubled, None), False), ((None, doubled), False)],
    ids=["both", "base", "raw"],
)
def test_a_hook_on_a_tensor_works_as_in_a_plain_run(
    single_step: bool, sides: tuple[str, str], place: str, hooks: tuple[Hook | None, Hook | None], agree: bool
) -> None:
    base, raw = (hooked(framework, place, hook) for framework, hook in zip(sides, hooks, strict=True))
    x = array(4, 20)
    inputs: Any = [{"x": x}, {"x": x}]
    if place == "input":
        inputs = [{"input": x}, {"input": x}]
    assert auto_diff(base, raw, inputs, atol=1e-4, rtol=0, compare_mode="strict", single_step=single_step) is agree


# -- what a proxy has of its model --------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [LayerOfPaddle, ModuleOfTorch])
def test_a_proxy_has_its_models_own_methods(make: Any, tmp_path: Path) -> None:
    proxy = create_model(make(), name="net")
    assert [name for name, _ in proxy.named_parameters()] == [name for name, _ in proxy.model.named_parameters()]
    assert list(proxy.state_dict()) == list(proxy.model.state_dict())
    proxy.eval()
    assert not proxy.training
    assert not proxy.linear1.training
    proxy.train()
    assert proxy.training
    assert proxy.to("cpu") is proxy
    assert [name for name, _ in proxy.named_children()] == [name for name, _ in proxy.model.named_children()]
    assert proxy.dump_path == str(tmp_path / "padiff_dump" / "net")
    with pytest.raises(AttributeError, match="neither the proxy nor its model"):
        proxy.no_such_thing  # noqa: B018


def test_a_report_has_what_was_recorded_until_it_is_cleared() -> None:
    proxy = create_model(ModuleOfTorch())
    assert proxy.report == ()
    proxy.backward(proxy(torch.as_tensor(array())).mean())
    (run,) = proxy.report
    assert [boundary.route for boundary in run.forward if boundary.side == "output"][-1] == ""
    assert run.backward_ran
    proxy.clear_report()
    assert proxy.report == ()
