"""Sort layer classes of the frameworks into families: which classes do the same, and how they name and lay out parameters.

A family is a lower-case name such as "linear" or "batchnorm". A user's own class mostly has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Axes = Literal["out_in", "in_out", ""]
"""How a Linear's matrix lies: [out, in], [in, out], or "" for a tensor that is no Linear's matrix."""

_SYNONYMS = {
    "nondynamicallyquantizablelinear": "linear",
    "fusedlinear": "linear",
    "lineario": "linear",
    "columnparallellinear": "linear",
    "rowparallellinear": "linear",
    "vocabparallelembedding": "embedding",
    "conv1dtranspose": "convtranspose1d",
    "conv2dtranspose": "convtranspose2d",
    "conv3dtranspose": "convtranspose3d",
    "batchnorm1d": "batchnorm",
    "batchnorm2d": "batchnorm",
    "batchnorm3d": "batchnorm",
    "syncbatchnorm": "batchnorm",
    "instancenorm1d": "instancenorm",
    "instancenorm2d": "instancenorm",
    "instancenorm3d": "instancenorm",
    "fusedrmsnorm": "rmsnorm",
    "layerlist": "modulelist",
    "layerdict": "moduledict",
    "simplernncell": "rnncell",
    "swish": "silu",
    "thresholdedrelu": "threshold",
}
"""Family by normalised class name (lower case, no underscores), where the two differ."""

_PER_FRAMEWORK = {("torch", "rnn"): "simplernn"}
"""Family by framework and name, where a name means different things: paddle's RNN wraps any cell, torch's is the simple RNN."""

_CLASS_PATHS = {"transformers.pytorch_utils.Conv1D": "linear"}
"""Family by full class path, for classes whose name says something else."""

_IN_OUT_CLASSES = frozenset({"lineario", "conv1d"})
"""Linears that lie [in, out], besides all of paddle's; conv1d is GPT-2's Linear, known by its path."""

_LIBRARIES = ("torch.nn.", "paddle.nn.", "paddle.incubate.nn.", "paddle.distributed.", "padiff_rpc.numpy_framework.")
"""Packages of the frameworks' own layers (NumPy's are this library's); the models of paddle.vision count as a user's classes."""

_USER_FAMILIES: Mapping[str, Mapping[str, int]] = {
    "linear": {"weight": 2},
    "conv1d": {"weight": 3},
    "conv2d": {"weight": 4},
    "conv3d": {"weight": 5},
    "embedding": {"weight": 2},
    "layernorm": {"weight": 1},
    "rmsnorm": {"weight": 1},
    "batchnorm": {"weight": 1},
    "groupnorm": {"weight": 1},
}
"""Family -> parameter -> number of dimensions: a user's class of that name (often a subclass) belongs to it if these agree."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONTAINERS = frozenset({"sequential", "modulelist", "moduledict", "parameterlist", "parameterdict"})
STACKS = frozenset({"transformer", "transformerencoder", "transformerdecoder"})
"""Layers of the frameworks that only run the layers in them; they hold no parameter themselves."""
NORMS = frozenset({"layernorm", "rmsnorm", "batchnorm", "instancenorm", "groupnorm"})
ACTIVATIONS = _words(
    "relu relu6 gelu silu mish elu celu selu prelu leakyrelu rrelu sigmoid tanh softmax logsoftmax logsigmoid softplus "
    "softsign softshrink hardshrink tanhshrink hardtanh hardsigmoid hardswish threshold glu maxout"
)

_MATRICES = ("weight", "weight_orig", "weight_v")
"""The names of a Linear's matrix, or of a convolution's kernel; the latter two by the hooks of spectral and weight norm."""

_PARAMETER_NAMES = {
    "_mean": "running_mean",
    "_variance": "running_var",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "_weight": "weight",
}
_NORM_PARAMETER_NAMES = {"scale": "weight", "gamma": "weight", "beta": "bias"}

