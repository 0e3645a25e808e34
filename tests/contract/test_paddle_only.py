"""Backend contract: what only paddle has, or makes harder than the other frameworks do."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import Boundary, ForwardRequest, LossSpec, RecordOptions
from padiff_rpc.model.replaying import ReplayRequest
from padiff_rpc.tensors.tensor import DType, Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # paddle's own, while it is imported
    from padiff_rpc.model.backends.paddle.import_paddle import paddle

nn = paddle.nn

IN_PLACE: dict[str, Callable[[Any], Any]] = {
    "relu_": nn.functional.relu_,
    "tanh_": nn.functional.tanh_,
    "exp_": lambda t: t.exp_(),
    "add_ of a tensor": lambda t: t.add_(paddle.ones_like(t)),
    "setitem": lambda t: t.__setitem__(0, 7.0),
    "overwritten": lambda t: paddle.assign(paddle.ones_like(t), output=t),
    "reshape_": lambda t: t.reshape_([3, 2]),
    "unsqueeze_": lambda t: t.unsqueeze_(0),
    "several": lambda t: t.scale_(2.0).add_(paddle.ones_like(t)).reshape_([6]),
    "nothing": lambda t: t,
}


class _Apply(nn.Layer):
    def __init__(self, operation: Callable[[Any], Any]) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: Any) -> Any:
        return self.operation(x)


def hook_with_taps(kit: Any, layer: Any, arrived: list[np.ndarray]) -> None:
    def before(args: Any, kwargs: Any) -> Any:
        if not kit.backend.wants_gradient(args[0]):
            return None
        tap = kit.backend.tap(args[0], layer)
        kit.backend.on_gradient(tap, lambda gradient: arrived.append(kit.array(gradient)))
        return (tap, *args[1:]), kwargs

    kit.backend.hook(layer, before, lambda args, kwargs, output: None)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("name", IN_PLACE)
def test_an_input_changed_in_place_keeps_its_meaning_for_the_caller(kit, name, contiguous, depth):
    """The caller goes on with its own tensor, of which the layer only got a tap."""

    def run(hooked: bool) -> tuple[Any, ...]:
        layer, arrived = _Apply(IN_PLACE[name]), []
        for _ in range(depth):
            if hooked:
                hook_with_taps(kit, layer, arrived)
            layer = _Apply(layer)
        leaf = paddle.to_tensor(np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5, stop_gradient=False)
        x = leaf * 1.0 if contiguous else (leaf.t() * 1.0).t()
        earlier = (x + 1.0).sum()
        layer(x)
        weights = paddle.arange(1, 7).astype("float32")
        ((x * x).sum() + (x.reshape([-1]) * weights).sum() + earlier).backward()
        return list(x.shape), kit.array(x).tobytes(), leaf.grad.numpy().tobytes(), arrived

    plain, hooked = run(False), run(True)
    assert hooked[:3] == plain[:3]
    # Left alone, the input is not used by the layer at all. (Overwritten as a whole it still gets a gradient: paddle passes
    # that of a tensor to which a constant is assigned on to its history before.)
    assert len(hooked[3]) == (0 if name == "nothing" else depth)


def test_a_layer_that_changes_the_layout_of_its_input_in_place_is_refused(kit):
    if not hasattr(paddle.Tensor, "transpose_"):
        assert paddle.__version__.startswith("2.")
        return
    layer = _Apply(lambda t: t.transpose_([1, 0]))
    hook_with_taps(kit, layer, [])
    leaf = paddle.ones([2, 3])
    leaf.stop_gradient = False
    with pytest.raises(PadiffError) as caught:
        layer(leaf * 2.0)
    assert caught.value.reason is Reason.NOT_SUPPORTED


def test_a_direct_call_of_forward_fires_no_hooks(kit):
    layer = nn.Linear(4, 4)
    events: list[str] = []
    kit.backend.hook(layer, lambda args, kwargs: events.append("before"), lambda *_: events.append("after"))
    layer.forward(paddle.ones([1, 4]))
    assert events == []
    layer(paddle.ones([1, 4]))
    assert events == ["before", "after"]
    layer.forward(paddle.ones([1, 4]))
    assert events == ["before", "after"]


def test_nothing_wants_a_gradient_where_the_model_turns_autograd_off(kit):
    x = kit.forward("mlp", kit.build("mlp"))
    assert kit.backend.wants_gradient(x) is True
    with paddle.no_grad():
        assert kit.backend.wants_gradient(x) is False
        assert kit.backend.tap(x, nn.Identity()) is x


def test_a_loss_without_history_is_refused(kit):
    with pytest.raises(PadiffError) as caught:
        kit.backend.backward(paddle.ones([]))  # paddle itself would say nothing
    assert caught.value.reason is Reason.MODEL_FAILED


def test_hooks_stand_inside_a_users_pre_hooks_and_outside_their_post_hooks(kit):
    layer = _Apply(lambda x: x)
    layer.register_forward_pre_hook(lambda _, args: (args[0] + 1.0,))
    layer.register_forward_post_hook(lambda _, args, output: output * 10.0)
    seen: list[float] = []
    kit.backend.hook(
        layer,
        lambda args, kwargs: seen.append(args[0].item()),
        lambda args, kwargs, output: seen.append(output.item()),
    )
    layer(paddle.zeros([]))
    assert seen == [1.0, 10.0]


def test_a_layer_that_calls_itself_keeps_its_calls_apart(kit):
    class Recursive(nn.Layer):
        def forward(self, x: Any, depth: int) -> Any:
            return x if depth == 0 else self(x + 1.0, depth=depth - 1)

    layer, seen = Recursive(), []
    kit.backend.hook(
        layer,
        lambda args, kwargs: seen.append((args[0].item(), kwargs["depth"])),
        lambda args, kwargs, output: seen.append((args[0].item(), kwargs["depth"])),
    )
    layer(paddle.zeros([]), depth=2)
    assert seen == [(0.0, 2), (1.0, 1), (2.0, 0), (2.0, 0), (1.0, 1), (0.0, 2)]


def test_a_call_that_failed_leaves_the_next_one_whole(kit):
    def fail_once(x: Any) -> Any:
        if not seen[1:]:
            raise KeyError("first")
        return x

    layer, seen = _Apply(fail_once), []
    kit.backend.hook(
        layer,
        lambda args, kwargs: seen.append(args[0].item()),
        lambda args, kwargs, output: seen.append(-args[0].item()),
    )
    with pytest.raises(KeyError):
        layer(paddle.full([], 1.0))
    layer(paddle.full([], 2.0))
    assert seen == [1.0, 2.0, -2.0]


def test_removed_hooks_leave_a_layer_as_it_was(kit):
    layer = nn.Linear(4, 4)
    before = {name: repr(value) for name, value in vars(layer).items()}
    removes = [kit.backend.hook(layer, lambda *_: None, lambda *_: None) for _ in range(2)]
    for remove in removes:
        remove()
        remove()
    assert {name: repr(value) for name, value in vars(layer).items()} == before
    own = layer.forward = lambda x: x * 0.0
    kit.backend.hook(layer, lambda *_: None, lambda *_: None)()
    assert layer.forward is own


@pytest.mark.parametrize("tapped", [True, False])
def test_an_exception_in_a_gradient_callback_comes_through_backward_unchanged(kit, tapped):
    error = PadiffError("the store is full", reason=Reason.STORE_FULL)

    def fail(gradient: Any) -> None:
        raise error

    model = kit.build("mlp")
    x = kit.forward("mlp", model)
    tensor = kit.backend.tap(x, model) if tapped else x
    kit.backend.on_gradient(tensor, fail)
    with pytest.raises(PadiffError) as caught:
        kit.backend.backward(tensor.sum())
    assert caught.value is error
    kit.backend.backward(kit.forward("mlp", model).sum())  # and is not raised again


def test_an_exception_of_paddles_own_in_backward_is_not_hidden(kit):
    x = kit.forward("mlp", kit.build("mlp")) * 1.0
    loss = (x * x).sum()
    x.add_(paddle.ones_like(x))
    with pytest.raises(RuntimeError):
        kit.backend.backward(loss)


@pytest.mark.parametrize("kind", ["leaf", "plain", "changed in place", "tap", "substitute"])
def test_a_gradient_callback_can_be_removed_whatever_became_of_its_tensor(kit, kind):
    leaf = paddle.ones([3])
    leaf.stop_gradient = False
    inner = leaf * 2.0
    tensor = {
        "leaf": lambda: leaf,
        "tap": lambda: kit.backend.tap(inner, nn.Identity()),
        "substitute": lambda: kit.backend.substitute(inner, Tensor.from_array(np.ones(3, np.float32))),
    }.get(kind, lambda: inner)()
    arrived: list[str] = []
    remove = kit.backend.on_gradient(tensor, lambda gradient: arrived.append("removed"))
    kit.backend.on_gradient(tensor, lambda gradient: arrived.append("kept"))
    output = tensor.scale_(3.0) if kind == "changed in place" else tensor * 3.0
    remove()
    remove() if kind != "leaf" else None
    kit.backend.backward(output.sum())
    assert arrived == ["kept"]


def test_a_sparse_gradient_is_added_up(kit):
    gradients = []
    for sparse in (False, True):
        table = nn.Embedding(5, 3, sparse=sparse)
        kit.backend.overwrite(table.weight, Tensor.from_array(np.ones((5, 3), np.float32)))
        (table(paddle.to_tensor([1, 4, 1])) * 0.3).sum().backward()
        gradients.append(kit.array(kit.backend.gradient(table.weight)))
    assert gradients[1].tolist() == gradients[0].tolist()
    assert gradients[1][1].tolist() != gradients[1][4].tolist()


def test_spectral_norms_vectors_are_buffers(kit):
    own = kit.backend.own_tensors(nn.SpectralNorm([3, 4]))
    assert [(name, kind, trainable) for name, _, kind, trainable in own] == [
        ("weight_u", "buffer", False),
        ("weight_v", "buffer", False),
    ]


def test_an_lstm_holds_its_weights_alone_and_computes_in_float64(kit):
    model = kit.backend.prepare(nn.LSTM(3, 4, 2), None, "float64")
    own = [(name, kind) for name, _, kind, _ in kit.backend.own_tensors(model)]
    assert {kind for _, kind in own} == {"parameter"}
    assert len(own) == 8
    x = paddle.to_tensor(np.ones((2, 5, 3)))
    before = kit.array(model(x)[0])
    for _, tensor, _, _ in kit.backend.own_tensors(model):
        kit.backend.overwrite(tensor, Tensor.from_array(np.full(tensor.shape, 0.1)))
    after = kit.array(model(x)[0])
    assert after.dtype == np.float64
    assert np.ptp(after[:, -1]) < 1e-12 < np.ptp(before[:, -1])  # every weight reached the computation


def test_a_cast_leaves_integer_buffers_alone(kit):
    model = nn.Linear(2, 2)
    model.register_buffer("ids", paddle.arange(3))
    kit.backend.prepare(model, None, "float64")
    assert {name: kit.backend.spec(tensor).dtype for name, tensor, _, _ in kit.backend.own_tensors(model)} == {
        "weight": DType.F64,
        "bias": DType.F64,
        "ids": DType.I64,
    }


def test_overwrite_keeps_the_memory_of_a_view(kit):
    base = paddle.zeros([3, 2])
    kit.backend.overwrite(base.t(), Tensor.from_array(np.arange(6, dtype=np.float32).reshape(2, 3)))
    assert base.numpy().tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_taps_change_the_gradients_of_a_transformer_by_rounding_alone(kit):
    """Where a tensor has three users or more, its gradients are added up in another order."""
    results = []
    for hooked in (False, True):
        kit.backend.seed(0)
        model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1), 2)
        kit.backend.prepare(model, None, "float64")
        arrived: list[np.ndarray] = []
        for route, layer in kit.layers(model).items():
            if hooked and route and not route.endswith("layers"):
                hook_with_taps(kit, layer, arrived)
        kit.backend.seed(1)
        output = kit.backend.forward(
            model, (), {"src": kit.native(np.cos(np.arange(80.0)).reshape(2, 5, 8), model)}, True
        )
        kit.backend.backward(kit.backend.loss(LossSpec("projection", {"seed": 0.0}), [output]))
        results.append((kit.array(output).tobytes(), kit.gradients(model), len(arrived)))
    assert results[1][0] == results[0][0]
    assert results[1][2] > 20
    for name, gradient in results[0][1].items():
        np.testing.assert_allclose(results[1][1][name], gradient, rtol=0, atol=1e-14, err_msg=name)


# -- functional calls -------------------------------------------------------------------------------------------------------
class _Heard:
    def __init__(self) -> None:
        self.routes: list[str] = []

    def observe(self, boundary: Boundary) -> None:
        self.routes += [boundary.route] if boundary.api else []

    def substitute(self, boundary: Boundary) -> dict[str, Tensor]:
        return {}


def heard_of(model: Any, x: np.ndarray | None = None) -> list[str]:
    heard = _Heard()
    x = np.arange(8, dtype=np.float32).reshape(2, 4) if x is None else x
    request = ForwardRequest({"x": Tensor.from_array(x)}, gradients=False, record=RecordOptions(api_calls=True))
    HostedModel(model).forward(request, heard)
    return heard.routes


class _Calls(nn.Layer):
    def __init__(self, run: Callable[[Any], Any]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Any) -> Any:
        return self.run(x)


OPERATORS: dict[str, Callable[[Any], Any]] = {
    "add": lambda x: 1 + (x + 1),
    "subtract": lambda x: 1 - (x - 1),
    "multiply": lambda x: 2 * paddle.scale(x * 2, 0.5),
    "divide": lambda x: 1 / (x / 2),
    "matmul": lambda x: paddle.mm(x, x.t()) @ x,
    "pow": lambda x: x.pow(2) ** 2,
    "negative": lambda x: -x.neg(),
    "clip": lambda x: paddle.clip(x.clip(0, 1), 0, 1),
    "index_select": lambda x: paddle.gather(x, paddle.to_tensor([0])),
    "gather": lambda x: paddle.take_along_axis(x, paddle.to_tensor([[0], [1]]), 1),
    "split": lambda x: paddle.split(x, 2, axis=1)[0].chunk(2, axis=1)[0],
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_call_is_known_by_every_spelling(name):
    heard = heard_of(_Calls(OPERATORS[name]))
    assert set(heard) == {f"/{name}"}
    assert len(heard) == (1 if name in ("index_select", "gather") else 3 if name == "multiply" else 2)


def test_in_place_calls_count_under_the_same_name():
    def run(x: Any) -> Any:
        x = nn.functional.relu_(x.add_(paddle.ones_like(x)))
        x += 1
        return x.exp_()

    assert heard_of(_Calls(run)) == ["/add", "/relu", "/add", "/exp"]


def test_what_paddles_functions_call_inside_is_not_told():
    def run(x: Any) -> Any:
        x = nn.functional.normalize(x)
        return nn.functional.npair_loss(
            x, x, paddle.to_tensor([0.0, 1.0])
        )  # not listed, and made of functions that are

    assert heard_of(_Calls(run)) == ["/normalize"]


@pytest.mark.filterwarnings("ignore:When training, we now always track")
def test_paddles_model_zoo_counts_as_code_of_models_authors():
    image = np.ones((1, 3, 32, 32), np.float32)
    heard = heard_of(paddle.vision.models.resnet18(), image)
    assert heard[:2] == ["layer1.0/add", "layer1.1/add"]
    assert len(heard) == 8


def test_a_function_in_a_layers_attribute_is_heard_and_put_back():
    layer = _Calls(nn.functional.gelu)
    assert heard_of(layer) == ["/gelu"]
    assert layer.run is nn.functional.gelu


def test_what_the_model_itself_puts_in_a_functions_place_stays():
    def mine(x: Any) -> Any:
        return x

    class Model(nn.Layer):
        def forward(self, x: Any) -> Any:
            self.act = mine
            return self.act(x)

    model = Model()
    model.act = nn.functional.relu
    assert heard_of(model) == []
    assert model.act is mine


@pytest.fixture
def custom(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of custom operators, as a user's package has them."""
    module = ModuleType("custom_ops_of_a_test")
    code = (
        "def fused(x):\n    return x * 3\n"
        "class Ops:\n    @staticmethod\n    def fast(x):\n        return fused(x) + 1\n"
        "number = 3\n"
    )
    exec(code, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_custom_operators_are_heard_and_put_back(custom: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PADDLE_THIRDPARTY_API", f"{custom.__name__}.fused, {custom.__name__}.Ops.fast,")
    held, ops = dict(vars(custom)), dict(vars(custom.Ops))
    heard = heard_of(_Calls(lambda x: custom.Ops.fast(custom.fused(x)) + custom.Ops().fast(x)))
    assert heard == ["/fused", "/fast", "/fast", "/add"]
    assert dict(vars(custom)) == held
    assert dict(vars(custom.Ops)) == ops


def test_without_the_variable_a_custom_operator_is_the_calls_it_makes(custom: ModuleType):
    assert heard_of(_Calls(lambda x: custom.Ops.fast(x))) == ["/multiply", "/add"]


@pytest.mark.parametrize(
    "path", ["no_such_module_at_all.relu", "custom_ops_of_a_test.gone", "custom_ops_of_a_test.number", "alone", "a.B.c"]
)
def test_a_custom_operator_that_cannot_be_found_is_named(
    path: str, custom: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PADDLE_THIRDPARTY_API", f"{custom.__name__}.fused,{path}")
    held, relu = dict(vars(custom)), nn.functional.relu
    with pytest.raises(PadiffError) as caught:
        heard_of(_Calls(custom.fused))
    assert caught.value.reason is Reason.BAD_CONFIG
    assert repr(path) in caught.value.message
    assert "PADDLE_THIRDPARTY_API" in caught.value.message
    assert dict(vars(custom)) == held
    assert nn.functional.relu is relu


def test_another_threads_run_hears_its_own_calls_alone():
    """Both patch the same functions; the one that ends first leaves the other's patches where they are."""
    relu, add = nn.functional.relu, vars(paddle.Tensor)["__add__"]
    inner_is_through, heard = threading.Event(), {}

    def first(x: Any) -> Any:
        x = nn.functional.relu(x)
        thread = threading.Thread(target=lambda: heard.update(second=heard_of(_Calls(second))))
        thread.start()
        assert inner_is_through.wait(20)
        thread.join(20)
        return nn.functional.relu(x + 1)

    def second(x: Any) -> Any:
        x = nn.functional.relu(x)
        inner_is_through.set()
        return nn.functional.gelu(x)

    assert heard_of(_Calls(first)) == ["/relu", "/add", "/relu"]
    assert heard == {"second": ["/relu", "/gelu"]}
    assert nn.functional.relu is relu
    assert vars(paddle.Tensor)["__add__"] is add


def test_a_layer_that_is_recomputed_is_told_as_computed_anew():
    from paddle.distributed.fleet.utils import recompute

    class Recomputed(nn.Layer):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())

        def forward(self, x):
            return recompute(self.block, self.stem(x))

    class Deaf:
        def observe(self, boundary):
            """Forget the boundary."""

    model = HostedModel(Recomputed())
    x = Tensor.from_array(np.ones((2, 3), np.float32))
    model.forward(ForwardRequest({"x": x}, record=RecordOptions()), Deaf())
    assert {"block", "block.0", "block.1"} == set(model.backward(LossSpec("sum"), Deaf()).recomputed)


class _Hooked(nn.Layer):
    """Changes gradients on their way: at its own input, and at the output of a layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.handles: list[Any] = []

    def forward(self, x: Any) -> Any:
        hidden = self.inner(x)
        self.handles = [
            x.register_hook(lambda gradient: gradient * 3),
            hidden.register_hook(lambda gradient: gradient + 1),
        ]
        return self.last(hidden)


@pytest.mark.parametrize("sync", [None, False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_a_users_hook_on_a_recorded_tensor_changes_the_gradient_as_without_recording(
    sync: bool | None, removed: bool
) -> None:
    class Echo:
        def observe(self, boundary: Boundary) -> None:
            """Take no note."""

        def substitute(self, boundary: Boundary) -> Any:
            streams = hosted.read_activations([each.id for each in boundary.records])
            return {each.name: stream.collect() for each, stream in zip(boundary.records, streams, strict=True)}

    paddle.seed(0)
    inner = _Hooked()
    model = nn.Sequential(nn.Linear(4, 4), inner)
    plain = paddle.Tensor.register_hook
    hosted = HostedModel(model)
    x = Tensor.from_array(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))

    def gradients(record: RecordOptions | None) -> list[bytes]:
        observer = None if record is None else Echo()
        hosted.forward(ForwardRequest({"input": x}, record=record), observer)
        if removed:
            assert [True, True] == [bool(handle.remove()) for handle in inner.handles]
        hosted.backward(LossSpec("sum"), observer)
        names = [each.name for each in hosted.describe().parameters]
        return [bytes(stream.collect().data) for stream in hosted.read_parameters(names, "gradient")]

    expected = gradients(None)
    assert gradients(None if sync is None else RecordOptions(sync=sync)) == expected
    assert paddle.Tensor.register_hook is plain


# -- replays ------------------------------------------------------------------------------------------------------------
class _Odd(nn.Layer):
    """What a replay must cope with: attention that takes one tensor thrice, flat weights, no_grad, a sparse gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4, sparse=True)
        self.attention = nn.MultiHeadAttention(4, 2)
        self.lstm = nn.LSTM(4, 4)
        self.conv = nn.Conv1D(3, 3, 1)
        self.bn = nn.BatchNorm1D(3)
        self.quiet = nn.Linear(4, 4)
        self.scale = paddle.linspace(0, 1, 4)
        self.calls = 0

    def forward(self, ids: Any) -> Any:
        self.calls += 1
        h = self.table(ids)
        self.scale = self.scale * 2
        h = self.attention(h, h, value=h)
        h, _ = self.lstm(h * self.scale)
        h = self.bn(self.conv(h))
        with paddle.no_grad():
            quiet = self.quiet(h)
        return quiet + h


@pytest.mark.filterwarnings("ignore:When training, we now always track")
@pytest.mark.parametrize("route", ["", "table", "attention", "lstm", "bn", "quiet"])
def test_odd_layers_replay_in_float64_and_leave_no_trace(kit: Any, route: str) -> None:
    paddle.seed(0)
    model = HostedModel(_Odd(), kit.backend)
    native: Any = model.model
    ids = paddle.to_tensor([[1, 2, 2]])
    h = native.attention(native.table(ids))
    native.bn(native.lstm(h)[0]).sum().backward()

    def gradients() -> dict[str, Any]:
        found = {name: each.grad for name, each in native.named_parameters()}
        return {name: np.array(_values(each)) for name, each in found.items() if each is not None}

    def _values(gradient: Any) -> Any:
        return gradient.get_selected_rows().get_tensor() if gradient.is_selected_rows() else gradient

    kept = {name: each.numpy() for name, each in native.state_dict().items()}
    addresses, before, scale = model.memory(), gradients(), native.scale
    request = ForwardRequest({"ids": Tensor.from_array(np.array([[1, 2, 2]]))}, training=True, gradients=False)
    for dtype in ("float64", None):
        result = model.replay(ReplayRequest(request, route, dtype=dtype))
        assert (dtype or "float32") == result.at("forward", "output").records[0].spec.dtype.name.replace("F", "float")
        assert result.parameters
        assert addresses == model.memory()
        assert (0, scale.dtype) == (native.calls, paddle.float32)
        assert native.scale is scale
        for name, each in native.state_dict().items():
            np.testing.assert_array_equal(kept[name], each.numpy())
        after = gradients()
        assert list(before) == list(after)
        for name, array in before.items():
            np.testing.assert_array_equal(array, after[name])
    assert native.table.weight.grad.is_selected_rows()
