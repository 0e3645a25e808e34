"""What a selection leaves out is neither recorded nor compared, and is shown; what is kept is judged as before."""

from __future__ import annotations

from typing import Any

import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, ForwardResult, Observer
from padiff_rpc.model.selection import Selection
from padiff_rpc.numpy_framework import nn
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import collect_all
from tests.align.pairs import AlignPair, hosted, inputs_of

BLACK = "on the black list"
WHITE = "not on the white list"


def without(*routes: str) -> Selection:
    return Selection(dict.fromkeys(routes, BLACK))


def only(factory: str, *routes: str) -> Selection:
    every = [layer.route for layer in hosted(factory).describe().layers]
    return Selection({route: WHITE for route in every if route not in routes})


def both(selection: Selection) -> dict[str, Selection]:
    return {"base_selection": selection, "raw_selection": selection}


def compared(result: Result, stage: str = "forward") -> set[str]:
    return {pair.base_route for pair in result.pairs if pair.stage == stage and pair.status != "skipped"}


class Asked:
    """A model that notes which layers each forward was asked to record."""

    def __init__(self, model: HostedModel) -> None:
        self._model = model
        self.routes: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        assert request.record is not None
        assert request.record.routes is not None
        self.routes |= set(request.record.routes)
        return self._model.forward(request, observer)


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
def test_a_pair_is_recorded_only_where_both_sides_keep_it(single_step: bool) -> None:
    base: Any = Asked(hosted("mlp"))
    raw: Any = Asked(hosted("mlp", seed=1))
    settings = AlignSettings(
        base_selection=without("body.fc1"), raw_selection=without("body.act"), single_step=single_step
    )
    result = align(base, raw, inputs_of("mlp"), inputs_of("mlp"), settings)
    assert {"", "body", "body.fc2", "head"} == base.routes == raw.routes == compared(result)
    assert result.aligned


def test_parameters_of_what_is_left_out_are_assigned_but_not_compared(align_pair: AlignPair) -> None:
    result = align_pair("mlp", optimizer="SGD(lr=0.1)", **both(without("body.fc1")))
    for stage in ("weights_before", "grads", "weights"):
        assert {"body.fc2", "head"} == compared(result, stage)
    assert result.aligned  # the output is that of base, so body.fc1 was assigned


def test_what_is_left_out_is_shown_with_its_reason(align_pair: AlignPair) -> None:
    result = align_pair("mlp", base_selection=only("mlp", "", "head"), raw_selection=without("head"))
    assert f"base: 4 of 6 layers left out, {WHITE}: body, body.fc1, body.act and 1 more" in result.notes
    assert f"raw: 1 of 6 layers left out, {BLACK}: head" in result.notes
    skipped = {(p.stage, p.base_route, p.tensor): p.why for p in result.pairs if p.status == "skipped"}
    assert f"left out of base: {WHITE}" == skipped["forward", "body.act", "output"]
    assert f"left out of raw: {BLACK}" == skipped["forward", "head", "output"]
    assert f"left out of base: {WHITE}" == skipped["weights_before", "body.fc1", "weight"]
    assert f"left out of raw: {BLACK}" == skipped["weights_before", "head", "bias"]


def test_a_fault_in_what_is_left_out_is_told_at_the_first_recorded_layer_after_it(align_pair: AlignPair) -> None:
    result = align_pair("bert_like", raw_args={"eps_at": 0}, **both(without("encoder.0.norm1")))
    assert not result.aligned
    first = result.first_divergence
    assert first is not None
    assert ("encoder.0", "encoder.0.intermediate") == (first.base.route, first.found_at.base_route)
    assert "left out inside it: encoder.0.norm1" in first.why
    assert "input.0 of 'encoder.0.intermediate'" == first.tensor


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
def test_a_fault_of_an_enclosing_layer_that_is_left_out_is_told_at_what_it_calls(
    align_pair: AlignPair, single_step: bool
) -> None:
    result = align_pair("mlp", raw_args={"scale": 1.25}, single_step=single_step, **both(without("body")))
    assert not result.aligned
    first = result.first_divergence
    assert first is not None
    assert ("", "body.act") == (first.base.route, first.found_at.base_route)
    assert "left out inside it: body" in first.why


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
def test_without_the_root_what_comes_before_a_failing_input_is_said_to_be_unrecorded(
    align_pair: AlignPair, single_step: bool
) -> None:
    selection = only("mlp", "body.act", "head")
    result = align_pair("mlp", raw_args={"scale": 1.25}, single_step=single_step, **both(selection))
    assert not result.aligned
    first = result.first_divergence
    assert first is not None
    assert "body.act" == first.base.route
    assert "what comes before it is not recorded (left out: body, body.fc1, body.fc2)" in first.why
    assert "the inputs given" not in first.why


