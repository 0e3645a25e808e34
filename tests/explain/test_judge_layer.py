"""The judge over layers of the NumPy framework: each kind is found, and what computes the same is called rounding."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.explain.judge_layer import judge_layer
from padiff_rpc.explain.judgement import Judgement
from padiff_rpc.explain.layer_in_step import LayerInStep
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, LossSpec, OptimizerSpec
from padiff_rpc.numpy_framework import functions as F
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor as Native
from padiff_rpc.numpy_framework.autograd import apply
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import DType, Tensor

X = np.random.RandomState(0).standard_normal((6, 5, 8)).astype(np.float32)


class Apply(nn.Layer):
    """A layer of a user's own: a linear layer, then a function. Its class is `Apply` on both sides."""

    def __init__(self, function: Callable[..., Any], first: bool = True) -> None:
        super().__init__()
        if first:
            self.fc = nn.Linear(8, 8)
        self._function = function

    def forward(self, x: Native, *others: Any, **named: Any) -> Any:
        return self._function(self.fc(x) if "fc" in self.children() else x, *others, **named)


class Holder(nn.Layer):
    """Runs a layer behind another, by a way of its own."""

    def __init__(self, layer: nn.Layer, call: Callable[[nn.Layer, Native], Any] = lambda layer, h: layer(h)) -> None:
        super().__init__()
        self.before = nn.Linear(8, 8)
        self.layer = layer
        self._call = call

    def forward(self, x: Native) -> Any:
        return self._call(self.layer, self.before(x))


def judged(
    base: nn.Layer,
    raw: nn.Layer,
    route: str = "",
    x: np.ndarray = X,
    dtypes: Sequence[str | None] = (None, None),
    inner: Sequence[str] = (),
    prepare: Callable[[HostedModel, HostedModel], None] = lambda base, raw: None,
    training: bool = True,
) -> Judgement:
    models = PerSide(HostedModel(base), HostedModel(raw))
    for model, dtype in zip(models, dtypes, strict=True):
        model.backend.prepare(model.model, None, dtype)
    described = PerSide(models.base.describe(), models.raw.describe())
    matching = match_models(described.base, described.raw)
    if dtypes[0] == dtypes[1]:
        assign_weights(models.base, models.raw, matching)
    prepare(models.base, models.raw)
    requests = [
        ForwardRequest({"x": Tensor.from_array(x.astype(dtype or np.float32))}, training, seed=1, gradients=False)
        for dtype in dtypes
    ]
    held = [model.store_figures().memory_bytes for model in models]
    layer = LayerInStep(
        models,
        PerSide(requests[0], requests[1]),
        PerSide(route, route),
        0,
        matching.in_parts(described),
        matching.links,
        [PerSide(each, each) for each in inner],
    )
    found = judge_layer(layer)
    assert held == [model.store_figures().memory_bytes for model in models]
    return found


def seeded(make: Callable[[], nn.Layer], seed: int) -> nn.Layer:
    F.seed_generator(seed)
    return make()


def both(make: Callable[[], nn.Layer], other: Callable[[], nn.Layer] | None = None) -> tuple[nn.Layer, nn.Layer]:
    return seeded(make, 1), seeded(other or make, 2)


def in_other_order(x: Native) -> Native:
    """Sum the last axis the other way round, and double: the same function but for rounding."""
    return (x[..., ::-1].sum(-1, keepdims=True) + x) * 2.0


def in_order(x: Native) -> Native:
    return x * 2.0 + 2.0 * x.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LayerNorm(8),
        lambda: nn.Linear(8, 8),
        lambda: nn.MultiHeadAttention(8, 2),
        lambda: nn.GELU(),
        lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8)),
    ],
    ids=["layernorm", "linear", "attention", "gelu", "mlp"],
)
@pytest.mark.parametrize("dtype", [None, "float64", "float16"])
def test_a_healthy_layer_is_rounding(make: Callable[[], nn.Layer], dtype: str | None) -> None:
    found = judged(*both(lambda: Holder(make())), route="layer", dtypes=(dtype, dtype))
    assert "rounding" == found.kind
    assert found.errors
    assert found.apart < 1e-13
    assert () == found.not_compared


