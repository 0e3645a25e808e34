"""Write params.json, weights.json and grads.json: what a model holds, as a tree of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.tape.entries import spec_json
from padiff_rpc.tape.header import Header
from padiff_rpc.tape.json_files import OURS, write_json
from padiff_rpc.tape.layer_tree import layer_tree, local_name
from padiff_rpc.tape.tensor_files import DumpFolder, NumberedFiles
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

PARAMS, WEIGHTS, GRADS = "params.json", "weights.json", "grads.json"
SHARED = "params.json and weights.json"
"""Stands for both files, as the owner of tensor files that both refer to."""
_PREFIX = {PARAMS: "", WEIGHTS: "_only", GRADS: "_only", SHARED: "_shared"}
"""How the names of each JSON file's tensor files go on: `weights_0.npy` of params.json, `weights_only_0.npy` of weights.json.

Files that both refer to have a name of their own, so that neither takes them from the other when it is written anew.
"""

_PADDLE_STATISTICS = ("_mean", "_variance")
"""Buffers that paddle's batch normalisation lists among its parameters, and PaDiff therefore among the weights."""

ReadNamed = Callable[[Sequence[str]], Iterator[TensorStream]]
"""Streams parameters or buffers by name, in the order asked; those that do not exist are left out."""


@dataclass(frozen=True)
class Written:
    """A tensor that was written.

    Attributes:
        path: Its file, as the JSON names it.
        spec: Its spec.
    """

    path: str
    spec: TensorSpec


@dataclass(frozen=True)
class HeldTensors:
    """The tensors of one JSON file, by first name.

    Attributes:
        values: Parameters and buffers.
        gradients: Gradients of parameters; None for a parameter that has none.
        floors: How far these gradients move by rounding alone, where that was measured.
    """

    values: Mapping[str, Written] = field(default_factory=dict)
    gradients: Mapping[str, Written | None] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)


def write_params(
    folder: str | Path | DumpFolder,
    header: Header,
    description: ModelDescription,
    selection: Selection,
    read_values: ReadNamed,
    read_gradients: ReadNamed,
) -> None:
    """Write params.json: parameters, buffers, and the gradients of parameters. A file that is there is replaced.

    Args:
        folder: The dump's folder, which is made if it is missing.
        header: Which model it is.
        description: Its layers and tensors.
        selection: Which layers to keep. Tensors that only others hold are left out.
        read_values: Reads parameters and buffers.
        read_gradients: Reads gradients of parameters.
    """
    into = begin(folder, PARAMS)
    values = write_values(into, PARAMS, description, selection, read_values)
    gradients = write_gradients(into, PARAMS, description, selection, read_gradients)
    finish(into, PARAMS, header, description, selection, HeldTensors(values, gradients))


def write_weights(
    folder: str | Path | DumpFolder,
    header: Header,
    description: ModelDescription,
    selection: Selection,
    read_values: ReadNamed,
    *,
    whole: bool = False,
    written: Mapping[str, Written] | None = None,
) -> None:
    """Write weights.json: parameters and buffers. A file that is there is replaced.

    Args:
        folder: The dump's folder, which is made if it is missing.
        header: Which model it is.
        description: Its layers and tensors.
        selection: Which layers to keep. Tensors that only others hold are left out.
        read_values: Reads parameters and buffers.
        whole: Write the tensors of layers that are left out too.
        written: Tensors whose files lie in the folder already.
    """
    into = begin(folder, WEIGHTS)
    values = write_values(into, WEIGHTS, description, EVERYTHING if whole else selection, read_values, written)
    finish(into, WEIGHTS, header, description, selection, HeldTensors(values=values), whole=whole)


def write_grads(
    folder: str | Path | DumpFolder,
    header: Header,
    description: ModelDescription,
    selection: Selection,
    read_gradients: ReadNamed,
) -> None:
    """Write grads.json: the gradients of parameters. A file that is there is replaced.

    Args:
        folder: The dump's folder, which is made if it is missing.
        header: Which model it is.
        description: Its layers and tensors.
        selection: Which layers to keep. Tensors that only others hold are left out.
        read_gradients: Reads gradients of parameters.
    """
    into = begin(folder, GRADS)
    gradients = write_gradients(into, GRADS, description, selection, read_gradients)
    finish(into, GRADS, header, description, selection, HeldTensors(gradients=gradients))


