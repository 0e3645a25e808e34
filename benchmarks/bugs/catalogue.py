"""The bugs that are planted: forward, gradient and buffers, by architecture; losses; optimisers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.bugs.bug import Bug, Half
from benchmarks.bugs.pairs import Run
from padiff_rpc.result import Stage

Row = tuple[int, str, str, str] | tuple[int, str, str, str, dict[str, Any]]
"""The half (1 or 2), the bug's name, the routes that name its place ("|" between them, "." for the model itself), words of the
right cause ("|" between them), and what else the run needs; `stages` there stands for what is not "forward"."""

_BACKWARD = {"stages": ("backward", "grads")}

_CNN: Sequence[Row] = (
    (1, "bn_eps", "stem.bn", "epsilon"),
    (1, "bn_momentum", "blocks.0.bn1", "momentum", {"stages": ("buffers",)}),
    (2, "bn_in_eval_mode", "blocks.1.bn2", "statistic|global_stats|mode"),
    (1, "pool_ceil_mode", "stem.pool", "ceil"),
    (1, "pool_exclusive", "pool", "exclusive|count_include_pad|padding"),
    (2, "conv_pads_by_reflection", "blocks.0.conv2", "padding"),
    (2, "conv_dilation", "blocks.1.conv1", "dilation"),
    (2, "stride_on_second_conv", "blocks.1.conv1", "stride"),
    (1, "leaky_relu", "blocks.1.act", "leaky|slope|activation"),
    (1, "residual_missing", "blocks.0", "residual|left out|not added|missing|adds up"),
    (2, "residual_detached", "blocks.1", "gradient|detach", _BACKWARD),
    (2, "flatten_channels_last", "flatten", "permut|order|axes|transpos|interleav"),
    (1, "dropout_downscales", "drop", "downscale|factor 0.5", {"training": False}),
    (2, "dropout_left_on", "drop", "dropout|random", {"training": False}),
)
_VIT: Sequence[Row] = (
    (1, "layer_norm_eps", "blocks.0.norm1", "epsilon"),
    (1, "gelu_tanh", "blocks.1.mlp.act", "tanh|approximate"),
    (1, "scale_off_by_1e-5", "blocks.1.attn", "scale|factor"),
    (2, "scale_by_size", "blocks.0.attn", "scale|factor"),
    (1, "qkv_by_head", "blocks.0.attn", "order|permut|head|qkv"),
    (2, "cls_token_last", "embed", "order|shift|position|concat|permut"),
    (2, "positions_shifted", "embed", "shift|position"),
    (2, "patches_reshaped", "embed", "order|permut|axes|reshap|transpos"),
    (1, "post_norm", "blocks.1", "norm"),
    (2, "layer_scale_missing", "blocks.1.scale2", "factor|scale|unused|not used"),
    (1, "softmax_axis", "blocks.1.attn", "axis|softmax runs over"),
    (2, "heads_not_transposed", "blocks.0.attn", "order|permut|axes|head|transpos"),
    (2, "mean_for_cls_token", "pool", "mean|position|first"),
)
_ENCODER: Sequence[Row] = (
    (1, "padding_mask_lost", "layers.1.attn", "mask"),
    (1, "mask_inverted", "layers.0.attn", "mask"),
    (2, "mask_too_weak", "layers.1.attn", "mask"),
    (2, "positions_start_at_2", "embeddings", "position|shift|offset"),
    (2, "token_types_lost", "embeddings", "type|index|indices|integer|ids"),
    (1, "layer_norm_eps", "embeddings.norm", "epsilon"),
    (1, "relu_for_gelu", "layers.1.mlp.act", "relu|activation"),
    (2, "gelu_tanh", "layers.0.mlp.act", "tanh|approximate"),
    (2, "pooler_without_tanh", "pooler", "tanh|activation"),
    (1, "padding_idx", "embeddings.word", "padding_idx"),
    (1, "query_and_key_swapped", "layers.0.attn", "swap|axes|transpos|key"),
    (2, "norm_before_residual", "layers.1", "norm|residual"),
    (1, "dropout_on_weights", "layers.0.attn", "dropout|random", {"training": False}),
    (2, "softmax_in_half", "layers.1.attn", "float16|half|precision"),
    (1, "gradient_doubled", "layers.1.mlp", "factor 2|2.0|doubl|twice", _BACKWARD),
    (2, "head_untied", "head|embeddings.word", "tied|shared", {"stages": ("grads", "backward")}),
)
_DECODER: Sequence[Row] = (
    (1, "rms_norm_eps", "layers.1.norm1", "epsilon"),
    (1, "rope_theta", "rotary", "theta|base|rope|frequen"),
    (2, "rope_size", "rotary", "theta|base|rope|frequen"),
    (1, "rope_interleaved", "layers.0.attn", "interleav|rope|order|permut"),
    (2, "rope_of_keys_shifted", "layers.1.attn", "shift|position|offset"),
    (2, "rope_of_keys_missing", "layers.1.attn", "rope|position|key"),
    (1, "rope_in_bfloat16", "rotary", "precision|bfloat16"),
    (1, "rope_in_float32", "rotary", "precision|float32", {"dtype": "float64"}),
    (1, "kv_heads_tiled", "layers.0.attn", "head|order|tile|permut"),
    (1, "causal_off_by_one", "layers.1.attn", "mask|position"),
    (2, "causal_mask_missing", "layers.0.attn", "mask|position"),
    (2, "window_one_wider", "layers.1.attn", "mask|position|window"),
    (2, "gelu_for_silu", "layers.1.mlp.act", "gelu|activation"),
    (1, "gate_and_up_swapped", "layers.0.mlp", "swap|gate"),
    (1, "scale_by_width", "layers.1.attn", "scale|factor"),
    (2, "scale_off_by_1e-5", "layers.0.attn", "scale|factor"),
    (2, "query_bias_missing", "layers.1.attn.q_proj", "bias|offset"),
    (1, "embedding_scale_missing", "embed", "factor"),
    (2, "unit_of_norm_dropped", "norm", "1 +|offset|weight"),
    (2, "soft_cap_missing", "cap", "tanh|saturat|cap"),
    (1, "output_clamped", "layers.1.mlp", "clamp|clip|saturat|cuts"),
    (1, "keys_detached", "layers.1.attn", "gradient|detach", _BACKWARD),
    (2, "gradient_doubled", "layers.1.mlp", "factor 2|2.0|doubl|twice", _BACKWARD),
)
_MOE: Sequence[Row] = (
    (1, "router_not_normalised", "blocks.0.moe", "normalis|factor|router"),
    (2, "router_normalised", "blocks.1.moe", "normalis|factor|router"),
    (2, "softmax_after_choice", "blocks.1.moe", "normalis|softmax|router"),
    (1, "top_1_for_2", "blocks.0.moe", "top|expert|router|chosen"),
    (1, "routed_scale_missing", "blocks.0.moe", "factor|scale"),
    (1, "experts_rotated", "blocks.0.moe", "expert|permut|order"),
    (2, "weights_transposed_by_reshape", "blocks.1.moe", "axes|permut|order|transpos"),
    (2, "sigmoid_for_softmax", "blocks.1.moe", "sigmoid|softmax|router|normalis"),
    (2, "router_in_half", "blocks.1.moe", "float16|half|precision"),
    (1, "shared_expert_missing", "blocks.1.moe", "shared|missing|left out|not added|unused"),
    (1, "router_detached", "blocks.1.moe|blocks.1.moe.gate", "gradient|detach", _BACKWARD),
    (2, "expert_gradient_doubled", "blocks.1.moe.experts.2", "factor 2|2.0|doubl|twice", _BACKWARD),
)
_LSTM: Sequence[Row] = (
    (1, "time_and_batch_swapped", "both", "batch|time|axes|time_major"),
    (1, "initial_state_of_ones", "both|both.lstm", "initial|state|position"),
    (2, "directions_swapped", "both", "permut|order|half|halves|direction"),
    (2, "backward_not_turned", "both", "order|revers|direction|flip"),
    (2, "time_major", "both.lstm", "time_major|batch_first"),
    (1, "gate_order", "cell", "gate|order|permut"),
    (1, "forget_bias_added", "cell", "bias|forget|offset|gate"),
    (2, "hard_sigmoid", "cell", "sigmoid|activation"),
    (2, "state_detached", "cell", "gradient|detach", _BACKWARD),
    (1, "last_off_by_one", "last", "shift|position|index"),
    (2, "lengths_ignored", "last", "shift|position|length|index"),
    (2, "padding_idx", "embed", "padding_idx"),
)
_UNET: Sequence[Row] = (
    (1, "group_count", "down0.norm", "group"),
    (2, "group_norm_eps", "middle.norm", "epsilon"),
    (2, "group_norm_in_half", "middle.norm", "float16|half|precision"),
    (1, "align_corners", "up0", "align_corners"),
    (2, "align_mode", "up0", "align_mode|interpolat"),
    (1, "nearest_for_bilinear", "up0", "nearest|interpolat|mode"),
    (2, "bilinear_for_nearest", "up1", "bilinear|interpolat|mode"),
    (1, "skip_concatenated_first", ".", "concat|order|permut|swap"),
    (2, "sine_before_cosine", "time", "order|permut|half|halves|swap"),
    (1, "time_rates_shifted", "time", "frequen|position|rate"),
    (2, "time_not_added", "down1", "left out|not added|missing|unused"),
    (1, "relu_for_silu", "down1.act", "relu|activation"),
    (1, "padded_on_one_side", "pool0|pool0.conv", "padding|shift"),
    (2, "skip_changed_in_place", ".", "in place|in-place|alias|factor"),
    (1, "residual_scale_missing", "down0", "factor"),
    (2, "skip_detached", ".", "gradient|detach", _BACKWARD),
)
_T5: Sequence[Row] = (
    (1, "bucket_off_by_one", "encoder.bias", "shift|position|bucket|off by"),
    (2, "bucket_furthest", "encoder.bias", "position|bucket|index"),
    (2, "relative_position_turned", "encoder.bias", "transpos|axes|sign|position|bucket"),
    (1, "decoder_buckets_both_ways", "decoder.bias", "position|bucket|index|both_ways"),
    (1, "attention_scaled", "encoder.layers.0.attn", "scale|factor"),
    (1, "position_bias_lost", "encoder.layers.1.attn", "bias|mask|position"),
    (2, "logits_scale_missing", "head", "factor"),
    (2, "decoder_mask_missing", ".", "mask"),
    (1, "cross_mask_lost", "decoder.layers.1.cross", "mask"),
    (2, "labels_not_shifted", "shift", "shift|position"),
    (2, "final_norm_missing", "encoder|encoder.norm", "norm"),
    (1, "norm_subtracts_mean", "encoder.layers.1.norm1", "mean|offset|layer_norm|layernorm"),
    (2, "gelu_for_relu", "encoder.layers.1.mlp.act", "gelu|activation"),
    (1, "memory_detached", "decoder.layers.1", "gradient|detach", _BACKWARD),
)
_TORCH_BF16 = {"raw": "torch", "dtype": "bfloat16"}
_LATE = {"both_args": {"start": 300}}
"""A sequence that goes on where another ended."""
_AGAINST_TORCH: dict[str, Sequence[Row]] = {
    "decoder": (
        (1, "kv_heads_tiled", "layers.1.attn", "head|order|tile|permut", _TORCH_BF16),
        (1, "causal_off_by_one", "layers.1.attn", "mask|position", _TORCH_BF16),
        (2, "rope_in_low_precision", "rotary", "precision|bfloat16", {**_TORCH_BF16, **_LATE}),
        (1, "scale_by_width", "layers.1.attn", "scale|factor", _TORCH_BF16),
        (2, "gelu_for_silu", "layers.1.mlp.act", "gelu|activation", _TORCH_BF16),
        (1, "gate_and_up_swapped", "layers.1.mlp", "swap|gate", _TORCH_BF16),
        (2, "embedding_scale_missing", "embed", "factor", _TORCH_BF16),
        (1, "keys_detached", "layers.1.attn", "gradient|detach", {**_TORCH_BF16, **_BACKWARD}),
        (2, "gradient_doubled", "layers.1.mlp", "factor 2|2.0|doubl|twice", {**_TORCH_BF16, **_BACKWARD}),
    ),
    "encoder": (
        (1, "padding_mask_lost", "layers.1.attn", "mask", _TORCH_BF16),
        (2, "relu_for_gelu", "layers.1.mlp.act", "relu|activation", _TORCH_BF16),
        (2, "norm_before_residual", "layers.1", "norm|residual", _TORCH_BF16),
        (1, "softmax_in_low_precision", "layers.1.attn", "float16|half|precision", {"raw": "torch"}),
    ),
    "moe": (
        (1, "router_not_normalised", "blocks.0.moe", "normalis|factor|router", _TORCH_BF16),
        (2, "routed_scale_missing", "blocks.0.moe", "factor|scale", _TORCH_BF16),
        (
            2,
            "expert_gradient_doubled",
            "blocks.1.moe.experts.2",
            "factor 2|2.0|doubl|twice",
            {**_TORCH_BF16, **_BACKWARD},
        ),
    ),
    "cnn": (
        (1, "residual_missing", "blocks.1", "residual|left out|not added|missing|adds up", _TORCH_BF16),
        (2, "bn_eps", "blocks.1.bn2", "epsilon", _TORCH_BF16),
        (2, "leaky_relu", "blocks.1.act", "leaky|slope|activation", {"raw": "torch"}),
    ),
}

_LOSSES: Sequence[tuple[int, str, str, str, str]] = (
    (1, "decoder", "language", "ignored_in_denominator", "ignore|denominator|factor"),
    (2, "decoder", "language", "labels_shifted_twice", "shift|label"),
    (1, "decoder", "language", "labels_not_shifted", "shift|label"),
    (1, "decoder", "language", "sum_for_mean", "factor|sum|reduction"),
    (2, "decoder", "language", "auxiliary_over_ignored", "ignore|mask|factor"),
    (2, "decoder", "accumulated", "normalised_twice", "factor"),
    (1, "vit", "smoothed", "smoothing_missing", "smooth"),
    (2, "vit", "weighted", "weights_not_normalised", "factor|weight"),
    (1, "vit", "regression", "delta_for_beta", "delta|beta|factor"),
    (2, "vit", "distilled", "mean_for_batch_mean", "factor|mean|reduction"),
    (2, "vit", "distilled", "temperature_not_squared", "factor"),
)
"""The half, the architecture, the loss, the bug and words of the right cause."""

_OPTIMIZERS: Sequence[tuple[int, str, str, str]] = (
    (1, "adamw", "decay_on_norms", "decay"),
    (1, "adamw", "l2_for_decoupled", "decay|decoupled|l2"),
    (2, "adamw", "decay_missing", "decay"),
    (1, "adamw", "epsilon", "epsilon"),
    (2, "adamw", "beta2", "beta|second moment|moment"),
    (1, "adamw", "bias_correction_missing", "bias correction|correction|factor"),
    (2, "adamw", "one_parameter_left_out", "not updated|not moved|left out|does not move|stays|does not step"),
    (2, "sgd_clipped", "clip_missing", "clip|norm|factor"),
    (1, "sgd_clipped", "clip_of_each", "clip|norm|factor"),
    (2, "sgd_clipped", "clip_by_value", "clip"),
    (1, "momentum", "nesterov_missing", "nesterov|momentum"),
    (1, "rmsprop", "epsilon_inside_root", "epsilon|root"),
    (2, "scheduled", "schedule_one_late", "rate|schedule|factor"),
)
"""The half, the optimiser, the bug and words of the right cause; all on the decoder, in 3 steps."""


def _planted() -> Iterator[Bug]:
    of_paddle = {
        "cnn": _CNN,
        "vit": _VIT,
        "encoder": _ENCODER,
        "decoder": _DECODER,
        "moe": _MOE,
        "lstm": _LSTM,
        "unet": _UNET,
        "t5": _T5,
    }
    for table in (of_paddle, _AGAINST_TORCH):
        for architecture, rows in table.items():
            for row in rows:
                yield _in_model(architecture, row)
    for half, architecture, loss, name, words in _LOSSES:
        run = Run(architecture, loss=loss, raw_loss=f"{loss}__{name}")
        yield Bug(run, name, _half(half), frozenset(), frozenset({"loss"}), tuple(words.split("|")))
    for half, optimizer, name, words in _OPTIMIZERS:
        run = Run("decoder", optimizer=optimizer, raw_optimizer=f"{optimizer}__{name}", steps=3)
        yield Bug(run, name, _half(half), frozenset(), frozenset({"weights"}), tuple(words.split("|")))
    low = Run("decoder", "torch", dtype="bfloat16", optimizer="master", raw_optimizer="master__missing", steps=6)
    words = ("master", "precision", "bfloat16", "rounded")
    yield Bug(low, "master_weights_missing", "second", frozenset(), frozenset({"weights"}), words)


def _in_model(architecture: str, row: Row) -> Bug:
    half, name, routes, words = row[:4]
    more = dict(row[4]) if len(row) == 5 else {}
    stages: tuple[Stage, ...] = more.pop("stages", ("forward",))
    exact = frozenset("" if route == "." else route for route in routes.split("|"))
    both = more.pop("both_args", {})
    run = Run(architecture, base_args=both, raw_args={**both, "bug": name}, **more)
    return Bug(run, name, _half(half), exact, frozenset(stages), tuple(words.split("|")))


def _half(number: int) -> Half:
    return "first" if number == 1 else "second"


BUGS: tuple[Bug, ...] = tuple(_planted())