def test_another_order_of_summation_is_rounding() -> None:
    found = judged(*both(lambda: Apply(in_order), lambda: Apply(in_other_order)))
    assert "rounding" == found.kind
    assert found.apart < 1e-13
    worst = found.worst
    assert worst is not None
    assert worst.e_base is not None
    assert 0 < worst.e_base < 1e-6
    assert "rounding" in found.words()


@pytest.mark.parametrize("eps", [1e-6, 1.2e-5])
def test_another_epsilon_of_layer_norm_is_semantics(eps: float) -> None:
    found = judged(*both(lambda: nn.LayerNorm(8, eps=1e-5), lambda: nn.LayerNorm(8, eps=eps)))
    assert "semantics" == found.kind
    assert 1e-7 < found.apart < 1e-4
    assert "different functions" in found.words()


def test_an_attention_scale_off_by_a_hundred_thousandth_is_semantics() -> None:
    def attend(scale: float) -> Callable[[Native], Native]:
        return lambda x: F.attention(x, x, x, 2, scale, None)

    found = judged(*both(lambda: Apply(attend(0.5)), lambda: Apply(attend(0.5 * (1 + 1e-5)))))
    assert "semantics" == found.kind


def test_gelu_by_tanh_is_semantics_even_deep_inside() -> None:
    def make(approximate: str) -> Callable[[], nn.Layer]:
        return lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU(approximate), nn.Linear(8, 8), nn.Tanh())

    assert "semantics" == judged(*both(make("none"), make("tanh"))).kind


def test_a_constant_factor_is_told_with_its_number() -> None:
    found = judged(*both(lambda: Apply(lambda x: x), lambda: Apply(lambda x: x * 1.25)))
    assert "semantics" == found.kind
    assert "raw = 1.25 x base" in found.words()


def test_a_table_in_float32_is_float32_inside() -> None:
    table = np.sin(np.arange(8) / 3)
    exact, rounded = Native(table), Native(table.astype(np.float32).astype(np.float64))
    found = judged(
        *both(lambda: Apply(lambda x: x * exact), lambda: Apply(lambda x: x * rounded)), dtypes=["float64"] * 2
    )
    assert "float32 inside" == found.kind
    assert 1e-9 < found.apart < 1e-6


def test_a_cast_to_float32_at_the_end_names_the_side() -> None:
    def cast(x: Native) -> Native:
        return x.cast(DType.F32).cast(DType.F64) if x.dtype is DType.F64 else x

    found = judged(*both(lambda: Apply(lambda x: x.tanh()), lambda: Apply(lambda x: cast(x.tanh()))))
    assert ("float32 inside", "raw", "F32") == (found.kind, found.side, found.dtype)


@pytest.mark.parametrize("sided", ["base", "raw"])
def test_a_product_in_half_precision_is_lower_precision_on_its_side(sided: str) -> None:
    def half(x: Native) -> Native:
        return x.cast(DType.F16).cast(x.dtype)

    makes = [lambda: Apply(lambda x: x), lambda: Apply(half)]
    found = judged(*both(*(makes if sided == "raw" else makes[::-1])))
    assert ("lower precision", sided, "F16") == (found.kind, found.side, found.dtype)
    assert f"lower precision on {sided}" in found.words()


def test_half_precision_that_float64_turns_off_shows_in_the_sides_own_errors() -> None:
    """As TF32 and autocast do: they leave float64 alone."""

    def half(x: Native) -> Native:
        return x.cast(DType.F16).cast(DType.F32) if x.dtype is DType.F32 else x

    found = judged(*both(lambda: Apply(lambda x: x * 1.0), lambda: Apply(half)))
    assert ("lower precision", "raw", "") == (found.kind, found.side, found.dtype)
    assert found.apart <= found.limit
    worst = max(found.errors, key=lambda each: each.e_raw or 0)
    assert worst.e_raw is not None
    assert worst.e_base is not None
    assert worst.e_raw > 1e-4 > 1e-6 > worst.e_base


