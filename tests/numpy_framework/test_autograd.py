"""The NumPy framework's own numbers: every gradient against finite differences, every layer against its formula."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.numpy_framework import functions as F
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.numpy_framework.graph import grad_mode
from padiff_rpc.tensors.tensor import DType

STEP = 1e-6


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """float64 numbers that keep a distance from 0, where ReLU has no derivative."""
    numbers = np.random.RandomState(seed).standard_normal(shape)
    return numbers + 0.05 * np.sign(numbers)


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(values(*shape, seed=seed), requires_grad=True)


def weighted(output: Tensor) -> Tensor:
    """A scalar that gives every element of the output a gradient of its own."""
    return (output * Tensor(values(*output.shape, seed=99))).sum()


def check_gradients(compute: Callable[[], Tensor], leaves: dict[str, Tensor]) -> None:
    """Compare every leaf's gradient of weighted(compute()) with central differences, element by element."""
    for tensor in leaves.values():
        tensor.grad = None
    weighted(compute()).backward()
    for name, tensor in leaves.items():
        expected = np.zeros(tensor.shape)
        for index in np.ndindex(*tensor.shape):
            ends = []
            for step in (STEP, -STEP):
                tensor.data[index] += step
                ends.append(float(weighted(compute()).data))
                tensor.data[index] -= step
            expected[index] = (ends[0] - ends[1]) / (2 * STEP)
        assert tensor.grad is not None, name
        assert np.abs(expected).max() > 0, name
        np.testing.assert_allclose(tensor.grad.data, expected, rtol=1e-6, atol=1e-7, err_msg=name)


A, B = (2, 3, 4), (3, 1)
CHOICE = np.random.RandomState(5).randint(0, 2, A).astype(bool)
OPS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "add": (lambda a, b: a + b, (A, B)),
    "add scalar": (lambda a: 2 + a + 1, (A,)),
    "sub": (lambda a, b: a - b, (A, B)),
    "sub from scalar": (lambda a: 1 - a, (A,)),
    "mul": (lambda a, b: a * b, (A, B)),
    "mul scalar": (lambda a: 3 * a, (A,)),
    "mul by itself": (lambda a: a * a, (A,)),
    "div": (lambda a, b: a / b, (A, B)),
    "div of scalar": (lambda a: 2 / a, (A,)),
    "neg": (lambda a: -a, (A,)),
    "broadcast both ways": (lambda a, b: a * b + b, ((1, 4), (3, 1))),
    "0-d": (lambda a, b: a * b / (b * b), ((), ())),
    "matmul": (lambda a, b: a @ b, ((3, 4), (4, 2))),
    "matmul stacked": (lambda a, b: a @ b, ((2, 1, 3, 4), (5, 4, 2))),
    "exp": (lambda a: a.exp(), (A,)),
    "sqrt": (lambda a: (a * a).sqrt(), (A,)),
    "tanh": (lambda a: a.tanh(), (A,)),
    "relu": (lambda a: a.relu(), (A,)),
    "cast": (lambda a: a.cast(DType.F64), (A,)),
    "reshape": (lambda a: a.reshape(4, -1), (A,)),
    "transpose": (lambda a: a.transpose(2, 0, 1), (A,)),
    "transpose from the end": (lambda a: a.transpose(0, -1, 1), (A,)),
    "slice": (lambda a: a[:, ::-2, 1:], (A,)),
    "index": (lambda a: a[1, 2], (A,)),
    "index with repeats": (lambda a: a[Tensor(np.array([1, 0, 1]))], (A,)),
    "index of two axes": (lambda a: a[np.array([0, 1, 1]), np.array([2, 0, 0])], (A,)),
    "sum": (lambda a: a.sum(), (A,)),
    "sum of an axis": (lambda a: a.sum(1), (A,)),
    "sum keeping axes": (lambda a: a.sum((0, -1), keepdims=True), (A,)),
    "mean": (lambda a: a.mean(), (A,)),
    "mean of axes": (lambda a: a.mean((0, 2)), (A,)),
    "mean keeping an axis": (lambda a: a.mean(-1, keepdims=True), (A,)),
    "alias": (lambda a: a.alias() * 2 + a, (A,)),
    "add in place": (lambda a, b: (a * 1).add_(b), (A, B)),
    "mul in place": (lambda a, b: (a + 0).mul_(b * 1), (A, B)),
    "copy in place": (lambda a: (a * 2).copy_(a).mul_(3), (A,)),
    "relu in place": (lambda a: (a + 0).relu_(), (A,)),
    "softmax": (lambda a: F.softmax(a), (A,)),
    "softmax of an axis": (lambda a: F.softmax(a, 1), (A,)),
    "log_softmax": (lambda a: F.log_softmax(a), (A,)),
    "gelu": (lambda a: F.gelu(a), (A,)),
    "gelu tanh": (lambda a: F.gelu(a, "tanh"), (A,)),
    "where": (lambda a, b: F.where(Tensor(CHOICE), a, b), (A, B)),
    "concat": (lambda a, b: F.concat([a, b, a], 1), ((2, 3), (2, 2))),
    "layer_norm of two axes": (lambda a, w, b: F.layer_norm(a, w, b, 1e-5), (A, (3, 4), (3, 4))),
    "linear": (lambda a, w, b: F.linear(a, w, b), (A, (4, 2), (2,))),
    "embedding": (lambda w: F.embedding(Tensor(np.array([[3, 0], [3, 1]])), w), ((4, 2),)),
    "attention": (lambda q, k, v: F.attention(q, k, v, 2, 0.6), ((2, 3, 4), (2, 5, 4), (2, 5, 4))),
}


