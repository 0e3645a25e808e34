"""The offline checks of reports find every planted difference in what passed the layers, and name it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc import check_grads, check_params, check_report, check_weights, create_model
from padiff_rpc.errors import PadiffError
from padiff_rpc.numpy_framework import nn
from tests.interface import planted as plant
from tests.interface.planted import STRICT, dump, node_of, pair, spoil_tensor
from tests.tape.tapes import edit

Plant = Callable[[Path, Path], object]
LOG = Path("padiff_log")


def found(out: str, stage: str, base: str, raw: str, why: str) -> None:
    """Assert that a difference was shown as PaDiff shows it, and that both trees point at their layer."""
    assert f"[AutoDiff]     Diff found in {stage} Stage\n" in out
    assert f"[AutoDiff]     Route: {base}\n[AutoDiff]            {raw}\n" in out
    assert f"[AutoDiff]     Why: {why}" in out
    assert f"[AutoDiff] The {stage.lower()} stage comparing failed !!!\n" in out
    assert "DIFFERS\n" in out


def marked(name: str) -> list[str]:
    """Return the lines of a tree in the log that say HERE, without the drawing."""
    lines = (LOG / name).read_text().splitlines()
    return [line.partition("<---")[0].strip(" |+-") for line in lines if line.endswith("<---  *** HERE ***")]


def spoil(route: str, key: str, change: plant.Change, *, both: bool = False) -> Plant:
    return lambda base, raw: [spoil_tensor(leaf, route, key, change) for leaf in ([base, raw] if both else [raw])]


# -- nothing is planted -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("factory", ["mlp", "conv_net", "tuple_outputs", "shared", "tied", "bert_like"])
def test_equal_models_agree_in_every_check(tmp_path: Path, factory: str, capsys: pytest.CaptureFixture[str]) -> None:
    folders = pair(tmp_path, factory)
    assert [True] * 4 == [check(*folders, STRICT) for check in (check_report, check_params, check_weights, check_grads)]
    assert 4 == capsys.readouterr().out.count("[AutoDiff] the dump: agrees\n")
    assert not LOG.exists()


def test_equal_forwards_agree_without_a_backward(tmp_path: Path) -> None:
    assert check_report(*pair(tmp_path, backward=False), STRICT)


def test_several_forwards_are_compared_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = pair(tmp_path, forwards=3)
    assert check_report(base, raw, STRICT)
    spoil_tensor(raw, "head", "fwd_outputs", plant.bump, call=1)
    assert not check_report(base, raw, STRICT)
    assert "Diff found in Forward Stage of forward 1\n" in capsys.readouterr().out


# -- differences in what passed the layers ------------------------------------------------------------------------
VALUES: dict[str, tuple[Plant, str, str, str, str]] = {
    "an output's value": (
        spoil("body.fc2", "fwd_outputs", plant.bump),
        "Forward",
        "body.fc2",
        "Linear",
        "its inputs agree, its output does not",
    ),
    "the model's output": (
        spoil("", "fwd_outputs", plant.bump),
        "Forward",
        "",
        "Mlp",
        "its inputs and children agree until here: its own code after its last child changes the output",
    ),
    "an input's value": (
        spoil("body.fc2", "fwd_inputs", plant.bump),
        "Forward",
        "body",
        "Body",
        "its inputs and children agree until here: its own code changes what it hands to 'body.fc2'",
    ),
    "an input gradient's value": (
        spoil("body.fc2", "bwd_grads", plant.bump),
        "Backward",
        "body.fc2",
        "Linear",
        "the gradients of its outputs agree, what it sends back to its input does not",
    ),
    "an output gradient's value": (
        spoil("head", "bwd_output_grads", plant.bump),
        "Backward",
        "",
        "Mlp",
        "gradients agree until here: its own code, run backward, changes the gradient that it sends to 'head'",
    ),
    "the shape of an output": (
        spoil("body.fc2", "fwd_outputs", plant.reshaped),
        "Forward",
        "body.fc2",
        "Linear",
        "its inputs agree, its output does not (shapes differ: F32[4, 16] in base, F32[16, 4, 1] in raw)",
    ),
    "the element type of an output": (
        spoil("body.fc2", "fwd_outputs", plant.doubled_precision),
        "Forward",
        "body.fc2",
        "Linear",
        "its inputs agree, its output does not (element types differ: F32 in base, F64 in raw)",
    ),
    "NaN on one side": (
        spoil("body.fc2", "fwd_outputs", plant.with_nan),
        "Forward",
        "body.fc2",
        "Linear",
        "its inputs agree, its output does not (NaN in raw (1 elements))",
    ),
    "NaN on both sides": (
        spoil("body.fc2", "fwd_outputs", plant.with_nan, both=True),
        "Forward",
        "body.fc2",
        "Linear",
        "its inputs agree, its output does not (NaN on both sides (1 elements))",
    ),
    "Inf at another place": (
        lambda base, raw: [
            spoil_tensor(base, "body.fc2", "fwd_outputs", plant.with_inf),
            spoil_tensor(raw, "body.fc2", "fwd_outputs", plant.with_inf_elsewhere),
        ],
        "Forward",
        "body.fc2",
        "Linear",
        "its inputs agree, its output does not (1 Inf on each side, at different places or signs; first at [0, 1]: inf in base, ",
    ),
    "permuted values": (
        spoil("body.fc2", "fwd_outputs", plant.turn),
        "Forward",
        "body.fc2",
        "Linear",
        "its inputs agree, its output does not",
    ),
    "a gradient that one side lacks": (
        lambda base, raw: edit(raw / "report.json", lambda content: node_of(content, "body.fc2")["bwd_grads"].clear()),
        "Backward",
        "body",
        "Body",
        "its own code detaches on one side what it hands to the layer inside it (only base has this gradient)",
    ),
    "an output that one side lacks": (
        lambda base, raw: edit(raw / "report.json", lambda content: node_of(content, "head")["fwd_outputs"].clear()),
        "Forward",
        "head",
        "Linear",
        "base's layer returns 1 tensor, raw's 0 tensors",
    ),
    "an output that only raw has": (
        lambda base, raw: edit(raw / "report.json", lambda content: _twice(node_of(content, "head")["fwd_outputs"])),
        "Forward",
        "head",
        "Linear",
        "base's layer returns 1 tensor, raw's 2 tensors",
    ),
    "a call that one side lacks": (
        lambda base, raw: edit(raw / "report.json", lambda content: node_of(content, "body")["children"].pop(1)),
        "Forward",
        "body.act",
        "Tanh",
        "base calls it once, raw never",
    ),
    "another call": (
        lambda base, raw: edit(raw / "report.json", lambda content: _add_call(content, "head")),
        "Forward",
        "head",
        "Linear",
        "base calls it once, raw twice",
    ),
}


@pytest.mark.parametrize("fault", VALUES)
def test_a_planted_difference_is_found_and_named(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put, stage, route, class_name, why = VALUES[fault]
    base, raw = pair(tmp_path)
    put(base, raw)
    assert not check_report(base, raw, STRICT)
    suffix = f".{route}" if route else ""
    found(capsys.readouterr().out, stage, f"base{suffix}", f"raw{suffix}", why)
    assert [[class_name]] * 2 == [marked("report_base.log"), marked("report_raw.log")]


@pytest.mark.parametrize("fault", [each for each in VALUES if each != "permuted values"])
def test_the_mean_sees_every_difference_but_permuted_values(tmp_path: Path, fault: str) -> None:
    base, raw = pair(tmp_path)
    VALUES[fault][0](base, raw)
    assert not check_report(base, raw)


def test_permuted_values_have_an_equal_mean(tmp_path: Path) -> None:
    base, raw = pair(tmp_path)
    spoil_tensor(raw, "body.fc2", "fwd_outputs", plant.turn)
    assert check_report(base, raw, {"rtol": 1e-6})
    assert check_report(base, raw, {"rtol": 1e-6, "compare_mode": "abs_mean"})
    assert not check_report(base, raw, {"rtol": 1e-6, "compare_mode": "strict"})


def test_opposite_signs_have_an_equal_mean_of_absolute_values(tmp_path: Path) -> None:
    base, raw = pair(tmp_path)
    spoil_tensor(raw, "body.fc2", "fwd_outputs", lambda array: -array)
    assert check_report(base, raw, {"compare_mode": "abs_mean"})
    assert not check_report(base, raw)


def test_several_differences_name_the_first_in_the_order_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, raw = pair(tmp_path)
    for route in ("head", "body.act", "body.fc2"):
        spoil_tensor(raw, route, "fwd_outputs", plant.bump)
    assert not check_report(base, raw, STRICT)
    assert "Route: base.body.act\n" in capsys.readouterr().out


def test_a_layer_that_only_one_model_has_is_a_difference_on_either_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An Identity changes no number, so that nothing but its presence differs."""
    base = dump(tmp_path / "base")
    raw = dump(tmp_path / "raw", change=lambda model: setattr(model, "head", _Wrapped(model.head)))
    for folders, side, name in (((base, raw), "raw", "raw"), ((raw, base), "base", "raw")):
        assert not check_report(*folders, STRICT)
        out = capsys.readouterr().out
        assert f"Why: only {side} has the layer 'head.nothing' (Nothing)\n" in out
        assert f"{name}.head.nothing\n" in out
        assert ["Nothing"] == marked(f"report_{name}.log")
        assert "leave the layer out of both dumps" in out