def begin(folder: str | Path | DumpFolder, name: str) -> DumpFolder:
    """Make the dump's folder, and remove an earlier JSON file of that name from it.

    An old file then never stands beside tensors that are not its own.
    """
    into = DumpFolder.of(folder)
    into.actual.mkdir(parents=True, exist_ok=True)
    (into.actual / name).unlink(missing_ok=True)
    return into


def write_values(
    into: DumpFolder,
    name: str,
    description: ModelDescription,
    selection: Selection,
    read: ReadNamed,
    written: Mapping[str, Written] | None = None,
) -> dict[str, Written]:
    """Write parameters and buffers, and return where they lie, by first name.

    Args:
        into: The dump's folder.
        name: The JSON file that they are for, or SHARED.
        description: The model's layers and tensors.
        selection: Which layers to keep. Tensors that only others hold are left out.
        read: Reads parameters and buffers.
        written: Tensors whose files lie in the folder already; they are not read.
    """
    there = written or {}
    kept = _kept(description, selection)
    weights = NumberedFiles(into, "weights", f"weights{_PREFIX[name]}")
    buffers = NumberedFiles(into, "buffers", f"buffers{_PREFIX[name]}")
    is_weight = {info.name: _is_weight(description.framework, info) for info in kept}
    values = {name: there[name] for name in is_weight if name in there}
    for stream in read([name for name in is_weight if name not in there]):
        path = (weights if is_weight[stream.name] else buffers).write(stream)
        values[stream.name] = Written(path, stream.spec)
    return values


def write_gradients(
    into: DumpFolder, name: str, description: ModelDescription, selection: Selection, read: ReadNamed
) -> dict[str, Written | None]:
    """Write the gradients of parameters, and return where they lie, by first name; None for a parameter that has none.

    Args:
        into: The dump's folder.
        name: The JSON file that they are for.
        description: The model's layers and tensors.
        selection: Which layers to keep. Gradients of tensors that only others hold are left out.
        read: Reads gradients of parameters.
    """
    names = [info.name for info in _kept(description, selection) if info.kind == "parameter"]
    files = NumberedFiles(into, "grads", f"grads{_PREFIX[name]}")
    written = {stream.name: Written(files.write(stream), stream.spec) for stream in read(names)}
    return {name: written.get(name) for name in names}


def finish(
    into: DumpFolder,
    name: str,
    header: Header,
    description: ModelDescription,
    selection: Selection,
    held: HeldTensors,
    *,
    whole: bool = False,
) -> None:
    """Write the JSON file, once all its tensors are written.

    Args:
        into: The dump's folder.
        name: The JSON file's name.
        header: Which model it is.
        description: Its layers and tensors.
        selection: Which layers the dump keeps.
        held: The tensors that were written.
        whole: Whether `held` has the tensors of layers that are left out too.
    """
    tensors = {alias: info for info in description.parameters for alias in (info.name, *info.aliases)}

    def fill(layer: LayerInfo, node: dict[str, Any]) -> None:
        node["buffers"] = {}
        for full_name in layer.parameters if whole or selection.keeps(layer.route) else ():
            info, local = tensors[full_name], local_name(layer, full_name)
            if info.name in held.values:
                kind = "weights" if _is_weight(description.framework, info) else "buffers"
                node[kind][local] = held.values[info.name].path
            if info.name in held.gradients:
                gradient = held.gradients[info.name]
                node["grads"][local] = gradient and gradient.path
                if gradient:  # that of a half-type parameter may be wider than it
                    floor = held.floors.get(info.name)
                    told = spec_json(gradient.spec) if floor is None else {**spec_json(gradient.spec), "floor": floor}
                    node[OURS].setdefault("gradients", {})[local] = told
            elif held.gradients and local in node["weights"]:
                node["grads"][local] = None  # paddle's statistics, which PaDiff takes for weights

    content = {
        **header.top(into.shown_file(name)),
        "tree": layer_tree(description, header.model_name, selection, fill),
        OURS: header.ours(selection),
    }
    write_json(into.actual / name, content)


def _kept(description: ModelDescription, selection: Selection) -> list[ParameterInfo]:
    """List the tensors that a kept layer holds, a tied one under its first name."""
    held = {name for layer in description.layers if selection.keeps(layer.route) for name in layer.parameters}
    return [info for info in description.parameters if held & {info.name, *info.aliases}]


def _is_weight(framework: str, info: ParameterInfo) -> bool:
    local = info.name.rpartition(".")[2]
    return info.kind == "parameter" or (framework == "paddle" and local in _PADDLE_STATISTICS)
