"""The canonical names of functional calls, and how each framework spells them.

Two kinds of calls have no name here, on purpose: pure views and casts (reshape, transpose, squeeze, indexing, to,
detach, ...), which both frameworks spell in their own ways and which compute nothing; and calls that only make tensors
(zeros, arange, ...).
"""

from __future__ import annotations

from typing import Literal

_ALIKE = tuple(
    name
    for row in (
        "relu relu6 gelu elu selu celu leaky_relu prelu hardtanh hardswish hardsigmoid hardshrink softshrink softplus",
        "softsign mish glu tanh sigmoid tanhshrink softmax log_softmax gumbel_softmax",
        "linear bilinear conv1d conv2d conv3d embedding dropout alpha_dropout one_hot",
        "layer_norm batch_norm instance_norm group_norm rms_norm local_response_norm normalize",
        "scaled_dot_product_attention pad interpolate grid_sample affine_grid pixel_shuffle pixel_unshuffle unfold fold",
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d",
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
        "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss kl_div binary_cross_entropy",
        "binary_cross_entropy_with_logits cosine_similarity",
        "exp expm1 log log2 log10 log1p sqrt rsqrt square reciprocal sin cos tan atan2 erf floor ceil round sign lerp",
        "maximum minimum bmm addmm einsum outer dot cross norm where stack unbind masked_fill tril triu roll flip",
        "sum mean max min amax amin prod std var logsumexp cumsum cumprod argmax argmin topk sort argsort",
    )
    for name in row.split()
)
"""The canonical names that both frameworks use."""

_UNLIKE: dict[str, tuple[str, str]] = {
    "add": ("add", "add"),
    "subtract": ("sub subtract rsub", "subtract"),
    "multiply": ("mul multiply", "multiply scale"),
    "divide": ("div divide true_divide", "divide"),
    "floor_divide": ("floor_divide", "floor_divide"),
    "remainder": ("remainder", "remainder mod floor_mod"),
    "pow": ("pow float_power", "pow"),
    "matmul": ("matmul mm", "matmul mm"),
    "negative": ("neg negative", "neg"),
    "abs": ("abs absolute", "abs"),
    "concat": ("cat concat concatenate", "concat"),
    "clip": ("clamp clip", "clip"),
    "logsigmoid": ("logsigmoid", "log_sigmoid"),
    "silu": ("silu", "silu swish"),
    "split": ("split chunk tensor_split", "split chunk tensor_split"),
    # Paddle's gather takes whole slices by number; what torch calls gather is its take_along_axis.
    "index_select": ("index_select", "index_select gather"),
    "gather": ("gather", "take_along_axis"),
    "conv1d_transpose": ("conv_transpose1d", "conv1d_transpose"),
    "conv2d_transpose": ("conv_transpose2d", "conv2d_transpose"),
    "conv3d_transpose": ("conv_transpose3d", "conv3d_transpose"),
}
"""Maps a canonical name to (torch's spellings, paddle's spellings)."""

_OPERATORS = {
    "add": "add radd iadd",
    "subtract": "sub rsub isub",
    "multiply": "mul rmul imul",
    "divide": "truediv rtruediv itruediv div rdiv idiv",
    "floor_divide": "floordiv rfloordiv ifloordiv",
    "remainder": "mod rmod imod",
    "pow": "pow rpow ipow",
    "matmul": "matmul rmatmul imatmul",
    "negative": "neg",
    "abs": "abs",
}

NAMES = frozenset(_ALIKE) | frozenset(_UNLIKE)
"""All canonical names."""


def spellings(framework: Literal["torch", "paddle"]) -> dict[str, str]:
    """Return a framework's spellings, each mapped to its canonical name.

    They include functions, their in-place forms (`relu_`) and operator methods (`__add__`).
    """
    column = 0 if framework == "torch" else 1
    plain = {name: name for name in _ALIKE}
    plain.update((spelling, name) for name, spelled in _UNLIKE.items() for spelling in spelled[column].split())
    in_place = {f"{spelling}_": name for spelling, name in plain.items()}
    operators = {f"__{operator}__": name for name, listed in _OPERATORS.items() for operator in listed.split()}
    return {**plain, **in_place, **operators}


def api_route(route: str, name: str) -> str:
    """Return the route of a functional call that the layer at `route` makes (see `Boundary.api`)."""
    return f"{route}/{name}"


def api_name(route: str, layer: str) -> str:
    """Return the canonical name in the route of a functional call that the layer at route `layer` makes."""
    return route[len(layer) + 1 :]