@pytest.mark.parametrize("name", OPS)
def test_an_operations_gradients_are_its_finite_differences(name):
    compute, shapes = OPS[name]
    leaves = [leaf(*shape, seed=index) for index, shape in enumerate(shapes)]
    check_gradients(lambda: compute(*leaves), {str(index): tensor for index, tensor in enumerate(leaves)})


@pytest.mark.parametrize(("stride", "padding"), list(itertools.product((1, 2, 3), (0, 1))))
def test_conv2d_by_its_definition_and_its_gradients(stride, padding):
    x, w, b = leaf(2, 2, 5, 6), leaf(3, 2, 3, 2, seed=1), leaf(3, seed=2)
    padded = np.pad(x.data, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = (padded.shape[2] - 3) // stride + 1, (padded.shape[3] - 2) // stride + 1
    expected = np.zeros((2, 3, rows, columns))
    for n, o, i, j in np.ndindex(*expected.shape):
        window = padded[n, :, i * stride : i * stride + 3, j * stride : j * stride + 2]
        expected[n, o, i, j] = (window * w.data[o]).sum() + b.data[o]
    np.testing.assert_allclose(F.conv2d(x, w, b, stride, padding).data, expected, rtol=1e-12)
    check_gradients(lambda: F.conv2d(x, w, b, stride, padding), {"x": x, "weight": w, "bias": b})


# -- layers -----------------------------------------------------------------------------------------------------------
def as_float64(layer: nn.Layer) -> dict[str, Tensor]:
    """Give every parameter and buffer fixed float64 numbers; returns the parameters by name."""
    found: dict[str, Tensor] = {}
    for at, each in enumerate(layer.walk()):
        for name, tensor in {**each.parameters(), **each.buffers()}.items():
            tensor.convert_(DType.F64)
            numbers = values(*tensor.shape, seed=len(found) + 7)
            tensor.overwrite(np.abs(numbers) + 0.5 if name == "running_var" else numbers)
            if name in each.parameters():
                found[f"{at}.{name}"] = tensor
    return found


def eval_mode(layer: nn.Layer) -> nn.Layer:
    return layer.train(False)


LAYERS: dict[str, tuple[Callable[[], nn.Layer], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(4, 3), A),
    "Linear without bias": (lambda: nn.Linear(4, 3, bias=False), (2, 4)),
    "LinearIO": (lambda: nn.LinearIO(4, 3), A),
    "Conv2D": (lambda: nn.Conv2D(2, 3, 3, stride=2, padding=1), (2, 2, 5, 4)),
    "Conv2D without bias": (lambda: nn.Conv2D(2, 3, 2, bias=False), (1, 2, 3, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4, eps=1e-3), A),
    "BatchNorm of vectors": (lambda: nn.BatchNorm(4), (5, 4)),
    "BatchNorm of images": (lambda: nn.BatchNorm(2), (3, 2, 2, 3)),
    "BatchNorm in eval mode": (lambda: eval_mode(nn.BatchNorm(2)), (3, 2, 2, 3)),
    "ReLU": (nn.ReLU, A),
    "GELU": (nn.GELU, A),
    "GELU tanh": (lambda: nn.GELU("tanh"), A),
    "Tanh": (nn.Tanh, A),
    "Softmax": (nn.Softmax, A),
    "Dropout in eval mode": (lambda: eval_mode(nn.Dropout(0.5)), A),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(4, 2), (2, 3, 4)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.LinearIO(3, 2)), (2, 4)),
    "in-place ReLU": (lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)), (2, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_gradients_are_its_finite_differences(name):
    build, shape = LAYERS[name]
    layer = build()
    parameters, x = as_float64(layer), leaf(*shape, seed=3)
    check_gradients(lambda: layer(x), {"x": x, **parameters})


def test_dropouts_gradient_is_that_of_the_mask_it_drew():
    x, layer = leaf(4, 5), nn.Dropout(0.4)

    def compute() -> Tensor:
        F.seed_generator(8)
        return layer(x)

    check_gradients(compute, {"x": x})


def test_dropout_keeps_the_mean_and_follows_its_seed():
    layer, x = nn.Dropout(0.25), Tensor(np.ones(40_000))
    F.seed_generator(1)
    first, second = layer(x).data, layer(x).data
    F.seed_generator(1)
    assert layer(x).data.tobytes() == first.tobytes()
    assert first.tobytes() != second.tobytes()
    assert set(np.unique(first)) == {0.0, 1 / 0.75}
    assert first.mean() == pytest.approx(1, abs=0.02)
    assert nn.Dropout(1.0)(x).data.tobytes() == np.zeros(40_000).tobytes()


def test_embeddings_gradient_reaches_repeated_rows():
    layer = nn.Embedding(4, 3)
    check_gradients(lambda: layer(Tensor(np.array([[3, 0], [3, 1]]))), as_float64(layer))


@pytest.mark.parametrize("wrong", [-1, 4])
def test_an_id_outside_the_embedding_is_an_error(wrong):
    with pytest.raises(IndexError, match="do not fit an embedding of 4 rows"):
        nn.Embedding(4, 3)(Tensor(np.array([0, wrong])))


def test_layers_compute_their_formulas():
    x = values(2, 3, 4)
    flat = x.reshape(-1, 4)
    linear, other, norm = nn.Linear(4, 2), nn.LinearIO(4, 2), nn.LayerNorm(4, eps=0.1)
    for layer in (linear, other, norm):
        as_float64(layer)
    other.weight.overwrite(np.ascontiguousarray(linear.weight.data.T))
    other.bias.overwrite(linear.bias.data)
    expected = (flat @ linear.weight.data.T + linear.bias.data).reshape(2, 3, 2)
    np.testing.assert_allclose(linear(Tensor(x)).data, expected, rtol=1e-12)
    np.testing.assert_allclose(other(Tensor(x)).data, expected, rtol=1e-12)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(norm(Tensor(x)).data, normal * norm.weight.data + norm.bias.data, rtol=1e-12)
    gelu = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)
    np.testing.assert_allclose(nn.GELU()(Tensor(x)).data, gelu, rtol=1e-12)
    tanh = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(nn.GELU("tanh")(Tensor(x)).data, tanh, rtol=1e-12)
    softmax = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(nn.Softmax(1)(Tensor(x)).data, softmax, rtol=1e-12)
    np.testing.assert_allclose(F.log_softmax(Tensor(x)).data, np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True)))
    np.testing.assert_array_equal(nn.ReLU()(Tensor(x)).data, np.where(x > 0, x, 0))


