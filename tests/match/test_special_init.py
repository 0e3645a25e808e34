"""Pairs of the layer map: filled by special initialisers of either form, by the automatic rules, or refused with the cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.match import match_models
from padiff_rpc.match.special_init import (
    add_special_init,
    auto_layer_map,
    find_special_init,
    registered_classes,
)
from padiff_rpc.match.user_map import UserMap
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.model.selection import Selection
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor as Native
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import DType, Tensor, collect_all
from tests.match.descriptions import L, describe, match, net, seq, torch_linear, user
from tests.match.special_inits import remove_special_init, special_inits_kept

X = as_inputs({"x": np.random.RandomState(0).standard_normal((5, 4)).astype(np.float32)})
MAPPED = {"layer_map": {"mixer": "mixer"}}
MAPPED_BY_USER = UserMap(MAPPED["layer_map"])
INSIDE = "inside the mapped layer 'mixer'"


@pytest.fixture(autouse=True)
def _kept() -> Iterator[None]:
    with special_inits_kept():
        yield


class Halves(nn.Layer):
    """A linear map of 4 to 4 in two layers, and a counter that no computation uses."""

    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Linear(4, 2)
        self.bottom = nn.Linear(4, 2)
        self.register_buffer("calls", Native(np.zeros((), np.int64)))

    def forward(self, x: Native) -> Native:
        return self.top(x) @ Native(np.eye(2, 4, dtype=np.float32)) + self.bottom(x) @ Native(
            np.eye(2, 4, 2, dtype=np.float32)
        )


class Whole(nn.Layer):
    """The same map in one parameter [5, 4], the last row for the bias; its output is `gain` times what it should be."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.table = nn.Parameter(np.zeros((5, 4), np.float32))
        self._gain = gain

    def forward(self, x: Native) -> Native:
        return (x @ self.table[:4] + self.table[4]) * self._gain


class Net(nn.Layer):
    def __init__(self, mixer: nn.Layer) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.mixer = mixer
        self.last = nn.Linear(4, 3)

    def forward(self, x: Native) -> Native:
        return self.last(self.mixer(self.first(x).tanh()))