def test_a_wrong_threshold_that_gives_round_numbers_is_semantics() -> None:
    """Zeros and ones are numbers of half precision, too."""

    def step(x: Native) -> Native:
        return F.where(Native(x.values > 0), x * 0 + 1, x * 0)

    found = judged(*both(lambda: Apply(lambda x: x.tanh()), lambda: Apply(step)))
    assert "semantics" == found.kind


def kinked(shift: float) -> Callable[[Native], Native]:
    """ReLU whose kink lies a rounding aside in float32, and nowhere else."""

    def relu(x: Native) -> Native:
        moved = np.asarray(shift if x.dtype is DType.F32 else 0.0, x.values.dtype)
        kept = x.values > moved
        return apply(np.where(kept, x.values, 0), (x,), lambda g: (g * kept,))

    return relu


def test_an_element_at_a_kink_is_a_kink() -> None:
    x = X.copy()
    x[0, 0, 0], x[3, 2, 1] = 3e-8, 5e-8
    makes = [lambda: Apply(kinked(0.0), first=False), lambda: Apply(kinked(1e-7), first=False)]
    found = judged(*both(*makes), x=x)
    assert "kink" == found.kind
    assert "kink" in found.words()


def test_flipped_signs_inside_show_a_kink_where_its_gradient_spreads() -> None:
    def make(shift: float) -> Callable[[], nn.Layer]:
        return lambda: nn.Sequential(nn.Linear(8, 8), Apply(kinked(shift), first=False), nn.Linear(8, 8))

    def plant(base: HostedModel, raw: HostedModel) -> None:
        for model in (base, raw):
            weight, bias = np.eye(8, dtype=np.float32), np.zeros(8, np.float32)
            named = {"0.weight": weight, "0.bias": bias}
            model.write_parameters(Tensor.from_array(array).stream(name) for name, array in named.items())

    x = X.copy()
    x[:, :, 0] = 5e-8
    found = judged(*both(make(0.0), make(1e-7)), x=x, inner=("1",), prepare=plant)
    assert ("kink", 30) == (found.kind, found.flips)


def test_raw_takes_bases_inputs_and_weights_and_inherits_nothing() -> None:
    """Raw's layer before is wrong, and an optimiser has moved raw's weights aside."""

    def spoil(base: HostedModel, raw: HostedModel) -> None:
        raw.write_parameters([Tensor.from_array(np.full((8, 8), 0.1, np.float32)).stream("before.weight")])
        raw.forward(ForwardRequest({"x": Tensor.from_array(X)}, record=None))
        raw.backward(LossSpec("sum"))
        raw.optimizer_step(OptimizerSpec("SGD", {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}))

    found = judged(*both(lambda: Holder(nn.Linear(8, 8))), route="layer", prepare=spoil)
    assert "rounding" == found.kind


def test_weights_in_another_layout_are_compared_in_raws() -> None:
    found = judged(*both(lambda: Holder(nn.Linear(8, 8)), lambda: Holder(nn.LinearIO(8, 8))), route="layer")
    assert "rounding" == found.kind
    assert ("parameter gradient", "layer.weight") in [(each.quantity, each.raw) for each in found.errors]


def test_a_side_in_half_precision_is_judged_on_bases_weights() -> None:
    found = judged(*both(lambda: nn.Linear(8, 8)), dtypes=(None, "float16"))
    assert "rounding" == found.kind
    assert found.apart < 1e-13
    assert all(each.e_raw is not None and each.e_raw > 1e-5 for each in found.errors)


class Experts(nn.Layer):
    """Two experts, stacked in one tensor or in a list; the second one's output is multiplied by `gain`."""

    def __init__(self, stacked: bool, gain: float = 1.0) -> None:
        super().__init__()
        listed = [nn.LinearIO(8, 6, bias=False) for _ in range(2)]
        whole = nn.Parameter(np.stack([each.weight.data for each in listed]))
        self.experts: Any = whole if stacked else nn.LayerList(*listed)
        self._gain = gain

    def forward(self, x: Native) -> Native:
        listed = isinstance(self.experts, nn.LayerList)
        one, two = (each(x) for each in self.experts) if listed else (x @ self.experts[at] for at in range(2))
        return one.tanh() * two * self._gain


