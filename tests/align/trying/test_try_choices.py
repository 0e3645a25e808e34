"""What names and shapes leave in doubt is tried on base's own input: healthy pairs, and a fault right beside each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.compare_dumps import compare_held
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.trying import try_choices
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import ForwardRequest
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_tape import record
from padiff_rpc.tensors.tensor import collect_all
from tests.align.pairs import Claimed

WIDTH, HEADS, SIZE, LAYERS = 8, 4, 2, 3
X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 5, WIDTH)).astype(np.float32)})


def rows(order: str, by: str) -> np.ndarray:
    """Return for q, k and v, one after the other, which rows of a packed output are theirs."""
    parts = {"heads": HEADS, "turns": WIDTH, "whole": 1}[by]
    laid = np.arange(3 * WIDTH).reshape(parts, 3, WIDTH // parts)
    return np.stack([laid[:, order.index(name)].reshape(-1) for name in "qkv"])


class Attention(nn.Layer):
    """Mixes q, k and v, kept apart or packed.

    order, by: tell how they lie in the packed output. fault: "scale" drops a factor, "heads" takes two heads of q in each
    other's place, "eps" adds what an epsilon might.
    """

    def __init__(self, packed: str, order: str = "qkv", by: str = "whole", fault: str = "") -> None:
        super().__init__()
        self.num_heads = HEADS
        self._packed, self._order, self._by, self._fault = packed, order, by, fault
        if packed:
            setattr(self, packed, nn.LinearIO(WIDTH, 3 * WIDTH))
        else:
            self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = (nn.LinearIO if packed else nn.Linear)(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if self._packed:
            whole = getattr(self, self._packed)(x)
            q, k, v = (whole[..., mine] for mine in rows(self._order, self._by))
        else:
            q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self._fault == "heads":
            q = q[..., np.array([2, 3, 0, 1, 4, 5, 6, 7])]
        scale = np.float32({"scale": 1.0, "eps": 0.501}.get(self._fault, 0.5))
        return self.out((q * scale * k.tanh() + v).tanh())


class Net(nn.Layer):
    """Residual layers of attention. at: the one with the fault; None for all."""

    def __init__(self, packed: str = "", fault: str = "", at: int | None = None, **lie: str) -> None:
        super().__init__()
        self.layers = nn.LayerList(
            *(Attention(packed, fault=fault if at in (None, n) else "", **lie) for n in range(LAYERS))
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def pair(base: nn.Layer, raw: nn.Layer) -> tuple[Any, Any]:
    return Claimed("torch", base, {}), Claimed("paddle", raw, {})


def run(base: nn.Layer, raw: nn.Layer, back: bool = False, **settings: Any) -> Result:
    """Align the two, base as torch's and raw as paddle's; back: the other way about."""
    models = pair(base, raw)
    return align(*(models[::-1] if back else models), X, X, AlignSettings(**settings))


def outcomes(result: Result) -> set[tuple[str, str]]:
    return {(one["outcome"], one["taken"]) for one in result.figures["tried"]}


def first(result: Result) -> str:
    assert not result.aligned
    assert result.first_divergence is not None
    return result.first_divergence.base.route


# -- packs ----------------------------------------------------------------------------------------------------------------
LIES = [
    ("qkv_proj", {"by": "heads"}, f"q, k, v, in {HEADS} groups with a share of each"),
    ("qkv_proj", {"by": "turns"}, "q, k, v, by turns"),
    ("in_proj", {"order": "kqv"}, "k, q, v, one whole after the other"),
    ("c_attn", {"order": "vkq", "by": "heads"}, f"v, k, q, in {HEADS} groups with a share of each"),
]


@pytest.mark.parametrize("back", [False, True], ids=["raw packs", "base packs"])
@pytest.mark.parametrize(("name", "lie", "words"), LIES)
def test_a_layout_that_the_name_does_not_tell_is_found_and_noted_first(
    name: str, lie: dict[str, str], words: str, back: bool
) -> None:
    result = run(Net(), Net(name, **lie), back)
    assert result.aligned
    assert {("fits", words)} == outcomes(result)
    assert result.notes[0].startswith(f"layers.0.{name} is taken NOT as expected (q, k, v, one whole after the other)")
    assert f"but otherwise: {words}. Tried at the outputs of layers.0, this fits" in result.notes[0]
    assert "(and 2 alike)" in result.notes[0]


@pytest.mark.parametrize("fault", ["scale", "heads", "eps"])
@pytest.mark.parametrize(("name", "lie", "words"), [("qkv_proj", {}, "q, k, v, one whole after the other"), *LIES])
def test_a_fault_beside_a_layout_that_is_tried_is_found_at_its_layer(
    name: str, lie: dict[str, str], words: str, fault: str
) -> None:
    result = run(Net(), Net(name, fault, at=1, **lie))
    assert {("fits", words)} == outcomes(result)
    assert first(result).startswith("layers.1")
    assert first(run(Net(), Net(name, fault, **lie))).startswith("layers.0")


def test_a_small_fault_in_every_layer_leaves_the_layout_told() -> None:
    result = run(Net(), Net("qkv_proj", "eps", by="heads"))
    assert {("nearest", LIES[0][2])} == outcomes(result)
    assert "this is nearest, though beyond tolerance" in result.notes[0]


def test_an_order_against_the_name_is_told_and_differs() -> None:
    result = run(Net(), Net("qkv_proj", order="kqv"))
    assert first(result).startswith("layers.0")
    (note,) = [note for note in result.notes if "qkv_proj" in note]
    assert "another layout would fit, which is not taken" in note
    assert "with the next best that was tried (k, q, v, one whole after the other)" in note


# -- square matrices --------------------------------------------------------------------------------------------------------
class Mix(nn.Layer):
    """Multiplies by matrices of its own, `turned` by their transposes; stacked: a stack of two."""

    def __init__(self, turned: bool, stacked: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        draw = np.random.RandomState(turned).standard_normal
        shape = (2, WIDTH, WIDTH) if stacked else (WIDTH, WIDTH)
        self.a, self.b = (nn.Parameter(draw(shape).astype(np.float32)) for _ in range(2))
        self._turned, self._scale = turned, np.float32(scale)

    def forward(self, x: Tensor) -> Tensor:
        axes = (1, 0) if self.a.ndim == 2 else (0, 2, 1)
        a, b = ((each.transpose(*axes) if self._turned else each) for each in (self.a, self.b))
        if self.a.ndim == 2:
            return (((x @ a).tanh()) @ b) * self._scale
        return (((x @ a[0]).tanh() + x @ a[1]) @ b[0]) * self._scale


@pytest.mark.parametrize("stacked", [False, True], ids=["matrix", "stack"])
@pytest.mark.parametrize("turned", [False, True])
def test_square_matrices_are_transposed_where_that_fits(turned: bool, stacked: bool) -> None:
    result = run(nn.Sequential(Mix(False, stacked)), nn.Sequential(Mix(turned, stacked)))
    assert result.aligned
    other = "with its last two dimensions swapped" if stacked else "transposed"
    assert {("fits", other if turned else "as it is")} == outcomes(result)
    assert first(run(nn.Sequential(Mix(False, stacked)), nn.Sequential(Mix(turned, stacked, scale=1.01)))) == "0"


class Half(Mix):
    """Uses the first of two matrices as it is, and the second transposed."""

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ self.a).tanh()) @ self.b.transpose(1, 0)


def test_one_of_two_matrices_alone_is_not_transposed() -> None:
    assert first(run(nn.Sequential(Mix(False)), nn.Sequential(Half(False)))) == "0"


def test_a_linear_mapped_to_a_bare_matrix_is_tried() -> None:
    class Bare(nn.Layer):
        def __init__(self, turned: bool) -> None:
            super().__init__()
            self.w = nn.Parameter(np.ones((WIDTH, WIDTH), np.float32))
            self._turned = turned

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.w.transpose(1, 0) if self._turned else self.w)

    class Inside(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(WIDTH, WIDTH, False)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    for turned in (False, True):
        result = run(Inside(), Bare(turned), parameter_map={"fc.weight": "w"})
        assert {("fits", "as it is" if turned else "transposed")} == outcomes(result)
        assert not [pair for pair in result.pairs if pair.status == "fail"]


# -- what trying leaves, and when it is not done -----------------------------------------------------------------------------
class Counting(nn.Layer):
    """Counts its calls in a buffer, and draws from the generator."""

    def __init__(self, packed: str = "", by: str = "whole") -> None:
        super().__init__()
        self.net = Net(packed, by=by)
        self.register_buffer("calls", Tensor(np.zeros((), np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.data[...] += np.float32(1)
        return self.net(x) + self.calls


def test_trying_leaves_buffers_as_they_were() -> None:
    base, raw = pair(Counting(), Counting("qkv_proj", by="heads"))
    assert align(base, raw, X, X, AlignSettings()).aligned
    for model in (base, raw):
        (calls,) = collect_all(model.read_parameters(["calls"])).values()
        assert 1.0 == calls.to_array()


class Watched(Claimed):
    """A model that notes the forwards it runs."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[ForwardRequest] = []

    def forward(self, request: ForwardRequest, observer: Any = None) -> Any:
        self.asked.append(request)
        return self._model.forward(request, observer)


