"""What only torch has: exotic tensors, views changed in place, self-attention that asks whether query is key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.model.model import Boundary, ForwardRequest, LossSpec, RecordOptions
from padiff_rpc.model.replaying import ReplayRequest
from padiff_rpc.tensors.tensor import Tensor


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse_coo"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "qint8"),
        (lambda: torch.empty(3, device="meta"), "meta"),
        (lambda: nn.LazyLinear(3).weight, "lazy"),
        (lambda: torch.zeros(3, dtype=torch.complex32), "complex32"),
    ],
    ids=["sparse", "quantised", "meta", "lazy", "complex32"],
)
@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor", "ignore:ComplexHalf support is experimental")
def test_a_tensor_that_cannot_travel_is_named(kit, make, word):
    native = make()
    with pytest.raises(PadiffError) as caught:
        kit.backend.to_bytes(native)
    assert caught.value.reason is Reason.NOT_SUPPORTED
    assert word in caught.value.message
    assert caught.value.hint


def test_a_lone_element_of_stride_0_is_written_in_place(kit):
    native = torch.zeros(1, dtype=torch.bfloat16).as_strided((1, 1), (0, 0))
    kit.backend.writable(native)[:] = (0x80, 0x3F)
    assert native.item() == 1.0


def test_a_sparse_gradient_is_named(kit):
    table = nn.Embedding(4, 2, sparse=True)
    kit.backend.backward(table(torch.tensor([1])).sum())
    with pytest.raises(PadiffError) as caught:
        kit.backend.spec(kit.backend.gradient(table.weight))
    assert caught.value.reason is Reason.NOT_SUPPORTED
    assert "sparse=False" in caught.value.hint


def test_prepare_refuses_the_meta_device(kit):
    with pytest.raises(PadiffError) as caught:
        kit.backend.prepare(nn.Linear(2, 2), "meta", None)
    assert caught.value.reason is Reason.BAD_CONFIG


def test_complex_parameters_stay_complex_when_cast(kit):
    model = nn.Linear(2, 2, dtype=torch.complex64)
    assert kit.backend.prepare(model, None, "float64").weight.dtype is torch.complex64


def test_a_layer_under_two_names_appears_twice(kit):
    shared = nn.Linear(2, 2)
    assert [layer is shared for _, layer in kit.backend.children(nn.Sequential(shared, nn.ReLU(), shared))] == [
        True,
        False,
        True,
    ]


def test_a_backward_without_a_graph_is_an_error_of_its_own(kit):
    with pytest.raises(PadiffError) as caught:
        kit.backend.backward(torch.ones(()))
    assert caught.value.reason is Reason.MODEL_FAILED


def test_an_optimizer_for_a_frozen_model_is_refused(kit):
    with pytest.raises(PadiffError) as caught:
        kit.backend.optimizer(parse_optimizer("SGD"), nn.Linear(2, 2).requires_grad_(False))
    assert caught.value.reason is Reason.BAD_CONFIG


class _Pre(nn.Module):
    """Changes its input in place through a child, as pre-activation blocks do, and without saying so itself."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 4)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(h))


