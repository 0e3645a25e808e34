"""Made-up models of torch and paddle, described without either framework, and what their matching comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.match.user_map import UserMap, parse_parameters
from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo, ParameterKind
from padiff_rpc.result import Unmatched
from padiff_rpc.tensors.tensor import DType, TensorSpec

LIBRARY = {"torch": "torch.nn.modules", "paddle": "paddle.nn.layer", "numpy": "padiff_rpc.numpy_framework.nn"}


@dataclass
class L:
    """A layer of a made-up model.

    `tensors`: shapes by name, `buffers` likewise; `tie`: own name -> full name elsewhere; `module`: of its class, where that is
    not the framework's usual one.
    """

    kind: str
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    children: dict[str, L] = field(default_factory=dict)
    buffers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, DType] = field(default_factory=dict)
    tie: dict[str, str] = field(default_factory=dict)
    own_class: bool = False
    module: str = ""


def user(kind: str, children: Mapping[str, L] | None = None, **tensors: tuple[int, ...]) -> L:
    return L(kind, tensors, dict(children or {}), own_class=True)


def seq(*layers: L, kind: str = "Sequential") -> L:
    return L(kind, children={str(at): layer for at, layer in enumerate(layers)})


def torch_linear(inputs: int, outputs: int, bias: bool = True) -> L:
    return L("Linear", {"weight": (outputs, inputs)} | ({"bias": (outputs,)} if bias else {}))


def paddle_linear(inputs: int, outputs: int, bias: bool = True) -> L:
    return L("Linear", {"weight": (inputs, outputs)} | ({"bias": (outputs,)} if bias else {}))


def norm(size: int = 8) -> L:
    return L("LayerNorm", {"weight": (size,), "bias": (size,)})


def describe(framework: str, root: L) -> ModelDescription:
    layers: list[LayerInfo] = []
    parameters: dict[str, ParameterInfo] = {}

    def visit(route: str, layer: L) -> None:
        prefix = f"{route}." if route else ""
        path = layer.module or ("models.of.the.user" if layer.own_class else LIBRARY[framework])
        layers.append(
            LayerInfo(
                route=route,
                class_name=layer.kind,
                class_path=f"{path}.{layer.kind}",
                children=tuple(prefix + name for name in layer.children),
                parameters=tuple(prefix + name for name in (*layer.tensors, *layer.tie, *layer.buffers)),
                hyperparameters={},
                training=True,
            )
        )
        held: dict[ParameterKind, dict[str, tuple[int, ...]]] = {"parameter": layer.tensors, "buffer": layer.buffers}
        for kind, shapes in held.items():
            for name, shape in shapes.items():
                spec = TensorSpec(layer.dtypes.get(name, DType.F32), shape)
                parameters[prefix + name] = ParameterInfo(prefix + name, kind, spec, kind == "parameter")
        for name, target in layer.tie.items():
            first = parameters[target]
            aliases = (*first.aliases, prefix + name)
            parameters[target] = ParameterInfo(target, first.kind, first.spec, first.trainable, aliases)
        for name, child in layer.children.items():
            visit(prefix + name, child)

    visit("", root)
    return ModelDescription(framework, root.kind, tuple(layers), tuple(parameters.values()))


def match(
    torch: L,
    paddle: L,
    layer_map: Mapping[str, str] | None = None,
    parameter_map: Mapping[str, str] | None = None,
    renames: Mapping[str, str] | None = None,
) -> Matching:
    user_map = UserMap(layer_map or {}, parse_parameters(parameter_map or {}), renames or {})
    return match_models(describe("torch", torch), describe("paddle", paddle), user_map)


def routes(matching: Matching) -> dict[str, str]:
    return {pair.base: pair.raw for pair in matching.layers}


def links(matching: Matching) -> dict[str, tuple[str, str]]:
    """base names -> (raw names, rule), several names joined by a comma."""
    return {",".join(link.base): (",".join(link.raw), link.rule) for link in matching.links}


def failing(entries: tuple[Unmatched, ...]) -> list[str]:
    return [entry.name for entry in entries if entry.fails]


def net(**children: L) -> L:
    return user("Net", children)


def torch_attention(size: int = 8, bias: bool = True) -> L:
    out = L("NonDynamicallyQuantizableLinear", {"weight": (size, size)} | ({"bias": (size,)} if bias else {}))
    packed = {"in_proj_weight": (3 * size, size)} | ({"in_proj_bias": (3 * size,)} if bias else {})
    return L("MultiheadAttention", packed, {"out_proj": out})


def paddle_attention(size: int = 8, bias: bool = True) -> L:
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    return L("MultiHeadAttention", children={name: paddle_linear(size, size, bias) for name in names})
