"""From a run to plans and settings: defaults, and what contradicts itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from padiff_clients.plan import align_settings, loss_of, plan_one, plan_sides
from padiff_clients.run_keys import RunFile
from padiff_clients.runfile import merge, validate

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import LossSpec, OptimizerSpec

FACTORY = "numpy@m.py:build"
NO_TARGETS: dict[str, dict[str, Any]] = {"base": {}, "raw": {}}


def run_of(base: str = FACTORY, raw: str = FACTORY, **keys: Any) -> RunFile:
    sides = {name: {"spec": spec, **keys.pop(f"{name}_keys", {})} for name, spec in (("base", base), ("raw", raw))}
    return merge(RunFile(), validate({**keys, **sides}, "test"))


def settings_of(run: RunFile, targets: dict[str, dict[str, Any]] = NO_TARGETS) -> AlignSettings:
    return align_settings(run, *plan_sides(run), targets)


def refusal(run: RunFile, targets: dict[str, dict[str, Any]] = NO_TARGETS) -> PadiffError:
    with pytest.raises(PadiffError) as caught:
        settings_of(run, targets)
    return caught.value


def test_a_run_of_two_specs_takes_the_defaults():
    run = run_of()
    base, raw = plan_sides(run)

    assert settings_of(run) == AlignSettings()
    assert (base.python, raw.python) == (sys.executable, sys.executable)
    assert base.spec.factory == "build"


def test_every_key_arrives():
    run = run_of(
        base_keys={"args": {"n": 1}, "device": "cpu", "dtype": "float64", "threads": 1},
        threads=4,
        store={"memory": "1GiB", "disk": "2GB"},
        train=True,
        phase="forward",
        single_step=True,
        api_calls=True,
        steps=3,
        seed=7,
        assign=False,
        loss="mean",
        optimizer="SGD(lr=0.5)",
        compare={"mode": "strict", "atol": 1e-3, "rtol": 1e-2, "allow_dtype_difference": True},
        map={"layers": {"a": "b"}, "parameters": {"a.w": "b.w"}},
    )
    base, raw = plan_sides(run)
    sgd = OptimizerSpec("SGD", {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0})

    assert (base.args, base.device, base.dtype, base.threads, raw.threads) == ({"n": 1}, "cpu", "float64", 1, 4)
    assert (raw.store_memory_bytes, raw.store_disk_bytes) == (1 << 30, 2_000_000_000)
    assert settings_of(run) == AlignSettings(
        compare=CompareRules("strict", 1e-3, 1e-2, True),
        assign=False,
        training=True,
        diff_phase="forward",
        single_step=True,
        api_calls=True,
        steps=3,
        seed=7,
        base_loss=LossSpec("mean"),
        raw_loss=LossSpec("mean"),
        base_optimizer=sgd,
        raw_optimizer=sgd,
        layer_map={"a": "b"},
        parameter_map={"a.w": "b.w"},
    )


def test_a_sides_own_functions_are_offered_by_its_worker():
    run = run_of(
        base_keys={"loss_fn": "l.py:f", "optimizer_fn": "o.py:g"}, raw_keys={"loss_fn": "k.py:h", "optimizer": "SGD"}
    )
    base, raw = plan_sides(run)
    settings = settings_of(run)

    assert (base.losses, base.optimizers, raw.losses, raw.optimizers) == (
        {"f": "l.py:f"},
        {"g": "o.py:g"},
        {"h": "k.py:h"},
        {},
    )
    assert (settings.base_loss, settings.raw_loss) == (LossSpec("f"), LossSpec("h"))
    assert settings.base_optimizer == OptimizerSpec("g")


def test_a_function_with_a_neutral_name_is_offered_under_another():
    base, _ = plan_sides(run_of(base_keys={"loss_fn": "l.py:mse", "optimizer_fn": "o.py:SGD"}))

    assert (base.losses, base.optimizers) == ({"mse_fn": "l.py:mse"}, {"SGD_fn": "o.py:SGD"})


@pytest.mark.parametrize("key", ["device", "dtype", "args", "python", "threads", "loss_fn", "optimizer_fn"])
def test_what_only_a_launched_worker_understands_is_refused_for_a_running_one(key: str):
    value = {"dtype": "float64", "args": {"a": 1}, "threads": 2, "loss_fn": "l.py:f", "optimizer_fn": "l.py:f"}.get(
        key, "x"
    )

    err = refusal(run_of(raw="grpc://h:1", raw_keys={key: value}))

    assert err.reason == Reason.BAD_CONFIG
    assert f"raw is 'grpc://h:1', which already runs: {key} cannot be set from here" == err.message
    assert "padiff-rpc serve" in err.hint


def test_threads_for_both_go_to_the_launched_side_and_need_one():
    base, raw = plan_sides(run_of(raw="unix:/w", threads=2))

    assert (base.threads, raw.threads) == (2, None)
    assert (
        "no worker is launched here: threads, store cannot be set"
        in refusal(run_of("unix:/v", "unix:/w", threads=2, store={"disk": "1"})).message
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"loss": "mse"}, "compares with targets"),
        ({"loss": "mea"}, "there is no loss 'mea'"),
        ({"loss": "mean("}, "cannot read the loss"),
        ({"optimizer": "Sgd"}, "there is no optimizer 'Sgd'"),
        ({"optimizer": "SGD(lrr=1)"}, "takes no option 'lrr'"),
        ({"base_keys": {"loss_fn": "l.py:f"}}, "base has a loss of its own and raw has none"),
        ({"raw_keys": {"loss": "mean"}}, "raw has a loss of its own and base has none"),
        ({"base_keys": {"loss_fn": "nothing"}}, "names no function"),
        ({"store": {"memory": "lots"}}, "'lots' is no size"),
        ({"token_file": "/none"}, "cannot read the token file"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], expected: str):
    assert expected in refusal(run_of(**keys)).message


def test_the_nearest_loss_is_named():
    assert "did you mean 'mean'?" in refusal(run_of(loss="mea")).hint


def test_of_one_model_alone_messages_name_its_own_options():
    run = validate({"base": {"spec": FACTORY, "loss": "mea"}}, "test")
    with pytest.raises(PadiffError) as caught:
        loss_of(plan_one(run), run.base, {})
    assert "bring your own with --loss-fn FILE.py:function" in caught.value.hint
    with pytest.raises(PadiffError, match="the model is 'unix:/v', which already runs: device cannot be set"):
        plan_one(validate({"base": {"spec": "unix:/v", "device": "cpu"}}, "test"))


def test_a_running_worker_may_offer_any_loss():
    assert settings_of(run_of("unix:/v", "unix:/w", loss="their_own")).base_loss == LossSpec("their_own")


def test_targets_go_to_a_loss_that_takes_them_and_to_no_other():
    targets = {"base": {"target": 1}, "raw": {"target": 2}}

    settings = settings_of(run_of(loss="mse"), targets)
    assert (settings.base_loss.targets, settings.raw_loss.targets) == ({"target": 1}, {"target": 2})
    assert "targets are given, and the loss 'projection' takes none" in refusal(run_of(), targets).message


def test_a_missing_side_is_named():
    with pytest.raises(PadiffError, match="raw is not given"):
        plan_sides(merge(RunFile(), validate({"base": {"spec": FACTORY}}, "test")))


def test_a_token_is_read_from_its_file_without_the_line_end(tmp_path: Path):
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "empty").write_text("\n")

    assert plan_sides(run_of(raw="unix:/w", token_file=str(tmp_path / "token")))[1].token == "secret"
    assert "is empty" in refusal(run_of(raw="unix:/w", token_file=str(tmp_path / "empty"))).message
