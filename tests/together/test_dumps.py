"""create_model, its dumps and the offline checks, on native models of both frameworks in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import torch

from padiff_rpc import (
    check_grads,
    check_params,
    check_report,
    check_weights,
    create_model,
    get_dump_root_path,
    set_dump_root_path,
)
from tests.together.models import load

T, P = load("simple_torch"), load("simple_paddle")
STRICT = {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"}


def batches(count: int = 1, rows: int = 4, width: int = 20) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(rows, width)).astype("float32") for _ in range(count)]


def pair(**options: Any) -> tuple[Any, Any]:
    """The tutorial's model in both frameworks, with equal weights, as proxies."""
    module, layer = T.Residual(), P.Residual()
    state = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    for name, value in layer.named_parameters():
        value.set_value(state[name].T if value.ndim == 2 else state[name])
    return create_model(module, name="torch_net", **options), create_model(layer, name="paddle_net", **options)


def train(proxy: Any, data: list[np.ndarray], spoil: int | None = None) -> None:
    """The documented loop: forward, loss, backward, try_dump, one step of SGD; `spoil`: the step before which a bias grows."""
    is_torch = isinstance(proxy.model, torch.nn.Module)
    make = torch.as_tensor if is_torch else paddle.to_tensor
    optimizer = (
        torch.optim.SGD(proxy.model.parameters(), lr=0.1)
        if is_torch
        else paddle.optimizer.SGD(learning_rate=0.1, parameters=proxy.model.parameters())
    )
    for step, x in enumerate(data):
        if step == spoil:
            proxy.model.linear1.bias.set_value(proxy.model.linear1.bias + 0.05)
        output = proxy(make(x))
        loss = (output**2).mean()
        proxy.backward(loss)
        proxy.try_dump()
        optimizer.step()
        optimizer.zero_grad() if is_torch else optimizer.clear_grad()


def folder(name: str) -> Path:
    return Path(get_dump_root_path()) / name


def test_the_proxy_holds_the_original_model() -> None:
    layer = P.SimpleLayer()
    model = create_model(layer, name="Simple", dump_freq=2)
    assert layer is model.model
    assert 2 == len(model.model.parameters())
    assert model is create_model(model)


def test_a_training_loop_dumps_every_step_and_agrees() -> None:
    module, layer = pair()
    for proxy in (module, layer):
        train(proxy, batches(3))
    assert ["step_0", "step_1", "step_2"] == sorted(path.name for path in folder("torch_net").iterdir())
    found = sorted(path.name for path in (folder("torch_net") / "step_0" / "rank_0").iterdir())
    assert {"grads", "params.json", "report.json", "tensors", "weights"} <= set(found)
    for check in (check_report, check_params, check_weights, check_grads):
        if check in (check_report, check_params):
            assert check(folder("torch_net"), folder("paddle_net"), STRICT)


def test_dump_freq_records_only_every_so_many_steps() -> None:
    module, _ = pair(dump_freq=2)
    train(module, batches(5))
    assert ["step_0", "step_2", "step_4"] == sorted(path.name for path in folder("torch_net").iterdir())


def test_steps_between_are_bare() -> None:
    module, _ = pair(dump_freq=2)
    train(module, batches(1))
    hooks = [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in module.model.modules()]
    seen: list[int] = []
    module.model.act.register_forward_hook(
        lambda *_: seen.append(sum(len(layer._forward_pre_hooks) for layer in module.model.modules()))
    )
    module(torch.as_tensor(batches()[0]))
    assert [0] * 4 == hooks
    assert [0] == seen


