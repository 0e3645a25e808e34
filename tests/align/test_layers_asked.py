"""layers and depth: only what is asked for is recorded and compared, and the rest is told as not asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, ForwardResult, Observer, RecordOptions
from padiff_rpc.model.selection import EVERYTHING, narrowed
from padiff_rpc.result import Result
from padiff_rpc.sequential import align_sequentially
from padiff_rpc.tape.recorded_model import RecordedModel
from tests.align.pairs import hosted, inputs_of
from tests.tape.tapes import record_tape


class Asked:
    """A model that counts its digests and hooks."""

    def __init__(self, model: HostedModel) -> None:
        self._model = model
        self.routes: tuple[str, ...] | None = ()
        self.hooked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward(self, request: ForwardRequest, observer: Observer) -> ForwardResult:
        assert isinstance(request.record, RecordOptions)
        self.routes = request.record.routes
        model, hooked = self._model, self.hooked

        class Looking:
            def observe(self, boundary: Any) -> None:
                layers = [(layer.route, model.native_layer(layer.route)) for layer in model.describe().layers]
                hooked.update(route for route, layer in layers if layer._hooks)
                observer.observe(boundary)

            def substitute(self, boundary: Any) -> Any:
                return observer.substitute(boundary)

        return self._model.forward(request, Looking())


def run(factory: str, raw_args: dict[str, Any] | None = None, **settings: Any) -> tuple[Result, Asked]:
    base = Asked(hosted(factory))
    raw = hosted(factory, **{"seed": 1, **(raw_args or {})})
    return align(base, raw, inputs_of(factory), inputs_of(factory), AlignSettings(**settings)), base


CASES: list[tuple[tuple[str, ...], int | None, set[str]]] = [
    (("body.*",), None, {"body.fc1", "body.act", "body.fc2"}),
    (("body", "head"), None, {"body", "head"}),
    (("*fc*",), None, {"body.fc1", "body.fc2"}),
    ((), 0, {""}),
    ((), 1, {"", "body", "head"}),
    (("body*",), 1, {"body"}),
    (("",), None, {""}),
    (("*",), None, {"", "body", "body.fc1", "body.act", "body.fc2", "head"}),
]


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
@pytest.mark.parametrize(("layers", "depth", "kept"), CASES)
def test_only_what_is_asked_for_is_hooked_recorded_and_compared(
    layers: tuple[str, ...], depth: int | None, kept: set[str], single_step: bool
) -> None:
    result, base = run("mlp", layers=layers, depth=depth, single_step=single_step)
    assert result.aligned
    assert kept == set(base.routes or ())
    assert kept == base.hooked
    compared = [pair for pair in result.pairs if pair.status == "pass"]
    assert kept | {""} >= {pair.base_route for pair in compared}  # the loss has the root's route
    assert kept == {pair.base_route for pair in compared if pair.stage == "forward"}
    assert 2 * len(kept) == len([pair for pair in compared if pair.stage == "forward"])
    rest = {"", "body", "body.fc1", "body.act", "body.fc2", "head"} - kept
    skipped = Counter(pair.base_route for pair in result.pairs if pair.why == "left out of base: not asked for")
    assert rest == set(skipped)


def test_a_fault_inside_what_is_not_asked_for_shows_at_what_is() -> None:
    result, _ = run("mlp", {"scale": 1.5}, layers=("head",))
    assert result.first_divergence is not None
    assert "head" == result.first_divergence.raw.route
    assert "what comes before it is not recorded" in result.first_divergence.why


def test_what_other_layers_hold_is_assigned_and_not_compared() -> None:
    result, _ = run("conv_net", {"momentum": 0.9}, depth=0)
    assert result.aligned
    assert [] == [pair for pair in result.pairs if pair.stage in ("buffers", "grads") and pair.status != "skipped"]


@pytest.mark.parametrize(
    ("layers", "text", "hint"),
    [
        (("body.fc3*",), "no layer of base or raw matches 'body.fc3*'", "did you mean 'body.fc"),
        (("head", "bdy.*"), "no layer of base or raw matches 'bdy.*'", "did you mean 'body'"),
    ],
)
def test_a_glob_that_matches_nothing_is_an_error_that_names_the_nearest_route(
    layers: tuple[str, ...], text: str, hint: str
) -> None:
    with pytest.raises(PadiffError) as caught:
        run("mlp", layers=layers)
    assert (Reason.BAD_CONFIG, text) == (caught.value.reason, caught.value.message)
    assert hint in caught.value.hint


def test_layers_without_a_partner_alone_are_no_comparison() -> None:
    with pytest.raises(PadiffError, match="no layer that is asked for has a partner"):
        run("mlp", layers=("body",), depth=0)


@pytest.mark.parametrize("layers", [("body.*",), ("*.fc1", "head")])
def test_one_after_the_other_records_only_these(layers: tuple[str, ...]) -> None:
    asked = AlignSettings(layers=layers)
    live, _ = run("mlp", layers=layers)
    inputs = inputs_of("mlp")
    taped = align_sequentially(lambda: hosted("mlp"), lambda: hosted("mlp", seed=1), inputs, inputs, asked)
    assert live.aligned
    assert live.pairs == taped.pairs
    assert [*live.notes, taped.notes[-1]] == taped.notes


def test_a_tape_of_some_layers_can_still_be_assigned_from(tmp_path: Path) -> None:
    routes = [layer.route for layer in hosted("mlp").describe().layers]
    record_tape(tmp_path / "tape", optimizer=None, selection=narrowed(EVERYTHING, routes, {"head"}))
    base = RecordedModel(tmp_path / "tape")
    settings = AlignSettings(base_selection=base.selection)
    result = align(base, hosted("mlp", seed=1), inputs_of("mlp"), inputs_of("mlp"), settings)
    assert result.aligned
    assert {"head"} == {pair.base_route for pair in result.pairs if pair.stage == "forward" and pair.status == "pass"}