def run_tapped(kit: Any, block: nn.Module, tap: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    inner = nn.Linear(4, 4)
    h = inner(torch.randn(5, 4))
    found: dict[str, torch.Tensor] = {"h": h.detach().clone()}
    entered = kit.backend.tap(h, block) if tap else h
    if tap:
        kit.backend.on_gradient(entered, lambda gradient: found.update(tap=gradient.clone()))
    out = block(entered)
    found["out"], found["h_after"] = out.detach().clone(), h.detach().clone()
    out.square().sum().backward()
    return {**found, "gradient": inner.weight.grad}


def test_the_gradient_of_a_tap_that_the_layer_changes_in_place_still_arrives_once(kit):
    block = _Pre()
    plain, tapped = run_tapped(kit, block, False), run_tapped(kit, block, True)
    own = tapped.pop("tap")
    assert {name: torch.equal(value, plain[name]) for name, value in tapped.items()} == dict.fromkeys(tapped, True)
    assert not torch.equal(plain["h"], plain["h_after"])
    h = plain["h"].clone().requires_grad_()
    block.fc(torch.relu(h)).square().sum().backward()
    torch.testing.assert_close(own, h.grad)


def test_a_tap_whose_gradient_never_flows_stays_silent(kit):
    h = nn.Linear(4, 4)(torch.randn(5, 4))
    arrived: list[int] = []
    kit.backend.on_gradient(kit.backend.tap(h, nn.Identity()), lambda gradient: arrived.append(1))
    kit.backend.backward(h.sum())
    assert arrived == []


def test_a_tap_whose_source_is_changed_later_hears_its_gradient_once(kit):
    h = nn.Linear(4, 4)(torch.randn(5, 4))
    arrived: list[torch.Tensor] = []
    tapped = kit.backend.tap(h, nn.Identity())
    kit.backend.on_gradient(tapped, lambda gradient: arrived.append(gradient.clone()) or None)
    out = tapped + 1
    h.mul_(3)
    kit.backend.backward(out.sum() + h.sum())
    [gradient] = arrived
    torch.testing.assert_close(gradient, torch.ones(5, 4))


def test_a_removed_tap_callback_is_silent_in_place_too(kit):
    block = _Pre()
    h = nn.Linear(4, 4)(torch.randn(5, 4))
    arrived: list[int] = []
    tapped = kit.backend.tap(h, block)
    kit.backend.on_gradient(tapped, lambda gradient: arrived.append(1))()
    kit.backend.backward(block(tapped).sum())
    assert arrived == []


def test_a_declared_in_place_layer_gets_the_tensor_itself(kit):
    h = nn.Linear(4, 4)(torch.randn(5, 4))
    assert kit.backend.tap(h, nn.ReLU(inplace=True)) is h
    assert kit.backend.tap(h, nn.ReLU()) is not h


def test_a_tap_frees_its_graph(kit):
    freed: list[int] = []

    class Watch(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.canary = Canary()
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient

    class Canary:
        def __del__(self) -> None:
            freed.append(1)

    h = Watch.apply(nn.Linear(4, 4)(torch.randn(5, 4)))
    tapped = kit.backend.tap(h, nn.Identity())
    kit.backend.on_gradient(tapped, lambda gradient: None)
    del h, tapped
    assert freed == [1]


def test_no_tap_in_a_models_own_no_grad_block(kit):
    h = nn.Linear(4, 4)(torch.randn(5, 4))
    with torch.no_grad():
        assert kit.backend.wants_gradient(h) is False
        assert kit.backend.tap(h, nn.Identity()) is h


def test_self_attention_keeps_its_bits_when_one_tensor_gets_one_tap(kit):
    results = []
    for tap in (False, True):
        torch.manual_seed(0)
        inner, attention = nn.Linear(8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        h = inner(torch.randn(2, 5, 8))
        x = kit.backend.tap(h, attention) if tap else h
        kit.backend.backward(attention(x, x, x)[0].square().sum())
        results.append([p.grad.numpy().copy() for p in (*inner.parameters(), *attention.parameters())])
    for plain, tapped in zip(*results, strict=True):
        np.testing.assert_array_equal(tapped, plain)


def test_forward_restores_the_grad_mode(kit):
    model = nn.Linear(2, 2)
    kit.backend.forward(model, (), {"input": torch.ones(1, 2)}, False)
    assert torch.is_grad_enabled()


def test_a_substitute_keeps_the_strides(kit):
    """Code that calls view() relies on them, and dropout draws its mask in the order of memory."""
    h = nn.Linear(4, 4)(torch.randn(5, 3, 4)).transpose(0, 1)
    values = np.arange(60, dtype=np.float32).reshape(3, 5, 4)
    new = kit.backend.substitute(h, Tensor.from_array(values))
    assert new.stride() == h.stride()
    np.testing.assert_array_equal(new.detach().numpy(), values)
    assert kit.backend.substitute(h[:, :1].expand(3, 5, 4), Tensor.from_array(values)).tolist() == values.tolist()


# -- functional calls -------------------------------------------------------------------------------------------------------
class _Encoder(nn.Module):
    """Torch's own encoder leaves its fast path under any mode, and then rounds in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x + 1)) * 2


class _ModeInside(nn.Module):
    """Calls its children under a mode of its own, as `with torch.device(...)` is."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.own = _Encoder() if fails else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.device("cpu"):
            x = self.own(torch.exp(self.fc(x)))
        return torch.sqrt(x)


class _Heard:
    def __init__(self) -> None:
        self.routes: list[str] = []
        self.digests: list[Any] = []

    def observe(self, boundary: Boundary) -> None:
        self.routes += [boundary.route] if boundary.api else []
        self.digests += [] if boundary.api else [record.digest for record in boundary.records]

    def substitute(self, boundary: Boundary) -> dict[str, Tensor]:
        return {}


def run_calls(model: nn.Module, shape: tuple[int, ...], **options: Any) -> _Heard:
    heard = _Heard()
    inputs = {"x": Tensor.from_array(np.cos(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape))}
    record = RecordOptions(**{"api_calls": True, **options})
    HostedModel(model).forward(ForwardRequest(inputs, False, gradients=False, record=record), heard)
    return heard


@pytest.mark.parametrize(("routes", "fast"), [(None, 0), (("",), 1)], ids=["recorded", "left out"])
def test_listening_leaves_torchs_fast_paths_as_they_are(
    routes: Any, fast: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook alone takes torch's encoder off it; what is left out has none."""
    taken: list[int] = []
    plain = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *args: taken.append(1) or plain(*args))
    torch.manual_seed(0)
    model = _Encoder()
    heard = [run_calls(model, (2, 3, 8), routes=routes, api_calls=on) for on in (False, True)]
    assert taken == [1, 1] * fast
    assert heard[0].digests == heard[1].digests
    assert heard[1].routes == ["/add", "/relu", "/multiply"]


def test_attention_in_eval_keeps_its_fast_path_while_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x)[0] + x

    taken: list[int] = []
    plain = torch._native_multi_head_attention
    monkeypatch.setattr(torch, "_native_multi_head_attention", lambda *args: taken.append(1) or plain(*args))
    model = Attention()
    heard = [run_calls(model, (2, 3, 8), api_calls=on) for on in (False, True)]
    assert taken == [1, 1]
    assert heard[0].digests == heard[1].digests
    assert heard[1].routes == ["/add"]


def test_a_mode_of_the_models_own_stays_where_it_was() -> None:
    before = _get_current_function_mode_stack()
    heard = run_calls(_ModeInside(False), (3, 4))
    assert heard.routes == ["/exp", "/sqrt"]
    assert _get_current_function_mode_stack() == before


@pytest.mark.parametrize("routes", [None, ("own",)], ids=["ours below", "ours above"])
def test_no_mode_is_left_behind_by_an_exception(routes: Any) -> None:
    """Where ours lies above the one of the model's `with`, that takes ours off the stack for its own."""
    before = _get_current_function_mode_stack()
    with pytest.raises(PadiffError) as caught:
        run_calls(_ModeInside(True), (3, 4), routes=routes)
    assert caught.value.reason is Reason.MODEL_FAILED
    assert _get_current_function_mode_stack() == before


def test_functions_are_known_however_the_model_holds_them() -> None:
    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            table = {"gelu": nn.functional.gelu, "max": torch.max}
            x = table["gelu"](x) @ x.t()
            top, _ = table["max"](x, -1)
            return torch.special.expit(torch.linalg.norm(top.clamp_(min=0.1) ** 2 / (1 - top)))

    heard = run_calls(Model(), (3, 4)).routes
    assert heard == ["/gelu", "/matmul", "/max", "/clip", "/pow", "/subtract", "/divide", "/norm"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_layer_that_is_checkpointed_is_told_as_computed_anew(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.block, self.stem(x), use_reentrant=reentrant)

    model = HostedModel(Checkpointed())
    x = Tensor.from_array(np.ones((2, 3), np.float32))
    model.forward(ForwardRequest({"x": x}, record=RecordOptions()), _Deaf())
    result = model.backward(LossSpec("sum"), _Deaf())
    assert {"block", "block.0", "block.1"} == set(result.recomputed)
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in model.model.modules())


class _Deaf:
    """Hears boundaries and keeps none."""

    def observe(self, boundary):
        """Forget the boundary."""


# -- replays ------------------------------------------------------------------------------------------------------------
class _Odd(nn.Module):
    """What a replay must cope with: packed and flat weights, autocast, no_grad, a table outside the buffers, a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.low = nn.Linear(4, 4)
        self.quiet = nn.Linear(4, 4)
        self.table = torch.linspace(0, 1, 4)
        self.calls = 0
        self.seen: list[torch.Tensor] = []
        self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.count += 1
        self.table = self.table * 1.5
        self.seen.append(x)
        h, _ = self.attention(x, x, value=x, need_weights=False)
        h, _ = self.lstm(h * self.table)
        with torch.autocast("cpu", torch.bfloat16):
            h = self.low(h)
        with torch.no_grad():
            h = self.quiet(h.to(x.dtype))
        return self.norm(h)


@pytest.mark.parametrize("route", ["", "attention", "lstm", "low", "quiet", "norm"])
def test_odd_layers_replay_in_float64_and_leave_no_trace(kit: Any, route: str) -> None:
    torch.manual_seed(0)
    model = HostedModel(_Odd(), kit.backend)
    native: Any = model.model
    request = ForwardRequest({"x": Tensor.from_array(np.ones((2, 3, 4), np.float32))}, gradients=False)
    native(torch.ones(2, 3, 4)).sum().backward()
    held = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in native.state_dict().items()}
    gradients = {name: each.grad for name, each in native.named_parameters()}
    table, seen, flat = native.table, list(native.seen), list(native.lstm._flat_weights)
    for dtype in ("float64", None):
        result = model.replay(ReplayRequest(request, route, dtype=dtype))
        wanted = "F64" if dtype else "BF16" if route == "low" else "F32"
        assert wanted == result.at("forward", "output").records[0].spec.dtype.value
        assert result.parameters
        assert result.at("backward", "input").records or not route
        assert {name: each.grad for name, each in native.named_parameters()} == gradients
        for name, tensor in native.state_dict().items():
            assert (held[name][0], True) == (tensor.data_ptr(), torch.equal(held[name][1], tensor))
        assert (1, table.dtype) == (native.calls, torch.float32)
        assert native.table is table
        assert len(seen) == len(native.seen)
        assert all(one is other for one, other in zip(flat, native.lstm._flat_weights, strict=True))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_layer_replays_from_base_s_wider_numbers(kit: Any, dtype: str) -> None:
    model = HostedModel(kit.backend.prepare(kit.build("mlp"), None, dtype), kit.backend)
    x = torch.full((5, 4), 0.5, dtype=getattr(torch, dtype))
    half = Tensor(kit.backend.spec(x), kit.backend.to_bytes(x).data)
    given = Tensor.from_array(np.full((5, 8), 1 / 3))  # between two half-precision numbers
    request = ForwardRequest({"x": half}, gradients=False)
    result = model.replay(ReplayRequest(request, "act", dtype="float64", inputs={"0": given}))
    (record,) = result.at("forward", "output").records
    (stream,) = model.read_activations([record.id])
    np.testing.assert_allclose(np.tanh(1 / 3), stream.collect().to_array(), rtol=1e-15)