@pytest.mark.parametrize("stacked", ["base", "raw"])
def test_stacked_experts_are_given_and_compared_part_by_part(stacked: str) -> None:
    """Raw's weights are moved aside after the assignment, so that the judge has to give it base's."""

    def spoil(base: HostedModel, raw: HostedModel) -> None:
        name = "layer.experts" if stacked == "raw" else "layer.experts.1.weight"
        shape = raw.describe().parameter(name).spec.shape
        raw.write_parameters([Tensor.from_array(np.full(shape, 0.1, np.float32)).stream(name)])

    for gain in (1.0, 1.01):
        makes = [lambda: Holder(Experts(stacked == "base")), lambda gain=gain: Holder(Experts(stacked == "raw", gain))]
        found = judged(*both(*makes), route="layer", prepare=spoil)
        assert ("rounding" if gain == 1.0 else "semantics") == found.kind
        part = "layer.experts[1]" if stacked == "raw" else "layer.experts.1.weight"
        assert ("parameter gradient", part) in [(each.quantity, each.raw) for each in found.errors]


def test_one_tensor_under_several_names_is_compared_by_what_its_gradients_add_up_to() -> None:
    calls = [lambda layer, h: layer(h), lambda layer, h: layer(h, key=h, value=h)]
    makes = [lambda call=call: Holder(nn.MultiHeadAttention(8, 2), call) for call in calls]
    for order in (makes, makes[::-1]):
        found = judged(*both(*order), route="layer")
        assert "rounding" == found.kind
        assert "input gradient" in {each.quantity for each in found.errors}


class Attention(nn.MultiHeadAttention):
    """Scales the queries before the product instead of the scores after it: the same function in another order."""

    factor = 1.0

    def forward(self, query: Native) -> Native:  # pyright: ignore[reportIncompatibleMethodOverride]
        scaled = self.q_proj(query) * (self.factor / 3)
        return self.out_proj(F.attention(scaled, self.k_proj(query), self.v_proj(query), 2, 3 * 0.5, None))


class WrongAttention(Attention):
    factor = 1 + 1e-6


def attending(kind: type[nn.Layer]) -> Callable[[], nn.Layer]:
    kind.__name__ = "MultiHeadAttention"
    return lambda: Holder(kind(8, 2))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("least", [-1e9, float(np.finfo(np.float32).min)])
def test_a_mask_in_the_scores_hides_no_fault_beside_it(least: float) -> None:
    hidden = np.where(np.arange(8) < 5, 0.0, least)

    def scores(factor: float) -> Callable[[Native], Native]:
        return lambda x: x * factor + Native(hidden.astype(x.values.dtype))

    assert "rounding" == judged(*both(lambda: Apply(scores(1.0)))).kind
    assert "semantics" == judged(*both(lambda: Apply(scores(1.0)), lambda: Apply(scores(1 + 1e-5)))).kind


def test_a_bias_whose_gradient_is_zero_but_for_rounding_is_no_semantics() -> None:
    """The bias of the keys: every score of a query moves by the same, which softmax takes out again."""
    found = judged(*both(attending(nn.MultiHeadAttention), attending(Attention)), route="layer")
    assert "rounding" == found.kind
    assert "layer.k_proj.bias" == (found.worst and found.worst.base)
    assert 0 < found.apart < 1e-11


def test_a_fault_beside_a_gradient_of_zero_is_still_found() -> None:
    assert "semantics" == judged(*both(attending(nn.MultiHeadAttention), attending(WrongAttention)), route="layer").kind


