"""Read params.json, weights.json or grads.json: the model's layers, and the files of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ModelDescription, What
from padiff_rpc.model.recording.native_tree import join
from padiff_rpc.model.selection import Selection
from padiff_rpc.tape.entries import Paths, TensorRef, check_spec, natural_spec, spec_from_json, unlike
from padiff_rpc.tape.header import selection_of
from padiff_rpc.tape.json_files import OURS, damaged, need, read_json
from padiff_rpc.tape.layer_tree import description_of, first_nodes, plain_route
from padiff_rpc.tape.npy import open_npy
from padiff_rpc.tape.padiff_layers import describe_parameters, routed_nodes
from padiff_rpc.tensors.tensor import TensorSpec


@dataclass(frozen=True)
class ParameterFile:
    """What one of these files holds. Each tensor's file was found, and its header agrees with the JSON.

    Attributes:
        source: The JSON file.
        content: Its content, as parsed.
        description: The model's layers, parameters and buffers.
        values: Parameters and buffers, by their first names.
        gradients: Gradients, by the first names of their parameters.
        selection: Which layers were left out of the dump, and why.
    """

    source: Path
    content: Mapping[str, Any]
    description: ModelDescription
    values: Mapping[str, TensorRef]
    gradients: Mapping[str, TensorRef]
    selection: Selection

    def find(self, name: str, what: What) -> TensorRef | None:
        """Return the value or the gradient of a tensor.

        Args:
            name: The tensor's first name.
            what: Which of the two.

        Returns:
            The tensor in its file; None for a gradient that the file does not hold.

        Raises:
            PadiffError: NOT_SUPPORTED if the value was not to be written: its layer was left out, or the file has no
                values.
            PadiffError: DATA_LOSS if the value should be in the file, and is not.
        """
        if what == "gradient":
            return self.gradients.get(name)
        if name in self.values:
            return self.values[name]
        why = self._why_left_out(name)
        if self.values and not why:
            raise damaged(
                self.source, f"does not hold {name!r}", "it is damaged, or of another model than the other steps"
            )
        raise PadiffError(
            f"{str(self.source)!r} does not hold the value of {name!r}{why}",
            reason=Reason.NOT_SUPPORTED,
            hint="dump the values too, and leave out of the comparison what is left out of the dump",
        )

    def _why_left_out(self, name: str) -> str:
        """Return why the layer that holds a tensor was left out of the dump; "" if it was not."""
        names = {alias for info in self.description.parameters if info.name == name for alias in (name, *info.aliases)}
        reasons = [
            self.selection.left_out[layer.route]
            for layer in self.description.layers
            if names & set(layer.parameters) and not self.selection.keeps(layer.route)
        ]
        return f": {reasons[0]}" if reasons else ""


def read_parameter_file(source: Path) -> ParameterFile:
    """Read one of these files, and the headers of its tensors' files.

    Raises:
        PadiffError: DATA_LOSS, naming the file, if the JSON or a tensor's file is missing, damaged, or not what it
            should be.
        PadiffError: BAD_CONFIG if the JSON's format is of a newer release.
    """
    content = read_json(source)
    framework = need(content, "framework", str, source)
    root = need(content, "tree", dict, source)
    model_name = need(content, "model_name", str, source)
    paths = Paths(source, need(content, "file_path", str, source))
    if OURS in content:
        class_name = need(root, "name", str, source)
        description = description_of(root, framework, class_name, model_name, source)
        values, gradients = _ours(root, description, model_name, paths)
    else:
        values, gradients = _padiffs(root, model_name, paths)
        specs = {name: ref.spec for name, ref in {**gradients, **values}.items()}
        description = describe_parameters(root, framework, model_name, source, specs, gradients)
    return ParameterFile(source, content, description, values, gradients, selection_of(content, source))


def _ours(
    root: Mapping[str, Any], description: ModelDescription, model_name: str, paths: Paths
) -> tuple[dict[str, TensorRef], dict[str, TensorRef]]:
    infos = {name: info for info in description.parameters for name in (info.name, *info.aliases)}
    values: dict[str, TensorRef] = {}
    gradients: dict[str, TensorRef] = {}
    for node in first_nodes(root, paths.source):
        route = plain_route(node["route"], model_name, paths.source)
        written = {**need(node, "weights", dict, paths.source), **need(node, "buffers", dict, paths.source)}
        for local, path in written.items():
            info = _known(infos, join(route, local), paths.source)
            file = open_npy(paths.find(_text(path, local, paths.source)))
            values[info.name] = TensorRef(info.name, file, check_spec(file, info.spec))
        for local, path in need(node, "grads", dict, paths.source).items():
            info = _known(infos, join(route, local), paths.source)
            if path is not None:
                specs = need(node[OURS], "gradients", dict, paths.source)
                file = open_npy(paths.find(_text(path, local, paths.source)))
                told = need(specs, local, dict, paths.source)
                spec, floor = spec_from_json(told, paths.source), _floor(told, paths.source)
                gradients[info.name] = TensorRef(info.name, file, check_spec(file, spec), floor=floor)
    return values, gradients


def _padiffs(
    root: Mapping[str, Any], model_name: str, paths: Paths
) -> tuple[dict[str, TensorRef], dict[str, TensorRef]]:
    values: dict[str, TensorRef] = {}
    gradients: dict[str, TensorRef] = {}
    for name, path in _padiff_paths(root, model_name, paths, "weights"):
        file = open_npy(paths.find(_text(path, name, paths.source)))
        values[name] = TensorRef(name, file, natural_spec(file))
    for name, path in _padiff_paths(root, model_name, paths, "grads"):
        if path is not None:
            spec = values[name].spec if name in values else None
            gradients[name] = _padiff_gradient(name, _text(path, name, paths.source), spec, paths)
    return values, gradients


def _padiff_paths(root: Mapping[str, Any], model_name: str, paths: Paths, kind: str) -> Iterator[tuple[str, object]]:
    for route, node in routed_nodes(root, model_name, paths.source):
        for local, path in need(node, kind, dict, paths.source).items():
            yield join(route, local), path


def _padiff_gradient(name: str, path: str, spec: TensorSpec | None, paths: Paths) -> TensorRef:
    """Read a gradient of PaDiff's, whose entry does not tell its spec.

    It has its parameter's shape, and mostly its element type; half types may have gradients in float32.
    """
    file = open_npy(paths.find(path))
    if spec is None:
        return TensorRef(name, file, natural_spec(file))
    if file.shape != spec.shape:
        raise unlike(file, f"it is the gradient of {name!r}, {spec}")
    dtype = spec.dtype if file.stored == spec.dtype.storage else file.dtype
    return TensorRef(name, file, TensorSpec(dtype, file.shape))


def _known(infos: Mapping[str, Any], name: str, source: Path) -> Any:
    if name not in infos:
        raise damaged(source, f"holds a tensor {name!r} that it says nothing about")
    return infos[name]


def _floor(told: Mapping[str, Any], source: Path) -> float | None:
    floor = told.get("floor")
    if floor is not None and not isinstance(floor, (int, float)):
        raise damaged(source, f"holds the floor {floor!r}")
    return floor


def _text(path: object, name: str, source: Path) -> str:
    if not isinstance(path, str):
        raise damaged(source, f"has {path!r} for the path of {name!r}")
    return path