def to_whole(base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = [np.concatenate([base[f"{half}.{kind}"] for half in ("top", "bottom")]) for kind in ("weight", "bias")]
    return {"table": np.concatenate([rows[0].T, rows[1][None]])}


def to_halves(base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    weight, bias = base["table"][:4].T, base["table"][4]
    return {
        "top.weight": weight[:2],
        "bottom.weight": weight[2:],
        "top.bias": bias[:2],
        "bottom.bias": bias[2:],
    }


def register(func: Callable[..., Any]) -> None:
    add_special_init("numpy", "Halves", "numpy", "Whole", func)


def hosted(mixer: nn.Layer, dtype: str | None = None) -> HostedModel:
    model = HostedModel(Net(mixer))
    if dtype is not None:
        model.backend.prepare(model.model, None, dtype)
    return model


def mapped_selections(*models: HostedModel) -> dict[str, Selection]:
    """Leave out what is below the mapped layer, as a proxy does."""
    return {
        f"{side}_selection": Selection(
            {layer.route: INSIDE for layer in model.describe().layers if layer.route.startswith("mixer.")}
        )
        for side, model in zip(("base", "raw"), models, strict=True)
    }


def run(base: HostedModel, raw: HostedModel, **settings: Any) -> Result:
    sgd = parse_optimizer("SGD(lr=0.1)")
    options = {**MAPPED, **mapped_selections(base, raw), "base_optimizer": sgd, "raw_optimizer": sgd, **settings}
    return align(base, raw, X, X, AlignSettings(**options))


def assign(base: Any, raw: Any) -> None:
    assign_weights(base, raw, match_models(base.describe(), raw.describe(), MAPPED_BY_USER))


def table(model: HostedModel) -> np.ndarray:
    return collect_all(model.read_parameters(["mixer.table"]))["mixer.table"].to_array()


def refused(base: HostedModel, raw: HostedModel) -> PadiffError:
    before = collect_all(raw.read_parameters([info.name for info in raw.describe().parameters]))
    with pytest.raises(PadiffError) as caught:
        assign(base, raw)
    assert before == collect_all(raw.read_parameters(list(before)))
    return caught.value


# -- the form that works everywhere -----------------------------------------------------------------------------------
@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
def test_named_arrays_go_through_the_function_and_are_compared_through_it(single_step: bool) -> None:
    register(to_whole)
    result = run(hosted(Halves()), hosted(Whole()), single_step=single_step, steps=2)
    assert result.aligned
    held = {(p.stage, p.status) for p in result.pairs if (p.base_route, p.tensor) == ("mixer", "table")}
    assert {("weights_before", "pass"), ("weights", "pass"), ("grads", "skipped")} == held
    why = {p.why for p in result.pairs if p.status == "skipped" and p.tensor == "table"}
    assert {
        "the special initialiser of 'numpy::Halves' -> 'numpy::Whole' is a function of values: what it does to gradients is "
        "not known"
    } == why


def test_an_integer_beside_the_tensors_does_not_set_how_far_they_may_be_apart() -> None:
    register(to_whole)
    result = run(hosted(Halves()), hosted(Whole(1.0 + 2.0**-20)), steps=2)  # the sides are apart after the first step
    assert result.aligned
    rounded = [p for p in result.pairs if (p.stage, p.tensor, p.status) == ("weights", "table", "pass")]
    assert any(p.metrics is not None and p.metrics.rel_l2 for p in rounded)


def test_the_other_direction_fills_several_tensors_and_passes_over_a_counter() -> None:
    add_special_init("numpy", "Whole", "numpy", "Halves", to_halves)
    result = run(hosted(Whole()), hosted(Halves()))
    assert result.aligned
    held = {p.tensor for p in result.pairs if (p.stage, p.base_route, p.status) == ("weights", "mixer", "pass")}
    assert {"top.weight", "bottom.weight", "top.bias", "bottom.bias"} == held


def test_a_buffer_that_the_function_makes_is_written_and_compared() -> None:
    add_special_init("numpy", "Whole", "numpy", "Halves", lambda base: {**to_halves(base), "calls": np.array(7)})
    base, raw = hosted(Whole()), hosted(Halves())
    result = run(base, raw)
    assert result.aligned
    assert 7 == collect_all(raw.read_parameters(["mixer.calls"]))["mixer.calls"].to_array()
    assert ["pass"] == [p.status for p in result.pairs if (p.stage, p.tensor) == ("buffers", "calls")]


def test_a_fault_in_the_mapped_layer_is_found() -> None:
    register(to_whole)
    result = run(hosted(Halves()), hosted(Whole(gain=1.25)))
    assert not result.aligned
    assert result.first_divergence is not None
    assert ("forward", "mixer") == (result.first_divergence.stage, result.first_divergence.base.route)


def test_values_that_raw_holds_otherwise_fail_before_the_first_step() -> None:
    register(to_whole)
    result = run(hosted(Halves()), hosted(Whole()), assign=False)
    assert "fail" in {p.status for p in result.pairs if (p.stage, p.tensor) == ("weights_before", "table")}


def test_a_function_that_permutes_shows_in_the_forward() -> None:
    register(lambda base: {"table": to_whole(base)["table"][:, ::-1]})
    result = run(hosted(Halves()), hosted(Whole()))
    assert not result.aligned
    assert "mixer" == result.divergences[0].base.route


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_floats_stay_what_they_are(dtype: str) -> None:
    register(to_whole)
    base, raw = hosted(Halves(), dtype), hosted(Whole(), dtype)
    assign(base, raw)
    assert np.dtype(dtype) == table(raw).dtype
    wanted = {stream.name: stream.collect().to_array() for stream in base.read_parameters(["mixer.top.weight"])}
    np.testing.assert_array_equal(wanted["mixer.top.weight"], table(raw)[:4, :2].T)


def test_a_function_that_computes_in_float64_is_rounded_to_bases_type() -> None:
    register(lambda base: {"table": to_whole(base)["table"].astype(np.float64)})
    assert run(hosted(Halves()), hosted(Whole())).aligned


class Bits:
    """A model whose tensors are handed out as bfloat16 bits."""

    def __init__(self, model: HostedModel) -> None:
        self._model = model
        self.written: dict[str, Tensor] = {}

    def describe(self) -> Any:
        described = self._model.describe()
        return _in_bfloat16(described)

    def read_parameters(self, names: Any, what: Any = "value", transposed: Any = ()) -> Iterator[Any]:
        for stream in self._model.read_parameters(names, what, transposed):
            array = stream.collect().to_array()
            floating = array.dtype.kind == "f"
            bits = (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16) if floating else array
            yield Tensor.from_array(bits, DType.BF16 if floating else None).stream(stream.name)

    def write_parameters(self, tensors: Any) -> None:
        self.written = collect_all(tensors)


def _in_bfloat16(described: Any) -> Any:
    parameters = [
        replace(info, spec=replace(info.spec, dtype=DType.BF16)) if info.spec.dtype.is_floating else info
        for info in described.parameters
    ]
    return replace(described, parameters=tuple(parameters))


def test_bfloat16_passes_as_its_bits() -> None:
    seen: list[np.dtype] = []

    def noted(base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.extend(array.dtype for array in base.values() if array.ndim)
        return to_whole(base)

    register(noted)
    base, raw = Bits(hosted(Halves())), Bits(hosted(Whole()))
    assign(base, raw)
    assert {np.dtype(np.uint16)} == set(seen)
    written = raw.written["mixer.table"]
    assert DType.BF16 is written.spec.dtype
    top = next(base.read_parameters(["mixer.top.weight"])).collect().to_array()
    np.testing.assert_array_equal(top, written.to_array()[:4, :2].T)


@pytest.mark.parametrize(
    ("func", "text"),
    [
        (lambda base: {}, "lacks table"),
        (lambda base: {**to_whole(base), "tabel": 1}, "has tabel too many"),
        (lambda base: {"tabel": to_whole(base)["table"]}, "lacks table and has tabel too many"),
        (lambda base: {"table": to_whole(base)["table"].T}, "made table of shape [4, 5], raw's is [5, 4]"),
        (lambda base: {"table": to_whole(base)["table"].astype(int)}, "made table of I64, raw's is F32"),
        (lambda base: None, "returned NoneType"),
        (lambda base: {"table": base["tpo.weight"]}, "raised KeyError at 'mixer'"),
    ],
)
def test_a_result_that_does_not_fit_is_refused_by_name_and_nothing_is_written(func: Any, text: str) -> None:
    register(func)
    error = refused(hosted(Halves()), hosted(Whole()))
    assert Reason.BAD_CONFIG is error.reason
    assert text in str(error)
    assert "the special initialiser of 'numpy::Halves' -> 'numpy::Whole'" in str(error)


# -- the form for one process -----------------------------------------------------------------------------------------
def copy_live(base: Halves, raw: Whole) -> None:
    arrays = {
        f"{half}.{kind}": getattr(getattr(base, half), kind).values
        for half in ("top", "bottom")
        for kind in ("weight", "bias")
    }
    raw.table.overwrite(to_whole(arrays)["table"])


def test_live_layers_are_handed_to_a_function_of_two() -> None:
    register(copy_live)
    result = run(hosted(Halves()), hosted(Whole()), single_step=True, steps=2)
    assert result.aligned
    held = {(p.status, p.stage) for p in result.pairs if p.tensor == "table"}
    assert {("skipped", stage) for stage in ("weights_before", "grads", "weights")} == held
    assert any("copies between live layers" in p.why for p in result.pairs)


def test_a_live_function_that_copies_wrongly_shows_in_the_forward() -> None:
    register(lambda base, raw: raw.table.overwrite(np.ones((5, 4), np.float32)))
    result = run(hosted(Halves()), hosted(Whole()))
    assert not result.aligned
    assert "mixer" == result.divergences[0].base.route


@pytest.mark.parametrize("side", ["base", "raw"])
def test_live_layers_of_another_process_are_refused_with_the_other_form(side: str) -> None:
    class Elsewhere:
        def __init__(self, model: HostedModel) -> None:
            self._model = model

        def __getattr__(self, name: str) -> Any:
            if name == "native_layer":
                raise AttributeError(name)
            return getattr(self._model, name)

    register(copy_live)
    base: Any = hosted(Halves())
    raw: Any = hosted(Whole())
    error = refused(Elsewhere(base) if side == "base" else base, Elsewhere(raw) if side == "raw" else raw)  # pyright: ignore[reportArgumentType]
    assert Reason.NOT_SUPPORTED is error.reason
    assert f"{side} does not run in this process" in error.message
    assert "func(base) -> raw" in error.hint


def test_a_live_function_that_raises_is_named() -> None:
    register(lambda base, raw: raw.tabel)
    with pytest.raises(
        PadiffError, match="'numpy::Halves' -> 'numpy::Whole' raised AttributeError at 'mixer'"
    ) as caught:
        assign(hosted(Halves()), hosted(Whole()))
    assert Reason.BAD_CONFIG is caught.value.reason


# -- which pairs they serve ---------------------------------------------------------------------------------------------
def test_a_pair_without_an_initialiser_that_no_rule_fills_is_refused_with_the_cure() -> None:
    error = refused(hosted(Halves()), hosted(Whole()))
    assert Reason.MODELS_DO_NOT_MATCH is error.reason
    assert "no special initialiser for 'numpy::Halves' -> 'numpy::Whole'" in error.hint
    assert "add_special_init('numpy', 'Halves', 'numpy', 'Whole', func)" in error.hint


def test_the_sublayers_of_such_a_pair_are_not_excused_by_being_left_out() -> None:
    base, raw = hosted(Whole()), hosted(Halves())
    with pytest.raises(PadiffError, match="no special initialiser for 'numpy::Whole' -> 'numpy::Halves'"):
        run(base, raw)
    assert not run(base, raw, assign=False).aligned


def test_a_pair_that_is_left_out_itself_is_excused() -> None:
    base, raw = hosted(Whole()), hosted(Halves())
    names = [layer.route for layer in raw.describe().layers if layer.route.startswith("mixer")]
    black = Selection(dict.fromkeys(names, "on the black list"))
    matching = match_models(base.describe(), raw.describe(), MAPPED_BY_USER, black, black)
    assert [] == [entry for entry in (*matching.unmatched_base, *matching.unmatched_raw) if entry.fails]
    assert {"first.weight", "last.weight"} <= set(assign_weights(base, raw, matching).assigned)


def test_the_automatic_rules_fill_a_pair_and_its_tensors_are_compared_at_it() -> None:
    result = run(hosted(Halves()), hosted(Halves()))
    assert result.aligned
    held = {(p.stage, p.tensor) for p in result.pairs if p.base_route == "mixer" and p.status == "pass"}
    for stage in ("weights_before", "grads", "weights"):
        assert {(stage, "top.weight"), (stage, "bottom.bias")} <= held
    assert {"mixer.top", "mixer.bottom"} == {
        p.base_route for p in result.pairs if p.why == f"left out of base: {INSIDE}"
    }


def test_an_initialiser_goes_before_the_automatic_rules() -> None:
    add_special_init(
        "numpy", "Halves", "numpy", "Halves", lambda base: {name: np.zeros_like(array) for name, array in base.items()}
    )
    base, raw = hosted(Halves()), hosted(Halves())
    assign(base, raw)
    assert not collect_all(raw.read_parameters(["mixer.top.weight"]))["mixer.top.weight"].to_array().any()


def test_without_the_map_an_initialiser_is_not_used() -> None:
    add_special_init("numpy", "Halves", "numpy", "Halves", lambda base: pytest.fail("called"))
    base, raw = hosted(Halves()), hosted(Halves())
    assign_weights(base, raw, match_models(base.describe(), raw.describe()))


def test_an_initialiser_that_is_gone_by_the_time_of_assigning_is_an_error() -> None:
    register(to_whole)
    base, raw = hosted(Halves()), hosted(Whole())
    matching = match_models(base.describe(), raw.describe(), MAPPED_BY_USER)
    remove_special_init("numpy::Halves", "numpy::Whole")
    assert find_special_init("numpy::Halves", "numpy::Whole") is None
    with pytest.raises(PadiffError, match="removed after the matching"):
        assign_weights(base, raw, matching)


@pytest.mark.parametrize(
    "func",
    [
        lambda: None,
        lambda a, b, c: None,
        lambda *arrays: None,
        lambda a, *, b: None,
        dict,
        "to_whole",
    ],
)
def test_a_function_of_another_form_is_refused(func: Any) -> None:
    with pytest.raises(PadiffError) as caught:
        register(func)
    assert Reason.BAD_CONFIG is caught.value.reason


def test_optional_arguments_do_not_count() -> None:
    register(lambda base, factor=1.0: to_whole(base))
    found = find_special_init("numpy::Halves", "numpy::Whole")
    assert found is not None
    assert not found.live


def test_classes_are_given_by_name() -> None:
    with pytest.raises(PadiffError, match="registered by names"):
        add_special_init("numpy", Halves, "numpy", "Whole", to_whole)  # pyright: ignore[reportArgumentType]


# -- the automatic layer map ----------------------------------------------------------------------------------------------
def test_built_in_classes_are_found_in_definition_order_and_outermost_only() -> None:
    model = net(
        rnn=L("LSTM", children={"inner": L("GRU")}),
        body=seq(torch_linear(4, 4), L("BatchNorm2d")),
        attn=L("MultiheadAttention"),
        mine=user("Fast"),
    )
    described = describe("torch", model)
    assert ["rnn", "body.1", "attn"] == auto_layer_map(described, "base") == auto_layer_map(described, "raw")
    add_special_init("torch", "Fast", "paddle", "Slow", lambda base: {})
    assert ["rnn", "body.1", "attn", "mine"] == auto_layer_map(described, "base")
    assert ["rnn", "body.1", "attn"] == auto_layer_map(described, "raw")
    assert ("torch::Fast" in registered_classes("base"), "paddle::Slow" in registered_classes("raw")) == (True, True)


def test_paddles_names_are_found_on_either_side() -> None:
    described = describe("paddle", net(a=L("MultiHeadAttention"), b=L("InstanceNorm2D"), c=L("GRU"), d=L("Linear")))
    assert ["a", "b", "c"] == auto_layer_map(described, "raw") == auto_layer_map(described, "base")


@pytest.mark.parametrize(
    ("torch", "paddle"),
    [
        (
            L("LSTM", {"weight_ih_l0": (16, 3), "bias_ih_l0": (16,)}),
            L("LSTM", {"weight_ih_l0": (16, 3), "bias_ih_l0": (16,)}),
        ),
        (L("GRU", {"weight_hh_l0": (12, 4)}), L("GRU", {"weight_hh_l0": (12, 4)})),
        (L("InstanceNorm2d", {"weight": (4,)}), L("InstanceNorm2D", {"scale": (4,)})),
    ],
    ids=["lstm", "gru", "instance-norm"],
)
def test_the_automatic_rules_fill_what_is_built_in(torch: L, paddle: L) -> None:
    found = match(net(x=torch), net(x=paddle), layer_map={"x": "x"})
    assert len(torch.tensors) == len(found.links)
    assert [] == [entry for entry in (*found.unmatched_base, *found.unmatched_raw) if entry.fails]
