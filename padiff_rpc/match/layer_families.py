"""Class families: which layer classes of the frameworks are the same thing, and how each lays out its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Axes = Literal["out_in", "in_out", ""]

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
"""Lower-case class name -> family, where the two differ."""

_PER_FRAMEWORK = {("torch", "rnn"): "simplernn"}
"""Names that mean different things: paddle's RNN wraps a cell of any kind, torch's is the simple RNN."""

_CLASS_PATHS = {"transformers.pytorch_utils.Conv1D": "linear"}
_IN_OUT_CLASSES = frozenset({"lineario", "conv1d"})  # beside all of paddle's; conv1d: GPT-2's Linear, known by its path

_LIBRARIES = ("torch.nn.", "paddle.nn.", "paddle.incubate.nn.", "paddle.distributed.", "padiff_rpc.numpy_framework.")
"""Where the frameworks' own layers live (NumPy's are this library's); paddle.vision's models are a user's classes."""

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
"""Families that a user's class of the same name (often a subclass) belongs to when its parameters have these dimensions."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONTAINERS = frozenset({"sequential", "modulelist", "moduledict", "parameterlist", "parameterdict"})
NORMS = frozenset({"layernorm", "rmsnorm", "batchnorm", "instancenorm", "groupnorm"})
ACTIVATIONS = _words(
    "relu relu6 gelu silu mish elu celu selu prelu leakyrelu rrelu sigmoid tanh softmax logsoftmax logsigmoid softplus "
    "softsign softshrink hardshrink tanhshrink hardtanh hardsigmoid hardswish threshold glu maxout"
)

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
    """Return the family of a layer, or "" for a class of the user's own, about which only its structure speaks.

    shapes: of the tensors that the layer itself holds, by their names in it.
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
    """True when two class names differ in case and underscores at most."""
    return _normalise(base) == _normalise(raw)


def parameter_name(family: str, name: str) -> str:
    """Return the name that a parameter has in every framework (`_mean` is `running_mean`, InstanceNorm's `scale` `weight`)."""
    name = _PARAMETER_NAMES.get(name, name)
    return _NORM_PARAMETER_NAMES.get(name, name) if family in NORMS else name


def weight_axes(framework: str, family: str, class_name: str, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Axes:
    """Tell how a Linear's matrix lies: [out, in] in torch and NumPy, [in, out] in paddle. "" for any other parameter.

    Where the bias has the length of one axis only, that decides (a user's own class may lie the other way).
    """
    shape = shapes.get(name, ())
    if family != "linear" or len(shape) != 2 or name not in ("weight", "weight_orig", "weight_v"):
        return ""
    bias = shapes.get("bias", ())
    if len(bias) == 1 and shape[0] != shape[1] and bias[0] in shape:
        return "out_in" if bias[0] == shape[0] else "in_out"
    return "in_out" if framework == "paddle" or _normalise(class_name) in _IN_OUT_CLASSES else "out_in"


_RUNNING = frozenset({"running_mean", "running_var", "_mean", "_variance"})
"""Buffers that a training step changes and only evaluation uses: a side without them is not the same layer."""


def why_dispensable(name: str, kind: str, floating: bool, siblings: Mapping[str, tuple[int, ...]]) -> str:
    """Return why a buffer that only one side has may be passed over, or "" when it may not.

    siblings: the tensors of the same layer, itself included. What a derived buffer does shows in the layer's outputs.
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
    if name in _RUNNING:
        return ""
    return "a buffer that only one side holds; what it does shows in the outputs"


def name_in_common(name: str) -> str:
    """Return what stands for a layer's name and its usual synonyms: `q` for q_proj, query, wq; `norm1` for ln_1."""
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
