"""HostedModel over every backend: forward, backward, optimiser, mode, seed, info and the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.forward_signature import signature_text
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, LossSpec, OptimizerSpec, RecordOptions
from padiff_rpc.tensors.tensor import Tensor, collect_all
from tests.contract.steps import (
    PROJECTION,
    SUM,
    all_bytes,
    hosted,
    request_of,
    run_step,
)
from tests.contract.watcher import Watcher


def test_backward_needs_a_forward_of_its_own_with_gradients(kit: Any) -> None:
    model = hosted(kit, "mlp")
    with pytest.raises(PadiffError) as raised:
        model.backward(SUM)
    assert raised.value.reason is Reason.OUT_OF_ORDER
    model.forward(request_of("mlp", gradients=False))
    with pytest.raises(PadiffError, match="without gradients"):
        model.backward(SUM)
    model.forward(request_of("mlp"))
    model.backward(SUM)
    with pytest.raises(PadiffError) as raised:
        model.backward(SUM)
    assert raised.value.reason is Reason.OUT_OF_ORDER


def test_a_forward_without_gradients_records_the_same_forward(kit: Any) -> None:
    model = hosted(kit, "inplace")
    watcher = Watcher(model)
    model.forward(request_of("inplace", gradients=False), watcher)
    with_gradients = run_step(kit, "inplace", RecordOptions())[3]
    assert watcher.trail("forward") == with_gradients.trail("forward")


def test_gradients_are_cleared_before_each_backward(kit: Any) -> None:
    model = hosted(kit, "mlp")
    found = []
    for _ in range(2):
        model.forward(request_of("mlp"))
        model.backward(PROJECTION)
        found.append(all_bytes(model, "gradient"))
    assert found[0] == found[1]


def test_an_unknown_loss_leaves_the_forward_usable(kit: Any) -> None:
    model = hosted(kit, "mlp")
    model.forward(request_of("mlp"))
    with pytest.raises(PadiffError) as raised:
        model.backward(LossSpec("projektion"))
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert "'projection'" in raised.value.hint
    assert np.isfinite(model.backward(PROJECTION).loss)


def test_the_same_optimizer_spec_continues_its_state(kit: Any) -> None:
    """With momentum 1 the second of two equal steps moves twice as far; a fresh optimiser would move as far again."""
    spec = OptimizerSpec("SGD", {"lr": 0.125, "momentum": 1.0, "weight_decay": 0.0})
    model = hosted(kit, "extras")  # linear in scale, so that its gradient stays the same
    values = []
    for _ in range(3):
        values.append(collect_all(model.read_parameters(["scale"]))["scale"].to_array().copy())
        model.forward(request_of("extras"))
        model.backward(SUM)
        model.optimizer_step(OptimizerSpec(spec.name, dict(spec.options)))
    np.testing.assert_allclose(values[2] - values[1], 2 * (values[1] - values[0]), rtol=1e-3, atol=1e-6)
    assert (values[1] != values[0]).any()


def test_an_optimizer_steps_on_the_gradients_that_were_written(kit: Any) -> None:
    model = hosted(kit, "mlp")
    names = [info.name for info in model.describe().parameters if info.trainable]
    twos = {
        name: Tensor.from_array(np.full(spec.shape, 2, np.float32)) for name, spec in specs_of(model, names).items()
    }
    assert () == model.write_gradients(tensor.stream(name) for name, tensor in twos.items())
    model.forward(request_of("mlp"))
    model.backward(SUM)
    other = Tensor.from_array(np.zeros(3))
    written = model.write_gradients([other.stream(names[0]), *(twos[name].stream(name) for name in names[1:])])
    assert tuple(names[1:]) == written
    before = collect_all(model.read_parameters(names))
    own = collect_all(model.read_parameters(names[:1], "gradient"))[names[0]].to_array().copy()
    before = {name: tensor.to_array().copy() for name, tensor in before.items()}
    model.optimizer_step(OptimizerSpec("SGD", {"lr": 0.125}))
    after = collect_all(model.read_parameters(names))
    for name in names[1:]:
        np.testing.assert_allclose(after[name].to_array(), before[name] - 0.25, atol=1e-6)
    np.testing.assert_allclose(after[names[0]].to_array(), before[names[0]] - 0.125 * own, atol=1e-6)


def specs_of(model: Any, names: list[str]) -> dict[str, Any]:
    return {info.name: info.spec for info in model.describe().parameters if info.name in names}


def test_offered_losses_and_optimizers_are_called_and_their_errors_named(kit: Any) -> None:
    steps: list[Any] = []

    class Mine:
        def __init__(self, model: Any) -> None:
            steps.append(model)

        def step(self) -> None:
            if len(steps) == 2:
                raise RuntimeError("planted step")
            steps.append("step")

    def broken(outputs: Any) -> Any:
        raise RuntimeError("planted loss")

    model = hosted(kit, "mlp", losses={"broken": broken, "odd": lambda out: out}, optimizers={"mine": Mine})
    assert model.info().losses == ("broken", "odd")
    model.forward(request_of("mlp"))
    with pytest.raises(PadiffError, match="planted loss") as raised:
        model.backward(LossSpec("broken"))
    assert raised.value.reason is Reason.MODEL_FAILED
    with pytest.raises(PadiffError, match="not a scalar") as raised:
        model.backward(LossSpec("odd"))
    assert raised.value.reason is Reason.BAD_CONFIG
    model.optimizer_step(OptimizerSpec("mine"))
    assert steps == [model.model, "step"]
    with pytest.raises(PadiffError, match="planted step") as raised:
        model.optimizer_step(OptimizerSpec("mine"))
    assert raised.value.reason is Reason.MODEL_FAILED
    with pytest.raises(PadiffError) as raised:
        model.optimizer_step(OptimizerSpec("Adamm", {}))
    assert raised.value.reason is Reason.UNKNOWN_NAME


def test_offering_a_neutral_name_is_refused(kit: Any) -> None:
    with pytest.raises(PadiffError, match="'mean'") as raised:
        hosted(kit, "mlp", losses={"mean": len})
    assert raised.value.reason is Reason.BAD_CONFIG


def test_the_mode_is_set_only_when_asked(kit: Any) -> None:
    model = hosted(kit, "dropout")
    model.forward(request_of("dropout", training=False))
    assert not any(layer.training for layer in model.describe().layers)
    model.forward(request_of("dropout"))
    assert not any(layer.training for layer in model.describe().layers)
    model.forward(request_of("dropout", training=True))
    assert all(layer.training for layer in model.describe().layers)


def test_the_seed_fixes_what_is_random(kit: Any) -> None:
    first = run_step(kit, "dropout", RecordOptions())[0]
    assert first == run_step(kit, "dropout", RecordOptions())[0]


def test_info_names_framework_and_budgets(kit: Any) -> None:
    info = hosted(kit, "mlp", store_memory_bytes=7, store_disk_bytes=9).info()
    assert info.framework == kit.backend.name
    assert info.framework_version == kit.backend.version()
    assert (info.store_memory_bytes, info.store_disk_bytes) == (7, 9)
    assert "numpy" in info.packages
    assert info.padiff_version


def test_closing_twice_drops_everything(kit: Any) -> None:
    model = hosted(kit, "mlp")
    model.forward(request_of("mlp"))
    model.close()
    model.close()
    assert model.store_figures().memory_bytes == 0
    with pytest.raises(PadiffError) as raised:
        model.backward(SUM)
    assert raised.value.reason is Reason.OUT_OF_ORDER


def test_the_backend_is_found_from_the_model(kit: Any) -> None:
    assert HostedModel(kit.build("mlp")).backend.name == kit.backend.name


def test_a_step_that_computes_nothing_anew_says_so(kit: Any) -> None:
    model = hosted(kit, "mlp")
    model.forward(request_of("mlp"), Watcher(model))
    assert () == model.backward(SUM).recomputed


def test_what_forward_takes_by_position_only_and_by_star_reaches_it(kit: Any) -> None:
    model = hosted(kit, "mlp")
    plain = model.model.forward
    model.model.forward = lambda first, /, *more: plain(first + more[0])
    signature = model.describe().forward
    assert signature is not None
    assert signature_text(signature) == "forward(first, /, *more)"
    x = request_of("mlp").inputs["x"]
    zero = Tensor.from_array(np.zeros(x.spec.shape, np.float32))
    watcher = Watcher(model)
    model.forward(ForwardRequest({"more": (zero,), "first": x}, seed=3), watcher)
    model.backward(PROJECTION, watcher)
    expected = run_step(kit, "mlp", RecordOptions())[3]
    for phase in ("forward", "backward"):
        assert watcher.array(phase, "fc2", "output").tobytes() == expected.array(phase, "fc2", "output").tobytes()
    assert ["0", "1"] == [record.name for record in watcher.boundaries[0].records]
    with pytest.raises(PadiffError) as raised:
        model.forward(ForwardRequest({"more": (zero,)}))
    assert raised.value.reason is Reason.BAD_INPUTS
    assert raised.value.hint == "it is forward(first, /, *more)"
