"""The fast tests' models do what their names say: healthy ones agree, planted bugs show, and where."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.model.backends.numpy.backend import NumpyBackend
from padiff_rpc.model.losses_and_optimizers import parse_loss
from padiff_rpc.tensors.tensor import Tensor

_spec = importlib.util.spec_from_file_location("numpy_models", Path(__file__).with_name("numpy_models.py"))
assert _spec is not None
assert _spec.loader is not None
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

BACKEND = NumpyBackend()
FACTORIES = {
    "mlp": models.vectors,
    "mlp_wrong_scale": models.vectors,
    "deep": models.vectors,
    "bert_like": models.tokens,
    "conv_net": models.images,
    "shared": models.vectors,
    "tuple_outputs": models.vectors,
    "tied": models.ids,
    "random": models.vectors,
}
WITH_LAYOUT = ["mlp", "deep", "bert_like", "shared", "tuple_outputs", "random"]


def run(model: Any, inputs: Mapping[str, np.ndarray]) -> list[Any]:
    """Forward and backward; returns the flat outputs."""
    BACKEND.seed(0)
    natives = {name: BACKEND.from_tensor(Tensor.from_array(array), None, model) for name, array in inputs.items()}
    outputs = flat(BACKEND.forward(model, (), natives, True))
    BACKEND.backward(BACKEND.loss(parse_loss("projection"), outputs))
    return [output.data for output in outputs]


def flat(nest: Any) -> list[Any]:
    if BACKEND.is_tensor(nest):
        return [nest]
    if isinstance(nest, (list, tuple, dict)):
        return [tensor for part in (nest.values() if isinstance(nest, dict) else nest) for tensor in flat(part)]
    return []


def routes(layer: Any, route: str = "") -> dict[str, Any]:
    found = {route: layer}
    for name, child in layer.children().items():
        found |= routes(child, f"{route}.{name}" if route else name)
    return found


def first_difference(base: Callable[[], Any], raw: Callable[[], Any], inputs: Mapping[str, np.ndarray]) -> str | None:
    """Return the route of the first layer, in order of completion, whose output differs."""
    sides: list[list[tuple[str, list[np.ndarray]]]] = []
    for build in (base, raw):
        model, seen = build(), []
        for route, layer in routes(model).items():

            def after(args: Any, kwargs: Any, output: Any, route: str = route, seen: Any = seen) -> None:
                seen.append((route, [tensor.data.copy() for tensor in flat(output)]))

            BACKEND.hook(layer, lambda args, kwargs: None, after)
        run(model, inputs)
        sides.append(seen)
    assert [route for route, _ in sides[0]] == [route for route, _ in sides[1]]
    for (route, ours), (_, theirs) in zip(*sides, strict=True):
        if any(not np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(ours, theirs, strict=True)):
            return route
    return None


@pytest.mark.parametrize("name", FACTORIES)
def test_every_model_trains_all_its_parameters_and_depends_on_its_seed(name):
    factory, inputs = getattr(models, name), FACTORIES[name]()
    one, same, other = factory(), factory(seed=0), factory(seed=1)
    first, again, different = run(one, inputs), run(same, inputs), run(other, inputs)
    assert [a.tobytes() for a in first] == [b.tobytes() for b in again]
    assert all(np.abs(a - b).max() > 1e-2 for a, b in zip(first, different, strict=True))
    for route, layer in routes(one).items():
        for parameter_name, parameter in layer.parameters().items():
            assert parameter.grad is not None, f"{route}.{parameter_name}"


@pytest.mark.parametrize("name", WITH_LAYOUT)
def test_both_layouts_compute_the_same(name):
    factory, inputs = getattr(models, name), FACTORIES[name]()
    base, raw = factory(layout="oi"), factory(layout="io")
    for ours, theirs in zip(run(base, inputs), run(raw, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    linear = [layer for layer in base.walk() if type(layer).__name__ == "Linear"]
    transposed = [layer for layer in raw.walk() if type(layer).__name__ == "LinearIO"]
    assert len(linear) == len(transposed) > 0
    for ours, theirs in zip(linear, transposed, strict=True):
        np.testing.assert_array_equal(ours.weight.data, theirs.weight.data.T)
        np.testing.assert_allclose(ours.weight.grad.data, theirs.weight.grad.data.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("bug", "where"),
    [
        ({}, None),
        ({"eps_at": 1}, "encoder.1.norm1"),
        ({"no_scale_at": 0}, "encoder.0.attention.o"),  # the bug is in attention's own code, before o
        ({"no_scale_at": 1}, "encoder.1.attention.o"),
        ({"no_bias_at": 0}, "encoder.0.intermediate"),
        ({"permuted_batch": True}, ""),
        ({"nan_output": True}, ""),
    ],
)
def test_a_bug_in_bert_shows_first_where_it_was_planted(bug, where):
    assert first_difference(models.bert_like, lambda: models.bert_like(**bug), models.tokens()) == where


def test_relu_for_gelu_shows_at_the_activation():
    assert first_difference(models.bert_like, lambda: models.bert_like(relu_at=1), models.tokens()) == (
        "encoder.1.activation"
    )


def test_swapped_q_and_k_change_the_definition_order_and_no_number():
    base, raw = models.bert_like(), models.bert_like(swapped_qk=True)
    for ours, theirs in zip(run(base, models.tokens()), run(raw, models.tokens()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert list(routes(base)["encoder.0.attention"].children()) == ["q", "k", "v", "o"]
    assert list(routes(raw)["encoder.0.attention"].children()) == ["k", "q", "v", "o"]


@pytest.mark.parametrize(
    ("base", "raw", "inputs", "where"),
    [
        (models.mlp, models.mlp_wrong_scale, models.vectors, "body.act"),
        (models.deep, lambda: models.deep(bug_at=8), models.vectors, "8"),
        (models.shared, lambda: models.shared(scale=1.5), models.vectors, "fc"),
        (models.tuple_outputs, lambda: models.tuple_outputs(scale=1.5), models.vectors, "split"),
        (models.conv_net, lambda: models.conv_net(inplace=True), models.images, None),
        (models.conv_net, lambda: models.conv_net(momentum=0.5), models.images, None),  # shows in the buffers only
    ],
)
def test_the_other_models_differ_where_they_say(base, raw, inputs, where):
    assert first_difference(base, raw, inputs()) == where


def test_momentum_shows_in_the_buffers():
    base, raw = models.conv_net(), models.conv_net(momentum=0.5)
    for model in (base, raw):
        run(model, models.images())
    assert not np.allclose(base.bn1.running_var.data, raw.bn1.running_var.data, rtol=1e-2)


def test_tied_shares_one_parameter():
    model = models.tied()
    assert model.projection.weight is model.table.weight