def test_arguments_of_other_names_are_paired_by_likeness() -> None:
    def scaled(x: Native, by: Native) -> Native:
        return x * by

    calls = [
        lambda layer, h: layer(h, Native(np.full((8,), 3.0, h.values.dtype))),
        lambda layer, h: layer(h, by=Native(np.full((8,), 4.0, h.values.dtype))),
    ]
    makes = [lambda call=call: Holder(Apply(scaled), call) for call in calls]
    found = judged(*both(*makes), route="layer")
    assert "rounding" == found.kind
    assert {("input gradient", "0", "0"), ("input gradient", "1", "by")} <= {
        (each.quantity, each.base, each.raw) for each in found.errors
    }


def test_an_output_that_one_side_alone_returns_is_told_and_changes_no_gradient() -> None:
    makes = [lambda: Apply(lambda x: x.tanh()), lambda: Apply(lambda x: (x.tanh(), (x * 2.0).exp()))]
    for order in (makes, makes[::-1]):
        found = judged(*both(*order))
        assert "rounding" == found.kind
        assert ["alone returns" in text for text in found.not_compared] == [True]
        assert "Not compared" in found.words()


def test_a_gradient_that_one_side_cuts_is_semantics() -> None:
    found = judged(*both(lambda: Apply(lambda x: x * x), lambda: Apply(lambda x: x * x.detach())))
    assert "semantics" == found.kind
    found = judged(*both(lambda: Apply(lambda x: x + 1.0), lambda: Apply(lambda x: x.detach() + 1.0)))
    assert "semantics" == found.kind
    assert "no gradient" in found.why


def test_nan_never_passes() -> None:
    def spoiled(number: float) -> Callable[[Native], Native]:
        spoil = np.zeros(8)
        spoil[3] = number
        return lambda x: x + Native(spoil.astype(x.values.dtype))

    plain, nan, inf = (lambda number=number: Apply(spoiled(number)) for number in (0.0, np.nan, np.inf))
    assert "semantics" == judged(*both(plain, nan)).kind
    assert "semantics" == judged(*both(plain, inf)).kind
    assert ("not judged", True) == ((found := judged(*both(nan))).kind, "NaN" in found.why)
    assert "rounding" == judged(*both(inf)).kind


def test_a_side_that_runs_forward_alone_is_judged_by_its_outputs() -> None:
    def one_way(x: Native) -> Native:
        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            raise RuntimeError("no way back")

        return apply(x.values * 2, (x,), vjp)

    found = judged(*both(lambda: Apply(lambda x: x * 2.0), lambda: Apply(one_way)))
    assert "rounding" == found.kind
    assert {"output"} == {each.quantity for each in found.errors}
    assert ["no way back" in text for text in found.not_compared] == [True]
    found = judged(*both(lambda: Apply(lambda x: x * 2.00001), lambda: Apply(one_way)))
    assert "semantics" == found.kind


def test_what_cannot_be_compared_is_not_judged_and_says_why() -> None:
    def fails(x: Native) -> Native:
        if x.dtype is DType.F64:
            raise ValueError("float32 only")
        return x

    for make, why in (
        (lambda: Apply(fails), "raw cannot replay it.*float32 only"),
        (lambda: Apply(lambda x: x.reshape(30, 8)), "output 0 is .* in raw"),
    ):
        found = judged(*both(lambda: Apply(lambda x: x), make))
        assert "not judged" == found.kind
        assert re.search(why, found.why)
        assert found.why in found.words()


def test_a_dump_is_not_judged() -> None:
    base, raw = (HostedModel(native) for native in both(lambda: nn.Linear(8, 8)))
    described = PerSide(base.describe(), raw.describe())
    request = ForwardRequest({"x": Tensor.from_array(X)})

    class Dump:
        """Cannot replay."""

    dump: Any = Dump()
    layer = LayerInStep(PerSide(dump, raw), PerSide(request, request), PerSide("", ""), 0, described, [])
    assert ("not judged", "base is a dump, which cannot be run") == ((found := judge_layer(layer)).kind, found.why)


def test_batch_norm_is_rounding_in_training_and_in_evaluation() -> None:
    x = X.transpose(0, 2, 1).copy()
    for training in (True, False):
        assert "rounding" == judged(*both(lambda: nn.BatchNorm(8)), x=x, training=training).kind