def test_layers_without_parameters_are_passed_over_where_the_switch_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = dump(tmp_path / "base")
    raw = dump(tmp_path / "raw", change=lambda model: setattr(model, "head", _Wrapped(model.head)))
    monkeypatch.setenv("PADIFF_SIKP_WRAP_LAYER", "ON")
    assert check_report(base, raw, STRICT)
    assert "it holds no parameters of its own (PADIFF_SIKP_WRAP_LAYER)" in capsys.readouterr().out


def test_a_layer_with_parameters_that_only_one_model_has_is_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = dump(tmp_path / "base")
    raw = dump(tmp_path / "raw", change=lambda model: setattr(model, "head", _Wrapped(model.head, nn.LayerNorm(4))))
    assert not check_report(base, raw, STRICT)
    assert "only raw has the layer 'head.nothing' (LayerNorm)" in capsys.readouterr().out
    assert not check_params(base, raw, STRICT)
    assert "layer 'head.nothing' of raw_model has no counterpart" in capsys.readouterr().out
    assert "layer 'head.nothing' of raw_model" in (LOG / "unmatched.log").read_text()


def test_a_wrapper_around_matched_layers_is_no_difference(tmp_path: Path) -> None:
    base = dump(tmp_path / "base")
    raw = dump(tmp_path / "raw", change=lambda model: setattr(model, "head", nn.Sequential(model.head)))
    assert check_report(base, raw, STRICT)


