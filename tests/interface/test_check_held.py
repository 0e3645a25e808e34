"""The offline checks of weights and gradients find every planted difference, and name it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from padiff_rpc import check_grads, check_params, check_weights, create_model
from tests.interface import planted as plant
from tests.interface.planted import STRICT, node_of, pair, spoil_held
from tests.tape.tapes import edit

LOG = Path("padiff_log")


# -- differences in what the models hold --------------------------------------------------------------------------
HELD: dict[str, tuple[Callable[..., bool], str, str, str, str, plant.Change, str]] = {
    "a weight's value": (check_params, "params.json", "head", "weights", "weight", plant.bump, "1 of 30 elements"),
    "a weight's value after the step": (
        check_weights,
        "weights.json",
        "head",
        "weights",
        "weight",
        plant.bump,
        "1 of 30 elements",
    ),
    "a gradient's value": (check_params, "params.json", "head", "grads", "bias", plant.bump, "1 of 5 elements"),
    "a gradient's value alone": (check_grads, "grads.json", "head", "grads", "bias", plant.bump, "1 of 5 elements"),
    "a buffer's value": (check_params, "params.json", "bn1", "buffers", "running_mean", plant.bump, "1 of 6 elements"),
    "a weight's element type": (
        check_params,
        "params.json",
        "head",
        "weights",
        "weight",
        plant.doubled_precision,
        "element types differ: F32 in base, F64 in raw",
    ),
    "permuted weights": (check_params, "params.json", "head", "weights", "weight", plant.turn, "30 of 30 elements"),
    "NaN in a weight": (check_params, "params.json", "head", "weights", "weight", plant.with_nan, "NaN in raw"),
    "Inf in a gradient": (
        check_params,
        "params.json",
        "head",
        "grads",
        "weight",
        plant.with_inf,
        "0 Inf in base, 1 in raw",
    ),
}


@pytest.mark.parametrize("fault", HELD)
def test_a_planted_difference_in_what_is_held_is_found_and_named(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check, files, route, kind, name, change, why = HELD[fault]
    base, raw = pair(tmp_path, "conv_net")
    spoil_held(raw, route, kind, name, change, files)
    assert not check(base, raw, STRICT)
    out = capsys.readouterr().out
    what = "grads" if kind == "grads" else "weights"
    assert f"[AutoDiff] Diff found when compare {what}, please check report\n" in out
    assert f"base.{route}.{name} and raw.{route}.{name}: {why}" in out
    log = (LOG / f"{what}_diff.log").read_text()
    assert f"base_model param path:\n    base.{route}.{name}\nraw_model param path:\n    raw.{route}.{name}\n" in log


def test_the_log_lists_every_parameter_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = pair(tmp_path)
    for route in ("body.fc1", "body.fc2", "head"):
        for kind in ("weights", "grads"):
            spoil_held(raw, route, kind, "weight", plant.bump)
    assert not check_params(base, raw, STRICT)
    for what in ("weights", "grads"):
        log = (LOG / f"{what}_diff.log").read_text()
        paths = [f"    raw.{route}.weight\n" for route in ("body.fc1", "body.fc2", "head")]
        assert [1] * 3 == [log.count(path) for path in paths]


def test_a_weight_of_another_shape_is_named_with_both_shapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, raw = pair(tmp_path)
    spoil_held(raw, "head", "weights", "weight", plant.reshaped)
    spoil_held(raw, "head", "grads", "weight", plant.reshaped)
    assert not check_params(base, raw, STRICT)
    why = "parameter 'head.weight' of base_model has no counterpart: shape [4, 16] against [16, 4, 1]"
    assert why in capsys.readouterr().out
    assert why in (LOG / "unmatched.log").read_text()


@pytest.mark.parametrize("check", [check_params, check_grads])
@pytest.mark.parametrize("side", ["base", "raw"])
def test_a_parameter_gradient_that_one_side_lacks_is_a_difference(
    tmp_path: Path, check: Callable[..., bool], side: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = pair(tmp_path)
    for name in ("params.json", "grads.json"):
        edit(tmp_path / side / name, lambda content: node_of(content, "head")["grads"].update(weight=None))
    assert not check(*folders, STRICT)
    assert f"no gradient for head.weight in {side}, though the other side has one" in capsys.readouterr().out


def test_no_gradient_on_either_side_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = pair(tmp_path, backward=False)
    assert not check_grads(*folders)
    assert "no gradient was compared, so this is no pass" in capsys.readouterr().out


def test_single_dumps_are_compared_without_a_report(tmp_path: Path) -> None:
    for side in ("base", "raw"):
        proxy = create_model(plant.model_of("mlp"), name=side)
        plant.run_once(proxy, "mlp")
        proxy.dump_weights(tmp_path / side)
        proxy.dump_grads(tmp_path / side)
    folders = tmp_path / "base", tmp_path / "raw"
    assert [True, True] == [check(*folders) for check in (check_weights, check_grads)]
    spoil_held(folders[1], "head", "weights", "weight", plant.bump, "weights.json")
    assert [False, True] == [check(*folders) for check in (check_weights, check_grads)]
