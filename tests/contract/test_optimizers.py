"""Backend contract: what a framework's own optimisers tell of themselves and keep, by names that the frameworks share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_loss, parse_optimizer
from padiff_rpc.model.model import ForwardRequest, LossSpec, OptimizerState
from padiff_rpc.tensors.tensor import collect_all
from tests.contract.test_hosted_steps import hosted, request_of

SUM: LossSpec = parse_loss("sum")


def stepped(kit: Any, optimizer: str) -> tuple[HostedModel, dict[str, np.ndarray]]:
    """Take one step, and return the model with its gradients."""
    model = hosted(kit, "mlp")
    request: ForwardRequest = request_of("mlp")
    model.forward(request)
    model.backward(SUM)
    names = [info.name for info in model.describe().parameters if info.trainable]
    gradients = collect_all(model.read_parameters(names, "gradient"))
    model.optimizer_step(parse_optimizer(optimizer))
    return model, {name: tensor.to_array().astype(np.float64) for name, tensor in gradients.items()}


@pytest.mark.parametrize(
    ("optimizer", "state", "power", "share"),
    [
        ("SGD(lr=0.1, momentum=0.9)", "momentum", 1, 1.0),
        ("Adam(lr=0.1, beta1=0.75)", "moment1", 1, 0.25),
        ("Adam(lr=0.1, beta2=0.75)", "moment2", 2, 0.25),
        ("AdamW(lr=0.1, beta1=0.75)", "moment1", 1, 0.25),
        ("AdamW(lr=0.1, beta2=0.75)", "moment2", 2, 0.25),
    ],
)
def test_a_state_is_read_under_its_shared_name(
    kit: Any, optimizer: str, state: OptimizerState, power: int, share: float
) -> None:
    model, gradients = stepped(kit, optimizer)
    found = collect_all(model.read_parameters(list(gradients), state))
    assert list(gradients) == list(found)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(found[name].to_array(), share * gradient**power, rtol=1e-5)
    assert set(gradients) == set(model.digest_parameters(list(gradients), state))


def test_an_optimiser_without_a_state_gives_none(kit: Any) -> None:
    model, gradients = stepped(kit, "SGD(lr=0.1)")
    for state in ("momentum", "moment1", "moment2"):
        assert {} == model.digest_parameters(list(gradients), state)


def test_a_neutral_optimiser_tells_its_hyper_parameters(kit: Any) -> None:
    model = hosted(kit, "mlp")
    trained = [info.name for info in model.describe().parameters if info.trainable]
    options = {"lr": 0.25, "beta1": 0.5, "beta2": 0.75, "eps": 0.125, "weight_decay": 0.0625}
    for name in ("Adam", "AdamW"):
        spec = parse_optimizer(f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})")
        [group] = model.describe_optimizer(spec)
        assert (name, tuple(trained)) == (group.algorithm, group.parameters)
        assert options == {key: group.options[key] for key in options}
    [group] = model.describe_optimizer(parse_optimizer("SGD(lr=0.25, momentum=0.5, weight_decay=0.125)"))
    assert ("SGD", 0.25, 0.5, 0.125) == (
        group.algorithm,
        *(group.options[key] for key in ("lr", "momentum", "weight_decay")),
    )