def test_batch_norm_uses_the_batch_in_training_and_the_running_statistics_else():
    layer, x = nn.BatchNorm(2, eps=0.1, momentum=0.3), values(4, 2, 3)
    as_float64(layer)
    mean, variance = layer.running_mean.data.copy(), layer.running_var.data.copy()

    def normal(mu: np.ndarray, var: np.ndarray) -> np.ndarray:
        scaled = (x - mu[:, None]) / np.sqrt(var[:, None] + 0.1)
        return scaled * layer.weight.data[:, None] + layer.bias.data[:, None]

    layer.train(False)
    np.testing.assert_allclose(layer(Tensor(x)).data, normal(mean, variance), rtol=1e-12)
    np.testing.assert_array_equal(layer.running_mean.data, mean)
    layer.train()
    np.testing.assert_allclose(layer(Tensor(x)).data, normal(x.mean((0, 2)), x.var((0, 2))), rtol=1e-12)
    np.testing.assert_allclose(layer.running_mean.data, 0.7 * mean + 0.3 * x.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.data, 0.7 * variance + 0.3 * x.var((0, 2), ddof=1), rtol=1e-12)


def test_attention_by_its_definition_with_a_mask():
    layer, x = nn.MultiHeadAttention(4, 2), values(2, 3, 4)
    as_float64(layer)
    mask = np.array([[True, True, False], [True, True, True]]).reshape(2, 1, 1, 3)
    q, k, v = (x @ p.weight.data.T + p.bias.data for p in (layer.q_proj, layer.k_proj, layer.v_proj))
    heads = np.zeros((2, 3, 4))
    for n, h, i in np.ndindex(2, 2, 3):
        part = slice(2 * h, 2 * h + 2)
        weights = np.exp(k[n, :, part] @ q[n, i, part] / math.sqrt(2)) * mask[n, 0, 0]
        heads[n, i, part] = weights / weights.sum() @ v[n, :, part]
    expected = heads @ layer.out_proj.weight.data.T + layer.out_proj.bias.data
    np.testing.assert_allclose(layer(Tensor(x), mask=Tensor(mask)).data, expected, rtol=1e-10)


