"""Weights of another kind on each side: a parameter, a buffer, or an Embedding's weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from tests.match.descriptions import L, describe, failing, links, match, net, paddle_linear, torch_linear, user

TABLE = L("Embedding", {"weight": (10, 4)})


def own(name: str, shape: tuple[int, ...] = (10, 4), buffer: bool = False) -> L:
    tensors = {name: shape}
    return L("Net", {} if buffer else tensors, {"fc": torch_linear(4, 4)}, tensors if buffer else {}, own_class=True)


def table(name: str, shape: tuple[int, ...] = (10, 4)) -> L:
    return net(**{name: L("Embedding", {"weight": shape}), "fc": paddle_linear(4, 4)})


@pytest.mark.parametrize(
    ("name", "other", "shape", "rule"),
    [
        ("query_embed", "query_embed", (10, 4), "identity"),
        ("pos_embed", "position_embeddings", (10, 4), "identity"),
        ("pos_embed", "pos_embed", (1, 10, 4), "reshape"),
    ],
)
def test_a_parameter_is_linked_with_an_embedding_of_its_name(
    name: str, other: str, shape: tuple[int, ...], rule: str
) -> None:
    found = match(own(name, shape), table(other))
    assert links(found)[name] == (f"{other}.weight", rule)
    assert [] == [*failing(found.unmatched_base), *failing(found.unmatched_raw)]
    assert any(
        f"{name} is a parameter in base, and in raw {other}.weight, an Embedding's weight" in n for n in found.notes
    )
    assert any(entry.name == other and "no counterpart" in entry.why for entry in found.unmatched_raw)
    back = match_models(describe("paddle", table(other)), describe("torch", own(name, shape)))
    assert links(back)[f"{other}.weight"] == (name, rule)
    assert [] == [*failing(back.unmatched_base), *failing(back.unmatched_raw)]


def test_a_buffer_is_linked_with_an_embedding_of_its_name_and_compared_as_a_buffer() -> None:
    found = match(own("query_embed", buffer=True), table("query_embed"))
    assert ["buffer"] == [link.kind for link in found.links if "query_embed" in link.base[0]]
    assert any("query_embed is a buffer in base" in note for note in found.notes)


def test_a_parameter_here_and_a_buffer_there_are_linked_by_name() -> None:
    found = match(own("scale", (4,)), L("Net", {}, {"fc": paddle_linear(4, 4)}, {"scale": (4,)}, own_class=True))
    assert links(found)["scale"] == ("scale", "identity")
    assert any("scale is a parameter in base, scale a buffer in raw" in note for note in found.notes)


def test_another_name_fails_and_says_which_kinds_differ_and_the_cure() -> None:
    found = match(own("query_embed"), table("object_queries"))
    base = {entry.name: entry.why for entry in found.unmatched_base if entry.fails}
    assert (
        "a parameter of shape [10, 4] here; raw's object_queries.weight, an Embedding's weight, has this shape: use one kind "
        "and one name on both sides, or link the two in the parameter map"
    ) == base["query_embed"]
    raw = {entry.name: entry.why for entry in found.unmatched_raw if entry.fails}
    assert "an Embedding here; base's parameter query_embed has the shape of its weight" in raw["object_queries"]
    cured = match(own("query_embed"), table("object_queries"), parameter_map={"query_embed": "object_queries.weight"})
    assert links(cured)["query_embed"] == ("object_queries.weight", "identity")
    assert [] == [*failing(cured.unmatched_base), *failing(cured.unmatched_raw)]


def test_another_shape_fails_and_says_both() -> None:
    found = match(own("query_embed"), table("query_embed", (12, 4)))
    why = [entry.why for entry in found.unmatched_base if entry.name == "query_embed"]
    assert [
        "a parameter of shape [10, 4] here, in raw an Embedding's weight, query_embed.weight, of shape [12, 4]: give both one "
        "shape"
    ] == why
    assert ["query_embed"] == failing(found.unmatched_raw)


def test_a_parameter_here_and_a_buffer_of_another_name_there_is_said() -> None:
    found = match(user("Net", scale=(4,)), L("Net", {}, {}, {"factor": (4,)}, own_class=True))
    assert ["scale"] == failing(found.unmatched_base)
    assert "raw's factor, a buffer, has this shape" in found.unmatched_base[0].why


def test_an_embedding_with_a_partner_of_its_own_is_left_to_it() -> None:
    torch = user("Net", {"pos_embed": TABLE}, position_embeddings=(10, 4))
    found = match(torch, net(pos_embed=TABLE))
    assert links(found) == {"pos_embed.weight": ("pos_embed.weight", "identity")}
    assert ["position_embeddings"] == failing(found.unmatched_base)
    mapped = match(
        net(other=TABLE, x=user("X", pos=(4,))), user("Net", {"pos": TABLE}, other=(10, 4)), layer_map={"other": "pos"}
    )
    assert links(mapped)["other.weight"] == ("pos.weight", "identity")


class Queries(nn.Layer):
    """Adds learned queries to x, held as `kind` says; `shift` reads them in another order."""

    def __init__(self, kind: str, shift: int = 0) -> None:
        super().__init__()
        self._kind, self._shift = kind, shift
        self.query_embed = nn.Embedding(5, 4) if kind == "embedding" else nn.Parameter(np.zeros((5, 4), np.float32))
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = Tensor((np.arange(5) + self._shift) % 5)
        return self.fc(x + (self.query_embed(rows) if self._kind == "embedding" else self.query_embed[rows.values]))


X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 5, 4)).astype(np.float32)})
SGD = parse_optimizer("SGD(lr=0.1)")


@pytest.mark.parametrize("kinds", [("parameter", "embedding"), ("embedding", "parameter")])
def test_the_two_kinds_agree_in_every_stage(kinds: tuple[str, str]) -> None:
    base, raw = (HostedModel(Queries(kind)) for kind in kinds)
    result = align(base, raw, X, X, AlignSettings(base_optimizer=SGD, raw_optimizer=SGD, steps=2))
    assert result.aligned
    held = {pair.stage for pair in result.pairs if "query_embed" in pair.tensor and pair.status == "pass"}
    assert {"weights_before", "grads", "weights"} == held


def test_a_fault_in_how_they_are_read_is_found() -> None:
    result = align(HostedModel(Queries("parameter")), HostedModel(Queries("embedding", shift=1)), X, X, AlignSettings())
    assert not result.aligned


class Activations(nn.Layer):
    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self._slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x) * self._slope


@pytest.mark.parametrize("settings", [{}, {"single_step": True}, {"base_optimizer": SGD, "raw_optimizer": SGD}])
def test_models_without_parameters_align_and_the_forward_is_what_was_compared(settings: dict[str, Any]) -> None:
    result = align(HostedModel(Activations()), HostedModel(Activations()), X, X, AlignSettings(**settings))
    assert result.aligned
    assert ["neither model has parameters: only the forward was compared"] == result.notes
    assert "both" == result.settings["diff_phase"]
    bug = align(HostedModel(Activations()), HostedModel(Activations(1.1)), X, X, AlignSettings(**settings))
    assert not bug.aligned


def test_weights_of_models_without_any_are_assigned() -> None:
    models = HostedModel(Activations()), HostedModel(Activations())
    assert [] == assign_weights(*models, match_models(*(model.describe() for model in models))).assigned


def test_without_gradients_a_backward_alone_is_no_pass() -> None:
    settings = AlignSettings(diff_phase="backward", single_step=True)
    with pytest.raises(PadiffError, match="depends on no trainable parameter"):
        align(HostedModel(Activations()), HostedModel(Activations()), X, X, settings)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_floats_are_assigned_and_compared_in_every_stage(dtype: str) -> None:
    models = [HostedModel(Queries("parameter")) for _ in range(2)]
    for model in models:
        model.backend.prepare(model.model, None, dtype)
    x = as_inputs({"x": X["x"].to_array().astype(dtype)})
    assert align(models[0], models[1], x, x, AlignSettings(base_optimizer=SGD, raw_optimizer=SGD)).aligned
