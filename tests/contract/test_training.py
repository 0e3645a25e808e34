"""Backend contract: losses, backward and optimisers, each against a NumPy computation in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_OPTIMIZERS, parse_loss, parse_optimizer, projection_weights
from padiff_rpc.model.model import LossSpec, OptimizerSpec
from padiff_rpc.tensors.tensor import DType, Tensor


def loss_value(kit: Any, spec: LossSpec, outputs: list[Any]) -> float:
    loss = kit.backend.loss(spec, outputs)
    assert kit.backend.spec(loss).count == 1
    return kit.backend.item(loss)


def arrays(seed: int = 0) -> list[np.ndarray]:
    """Outputs of several shapes, with integers and an empty one among them, which do not count."""
    rng = np.random.default_rng(seed)
    return [
        np.arange(6).reshape(2, 3),
        rng.standard_normal((4, 5)).astype(np.float32),
        np.zeros((0, 3), np.float32),
        rng.standard_normal((3,)).astype(np.float32),
        np.array(rng.standard_normal(), np.float32),
    ]


def floating(outputs: list[np.ndarray]) -> list[np.ndarray]:
    return [out.astype(np.float64) for out in outputs if out.dtype.kind == "f" and out.size]


# -- losses -----------------------------------------------------------------------------------------------------------
def test_mean_is_the_mean_of_each_outputs_mean(kit):
    model = kit.build("mlp")
    expected = np.mean([out.mean() for out in floating(arrays())])
    assert loss_value(kit, parse_loss("mean"), [kit.native(a, model) for a in arrays()]) == pytest.approx(expected)


def test_sum_runs_over_all_floating_outputs(kit):
    model = kit.build("mlp")
    expected = sum(out.sum() for out in floating(arrays()))
    assert loss_value(kit, parse_loss("sum"), [kit.native(a, model) for a in arrays()]) == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_projection_weighs_all_outputs_with_one_running_index(kit, seed):
    model = kit.build("mlp")
    flat = np.concatenate([out.reshape(-1) for out in floating(arrays())])
    expected = float(flat @ projection_weights(0, flat.size, seed)) / math.sqrt(flat.size)
    spec = parse_loss(f"projection(seed={seed})")
    assert loss_value(kit, spec, [kit.native(a, model) for a in arrays()]) == pytest.approx(expected, rel=1e-5)


def test_projection_weights_that_were_kept_follow_seed_and_shape(kit):
    model = kit.build("mlp")
    rng = np.random.default_rng(0)
    for seed, rows, columns in ((0, 3, 4), (0, 3, 4), (1, 3, 4), (0, 4, 3), (0, 3, 4), (0, 3, 5)):
        outputs = [rng.normal(size=(rows, columns)).astype(np.float32) for _ in range(2)]
        flat = np.concatenate([out.reshape(-1) for out in outputs])
        expected = float(flat @ projection_weights(0, flat.size, seed)) / math.sqrt(flat.size)
        found = loss_value(kit, parse_loss(f"projection(seed={seed})"), [kit.native(a, model) for a in outputs])
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_projection_of_an_output_of_many_blocks(kit):
    model = kit.build("mlp")
    out = np.random.default_rng(0).standard_normal((3, 1_000_003))
    expected = float(out.reshape(-1) @ projection_weights(0, out.size, 0)) / math.sqrt(out.size)
    found = loss_value(kit, parse_loss("projection"), [kit.native(out, model)])
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_projections_gradient_is_its_weights(kit):
    model = kit.build("mlp")
    output = kit.forward("mlp", model)
    arrived: list[np.ndarray] = []
    kit.backend.on_gradient(output, lambda gradient: arrived.append(kit.array(gradient)))
    kit.backend.backward(kit.backend.loss(parse_loss("projection(seed=5)"), [output]))
    expected = projection_weights(0, 15, 5).reshape(5, 3) / math.sqrt(15)
    np.testing.assert_allclose(arrived[0], expected, rtol=1e-6)


def test_half_outputs_are_summed_in_float32_at_least(kit):
    # 4096 + 1 is 4096 in either half type: a sum kept in one would stand still.
    model = kit.build("mlp")
    values = np.ones(8192, np.float32)
    for dtype, array in (
        (DType.F16, values.astype(np.float16)),
        (DType.BF16, (values.view("u4") >> 16).astype("u2")),
    ):
        if dtype not in kit.zoo.DTYPES:
            continue
        output = kit.native(array, model, dtype)
        assert loss_value(kit, parse_loss("sum"), [output]) == 8192.0
        assert loss_value(kit, parse_loss("mean"), [output]) == 1.0
        expected = projection_weights(0, 8192, 0).sum() / math.sqrt(8192)
        assert loss_value(kit, parse_loss("projection"), [output]) == pytest.approx(expected, rel=1e-3)


def test_mse_against_the_first_floating_output(kit):
    model = kit.build("mlp")
    target = np.random.default_rng(1).standard_normal((4, 5))
    expected = np.mean((floating(arrays())[0] - target) ** 2)
    for dtype in (np.float32, np.float64):
        spec = LossSpec("mse", {}, {"target": Tensor.from_array(target.astype(dtype))})
        assert loss_value(kit, spec, [kit.native(a, model) for a in arrays()]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
@pytest.mark.parametrize("shape", [(4,), (2, 3), ()], ids=str)
def test_cross_entropy_over_the_last_axis(kit, shape, dtype):
    model = kit.build("mlp")
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((*shape, 5)).astype(np.float32)
    target = np.asarray(rng.integers(0, 5, shape), dtype)
    rows = logits.astype(np.float64).reshape(-1, 5)
    picked = rows[np.arange(len(rows)), target.reshape(-1)]
    expected = np.mean(np.log(np.exp(rows).sum(axis=1)) - picked)
    spec = LossSpec("cross_entropy", {}, {"target": Tensor.from_array(target)})
    assert loss_value(kit, spec, [kit.native(logits, model)]) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_is_the_mean_over_the_positions_that_are_not_ignored(kit):
    output = kit.forward("mlp", kit.build("mlp"))
    target = np.array([1, -100, 2, -100, 0])
    arrived: list[np.ndarray] = []
    kit.backend.on_gradient(output, lambda gradient: arrived.append(kit.array(gradient)))
    loss = kit.backend.loss(LossSpec("cross_entropy", {}, {"target": Tensor.from_array(target)}), [output])
    kit.backend.backward(loss)
    counted, wanted = [0, 2, 4], [1, 2, 0]
    chances = np.exp(kit.array(output).astype(np.float64)[counted])
    chances /= chances.sum(axis=1, keepdims=True)
    assert kit.backend.item(loss) == pytest.approx(-np.log(chances[range(3), wanted]).mean(), rel=1e-5)
    expected = np.zeros((5, 3))
    expected[counted] = (chances - np.eye(3)[wanted]) / 3
    np.testing.assert_allclose(arrived[0], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("mse", None),
        ("mse", np.zeros((5, 1), np.float32)),
        ("mse", np.zeros((5, 3), np.int64)),
        ("cross_entropy", None),
        ("cross_entropy", np.zeros((5, 3), np.int64)),
        ("cross_entropy", np.zeros(5, np.float32)),
        ("cross_entropy", np.full(5, 3, np.int64)),
        ("cross_entropy", np.full(5, -1, np.int64)),
        ("cross_entropy", np.array([-100, 0, -1, 2, 1])),
        ("cross_entropy", np.full(5, -100, np.int64)),  # nothing is left
    ],
)
def test_a_target_that_does_not_fit_is_refused(kit, name, target):
    output = kit.forward("mlp", kit.build("mlp"))
    targets = {} if target is None else {"target": Tensor.from_array(target)}
    with pytest.raises(PadiffError) as caught:
        kit.backend.loss(LossSpec(name, {}, targets), [output])
    assert caught.value.reason is Reason.BAD_CONFIG
    assert caught.value.hint


@pytest.mark.parametrize("name", ["mean", "sum", "projection", "mse", "cross_entropy"])
def test_a_loss_over_nothing_floating_is_refused(kit, name):
    model = kit.build("mlp")
    outputs = [kit.native(np.arange(3), model), kit.native(np.zeros((0, 2), np.float32), model)]
    for some in (outputs, []):
        with pytest.raises(PadiffError) as caught:
            kit.backend.loss(LossSpec(name, {"seed": 0.0}, {"target": Tensor.from_array(np.zeros(3))}), some)
        assert caught.value.reason is Reason.BAD_CONFIG


def test_an_unknown_loss_or_optimizer_is_named(kit):
    model = kit.build("mlp")
    for ask in (
        lambda: kit.backend.loss(LossSpec("nonsense"), [kit.forward("mlp", model)]),
        lambda: kit.backend.optimizer(OptimizerSpec("nonsense"), model),
    ):
        with pytest.raises(PadiffError) as caught:
            ask()
        assert caught.value.reason is Reason.UNKNOWN_NAME
        assert "'nonsense'" in caught.value.message


# -- backward ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["mlp", "shared", "tied", "norm", "embedding", "residual", "nested", "keyword"])
def test_parameter_gradients_agree_with_finite_differences(kit, name):
    if "float64" not in kit.zoo.CAST_DTYPES:
        pytest.fail("every backend casts to float64")
    model = kit.backend.prepare(kit.build(name), None, "float64")
    inputs = {
        key: kit.native(kit.array(value).astype(np.float64), model) if key == "x" else value
        for key, value in kit.inputs(name, model).items()
    }

    def loss() -> Any:
        outputs = kit.flat(kit.backend.forward(model, (), inputs, True))
        return kit.backend.loss(parse_loss("projection"), outputs)

    kit.backend.backward(loss())
    gradients = kit.gradients(model)
    trainable = {
        tensor_name
        for route, layer in kit.layers(model).items()
        for own_name, _, kind, wanted in kit.backend.own_tensors(layer)
        if wanted and kind == "parameter"
        for tensor_name in [f"{route}.{own_name}" if route else own_name]
    }
    assert set(gradients) == trainable
    for tensor_name, gradient in gradients.items():
        tensor = kit.tensors(model)[tensor_name]
        values = kit.array(tensor)
        for index in range(0, values.size, max(1, values.size // 4)):
            ends = []
            for step in (1e-5, -1e-5):
                moved = values.copy()
                moved.reshape(-1)[index] += step
                kit.backend.overwrite(tensor, Tensor.from_array(moved))
                ends.append(kit.backend.item(loss()))
            kit.backend.overwrite(tensor, Tensor.from_array(values))
            expected = (ends[0] - ends[1]) / 2e-5
            assert gradient.reshape(-1)[index] == pytest.approx(expected, rel=1e-5, abs=1e-8), tensor_name


def test_gradients_are_absent_before_backward_and_after_clearing(kit):
    model = kit.build("extras")
    parameter, frozen = kit.tensors(model)["scale"], kit.tensors(model)["frozen"]
    assert kit.backend.gradient(parameter) is None
    kit.backend.backward(kit.backend.loss(parse_loss("sum"), [kit.forward("extras", model)]))
    assert kit.backend.gradient(parameter) is not None
    assert kit.backend.gradient(frozen) is None
    kit.backend.clear_gradients(model)
    assert kit.backend.gradient(parameter) is None


def test_gradients_of_two_backwards_add_up_until_cleared(kit):
    model = kit.build("extras")

    def run() -> np.ndarray:
        kit.backend.backward(kit.backend.loss(parse_loss("sum"), [kit.forward("extras", model)]))
        return kit.gradients(model)["scale"]

    first, second = run(), run()
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)
    kit.backend.clear_gradients(model)
    np.testing.assert_array_equal(run(), first)


def test_item_is_a_plain_float(kit):
    model = kit.build("mlp")
    value = kit.backend.item(kit.native(np.array(0.1), model))
    assert type(value) is float
    assert value == 0.1


# -- optimisers -------------------------------------------------------------------------------------------------------
class Reference:
    """The optimisers' published formulas on one float64 array."""

    def __init__(self, name: str, options: Mapping[str, float], value: np.ndarray) -> None:
        self.name, self.options, self.value = name, options, value.astype(np.float64)
        self.first, self.second, self.steps = np.zeros_like(self.value), np.zeros_like(self.value), 0

    def step(self, gradient: np.ndarray) -> None:
        o = self.options
        lr, decay = o["lr"], o["weight_decay"]
        self.steps += 1
        gradient = gradient.astype(np.float64)
        if self.name == "AdamW":
            self.value = self.value * (1 - lr * decay)
        else:
            gradient = gradient + decay * self.value
        if self.name == "SGD":
            self.first = o["momentum"] * self.first + gradient
            self.value = self.value - lr * self.first
            return
        self.first = o["beta1"] * self.first + (1 - o["beta1"]) * gradient
        self.second = o["beta2"] * self.second + (1 - o["beta2"]) * gradient**2
        mean = self.first / (1 - o["beta1"] ** self.steps)
        scale = np.sqrt(self.second / (1 - o["beta2"] ** self.steps)) + o["eps"]
        self.value = self.value - lr * mean / scale