# -- the tape ---------------------------------------------------------------------------------------------------------
def test_a_hook_sees_the_whole_gradient_once_and_may_replace_it():
    x = leaf(3)
    y = x * 2
    seen: list[np.ndarray] = []
    y.register_hook(lambda g: seen.append(g.data.copy()))
    remove = y.register_hook(lambda g: g * 100)
    y.register_hook(lambda g: g * 10)
    remove()
    (y * 3 + y).sum().backward()
    np.testing.assert_array_equal(seen, [np.full(3, 4.0)])
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, np.full(3, 80.0))


def test_a_hook_belongs_to_the_value_that_the_tensor_had():
    x = leaf(3)
    y = x * 1
    seen: list[float] = []
    y.register_hook(lambda g: seen.append(float(g.data[0])))
    y.mul_(5)
    y.register_hook(lambda g: seen.append(float(g.data[0])))
    y.sum().backward()
    assert seen == [1.0, 5.0]


def test_a_gradient_of_another_shape_is_refused():
    x = leaf(3)
    y = x * 1
    y.register_hook(lambda g: Tensor(np.ones((1, 3))))
    with pytest.raises(ValueError, match="does not fit"):
        y.sum().backward()


def test_a_factor_that_backward_needs_must_not_change_in_place():
    x = leaf(3)
    y = x * 1
    total = (y * y).sum()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        total.backward()


def test_a_result_that_backward_needs_must_not_change_in_place():
    y = leaf(3).exp()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_weights_written_between_forward_and_backward_are_an_error():
    layer = nn.Linear(3, 2)
    total = layer(Tensor(np.ones((1, 3), np.float32), requires_grad=True)).sum()
    layer.bias.overwrite(np.zeros(2, np.float32))  # no gradient needs the bias
    total.backward()
    weight = leaf(3, 2)
    total = (leaf(1, 3) @ weight).sum()
    weight.overwrite(np.zeros((3, 2)))
    with pytest.raises(RuntimeError, match="changed in place"):
        total.backward()


def test_a_change_through_an_alias_reaches_the_tensor():
    x = leaf(3)
    y = x * 1
    y.alias().mul_(2)
    np.testing.assert_array_equal(y.data, 2 * x.data)
    check_gradients(lambda: _changed_by_alias(x), {"x": x})


def _changed_by_alias(x: Tensor) -> Tensor:
    y = x * 1
    y.alias().mul_(Tensor(values(3, seed=4)))
    return y * y


