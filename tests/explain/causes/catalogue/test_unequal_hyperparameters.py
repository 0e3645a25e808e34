"""Hyper-parameters as causes."""

from __future__ import annotations

from dataclasses import replace

from padiff_rpc.explain.causes.catalogue.unequal_hyperparameters import configuration, hyperparameters
from padiff_rpc.per_side import PerSide
from tests.explain.causes.seen import evidence, first, layers


def differing(class_name, base, raw):
    one, other = layers(class_name)
    return PerSide(replace(one, hyperparameters=base), replace(other, hyperparameters=raw))


def test_those_of_the_layer_come_first_then_those_inside_and_around_it():
    norm = differing("LayerNorm", {"eps": 1e-5}, {"epsilon": 1e-6})

    own = first(evidence(layers=norm))
    assert ("hyper-parameter", "eps=1e-05 against epsilon=1e-06") == (own.name, own.evidence)
    inside = first(evidence(inside=(norm,), enclosing=(differing("Model", {"scale": 1.0}, {"scale": 2.0}),)))
    assert "hyper-parameters differ in a, inside the layer" == inside.words
    around = first(evidence(enclosing=(layers(), differing("Model", {"scale": 1.0}, {"scale": 2.0}))))
    assert "hyper-parameters differ in a, which the layer lies in" == around.words
    assert own.score > inside.score > around.score


def test_momentum_shows_in_statistics_alone_and_units_are_told():
    given = differing("BatchNorm2D", {"momentum": 0.1}, {"momentum": 0.1})

    assert () == hyperparameters(evidence(layers=given))
    assert "paddle's 0.1 is 0.9 in torch" in first(evidence(stage="buffers", layers=given)).evidence
    equal = differing("BatchNorm2D", {"momentum": 0.1}, {"momentum": 0.9})
    assert () == hyperparameters(evidence(stage="buffers", layers=equal))


def test_harmless_and_translated_ones_are_no_cause():
    given = differing("AvgPool2D", {"count_include_pad": False}, {"exclusive": True, "data_format": "NCHW"})

    assert () == hyperparameters(evidence(layers=given))
    assert () == configuration(evidence(enclosing=(given,)))


def test_a_layers_hyperparameters_say_nothing_of_an_update():
    given = differing("Linear", {"scale": 1.0}, {"scale": 2.0})

    assert () == hyperparameters(evidence(stage="weights", layers=given))


def test_a_configuration_counts_by_the_names_that_concern_the_layer():
    plain = {"config.layer_norm_eps": 1e-12, "config.use_cache": True, "config.hidden_act": "gelu"}
    root = differing("Bert", plain, {**plain, "config.layer_norm_eps": 1e-5, "config.use_cache": False})

    cause = first(evidence(layers=layers("BertLayerNorm"), enclosing=(root,)))
    assert "config.layer_norm_eps=1e-12 against config.layer_norm_eps=1e-05" == cause.evidence
    assert () == configuration(evidence(layers=layers("Conv2d"), enclosing=(root,)))
