"""Dumps of NumPy models and of PaDiff, and faults planted into copies of them, for the tests of the offline checks."""

from __future__ import annotations

import atexit
import copy
import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from padiff_rpc import create_model
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from tests.align.pairs import inputs_of, models
from tests.tape.tapes import PADIFF_DUMPS, edit

STRICT = {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"}
LEAF = Path("step_0") / "rank_0"

Change = Callable[[np.ndarray], np.ndarray]
Check = Callable[..., bool]


def model_of(factory: str, **model_args: Any) -> nn.Layer:
    return getattr(models(), factory)(**model_args)


def native_inputs(factory: str) -> dict[str, Tensor]:
    return {name: Tensor(tensor.to_array()) for name, tensor in inputs_of(factory).items()}


def run_once(proxy: Any, factory: str, backward: bool = True) -> None:
    """One forward on the factory's inputs, and the backward of the mean of squares of all floating outputs."""
    output = proxy(**native_inputs(factory))
    if backward:
        squares = [(each * each).mean() for each in floating(output)]
        proxy.backward(sum(squares[1:], squares[0]))


def floating(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.values.dtype.kind == "f":
            yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from floating(item)


def dump(
    folder: Path,
    factory: str = "mlp",
    *,
    name: str = "",
    backward: bool = True,
    forwards: int = 1,
    change: Callable[[nn.Layer], object] = lambda model: None,
    **model_args: Any,
) -> Path:
    """Run a model and write all four JSON files into a folder; the model is called as the folder."""
    model = model_of(factory, **model_args)
    change(model)
    proxy = create_model(model, name=name or folder.name)
    for _ in range(forwards):
        run_once(proxy, factory, backward)
    for write in (proxy.dump_report, proxy.dump_params, proxy.dump_weights, proxy.dump_grads):
        write(folder)
    return folder


def pair(tmp_path: Path, factory: str = "mlp", **options: Any) -> tuple[Path, Path]:
    """Two dumps of equal models, `base` and `raw`; the tests may spoil them."""
    if options:
        return dump(tmp_path / "base", factory, **options), dump(tmp_path / "raw", factory, **options)
    first = _dumped(factory)
    return tuple(Path(shutil.copytree(first / side, tmp_path / side)) for side in ("base", "raw"))  # type: ignore[return-value]


@cache
def _dumped(factory: str) -> Path:
    """Dump two equal models once for all tests of this process; the folder goes with the process."""
    folder = TemporaryDirectory(prefix="padiff-rpc-dumps-")
    atexit.register(folder.cleanup)
    for side in ("base", "raw"):
        dump(Path(folder.name) / side, factory)
    return Path(folder.name)


def padiffs(tmp_path: Path, framework: str = "paddle", step: int = 0) -> tuple[Path, Path]:
    """Two copies of one dump that PaDiff wrote."""
    source = PADIFF_DUMPS / f"{framework}_good" / f"step_{step}" / "rank_0"
    return tuple(Path(shutil.copytree(source, tmp_path / side)) for side in ("base", "raw"))  # type: ignore[return-value]


def as_padiff(leaf: Path) -> Path:
    """Make of a dump of ours what PaDiff would have written of the same run, and return it.

    It has outputs, and at inputs that are passed by position the gradients of the whole tensors: the sums over all their users.
    """

    def reduced(content: dict[str, Any]) -> None:
        content.pop("padiff_rpc")
        nodes = list(_nodes(content["tree"] if isinstance(content["tree"], list) else [content["tree"]]))
        # A layer may hand on a tensor: the layer that made it ended first.
        ended = sorted(nodes, key=lambda node: -node["metas"]["fwd_step"]) if "metas" in nodes[0] else []
        whole = {
            tensor["path"]: gradient
            for node in ended
            for tensor, gradient in zip(node["fwd_outputs"], node["bwd_output_grads"], strict=False)
        }
        for node in nodes:
            if "fwd_inputs" in node:
                taken = {entry["padiff_rpc"]["name"]: entry["path"] for entry in node["fwd_inputs"]}
                named = [(entry["padiff_rpc"]["name"], entry) for entry in node["bwd_grads"]]
                node["bwd_grads"] = [
                    copy.deepcopy(whole.get(taken[name], entry)) for name, entry in named if name[0].isdigit()
                ]
        for node in nodes:
            for key in ("fwd_inputs", "bwd_output_grads", "buffers", "padiff_rpc"):
                node.pop(key, None)
            for entry in (*node.get("fwd_outputs", ()), *node.get("bwd_grads", ())):
                entry.pop("padiff_rpc", None)

    for name in ("report.json", "params.json"):
        edit(leaf / name, reduced)
    return leaf


# -- what a model that computed something else would have dumped --------------------------------------------------
def node_of(content: dict[str, Any], route: str, call: int = 0) -> dict[str, Any]:
    """Find the node of a layer below the model's name, in a report (of the call-th call) or a file of parameters."""
    full = ".".join(part for part in (content["model_name"], route) if part)
    tree = content["tree"]
    found = [node for node in _nodes(tree if isinstance(tree, list) else [tree]) if node["route"] == full]
    return found[call]


def spoil_tensor(leaf: Path, route: str, key: str, change: Change, index: int = 0, call: int = 0) -> None:
    """Let a layer have another tensor in the report: key `fwd_outputs`, `bwd_grads`, `bwd_output_grads`, `fwd_inputs`."""

    def put(content: dict[str, Any]) -> None:
        entry = node_of(content, route, call)[key][index]
        array = _save(leaf, entry, "path", change)
        framework = content["framework"]
        entry["shape"] = f"{framework}.Size({list(array.shape)})" if framework == "torch" else str(list(array.shape))
        entry["dtype"] = f"{framework}.{array.dtype}"
        if "padiff_rpc" in entry:
            entry["padiff_rpc"].update(_spec(array))

    edit(leaf / "report.json", put)


def spoil_held(leaf: Path, route: str, kind: str, name: str, change: Change, files: str = "params.json") -> None:
    """Let a layer hold another tensor; kind: `weights`, `grads` or `buffers`."""

    def put(content: dict[str, Any]) -> None:
        node = node_of(content, route)
        array = _save(leaf, node[kind], name, change)
        if "padiff_rpc" in node:
            node["padiff_rpc"]["gradients" if kind == "grads" else "tensors"][name].update(_spec(array))

    edit(leaf / files, put)


def file_of(leaf: Path, route: str, key: str, files: str = "report.json") -> Path:
    """Return the file of a layer's first tensor of a report's list, or of a weight (`weights.weight`)."""
    content = json.loads((leaf / files).read_text())
    node = node_of(content, route)
    kind, _, name = key.partition(".")
    path = node[kind][name] if name else node[kind][0]["path"]
    return leaf.joinpath(*Path(path).parts[-2:])


# -- values -------------------------------------------------------------------------------------------------------
def bump(array: np.ndarray) -> np.ndarray:
    """Add 0.01 to one element: the mean differs too."""
    array = array.copy()
    array.reshape(-1)[1] += 0.01
    return array


def turn(array: np.ndarray) -> np.ndarray:
    """Permute the values: the mean stays as it is, but for rounding."""
    return np.roll(array.reshape(-1), 1).reshape(array.shape)


def with_nan(array: np.ndarray) -> np.ndarray:
    return _with(array, np.nan)


def with_inf(array: np.ndarray) -> np.ndarray:
    return _with(array, np.inf)


def with_inf_elsewhere(array: np.ndarray) -> np.ndarray:
    return _with(array, np.inf, at=2)


def reshaped(array: np.ndarray) -> np.ndarray:
    return array.reshape(*array.shape[::-1], 1)


def doubled_precision(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def _with(array: np.ndarray, value: float, at: int = 1) -> np.ndarray:
    array = array.copy()
    array.reshape(-1)[at] = value
    return array


def _save(leaf: Path, holder: dict[str, Any], key: str, change: Change) -> np.ndarray:
    """Write a changed copy of a tensor into a file of its own (one file serves several equal tensors), and refer to it."""
    old = leaf.joinpath(*Path(holder[key]).parts[-2:])
    array = change(np.load(old))
    new = old.with_name(f"planted_{len(list(old.parent.glob('planted_*')))}.npy")
    np.save(new, array)
    holder[key] = str(Path(holder[key]).with_name(new.name))
    return array


def _spec(array: np.ndarray) -> dict[str, Any]:
    names = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64"}
    return {"dtype": names[str(array.dtype)], "shape": list(array.shape)}


def _nodes(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        yield node
        yield from _nodes(node["children"])