@pytest.mark.parametrize(
    "text",
    [
        "SGD",
        "SGD(lr=0.1, momentum=0.9)",
        "SGD(lr=0.1, weight_decay=0.2)",
        "SGD(lr=0.1, momentum=0.8, weight_decay=0.3)",
        "Adam",
        "Adam(lr=0.01, beta1=0.7, beta2=0.95, eps=0.01, weight_decay=0.1)",
        "AdamW",
        "AdamW(lr=0.01, beta1=0.7, beta2=0.95, eps=0.01, weight_decay=0.3)",
    ],
)
def test_an_optimizer_follows_its_formula_over_three_steps(kit, text):
    spec = parse_optimizer(text)
    model = kit.backend.prepare(kit.build("mlp"), None, "float64")
    tensors = kit.tensors(model)
    references = {name: Reference(spec.name, spec.options, kit.array(tensor)) for name, tensor in tensors.items()}
    x = kit.native(np.cos(np.arange(20.0)).reshape(5, 4), model)
    optimizer = kit.backend.optimizer(spec, model)
    for _ in range(3):
        kit.backend.clear_gradients(model)
        kit.backend.backward(
            kit.backend.loss(parse_loss("projection"), [kit.backend.forward(model, (), {"x": x}, True)])
        )
        gradients = kit.gradients(model)
        kit.backend.step(optimizer)
        for name, reference in references.items():
            before = reference.value
            reference.step(gradients[name])
            moved = np.abs(reference.value - before).max()
            assert moved > 0
            # Paddle keeps beta's powers in float32: an error of 1e-7 of the step, no more.
            np.testing.assert_allclose(kit.array(tensors[name]), reference.value, rtol=0, atol=1e-6 * moved)