def test_without_the_root_the_recorded_layers_count_as_outputs(align_pair: AlignPair) -> None:
    assert align_pair("mlp", **both(only("mlp", "body.fc1"))).aligned
    assert align_pair("mlp", raw_selection=without("")).aligned


def test_a_selection_that_leaves_everything_out_is_no_pass(align_pair: AlignPair) -> None:
    result = align_pair("mlp", **both(only("mlp")))
    assert not result.aligned
    assert any("no output of a layer that is not left out was compared" in note for note in result.notes)


def test_two_selections_without_a_layer_in_common_are_no_pass(align_pair: AlignPair) -> None:
    result = align_pair(
        "mlp", base_selection=only("mlp", "head"), raw_selection=only("mlp", "body"), diff_phase="forward"
    )
    assert not result.aligned


def test_a_gradient_that_what_is_left_out_spoils_is_told(align_pair: AlignPair) -> None:
    result = align_pair("mlp", raw_args={"scale": 1.25}, single_step=True, **both(only("mlp", "body.fc1")))
    assert not result.aligned
    loss, backward = result.divergences
    assert ("loss", "") == (loss.stage, loss.base.route)
    assert "the model's outputs are not recorded" in loss.why
    assert ("backward", "body.fc1") == (backward.stage, backward.base.route)
    assert "what comes after it is not recorded" in backward.why


def test_an_optimisers_step_on_parameters_that_are_all_left_out_is_not_demanded(align_pair: AlignPair) -> None:
    result = align_pair("mlp", optimizer="SGD(lr=0.1)", **both(only("mlp", "", "body.act")))
    assert set() == compared(result, "weights")
    assert result.aligned


class Extra(nn.Layer):
    """A linear layer, and one beside it whose size is up to the side."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        if size:
            self.extra = nn.Linear(4, size)

    def forward(self, x: Any) -> Any:
        return self.fc(x)


@pytest.mark.parametrize(("base_size", "raw_size"), [(3, 5), (0, 5), (3, 0)])
def test_what_a_layer_that_is_left_out_lacks_does_not_fail(base_size: int, raw_size: int) -> None:
    base, raw = HostedModel(Extra(base_size)), HostedModel(Extra(raw_size))
    selections = [without("extra") if size else Selection() for size in (base_size, raw_size)]
    plain = match_models(base.describe(), raw.describe())
    assert any(entry.fails for entry in (*plain.unmatched_base, *plain.unmatched_raw))
    found = match_models(base.describe(), raw.describe(), None, *selections)
    entries = (*found.unmatched_base, *found.unmatched_raw)
    assert [] == [entry for entry in entries if entry.fails]
    assert all(f"left out: {BLACK}" in entry.why for entry in entries if "extra" in entry.name)
    assert ["fc.weight", "fc.bias"] == [name for name in assign_weights(base, raw, found).assigned if "fc" in name]
    values = [collect_all(model.read_parameters(["fc.weight"]))["fc.weight"] for model in (base, raw)]
    assert values[0] == values[1]


def test_leaving_out_one_side_excuses_its_partner_too() -> None:
    base, raw = HostedModel(Extra(3)), HostedModel(Extra(5))
    found = match_models(base.describe(), raw.describe(), None, without("extra"))
    assert [] == [entry for entry in (*found.unmatched_base, *found.unmatched_raw) if entry.fails]
    assert any("its partner extra is" in entry.why for entry in found.unmatched_raw)


def test_a_layer_that_is_kept_still_fails_for_what_it_lacks() -> None:
    base, raw = HostedModel(Extra(3)), HostedModel(Extra(0))
    found = match_models(base.describe(), raw.describe(), None, without("fc"), without("fc"))
    assert ["extra"] == [entry.name for entry in found.unmatched_base if entry.fails]
