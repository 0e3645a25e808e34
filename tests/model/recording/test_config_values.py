"""The values of configuration objects, each read once."""

from __future__ import annotations

from types import SimpleNamespace

from padiff_rpc.model.recording.config_values import ConfigValues


def test_a_configuration_is_read_at_the_first_layer_that_holds_it() -> None:
    config = SimpleNamespace(eps=1e-5, act="gelu", heads=[4], _name="x", nan=float("nan"), dtype=object())
    configs = ConfigValues()

    assert {"config.eps": 1e-5, "config.act": "gelu"} == configs.of(SimpleNamespace(config=config))
    assert {} == configs.of(SimpleNamespace(config=config))
    assert {"config.eps": 2.0} == configs.of(SimpleNamespace(cfg={"eps": 2.0}))
    assert {} == configs.of(SimpleNamespace(config="base.json", cfg=None))
