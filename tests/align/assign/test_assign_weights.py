"""Assigning weights: values land under their layout, and nothing is written when anything does not fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.assign.assign_weights import AssignReport, assign_weights, refuse_extras
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import What
from padiff_rpc.numpy_framework import nn
from padiff_rpc.tensors.tensor import Tensor, TensorStream


class Torchlike(nn.Layer):
    """Linears [out, in], a square one among them, and batch norm."""

    def __init__(self, bias: bool = True, linear: type[nn.Layer] = nn.Linear) -> None:
        super().__init__()
        self.fc = linear(4, 4, bias=bias)  # pyright: ignore[reportCallIssue]
        self.bn = nn.BatchNorm(4)
        self.out = linear(4, 3)  # pyright: ignore[reportCallIssue]


class Counted:
    """A model that notes what is read, and how many tensors were read when each one was written."""

    def __init__(self, model: HostedModel, log: list[str]) -> None:
        self._model = model
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        for stream in self._model.read_parameters(names, what, transposed):
            self._log.append(f"read {stream.name}")
            yield stream

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        def noted() -> Iterator[TensorStream]:
            for stream in tensors:
                self._log.append(f"write {stream.name}")
                yield stream

        self._model.write_parameters(noted())


def hosted(model: nn.Layer, seed: int, dtype: str | None = None) -> HostedModel:
    """Host a model with random values in every parameter and buffer."""
    host = HostedModel(model)
    if dtype is not None:
        host.backend.prepare(model, None, dtype)
    generator = np.random.default_rng(seed)
    host.write_parameters(
        Tensor.from_array(generator.normal(size=info.spec.shape).astype(info.spec.dtype.storage)).stream(info.name)
        for info in host.describe().parameters
    )
    return host


def values(host: HostedModel) -> dict[str, np.ndarray]:
    names = [info.name for info in host.describe().parameters]
    return {stream.name: stream.collect().to_array().copy() for stream in host.read_parameters(names)}


def assign(base: Any, raw: Any) -> AssignReport:
    return assign_weights(base, raw, match_models(base.describe(), raw.describe()))


def refuse(base: HostedModel, raw: HostedModel) -> None:
    described = base.describe(), raw.describe()
    refuse_extras(*described, match_models(*described))


def test_parameters_and_buffers_land_transposed_where_the_layout_differs() -> None:
    base, raw = hosted(Torchlike(), 1), hosted(Torchlike(linear=nn.LinearIO), 2)
    report = assign(base, raw)
    mine, theirs = values(base), values(raw)
    for name in mine:
        np.testing.assert_array_equal(mine[name].T if name in ("fc.weight", "out.weight") else mine[name], theirs[name])
    assert sorted(report.assigned) == sorted(mine)
    assert report.size_bytes == sum(array.nbytes for array in theirs.values())
    assert (report.converted, report.skipped, report.notes) == ([], [], [])


def test_the_dtype_of_raw_is_kept_and_said() -> None:
    base, raw = hosted(Torchlike(), 1, "float64"), hosted(Torchlike(), 2)
    report = assign(base, raw)
    mine, theirs = values(base), values(raw)
    for name in mine:
        assert theirs[name].dtype == np.float32
        np.testing.assert_array_equal(mine[name].astype(np.float32), theirs[name])
    assert sorted(report.converted) == sorted(mine)


def test_values_that_overflow_are_said() -> None:
    base, raw = hosted(Torchlike(), 1), hosted(Torchlike(), 2, "float16")
    base.write_parameters([Tensor.from_array(np.array([1, 1e6, 1, -1e6], np.float32)).stream("fc.bias")])
    assert assign(base, raw).notes == ["fc.bias: 2 of 4 values exceed the range of F16 and became infinite"]


def test_one_link_at_a_time_is_read_and_written() -> None:
    log: list[str] = []
    assign(Counted(hosted(Torchlike(), 1), log), Counted(hosted(Torchlike(), 2), log))
    assert [line.split()[0] for line in log] == ["read", "write"] * 8
    assert [line.split()[1] for line in log[::2]] == [line.split()[1] for line in log[1::2]]


class Other(nn.Layer):
    """What Torchlike is not: `fc` has another size, `extra` has no partner."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm(4)
        self.fc = nn.Linear(5, 4)
        self.out = nn.Linear(4, 3)
        self.extra = nn.Conv2D(2, 2, 3)


