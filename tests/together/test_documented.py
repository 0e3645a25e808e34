"""What PaDiff's documents say and no other file here holds: the default loss, orders by the layer map, built-in initialisers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import torch

from padiff_rpc import auto_diff, check_dataloader, check_params, check_report, create_model
from tests.together.models import load

T, P = load("simple_torch"), load("simple_paddle")
STRICT: dict[str, Any] = {"atol": 1e-4, "rtol": 0, "compare_mode": "strict"}
CFG = {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"}


def both(array: np.ndarray, name: str = "x") -> tuple[dict[str, Any], dict[str, Any]]:
    return {name: torch.as_tensor(array)}, {name: paddle.to_tensor(array)}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_the_default_loss_is_the_mean_of_the_output_and_no_step_is_taken() -> None:
    module, layer = T.SimpleModule(), P.SimpleLayer()
    before = module.linear1.weight.detach().numpy().copy()
    assert auto_diff(module, layer, both(normal(4, 100)), **STRICT)
    expected = np.full(10, 1 / 10, "float32")  # of the mean over 4 x 10 elements, by a bias that 4 rows share
    np.testing.assert_allclose(module.linear1.bias.grad.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(layer.linear1.bias.grad.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(before, module.linear1.weight.detach().numpy())
    np.testing.assert_array_equal(before.T, layer.linear1.weight.numpy())


def test_a_forward_alone_takes_no_optimiser_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = T.SimpleModule(), P.SimpleLayer()
    never: list[Any] = [lambda: pytest.fail("stepped")] * 2
    assert auto_diff(module, layer, both(normal(4, 100)), optimizers=never, diff_phase="forward", **STRICT)
    assert "[AutoDiff]   Diff_phase is `forward`, optimizer will not be used.\n" in capsys.readouterr().out
    assert module.linear1.weight.grad is None


class Left(torch.nn.Module):
    """Two parallel layers, called left first."""

    def __init__(self) -> None:
        super().__init__()
        self.left = torch.nn.Linear(8, 8)
        self.right = torch.nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        left = self.left(x)
        return left - self.right(x)


class Right(paddle.nn.Layer):
    """The same with other names, defined and called the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.two = paddle.nn.Linear(8, 8)
        self.one = paddle.nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        two = self.two(x)
        return self.one(x) - two


def test_parallel_layers_are_compared_in_the_order_of_the_map() -> None:
    module, layer = create_model(Left(), name="left"), create_model(Right(), name="right")
    module.set_layer_map([module.model.left, module.model.right])
    layer.set_layer_map([layer.model.one, layer.model.two])
    assert auto_diff(module, layer, both(normal(3, 8)), **STRICT)
    np.testing.assert_array_equal(module.model.left.weight.detach().numpy().T, layer.model.one.weight.numpy())
    module.model.zero_grad()
    layer.model.clear_gradients()
    for proxy, given in zip((module, layer), both(normal(3, 8)), strict=True):
        proxy.backward((proxy(**given) ** 2).mean())
        proxy.try_dump()
    assert check_report("padiff_dump/left", "padiff_dump/right", CFG)
    assert check_params("padiff_dump/left", "padiff_dump/right", CFG)


class One(torch.nn.Module):
    """One layer; where it returns a tuple, the first of it."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        found = self.layer(x)
        return found[0] if isinstance(found, tuple) else found


class Other(paddle.nn.Layer):
    def __init__(self, layer: paddle.nn.Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        found = self.layer(x)
        return found[0] if isinstance(found, tuple) else found


@pytest.mark.filterwarnings("ignore:When training, we now always track global mean and variance")
@pytest.mark.parametrize("torch_first", [True, False])
@pytest.mark.parametrize(
    ("torch_layer", "paddle_layer", "shape"),
    [
        (lambda: torch.nn.LSTM(4, 6, batch_first=True), lambda: paddle.nn.LSTM(4, 6), (2, 3, 4)),
        (lambda: torch.nn.GRU(4, 6, batch_first=True), lambda: paddle.nn.GRU(4, 6), (2, 3, 4)),
        (lambda: torch.nn.BatchNorm2d(4), lambda: paddle.nn.BatchNorm2D(4), (2, 4, 5, 5)),
        (lambda: torch.nn.InstanceNorm2d(4, affine=True), lambda: paddle.nn.InstanceNorm2D(4), (2, 4, 5, 5)),
    ],
    ids=["LSTM", "GRU", "BatchNorm2D", "InstanceNorm2D"],
)
def test_built_in_initialisers_serve_both_directions(
    torch_layer: Any, paddle_layer: Any, shape: tuple[int, ...], torch_first: bool
) -> None:
    order = slice(None) if torch_first else slice(None, None, -1)
    models = [create_model(One(torch_layer())), create_model(Other(paddle_layer()))][order]
    assert models[0].auto_layer_map("base")
    assert models[1].auto_layer_map("raw")
    assert (("layer",), ("layer",)) == (models[0].layer_map, models[1].layer_map)
    assert auto_diff(*models, both(normal(*shape))[order], diff_phase="forward", **STRICT)


def test_try_dump_takes_a_folder_and_single_dumps_go_to_that_of_the_step() -> None:
    proxy = create_model(T.Residual(), name="net")
    for folder in ("given", None):
        proxy.backward(proxy(torch.as_tensor(normal(4, 20))).mean())
        if folder is None:
            proxy.dump_weights()
            proxy.dump_grads()
        proxy.try_dump(folder)
    assert {"report.json", "params.json"} <= {path.name for path in Path("given").iterdir()}
    found = {path.name for path in Path("padiff_dump/net/step_1/rank_0").iterdir()}
    assert {"report.json", "params.json", "weights.json", "grads.json"} <= found


def test_a_report_says_where_in_the_users_code_a_layer_was_called() -> None:
    proxy = create_model(T.Residual(), name="net")
    proxy(torch.as_tensor(normal(4, 20)))
    proxy.dump_report("given")
    stack = json.loads(Path("given/report.json").read_text())["tree"][0]["children"][0]["stack"]
    assert "self.linear2(self.act(self.linear1(x)) + x)" in stack
    assert f"File {Path(__file__).name}" in stack


def test_data_loaders_of_both_frameworks_are_compared() -> None:
    x, label = normal(8, 3), np.arange(8)

    def loaders(values: np.ndarray) -> tuple[Any, Any]:
        ours = torch.utils.data.TensorDataset(torch.as_tensor(x), torch.as_tensor(label))
        theirs = paddle.io.TensorDataset([paddle.to_tensor(values), paddle.to_tensor(label)])
        return torch.utils.data.DataLoader(ours, batch_size=4), paddle.io.DataLoader(theirs, batch_size=4)

    assert check_dataloader(*loaders(x), compare_mode="strict")
    assert not check_dataloader(*loaders(x[::-1].copy()), compare_mode="strict")


def test_half_types_are_compared_too() -> None:
    x = torch.as_tensor(normal(4, 20)).bfloat16()
    assert auto_diff(T.Residual().bfloat16(), T.Residual().bfloat16(), ({"x": x}, {"x": x}), **STRICT)
    other = T.Residual(act=torch.nn.LeakyReLU(0.5)).bfloat16()
    assert not auto_diff(T.Residual().bfloat16(), other, ({"x": x}, {"x": x}), **STRICT)