def test_an_alias_whose_tensor_changed_is_an_error_not_a_wrong_gradient():
    y = leaf(3) * 1
    alias = y.alias()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="through another tensor"):
        alias + 1


def test_a_leaf_cannot_change_in_place_but_without_the_tape():
    x = leaf(3)
    with pytest.raises(RuntimeError, match="leaf"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="leaf"):
        x.alias().add_(1)


def test_backward_runs_once_and_only_from_a_scalar_on_the_tape():
    loss = leaf(3).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="before"):
        loss.backward()
    with pytest.raises(RuntimeError, match="scalar"):
        (leaf(3) * 2).backward()
    with pytest.raises(RuntimeError, match="requires_grad=False"):
        Tensor(np.ones(())).backward()


def test_the_grad_mode_is_each_threads_own():
    x = leaf(3)
    found: dict[str, bool] = {}
    with grad_mode(False):
        other = threading.Thread(target=lambda: found.update(other=(x * 2).requires_grad))
        other.start()
        other.join()
        found["here"] = (x * 2).requires_grad
    assert found == {"other": True, "here": False}
    assert (x * 2).requires_grad


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scalars_and_gradients_keep_the_dtype(dtype):
    x = Tensor(np.asarray(values(2, 4), dtype), requires_grad=True)
    layer = nn.Sequential(nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3), nn.BatchNorm(3))
    for each in layer.walk():
        for tensor in (*each.parameters().values(), *each.buffers().values()):
            tensor.convert_(Tensor(np.zeros((), dtype)).dtype)
    y = layer(x) * 0.5 / np.sqrt(2.0) + 1
    total = (2 - y).mean() * 0.1
    total.backward()
    assert [t.dtype for t in (y, total, x.grad) if t is not None] == [x.dtype] * 3


def test_a_detached_tensor_shares_the_memory_but_not_the_tape():
    x = leaf(3)
    detached = x.detach()
    assert not detached.requires_grad
    assert np.shares_memory(detached.data, x.data)


def test_results_never_share_memory_with_their_inputs():
    x = Tensor(values(2, 3))
    for y in (x.reshape(2, 3), x.transpose(0, 1), x[:], x[0], x.cast(DType.F32), x + 0, x.mean(())):
        assert not np.shares_memory(x.data, y.data)


def test_opaque_types_are_stored_but_not_computed_with():
    x = Tensor(np.array([0x3F80], np.uint16), dtype=DType.BF16)
    with pytest.raises(PadiffError) as caught:
        x + x
    assert caught.value.reason is Reason.NOT_SUPPORTED
    np.testing.assert_array_equal(x.cast(DType.F32).data, np.array([1], np.float32))
    with pytest.raises(TypeError, match="stored as uint16"):
        Tensor(np.array([1.0]), dtype=DType.BF16)
    with pytest.raises(TypeError, match="object"):
        Tensor(np.array([None]))


def test_a_nan_passes_relu():
    assert np.isnan(Tensor(np.array([np.nan])).relu().data).all()


# -- the layer tree ---------------------------------------------------------------------------------------------------
def test_attributes_are_filed_by_what_they_are():
    layer = nn.Layer()
    layer.weight = nn.Parameter(np.ones(2))
    layer.child = nn.Tanh()
    layer.register_buffer("running", Tensor(np.zeros(2)))
    layer.size = 3
    assert (list(layer.parameters()), list(layer.children()), list(layer.buffers())) == (
        ["weight"],
        ["child"],
        ["running"],
    )
    layer.running = Tensor(np.ones(2))
    assert list(layer.buffers()) == ["running"]
    layer.child = None
    layer.weight = None
    assert (layer.parameters(), layer.children(), layer.child) == ({}, {}, None)
    with pytest.raises(AttributeError, match="absent"):
        _ = layer.absent


def test_hooks_surround_forward_and_may_be_removed_within_it():
    layer = nn.Tanh()
    events: list[Any] = []

    def after(args: Any, kwargs: Any, output: Any) -> Any:
        events.append("after")
        remove()
        return "replaced"

    remove = layer.register_hook(lambda args, kwargs: events.append(len(args)), after)
    assert layer(Tensor(values(2))) == "replaced"
    np.testing.assert_array_equal(layer(Tensor(values(2))).data, np.tanh(values(2)))
    assert events == [1, "after"]