_BOOKKEEPING = {
    "num_batches_tracked": "counts batches; no computation of the other framework uses it",
    "_dropout_state": "scratch space of the framework's own kernels",
}
_DERIVED = _words(
    "inv_freq original_inv_freq cos_cached sin_cached freqs_cis rope_cos rope_sin position_ids token_type_ids "
    "causal_mask attn_mask attention_mask masked_bias relative_position_index"
)


def family_of(framework: str, class_name: str, class_path: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the family of a layer, or "" for a user's own class, of which nothing but its structure is known.

    A user's class belongs to a family if it has the family's name and its parameters the family's number of dimensions.

    Args:
        framework: "torch", "paddle" or "numpy".
        class_name: the layer's class, such as `Conv2D`.
        class_path: the class with its module, such as `paddle.nn.layer.conv.Conv2D`.
        shapes: the shapes of the tensors that the layer itself holds, by their names in the layer.
    """
    if class_path in _CLASS_PATHS:
        return _CLASS_PATHS[class_path]
    name = _normalise(class_name)
    family = _PER_FRAMEWORK.get((framework, name), _SYNONYMS.get(name, name))
    if class_path.startswith(_LIBRARIES):
        return family
    wanted = _USER_FAMILIES.get(family)
    fits = wanted is not None and all(len(shapes.get(key, ())) == rank for key, rank in wanted.items())
    return family if fits else ""


def same_class_name(base: str, raw: str) -> bool:
    """Return True if two class names differ at most in case, in underscores and in a leading "Parametrized"."""
    return _normalise(base) == _normalise(raw)


def parameter_name(family: str, name: str) -> str:
    """Return the name that all frameworks share for a parameter or buffer.

    It is `running_mean` for paddle's `_mean`, and `weight` for InstanceNorm's `scale`; other names stay as they are.

    Args:
        family: the family of the layer that holds it, or "".
        name: its name in that layer.
    """
    name = _PARAMETER_NAMES.get(name, name)
    return _NORM_PARAMETER_NAMES.get(name, name) if family in NORMS else name


def weight_axes(framework: str, family: str, class_name: str, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Axes:
    """Return how a Linear's matrix lies; "" for any other parameter.

    Torch and NumPy store [out, in], paddle stores [in, out]. A user's own class may do otherwise: where the bias is as long as
    exactly one of the two axes, that axis is the output.

    Args:
        framework: "torch", "paddle" or "numpy".
        family: the layer's family, from `family_of`.
        class_name: the layer's class.
        name: the parameter's name in the layer.
        shapes: the shapes of all tensors that the layer itself holds, by name.
    """
    shape = shapes.get(name, ())
    if family != "linear" or len(shape) != 2 or name not in _MATRICES:
        return ""
    bias = shapes.get("bias", ())
    if len(bias) == 1 and shape[0] != shape[1] and bias[0] in shape:
        return "out_in" if bias[0] == shape[0] else "in_out"
    return "in_out" if framework == "paddle" or _normalise(class_name) in _IN_OUT_CLASSES else "out_in"


_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})


def is_pointwise(family: str, name: str, shape: tuple[int, ...]) -> bool:
    """Return True for the weight of a convolution of size 1, [out, in, 1, 1], which computes what a Linear does.

    Args:
        family: the layer's family, from `family_of`.
        name: the parameter's name in the layer.
        shape: the parameter's shape.
    """
    return family in _CONVOLUTIONS and name in _MATRICES and len(shape) > 2 and set(shape[2:]) == {1}


PARAMETRIZATIONS: Mapping[str, Mapping[str, str]] = {
    "torch.nn.utils.parametrizations._WeightNorm": {"original0": "_g", "original1": "_v"},
    "torch.nn.utils.parametrizations._SpectralNorm": {"original": "_orig", "_u": "_u", "_v": "_v"},
}
"""What torch's parametrizations keep below a layer, and what the older hooks (torch's and paddle's) add to the parameter's name
for it in the layer itself; by class path."""

RUNNING = frozenset({"running_mean", "running_var", "_mean", "_variance"})
"""Buffers that a training step changes and only evaluation uses: a layer without them is not the same layer."""


def why_dispensable(name: str, kind: str, floating: bool, siblings: Mapping[str, tuple[int, ...]]) -> str:
    """Return why a tensor that only one side has needs no partner; "" if it needs one.

    Parameters always need one, and so do running means and variances. Any other buffer counts batches, is computed from the
    configuration or from other tensors, or shows in the layer's outputs, which are compared.

    Args:
        name: the tensor's name in its layer.
        kind: "parameter" or "buffer".
        floating: whether its dtype is a floating-point type.
        siblings: the shapes of all tensors of the same layer by name, this one included.
    """
    if kind != "buffer":
        return ""
    if name in _BOOKKEEPING:
        return _BOOKKEEPING[name]
    if not floating:
        return "an index or mask made from the configuration, not learned"
    if name in _DERIVED:
        return "made from the configuration, not learned"
    if f"{name}_v" in siblings or f"{name}_orig" in siblings:
        return f"computed from {name}_v and {name}_g, or from {name}_orig, at every forward"
    if name in RUNNING:
        return ""
    return "a buffer that only one side holds; what it does shows in the outputs"


def uses_no_statistics(class_path: str, hyperparameters: Mapping[str, Any]) -> bool:
    """Tell whether a layer holds running statistics that none of its computations use, in no mode.

    Paddle's BatchNorm1D to 3D always hold them; with use_global_stats=False they normalise by the batch even in evaluation. With
    None they use the statistics there, and so does the older class BatchNorm with its own False (paddle 3.3.1).
    """
    name = class_path.rpartition(".")[2]
    always = class_path.startswith("paddle.nn.") and name in ("BatchNorm1D", "BatchNorm2D", "BatchNorm3D")
    return always and hyperparameters.get("use_global_stats") is False


def name_in_common(name: str) -> str:
    """Return one name for a layer's name and its usual synonyms: `q` for q_proj, query and wq; `norm1` for ln_1."""
    plain = re.sub(r"[_\s]", "", name.lower())
    plain = re.sub(r"^(?:layernorm|layer_norm|ln)(?=\d*$)", "norm", plain)
    return _NAME_GROUPS.get(plain, plain)


def _normalise(class_name: str) -> str:
    return class_name.lower().replace("_", "").removeprefix("parametrized")


_NAME_GROUPS = {
    name: group
    for group, names in {
        "q": "q query qproj queryproj wq toq qlin qlinear linearq queries",
        "k": "k key kproj keyproj wk tok klin klinear lineark keys",
        "v": "v value vproj valueproj wv tov vlin vlinear linearv values",
        "out": "o out outproj oproj wo toout outlin outlinear linearout dense proj outputproj cproj",
        "qkv": "qkv qkvproj inproj cattn querykeyvalue wqkv toqkv qkvlinear linearqkv fusedqkv qkvfused",
        "kv": "kv kvproj keyvalue wkv tokv kvlinear linearkv fusedkv kvfused",
        "gateup": "gateup gateupproj gateupfusedproj fusedgateup gateupfused fcgateup wgateup w13",
        "gate": "gate gateproj w1",
        "down": "down downproj w2",
        "up": "up upproj w3",
        "fc1": "fc1 linear1 lin1 dense1 cfc fcin",
        "fc2": "fc2 linear2 lin2 dense2 fcout",
        "attn": "attn selfattn attention selfattention",
        "crossattn": "crossattn multiheadattn crossattention encoderattn encdecattn",
        "mlp": "mlp ffn feedforward",
        "wte": "wte wordembeddings wordembedding tokembeddings tokenembedding tokenembeddings embedtokens",
        "wpe": "wpe positionembeddings positionembedding posembed posembedding posembeddings",
        "wse": "tokentypeembeddings tokentypeembedding segmentembeddings segmentembedding",
        "head": "lmhead head classifier",
    }.items()
    for name in names.split()
}
"""Name in common by the synonym, in lower case and without underscores."""