def forwards(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Sequence[ForwardRequest]:
    watched: Any = Watched("torch", base, {})
    align(watched, pair(base, raw)[1], X, X, AlignSettings(explain=False, **settings))
    return watched.asked


def test_an_ordinary_pair_runs_no_forward_more() -> None:
    assert 1 == len(forwards(Net(), Net()))
    assert "tried" not in run(Net(), Net()).figures


def test_trying_runs_without_gradients_and_in_eval_mode_where_the_run_sets_the_mode() -> None:
    asked = forwards(Net(), Net("qkv_proj"), training=True)
    assert [(False, False, 0), (False, False, 0), (True, True, 0)] == [
        (one.gradients, one.training, one.seed) for one in asked
    ]
    assert {None} == {one.training for one in forwards(Net(), Net("qkv_proj"))}


def test_without_a_seed_nothing_is_tried_and_the_guess_is_told() -> None:
    result = run(Net(), Net("qkv_proj"), seed=None)
    assert result.aligned
    assert {("untried", "q, k, v, one whole after the other")} == outcomes(result)
    assert "is taken to hold" in result.notes[0]
    assert "it was not tried, for without a seed" in result.notes[0]


def test_weights_that_both_sides_hold_already_decide_where_none_are_assigned() -> None:
    base, raw = pair(Net(), Net("qkv_proj", by="heads"))
    assert align(base, raw, X, X, AlignSettings()).aligned
    result = align(base, raw, X, X, AlignSettings(assign=False))
    assert result.aligned
    assert {("fits", LIES[0][2])} == outcomes(result)
    assert "Tried at the weights of layers.0.qkv_proj" in result.notes[0]


def test_a_trial_that_fails_leaves_what_is_expected_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise PadiffError("the store is full", reason=Reason.STORE_FULL)

    monkeypatch.setattr(try_choices, "fits_at_outputs", fails)
    result = run(Net(), Net("qkv_proj"))
    assert result.aligned
    assert "trying failed: the store is full" in result.notes[0]


def test_a_recorded_base_serves_as_well_as_a_live_one(tmp_path: Path) -> None:
    base, raw = pair(Net(), Net("qkv_proj", "scale", at=1, by="heads"))
    settings = AlignSettings(training=True)
    record(base, X, tmp_path / "tape", model_name="net", training=True, loss=settings.base_loss)
    result = align(RecordedModel(tmp_path / "tape"), raw, X, X, settings)
    assert {("fits", LIES[0][2])} == outcomes(result)
    assert first(result).startswith("layers.1")


# -- layers that names do not tell apart ----------------------------------------------------------------------------------
class Branches(nn.Layer):
    """Two Linears of one shape, in layers of one kind. crossed: uses each of them where the other model uses the other."""

    def __init__(self, names: tuple[str, str], crossed: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(WIDTH, WIDTH))
        self._names, self._scale = names[:: -1 if crossed else 1], np.float32(scale)

    def forward(self, x: Tensor) -> Tensor:
        one, two = (getattr(self, name)(x) for name in self._names)
        return x + one.tanh() * two * self._scale


def blocks(names: tuple[str, str], scales: Sequence[float] = (1.0, 1.0), crossed: bool = False) -> nn.Layer:
    return nn.Sequential(*(Branches(names, crossed, scale) for scale in scales))


NAMED = [
    (("left", "right"), ("left_proj", "right_proj"), False),
    (("left", "right"), ("right_proj", "left_proj"), True),
    (("mu", "logvar"), ("fc_mu", "fc_logvar"), False),
    (("w1", "w2"), ("fc1", "fc2"), False),
    (("inLayer", "outLayer"), ("lin_in", "lin_out"), False),
]
"""Names of base's and raw's, as they are defined, that have a word in common; and whether raw uses its second one first."""


@pytest.mark.parametrize(("base", "raw", "crossed"), NAMED)
def test_layers_whose_names_tell_their_partner_are_never_paired_crosswise(
    base: tuple[str, str], raw: tuple[str, str], crossed: bool
) -> None:
    """That they fit so is a fault: a checkpoint that is loaded by name makes another model of it."""
    assert align_numpy(blocks(base), blocks(raw, crossed=crossed)).aligned
    assert not align_numpy(blocks(base), blocks(raw, crossed=not crossed)).aligned


@pytest.mark.parametrize("crossed", [False, True])
def test_layers_that_names_do_not_tell_apart_are_paired_as_fits(crossed: bool) -> None:
    result = align_numpy(blocks(("alpha", "beta")), blocks(("one", "two"), crossed=crossed))
    assert result.aligned
    taken = "alpha -> two, beta -> one" if crossed else "alpha -> one, beta -> two"
    assert {("fits", taken)} == outcomes(result)
    assert crossed == ("NOT as expected" in result.notes[0])
    assert ("0.alpha", "0.two" if crossed else "0.one") in result.paired_routes
    assert not [note for note in result.notes if "which is a guess" in note]
    assert {"forward", "backward", "grads"} <= {
        pair.stage for pair in result.pairs if pair.status == "pass" and "alpha" in pair.base_route
    }


@pytest.mark.parametrize("crossed", [False, True])
def test_a_fault_beside_them_is_found_at_its_layer(crossed: bool) -> None:
    raw = blocks(("one", "two"), (1.0, 1.01), crossed)
    assert "1" == first(align_numpy(blocks(("alpha", "beta")), raw))


def test_one_of_two_layers_that_takes_them_crosswise_differs() -> None:
    raw = nn.Sequential(Branches(("one", "two")), Branches(("one", "two"), crossed=True))
    assert first(align_numpy(blocks(("alpha", "beta")), raw)).startswith("1")


def test_names_that_tell_them_apart_leave_no_choice() -> None:
    names = ("query", "key")
    result = align_numpy(blocks(names), blocks(("q_proj", "k_proj"), crossed=True))
    assert first(result).startswith("0")
    assert "tried" not in result.figures


class Norms(nn.Layer):
    """Two norms of one input, which start alike, so that no output tells them apart. crossed: as of Branches."""

    def __init__(self, names: tuple[str, str], crossed: bool = False) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.LayerNorm(WIDTH))
        self._names = names[:: -1 if crossed else 1]

    def forward(self, x: Tensor) -> Tensor:
        one, two = (getattr(self, name)(x) for name in self._names)
        return one.tanh() * two + one * np.float32(0.5)


