"""Hyper-parameters of two frameworks' layers, compared by what they mean."""

from __future__ import annotations

import pytest

from padiff_rpc.compare.differing_hyperparameters import Difference, differing_hyperparameters
from padiff_rpc.result import LayerRef


def differing(base, raw, class_name="Layer", frameworks=("torch", "paddle")):
    return differing_hyperparameters(LayerRef("a", class_name, base), LayerRef("b", class_name, raw), *frameworks)


@pytest.mark.parametrize(
    ("base", "raw"),
    [
        ({"eps": 1e-5}, {"epsilon": 1e-5}),
        ({"momentum": 0.1}, {"momentum": 0.9}),
        ({"kernel_size": [3, 3], "stride": [1, 1]}, {"kernel_size": 3, "stride": [1, 1]}),
        ({"padding": [1, 1]}, {"padding": [1, 1, 1, 1]}),
        ({"normalized_shape": [8]}, {"normalized_shape": 8}),
        ({"approximate": "tanh"}, {"approximate": True}),
        ({"approximate": "none"}, {"approximate": False}),
        ({"padding_idx": None}, {"padding_idx": -1}),
        ({"dim": -1}, {"axis": -1}),
        ({"p": 0.1}, {"p": 0.1, "mode": "upscale_in_train", "axis": None}),
        ({"padding_mode": "zeros"}, {"data_format": "NCHW", "padding_mode": "zeros"}),
        ({"in_features": 4, "out_features": 8}, {}),
        ({}, {"name": "linear_0"}),
        ({"count_include_pad": False}, {"exclusive": True}),
        ({"batch_first": True, "bidirectional": False}, {"time_major": False, "num_directions": 1}),
        ({"align_corners": None}, {"align_corners": False, "align_mode": 0, "data_format": None}),
        ({"kernel_size": 2, "stride": 2}, {"kernel_size": 2, "stride": None}),
    ],
)
def test_the_same_meaning_under_other_names_is_no_difference(base, raw):
    assert differing(base, raw, "Dropout") == []


@pytest.mark.parametrize(
    ("base", "raw", "expected"),
    [
        ({"eps": 1e-12}, {"epsilon": 1e-3}, Difference("eps=1e-12", "epsilon=0.001")),
        (
            {"momentum": 0.1},
            {"momentum": 0.1},
            Difference("momentum=0.1", "momentum=0.1", "paddle's 0.1 is 0.9 in torch"),
        ),
        ({"stride": [2, 2]}, {"stride": 1}, Difference("stride=[2, 2]", "stride=1")),
        (
            {"normalized_shape": [4, 4]},
            {"normalized_shape": 4},
            Difference("normalized_shape=[4, 4]", "normalized_shape=4"),
        ),
        ({"approximate": "none"}, {"approximate": True}, Difference("approximate='none'", "approximate=True")),
        ({"bias": True}, {"bias": False}, Difference("bias=True", "bias=False")),
        ({}, {"mode": "downscale_in_infer"}, Difference("(has none)", "mode='downscale_in_infer'")),
        ({}, {"data_format": "NHWC"}, Difference("(has none)", "data_format='NHWC'")),
        ({"padding_mode": "circular"}, {}, Difference("padding_mode='circular'", "(has none)")),
        (
            {"count_include_pad": True},
            {"exclusive": True},
            Difference("count_include_pad=True", "exclusive=True", "exclusive=True is count_include_pad=False"),
        ),
        (
            {"batch_first": False},
            {"time_major": False},
            Difference("batch_first=False", "time_major=False", "time_major=False is batch_first=True"),
        ),
        ({}, {"align_mode": 1}, Difference("(has none)", "align_mode=1")),
        ({"eps": None}, {"epsilon": 1e-5}, Difference("eps=None", "epsilon=1e-05")),
    ],
)
def test_another_meaning_is_shown_under_each_sides_own_name(base, raw, expected):
    assert [expected] == differing(base, raw, "Dropout")


def test_within_one_framework_momentum_is_plain_and_what_only_one_side_has_counts():
    assert differing({"momentum": 0.9}, {"momentum": 0.9}, frameworks=("paddle", "paddle")) == []
    assert [Difference("max_val=6", "(has none)")] == differing({"max_val": 6}, {}, frameworks=("torch", "torch"))


def test_what_another_release_lacks_does_not_count_while_it_is_off():
    newer = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False}
    assert [] == differing(newer, {}, frameworks=("paddle", "paddle"))
    assert 1 == len(differing({"max_norm": 3.0}, {}, frameworks=("paddle", "paddle")))