def test_options_left_out_take_the_neutral_defaults_not_the_frameworks(kit):
    for name in NEUTRAL_OPTIMIZERS:
        results = []
        for options in ({}, dict(NEUTRAL_OPTIMIZERS[name])):
            model = kit.build("mlp")
            optimizer = kit.backend.optimizer(OptimizerSpec(name, options), model)
            kit.backend.backward(kit.backend.loss(parse_loss("projection"), [kit.forward("mlp", model)]))
            kit.backend.step(optimizer)
            results.append({key: kit.array(tensor).tobytes() for key, tensor in kit.tensors(model).items()})
        assert results[0] == results[1]


@pytest.mark.parametrize("text", ["SGD(lr=0.1, weight_decay=0.1)", "AdamW(lr=0.1)"])
def test_what_is_frozen_stays(kit, text):
    model = kit.build("extras")
    before = {name: kit.array(tensor) for name, tensor in kit.tensors(model).items()}
    optimizer = kit.backend.optimizer(parse_optimizer(text), model)
    kit.backend.backward(kit.backend.loss(parse_loss("projection"), [kit.forward("extras", model)]))
    kit.backend.step(optimizer)
    after = {name: kit.array(tensor) for name, tensor in kit.tensors(model).items()}
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {"scale"}


def test_a_tied_parameter_is_stepped_once(kit):
    model = kit.build("tied")
    weight = kit.tensors(model)["a.weight"]
    before = kit.array(weight)
    optimizer = kit.backend.optimizer(parse_optimizer("SGD(lr=0.5)"), model)
    kit.backend.backward(kit.backend.loss(parse_loss("projection"), [kit.forward("tied", model)]))
    kit.backend.step(optimizer)
    np.testing.assert_allclose(kit.array(weight), before - 0.5 * kit.gradients(model)["a.weight"], rtol=1e-6)


def test_an_optimizer_without_anything_to_train_is_refused(kit):
    with pytest.raises(PadiffError) as caught:
        kit.backend.optimizer(parse_optimizer("SGD"), kit.build("dropout"))
    assert caught.value.reason is Reason.BAD_CONFIG