def test_an_order_that_trying_leaves_open_is_borne_out_by_the_gradients() -> None:
    result = align_numpy(Norms(("alpha", "beta")), Norms(("one", "two")))
    assert result.aligned
    assert {"alike"} == {outcome for outcome, _ in outcomes(result)}
    assert [] == result.guessed_routes
    (note,) = [note for note in result.notes if "guess" in note]
    assert note.startswith("2 pairs of layers are a guess that the run bears out")


def test_a_wrong_order_that_trying_leaves_open_is_called_a_guess() -> None:
    guessed = [("alpha", "one"), ("beta", "two")]
    models = Norms(("alpha", "beta")), Norms(("one", "two"), crossed=True)
    result = align_numpy(*models)
    assert not result.aligned
    assert guessed == result.guessed_routes
    assert any("trying does not decide" in note for note in result.notes)
    forward = align_numpy(*models, diff_phase="forward")
    assert forward.aligned
    assert guessed == forward.guessed_routes


def align_numpy(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Result:
    return align(HostedModel(base), HostedModel(raw), X, X, AlignSettings(**settings))


def test_two_dumps_are_told_by_their_weights(tmp_path: Path) -> None:
    models = pair(Net(), Net("qkv_proj", by="heads"))
    assert align(*models, X, X, AlignSettings()).aligned
    loss = AlignSettings().base_loss
    for name, model in zip(("base", "raw"), models, strict=True):
        record(model, X, tmp_path / name, model_name=name, loss=loss)
    dumps = [RecordedModel(tmp_path / name) for name in ("base", "raw")]
    for result in (
        align(*dumps, X, X, AlignSettings(assign=False)),
        compare_held(*dumps, AlignSettings(assign=False), ("value", "gradient")),
    ):
        assert result.aligned
        assert {("fits", LIES[0][2])} == outcomes(result)
        assert result.notes[0].startswith("layers.0.qkv_proj is taken NOT as expected")


class Tabled(nn.Layer):
    """Adds a table that it computes itself and no checkpoint holds, beside attention that is tried."""

    def __init__(self, packed: str = "", step: float = 0.1) -> None:
        super().__init__()
        self.net = Net(packed, by="heads" if packed else "whole")
        self.register_buffer("table", Tensor(np.arange(WIDTH, dtype=np.float32) * np.float32(step)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + self.table)


def test_a_table_that_raw_computes_wrongly_is_still_found() -> None:
    assert run(Tabled(), Tabled("qkv_proj")).aligned
    result = run(Tabled(), Tabled("qkv_proj", step=0.2))
    assert {("fits", LIES[0][2])} == outcomes(result)
    assert [("weights_before", "table")] == [(one.stage, one.tensor) for one in result.divergences]