def test_a_fault_from_step_2_on_is_found_there(capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = pair()
    train(module, batches(3))
    train(layer, batches(3), spoil=2)
    assert not check_report(folder("torch_net"), folder("paddle_net"), STRICT)
    out = capsys.readouterr().out
    assert "[AutoDiff] step 0, rank 0: agrees" in out
    assert "[AutoDiff] step 1, rank 0: agrees" in out
    assert "[AutoDiff]     Route: torch_net.linear1\n[AutoDiff]            paddle_net.linear1\n" in out
    assert not check_params(folder("torch_net"), folder("paddle_net"), STRICT)


def test_single_dumps_at_any_time() -> None:
    module, layer = pair()
    x = batches()[0]
    for proxy, make, name in ((module, torch.as_tensor, "t"), (layer, paddle.to_tensor, "p")):
        output = proxy(make(x))
        proxy.backward((output**2).mean())
        proxy.dump_report(f"{name}/first")
        proxy.dump_params(f"{name}/first")
        proxy.dump_grads(f"{name}/first")
        with torch.no_grad(), paddle.no_grad():
            for parameter in proxy.model.parameters():
                step = parameter - 0.1 * parameter.grad
                parameter.copy_(step) if name == "t" else parameter.set_value(step)
        proxy.dump_weights(f"{name}/first")
        proxy.clear_report()
    for check in (check_report, check_params, check_weights, check_grads):
        assert check("t/first", "p/first", STRICT)


def test_the_report_grows_until_it_is_cleared() -> None:
    module, _ = pair()
    x = torch.as_tensor(batches()[0])

    def roots() -> int:
        module.dump_report("grown")
        return len(json.loads(Path("grown/report.json").read_text())["tree"])

    module(x)
    module(x)
    assert 2 == roots()
    module.clear_report()
    module(x)
    assert 1 == roots()


def test_gradients_accumulate_as_in_the_users_own_loop() -> None:
    module, layer = pair()
    for proxy, make in ((module, torch.as_tensor), (layer, paddle.to_tensor)):
        for x in batches(2):
            proxy.backward((proxy(make(x)) ** 2).mean())
        proxy.try_dump()
    assert check_report(folder("torch_net"), folder("paddle_net"), STRICT)
    assert check_params(folder("torch_net"), folder("paddle_net"), STRICT)


@pytest.mark.parametrize("mode", ["self", "sublayers", "all"])
def test_black_listed_layers_are_not_dumped(mode: Any) -> None:
    module, layer = pair()
    for proxy in (module, layer):
        proxy.update_black_list([proxy.model.act], mode)
        train(proxy, batches(1))
    tree = json.loads((folder("torch_net") / "step_0" / "rank_0" / "report.json").read_text())["tree"]
    names = [child["route"] for child in tree[0]["children"]]
    expected = ["torch_net.linear1", "torch_net.act", "torch_net.linear2"]
    assert [name for name in expected if mode == "sublayers" or name != "torch_net.act"] == names
    assert check_report(folder("torch_net"), folder("paddle_net"), STRICT)


def test_white_listed_classes_alone_are_dumped() -> None:
    module, layer = pair()
    module.update_white_list_with_class(torch.nn.Linear)
    layer.update_white_list_with_class(paddle.nn.Linear)
    for proxy in (module, layer):
        train(proxy, batches(1))
    tree = json.loads((folder("paddle_net") / "step_0" / "rank_0" / "report.json").read_text())["tree"]
    assert ["paddle_net.linear1", "paddle_net.linear2"] == [child["route"] for child in tree[0]["children"]]
    assert check_report(folder("torch_net"), folder("paddle_net"), STRICT)
    assert check_params(folder("torch_net"), folder("paddle_net"), STRICT)


def test_black_listed_classes_are_not_dumped() -> None:
    module, layer = pair()
    module.update_black_list_with_class(torch.nn.ReLU)
    layer.update_black_list_with_class("ReLU")
    for proxy in (module, layer):
        train(proxy, batches(1))
    assert check_report(folder("torch_net"), folder("paddle_net"), STRICT)


def test_mapped_layers_are_compared_and_their_insides_are_not() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 16)).astype("float32")
    module, layer = create_model(T.Attention(), name="t"), create_model(P.Attention(), name="p")
    module.set_layer_map([module.model.attn])
    layer.set_layer_map([layer.model.attn])
    from padiff_rpc import assign_weight

    assert assign_weight(module, layer)
    for proxy, make in ((module, torch.as_tensor), (layer, paddle.to_tensor)):
        proxy.backward((proxy(*[make(x)] * 3) ** 2).mean())
        proxy.try_dump()
    report = json.loads((folder("p") / "step_0" / "rank_0" / "report.json").read_text())
    assert {"route": ["p.attn"], "fullname": ["paddle::MultiHeadAttention"]} == report["layer_map"]
    assert "in map" == report["tree"][0]["children"][0]["type"]
    assert [] == report["tree"][0]["children"][0]["children"]
    assert check_report(folder("t"), folder("p"), STRICT)


def test_the_dump_root_is_the_users(tmp_path: Path) -> None:
    set_dump_root_path(tmp_path / "elsewhere")
    module, _ = pair()
    train(module, batches(1))
    assert (tmp_path / "elsewhere" / "torch_net" / "step_0" / "rank_0" / "report.json").is_file()


def test_ranks_are_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    module, _ = pair()
    train(module, batches(1))
    assert ["rank_1"] == [path.name for path in (folder("torch_net") / "step_0").iterdir()]


def test_autocast_and_recompute_around_the_proxy_are_the_users_own() -> None:
    module, _ = pair()
    x = torch.as_tensor(batches()[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = module(x)
    assert torch.bfloat16 is output.dtype
    module.backward(output.float().mean())
    module.try_dump()
    checkpointed = T.Residual()
    plain = checkpointed.forward
    checkpointed.forward = lambda x: torch.utils.checkpoint.checkpoint(plain, x, use_reentrant=False)
    proxy = create_model(checkpointed, name="again")
    proxy.backward(proxy(x.requires_grad_()).mean())
    proxy.try_dump()
    assert check_report(folder("again"), folder("again"), STRICT)


def test_bfloat16_is_kept_bit_exact(capsys: pytest.CaptureFixture[str]) -> None:
    module = T.Residual().bfloat16()
    proxy = create_model(module, name="half")
    x = torch.as_tensor(batches()[0]).bfloat16()
    output = proxy(x)
    proxy.backward(output.float().mean())
    proxy.try_dump()
    tree = json.loads((folder("half") / "step_0" / "rank_0" / "report.json").read_text())["tree"]
    stored = np.load(tree[0]["fwd_outputs"][0]["path"])
    assert output.detach().view(torch.uint16).numpy().tobytes() == stored.tobytes()
    assert check_report(folder("half"), folder("half"), STRICT)
    assert check_params(folder("half"), folder("half"), STRICT)


def test_missing_backward_on_one_side_is_a_difference() -> None:
    module, layer = pair()
    x = batches()[0]
    module.backward((module(torch.as_tensor(x)) ** 2).mean())
    layer(paddle.to_tensor(x))
    for proxy in (module, layer):
        proxy.try_dump()
    assert not check_report(folder("torch_net"), folder("paddle_net"), STRICT)
    assert not check_params(folder("torch_net"), folder("paddle_net"), STRICT)
