"""The examples of PaDiff's documentation with the two models in workers of their own: only the models are made otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc import (
    PadiffError,
    Reason,
    add_special_init,
    assign_weight,
    auto_diff,
    check_params,
    check_report,
    create_model,
    get_dump_root_path,
    set_dump_root_path,
)
from padiff_rpc.remote.remote_model import RemoteModel
from tests.e2e.workers import MODELS, start
from tests.match.special_inits import special_inits_kept

pytestmark = pytest.mark.e2e
STRICT: dict[str, Any] = {"atol": 1e-4, "rtol": 0, "compare_mode": "strict"}
CFG = {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    set_dump_root_path(tmp_path / "padiff_dump")
    return tmp_path


class Workers:
    """Starts workers of the example models, and ends them."""

    def __init__(self) -> None:
        self._models: list[RemoteModel] = []

    def pair(self, torch_class: str, paddle_class: str = "", **options: Any) -> tuple[RemoteModel, RemoteModel]:
        """A torch and a paddle worker; `torch_args`, `paddle_args`: arguments of the factories."""
        args = {side: options.pop(f"{side}_args", {}) for side in ("torch", "paddle")}
        for side, factory in (("torch", torch_class), ("paddle", paddle_class or torch_class)):
            self._models.append(start(MODELS / f"simple_{side}.py", side, factory, model_args=args[side], **options))
        return self._models[-2], self._models[-1]

    def close(self) -> None:
        for model in self._models:
            model.close()


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


def inputs(*shape: int) -> tuple[dict[str, Any], dict[str, Any]]:
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    return {"x": x}, {"x": x}


def test_auto_diff_and_assign_weight_as_documented(workers: Workers, capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = workers.pair("SimpleModule", "SimpleLayer")
    assert assign_weight(module, layer)
    assert auto_diff(module, layer, inputs(100, 100), auto_init=True, single_step=False, **STRICT)
    assert auto_diff(module, layer, inputs(100, 100), single_step=True, **STRICT)
    assert auto_diff(layer, module, inputs(100, 100), **STRICT)
    assert capsys.readouterr().out.endswith("[AutoDiff] SUCCESS !!!\n")


def test_a_wrong_activation_is_named(workers: Workers, capsys: pytest.CaptureFixture[str]) -> None:
    module, layer = workers.pair("residual", paddle_args={"act": "LeakyReLU"})
    for single_step in (False, True):
        assert not auto_diff(module, layer, inputs(4, 20), single_step=single_step, **STRICT)
        out = capsys.readouterr().out
        assert "[AutoDiff]     Type of layer is: ReLU vs LeakyReLU" in out
        assert "[AutoDiff]     Route: Residual(base_model).act\n[AutoDiff]            Residual(raw_model).act\n" in out


def test_losses_and_optimisers_by_name(workers: Workers) -> None:
    offered = {
        "torch": {"square": f"{MODELS / 'simple_torch.py'}:mean_square"},
        "paddle": {"square": f"{MODELS / 'simple_paddle.py'}:mean_square"},
    }
    models = [start(MODELS / f"simple_{side}.py", side, "residual", losses=losses) for side, losses in offered.items()]
    workers._models += models
    optimizers = ("SGD(lr=0.1)", "SGD(lr=0.1)")
    assert auto_diff(*models, inputs(4, 20), loss_fns=("square", "square"), optimizers=optimizers, steps=2, **STRICT)
    with pytest.raises(PadiffError) as raised:
        auto_diff(*models, inputs(4, 20), loss_fns=[lambda out: out.mean()] * 2, **STRICT)
    assert raised.value.reason is Reason.BAD_CONFIG
    assert "offer your function where the worker starts" in raised.value.hint


def test_dumps_of_models_in_workers_and_their_checks(workers: Workers) -> None:
    module, layer = workers.pair("residual")
    assert assign_weight(module, layer)
    proxies = create_model(module, name="torch_net"), create_model(layer, name="paddle_net", dump_freq=1)
    root = Path(get_dump_root_path())
    for proxy in proxies:
        proxy.update_black_list("act", "all")
        for x in (inputs(4, 20)[0]["x"], inputs(4, 20)[0]["x"] + 1):
            output = proxy(x)
            assert (4, 10) == output.shape
            proxy.backward("mean")
            proxy.try_dump()
    report = json.loads((root / "torch_net" / "step_1" / "rank_0" / "report.json").read_text())
    assert ["torch_net.linear1", "torch_net.linear2"] == [node["route"] for node in report["tree"][0]["children"]]
    assert check_report(root / "torch_net", root / "paddle_net", CFG)
    assert check_params(root / "torch_net", root / "paddle_net", CFG)


def test_layer_maps_and_special_initialisers_by_route(workers: Workers) -> None:
    module, layer = (create_model(model) for model in workers.pair("WithOwn"))
    module.set_layer_map(["own"])
    layer.set_layer_map(["own"])
    assert assign_weight(module, layer) is False

    def init(base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        packed = base["packed"]
        return {"top": packed[:2], "bottom": packed[2:4], "shift": packed[4]}

    with special_inits_kept():
        add_special_init("torch", "Own", "paddle", "Own", lambda base, raw: None)
        with pytest.raises(PadiffError) as raised:
            assign_weight(module, layer)
        assert raised.value.reason is Reason.NOT_SUPPORTED
        add_special_init("torch", "Own", "paddle", "Own", init)
        assert auto_diff(module, layer, inputs(3, 4), **STRICT)


def test_attention_by_auto_layer_map(workers: Workers) -> None:
    module, layer = (create_model(model) for model in workers.pair("Attention"))
    assert module.auto_layer_map("base")
    assert layer.auto_layer_map("raw")
    x = np.random.default_rng(0).normal(size=(2, 4, 16)).astype("float32")
    assert auto_diff(module, layer, [dict.fromkeys("qkv", x)] * 2, **STRICT)


@pytest.mark.parametrize("name", ["Queries", "Ordered", "NoParameters"])
def test_what_the_faq_tells_of(workers: Workers, name: str) -> None:
    width = {"Queries": 16, "Ordered": 8, "NoParameters": 8}[name]
    phase = "forward" if name == "NoParameters" else "both"
    assert auto_diff(*workers.pair(name), inputs(3, width), diff_phase=phase, **STRICT)


def test_the_switches_reach_the_workers(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PADIFF_API_CHECK", "ON")
    monkeypatch.setenv("PADIFF_SIKP_WRAP_LAYER", "ON")
    module, layer = workers.pair("ApiCalls", paddle_args={"wrong": True})
    assert not auto_diff(module, layer, inputs(4, 8), **STRICT)
    out = capsys.readouterr().out
    assert "[AutoDiff]     Type of layer is: ApiCalls vs ApiCalls" in out