def test_nothing_is_written_when_the_shapes_of_two_that_correspond_do_not_fit() -> None:
    base, raw = hosted(Torchlike(), 1), hosted(Other(), 2)
    before = values(raw)
    with pytest.raises(PadiffError) as caught:
        assign(base, raw)
    after = values(raw)
    assert caught.value.reason is Reason.MODELS_DO_NOT_MATCH
    assert "--map FILE" in caught.value.hint
    assert "fc.weight [4, 5]: shape [4, 5] against [4, 4] of base's fc.weight" in caught.value.message
    assert "extra" not in caught.value.message
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_a_bias_that_only_raw_has_keeps_its_own_values_unless_that_is_refused() -> None:
    base, raw = hosted(Torchlike(bias=False), 1), hosted(Torchlike(), 2)
    before = values(raw)["fc.bias"]
    report = assign(base, raw)
    assert "fc.bias" not in report.assigned
    assert ["fc.bias"] == [entry.name for entry in report.skipped]
    np.testing.assert_array_equal(before, values(raw)["fc.bias"])
    with pytest.raises(PadiffError, match=r"raw's parameter fc\.bias \[4\]") as caught:
        refuse(base, raw)
    assert caught.value.reason is Reason.MODELS_DO_NOT_MATCH


def test_where_no_parameter_has_a_partner_all_are_refused() -> None:
    with pytest.raises(PadiffError, match=r"raw's layer 0, parameter 0\.weight \[2\]") as caught:
        assign(hosted(nn.Sequential(nn.Linear(4, 3)), 1), hosted(nn.Sequential(nn.LayerNorm(2)), 2))
    assert caught.value.reason is Reason.MODELS_DO_NOT_MATCH


def test_a_link_whose_shapes_do_not_fit_its_rule_is_refused_before_writing() -> None:
    base, raw = hosted(Torchlike(), 1), hosted(Torchlike(), 2)
    matching = match_models(base.describe(), raw.describe())
    crooked = replace(matching, links=tuple(replace(link, rule="transpose") for link in matching.links))
    before = values(raw)
    with pytest.raises(PadiffError, match="under the rule 'transpose'"):
        assign_weights(base, raw, crooked)
    np.testing.assert_array_equal(before["fc.weight"], values(raw)["fc.weight"])


def test_a_matching_that_forgets_a_parameter_is_refused() -> None:
    base, raw = hosted(Torchlike(), 1), hosted(Torchlike(), 2)
    matching = match_models(base.describe(), raw.describe())
    with pytest.raises(PadiffError, match=r"fc\.weight \[4, 4\]: no layer of base corresponds"):
        assign_weights(base, raw, replace(matching, links=matching.links[1:]))


class Tied(nn.Layer):
    def __init__(self, tie: bool) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        if tie:
            self.b.weight = self.a.weight


def test_a_tied_parameter_feeds_both_of_raw() -> None:
    base, raw = hosted(Tied(tie=True), 1), hosted(Tied(tie=False), 2)
    assign(base, raw)
    mine, theirs = values(base), values(raw)
    np.testing.assert_array_equal(mine["a.weight"], theirs["a.weight"])
    np.testing.assert_array_equal(mine["a.weight"], theirs["b.weight"])


def test_raw_that_ties_what_base_keeps_apart_shows_in_the_matching_and_takes_the_first() -> None:
    base, raw = hosted(Tied(tie=False), 1), hosted(Tied(tie=True), 2)
    matching = match_models(base.describe(), raw.describe())
    assign_weights(base, raw, matching)
    assert [entry.name for entry in matching.unmatched_base if entry.fails] == ["b.weight"]
    np.testing.assert_array_equal(values(base)["a.weight"], values(raw)["a.weight"])


class Shared(nn.Layer):
    """One layer under two routes, or two layers."""

    def __init__(self, share: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first if share else nn.Linear(4, 4)


def test_a_layer_under_two_routes_is_one_layer() -> None:
    base, raw = hosted(Shared(share=True), 1), hosted(Shared(share=True), 2)
    assert assign(base, raw).assigned == ["first.weight", "first.bias"]


def test_a_layer_that_only_base_shares_leaves_one_of_raw_without_a_value() -> None:
    base, raw = hosted(Shared(share=True), 1), hosted(Shared(share=False), 2)
    assert ["first.weight", "first.bias"] == assign(base, raw).assigned
    with pytest.raises(PadiffError, match=r"raw's layer again, parameter again\.weight"):
        refuse(base, raw)