def test_layers_that_both_lists_leave_out_are_not_missed(tmp_path: Path) -> None:
    folders = []
    for name in ("base", "raw"):
        model = plant.model_of("mlp")
        if name == "raw":
            model.head = _Wrapped(model.head)
        proxy = create_model(model, name=name)
        if name == "raw":
            proxy.update_black_list("head.nothing")
        plant.run_once(proxy, "mlp")
        proxy.dump_report(tmp_path / name)
        folders.append(tmp_path / name)
    assert check_report(folders[0], folders[1], STRICT)


def test_another_number_of_forwards_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_report(dump(tmp_path / "base"), dump(tmp_path / "raw", forwards=2), STRICT)
    found(capsys.readouterr().out.replace(" of forward 1", ""), "Forward", "base", "raw", "base's dump holds 1 forward")


def test_a_backward_that_one_side_lacks_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = dump(tmp_path / "base"), dump(tmp_path / "raw", backward=False)
    assert not check_report(base, raw, STRICT)
    found(capsys.readouterr().out, "Backward", "base", "raw", "base's dump holds a backward, raw's none")
    for check in (check_params, check_grads):
        assert not check(base, raw, STRICT)
        assert "no gradient for head.weight in raw, though the other side has one" in capsys.readouterr().out


def test_models_that_have_nothing_in_common_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = dump(tmp_path / "base"), dump(tmp_path / "raw", "conv_net")
    for check in (check_report, check_params, check_weights, check_grads):
        assert not check(base, raw, {"rtol": 1e9, "atol": 1e9})
    assert "layer 'conv1' of raw_model has no counterpart" in capsys.readouterr().out


def test_two_models_of_one_name_get_two_trees(tmp_path: Path) -> None:
    base, raw = dump(tmp_path / "base", name="net"), dump(tmp_path / "raw", name="net")
    spoil_tensor(raw, "head", "fwd_outputs", plant.bump)
    assert not check_report(base, raw, STRICT)
    assert ["report_net(base_model).log", "report_net(raw_model).log"] == sorted(path.name for path in LOG.iterdir())


def test_nothing_but_empty_tensors_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = pair(tmp_path, backward=False)
    for leaf in (base, raw):
        for route in ("", "body", "body.fc1", "body.act", "body.fc2", "head"):
            for key in ("fwd_inputs", "fwd_outputs"):
                spoil_tensor(leaf, route, key, lambda array: array[:0])
    assert not check_report(base, raw, STRICT)
    assert "no output of the model was compared, so this is no pass" in capsys.readouterr().out


def test_a_report_without_a_forward_is_an_error(tmp_path: Path) -> None:
    base, raw = pair(tmp_path)
    dump(tmp_path / "raw", forwards=0)
    with pytest.raises(PadiffError, match="raw' holds no forward"):
        check_report(base, raw)


# -- helpers ------------------------------------------------------------------------------------------------------
class Nothing(nn.Layer):
    """Returns what it is given, as a tensor of its own."""

    def forward(self, x: Any) -> Any:
        return x * 1.0


class _Wrapped(nn.Layer):
    """A layer, and after it another that nobody asked for."""

    def __init__(self, layer: nn.Layer, further: nn.Layer | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.nothing = further or Nothing()

    def forward(self, x: Any) -> Any:
        return self.nothing(self.layer(x))


def _twice(entries: list[Any]) -> None:
    entries.append(copy.deepcopy(entries[0]))


def _add_call(content: dict[str, Any], route: str) -> None:
    again = copy.deepcopy(node_of(content, route))
    again["padiff_rpc"].update(call=1, seq={"input": 90, "output": 91})
    again["bwd_grads"], again["bwd_output_grads"] = [], []
    content["tree"][0]["children"].append(again)


def test_scaled_takes_its_tolerance_from_the_table(tmp_path: Path) -> None:
    """1e-5 of one element is far beyond 1e-7, and within what float32 may differ by."""
    base, raw = pair(tmp_path)
    spoil_tensor(raw, "head", "fwd_outputs", lambda array: array * np.float32(1 + 1e-5))
    assert not check_report(base, raw, {"compare_mode": "strict"})
    assert check_report(base, raw, {"compare_mode": "scaled"})
    assert not check_report(base, raw, {"compare_mode": "scaled", "rtol": 1e-7})
