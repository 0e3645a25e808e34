"""Describe the models of dumps that PaDiff itself wrote. They say less than ours do; the rest is guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo
from padiff_rpc.model.recording.native_tree import join
from padiff_rpc.tape.json_files import need, need_nodes
from padiff_rpc.tape.layer_tree import plain_route
from padiff_rpc.tape.texts import hyperparameters_from_text
from padiff_rpc.tensors.tensor import TensorSpec

_STATISTICS = ("_mean", "_variance")
"""Paddle lists these among the parameters of a batch normalisation; they are buffers."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FRAMEWORK_CLASSES = _words(
    """
    sequential modulelist layerlist moduledict layerdict parameterlist parameterdict identity flatten unflatten
    linear bilinear embedding embeddingbag conv1d conv2d conv3d convtranspose1d convtranspose2d convtranspose3d
    conv1dtranspose conv2dtranspose conv3dtranspose unfold fold pixelshuffle upsample pad1d pad2d pad3d zeropad2d
    batchnorm batchnorm1d batchnorm2d batchnorm3d syncbatchnorm instancenorm1d instancenorm2d instancenorm3d layernorm
    groupnorm rmsnorm localresponsenorm dropout dropout1d dropout2d dropout3d alphadropout
    maxpool1d maxpool2d maxpool3d avgpool1d avgpool2d avgpool3d adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d
    adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d
    relu relu6 gelu silu swish mish elu celu selu prelu leakyrelu rrelu sigmoid tanh softmax logsoftmax logsigmoid softplus
    softsign softshrink hardshrink tanhshrink hardtanh hardsigmoid hardswish threshold thresholdedrelu glu maxout
    multiheadattention transformer transformerencoder transformerencoderlayer transformerdecoder transformerdecoderlayer
    rnn lstm gru simplernn rnncell lstmcell grucell simplernncell nondynamicallyquantizablelinear
    """
)
"""Classes that are taken for the framework's own when PaDiff names them.

Any other class is the user's, and its structure speaks for it.
"""


def describe_parameters(
    root: Mapping[str, Any],
    framework: str,
    model_name: str,
    source: Path,
    specs: Mapping[str, TensorSpec],
    gradients: Mapping[str, object],
) -> ModelDescription:
    """Describe a model by the tree in PaDiff's params.json.

    The tree lists no buffers, except the running statistics of paddle's batch normalisation. So the description's
    `unrecorded` is "buffers".

    Args:
        root: The tree's root node.
        framework: The model's framework.
        model_name: The name with which the nodes' routes begin.
        source: The JSON file, for errors.
        specs: The specs of all tensors, by full name (the layer's route and the parameter's own name, without model_name).
        gradients: The dump's gradients by full name; only the names are used. If there are any, parameters without one
            are not trainable.

    Raises:
        PadiffError: DATA_LOSS, naming the file, if something is missing or of another type.
    """
    layers: list[LayerInfo] = []
    parameters: list[ParameterInfo] = []
    for route, node in routed_nodes(root, model_name, source):
        held = [*dict.fromkeys([*need(node, "weights", dict, source), *need(node, "grads", dict, source)])]
        names = [join(route, local) for local in held if join(route, local) in specs]
        children = [plain_route(need(child, "route", str, source), model_name, source) for child in node["children"]]
        text = need(node, "repr", str, source)
        layers.append(_layer(route, need(node, "name", str, source), framework, children, names, text))
        for name in names:
            is_buffer = framework == "paddle" and name.rpartition(".")[2] in _STATISTICS
            trainable = not is_buffer and (not gradients or name in gradients)
            parameters.append(ParameterInfo(name, "buffer" if is_buffer else "parameter", specs[name], trainable))
    return ModelDescription(framework, layers[0].class_name, tuple(layers), tuple(parameters), "buffers")


def describe_calls(
    tree: Sequence[Mapping[str, Any]], framework: str, model_name: str, source: Path
) -> ModelDescription:
    """Describe a model by the layers that a report saw running, without parameters.

    Args:
        tree: The report's nodes, each a call of a layer.
        framework: The model's framework.
        model_name: The model's name, taken for the root's class unless the report has a call of the root.
        source: The JSON file, for errors.

    Raises:
        PadiffError: DATA_LOSS, naming the file, if something is missing or of another type.
    """
    seen: dict[str, str] = {"": model_name}
    for node in _calls(tree, source):
        if need(node, "type", str, source) != "api":
            route = plain_route(need(node, "route", str, source), model_name, source)
            seen[route] = need(node, "name", str, source)
    children: dict[str, list[str]] = {route: [] for route in seen}
    for route in seen:
        if route:
            children[_parent(route, seen)].append(route)
    ordered = _pre_order("", children)
    layers = tuple(_layer(route, seen[route], framework, children[route], [], "") for route in ordered)
    return ModelDescription(framework, seen[""], layers, ())


def routed_nodes(node: Mapping[str, Any], model_name: str, source: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (route, node) of each layer in pre-order; a layer that is registered twice comes once."""
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        route = plain_route(need(one, "route", str, source), model_name, source)
        if route not in seen:
            seen.add(route)
            yield route, one
            waiting += reversed(need_nodes(one, "children", source))


def _layer(
    route: str, class_name: str, framework: str, children: Sequence[str], names: Sequence[str], text: str
) -> LayerInfo:
    own = class_name.lower().replace("_", "") in _FRAMEWORK_CLASSES
    return LayerInfo(
        route=route,
        class_name=class_name,
        class_path=f"{framework}.nn.{class_name}" if own else class_name,
        children=tuple(dict.fromkeys(children)),
        parameters=tuple(names),
        hyperparameters=hyperparameters_from_text(text),
        training=True,  # PaDiff does not say; dumps are mostly made while training
    )


def _calls(nodes: Sequence[Mapping[str, Any]], source: Path) -> Iterator[Mapping[str, Any]]:
    for node in nodes:
        yield node
        yield from _calls(need_nodes(node, "children", source), source)


def _parent(route: str, seen: Mapping[str, str]) -> str:
    parent = route.rpartition(".")[0]
    while parent not in seen:
        parent = parent.rpartition(".")[0]
    return parent


def _pre_order(route: str, children: Mapping[str, Sequence[str]]) -> list[str]:
    return [route, *(below for child in children[route] for below in _pre_order(child, children))]
