"""The top of every JSON file of a dump: whose it is, where the model ran, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from padiff_rpc.model.model import ModelDescription, ModelInfo
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.tape.json_files import FORMAT, OURS, need
from padiff_rpc.tape.layer_tree import plain_route, shown_route


@dataclass(frozen=True)
class Header:
    """Which model was dumped, and where it ran.

    Attributes:
        model_name: The model's name, with which the routes in the dump begin.
        framework: Its framework.
        layer_map: Routes of the layers that were mapped by hand, in order.
        device: Its device, as the framework names it.
        info: Where it ran; None if that is not known.
    """

    model_name: str
    framework: str
    layer_map: tuple[str, ...] = ()
    device: str = "cpu"
    info: ModelInfo | None = None

    def top(self, shown_path: str) -> dict[str, Any]:
        """Return the keys that PaDiff's files have at the top. `shown_path` is the file's own path."""
        return {"model_name": self.model_name, "framework": self.framework, "file_path": shown_path}

    def layer_map_json(self, description: ModelDescription) -> dict[str, list[str]]:
        """Return the layer map as PaDiff writes it into report.json: routes, and full names of classes."""
        return {
            "route": [shown_route(self.model_name, route) for route in self.layer_map],
            "fullname": [f"{self.framework}::{description.layer(route).class_name}" for route in self.layer_map],
        }

    def ours(self, selection: Selection) -> dict[str, Any]:
        """Return what stands under our own key at the top of each file, with the layers that a selection leaves out."""
        info = None if self.info is None else asdict(self.info)
        return {
            "format": FORMAT,
            "left_out": dict(selection.left_out),
            "layer_map": list(self.layer_map),
            "info": info,
        }


def info_from_json(node: Mapping[str, Any], source: Path) -> ModelInfo:
    """Read where a model ran; `recorded` is set.

    Args:
        node: The JSON object.
        source: The JSON file, for errors.

    Raises:
        PadiffError: DATA_LOSS, naming file and key, if something is missing or of another type.
    """
    return ModelInfo(
        framework=need(node, "framework", str, source),
        framework_version=need(node, "framework_version", str, source),
        device=need(node, "device", str, source),
        python_version=need(node, "python_version", str, source),
        packages=need(node, "packages", dict, source),
        padiff_version=need(node, "padiff_version", str, source),
        host=need(node, "host", str, source),
        pid=need(node, "pid", int, source),
        losses=tuple(need(node, "losses", list, source)),
        optimizers=tuple(need(node, "optimizers", list, source)),
        store_memory_bytes=need(node, "store_memory_bytes", int, source),
        store_disk_bytes=need(node, "store_disk_bytes", int, source),
        recorded=True,
    )


def layer_map_of(content: Mapping[str, Any], source: Path) -> tuple[str, ...]:
    """Read the routes of the layers that were mapped by hand, in order; () if a file of PaDiff's does not tell.

    Args:
        content: The JSON file's content.
        source: The JSON file, for errors.
    """
    if OURS in content:
        return tuple(map(str, need(content[OURS], "layer_map", list, source)))
    if "layer_map" not in content:
        return ()
    model_name = need(content, "model_name", str, source)
    mapped = need(need(content, "layer_map", dict, source), "route", list, source)
    return tuple(plain_route(str(route), model_name, source) for route in mapped)


def selection_of(content: Mapping[str, Any], source: Path) -> Selection:
    """Read which layers were left out of a dump, and why. PaDiff's own dumps do not tell, and are taken to have all.

    Args:
        content: The JSON file's content.
        source: The JSON file, for errors.
    """
    return Selection(need(content[OURS], "left_out", dict, source)) if OURS in content else EVERYTHING
