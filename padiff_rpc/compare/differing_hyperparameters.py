"""Compare the hyper-parameters of two layers, with the frameworks' own names and conventions set aside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from padiff_rpc.compare.translations import as_common
from padiff_rpc.result import LayerRef

CONFIG = "config."
"""What stands before the name of a value that a layer's configuration object holds."""
_NAMES = {
    "epsilon": "eps",
    "axis": "dim",
    "start_axis": "start_dim",
    "stop_axis": "end_dim",
    "return_mask": "return_indices",
    "num_channels": "num_features",
}
"""Other names -> the name that both sides are compared under (torch's)."""

_IMPLIED: Mapping[str, tuple[Any, ...]] = {
    "data_format": (None, "NCHW", "NCL", "NCDHW", "NC"),
    "padding_mode": ("zeros",),
    "mode:Dropout": ("upscale_in_train",),
    "use_global_stats": (None, False),
    "affine": (True,),
    "track_running_stats": (True,),
    "elementwise_affine": (True,),
    "inplace": (True, False),
    "approximate": ("none", False),
    "divisor_override": (None,),
    "scale_grad_by_freq": (False,),
    "max_norm": (None,),
    "sparse": (True, False),
    "norm_type": (2.0,),
    "align_mode": (0,),
    "recompute_scale_factor": (None, False),
}
"""The values of a hyper-parameter that mean the same as its absence, in a framework without it."""

_PER_AXIS = {"kernel_size", "stride", "padding", "dilation", "output_padding", "output_size", "scale_factor"}
"""Hyper-parameters for which one number stands for the same number along every axis."""


@dataclass(frozen=True)
class Difference:
    """One hyper-parameter that differs, as text under each side's own name. `note` says how the two values relate."""

    base: str
    raw: str
    note: str = ""


def differing_hyperparameters(
    base: LayerRef, raw: LayerRef, base_framework: str, raw_framework: str
) -> list[Difference]:
    """Compare two layers' hyper-parameters, in base's order. Their configurations are left to `differing_configuration`.

    Some hyper-parameters exist on one side only. Between two frameworks such a hyper-parameter counts only if its value is
    known to mean something other than its absence. Within one framework it counts unless it is off: another release may lack it.
    """
    ours, theirs = _canonical(base, base_framework), _canonical(raw, raw_framework)
    found = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        mine, yours = ours.get(name), theirs.get(name)
        if mine is not None and yours is not None:
            if not _same(mine.value, yours.value):
                found.append(Difference(mine.text(), yours.text(), _relation(name, mine, yours)))
        elif _counts_alone(name, mine or yours, base.class_name, base_framework == raw_framework):
            absent = "(has none)"
            found.append(Difference(mine.text() if mine else absent, yours.text() if yours else absent))
    return found


def differing_configuration(base: LayerRef, raw: LayerRef) -> list[Difference]:
    """Compare the values that both layers' configurations have under one name. Most of them concern other layers."""
    found: list[Difference] = []
    for name, value in base.hyperparameters.items():
        if name.startswith(CONFIG) and name in raw.hyperparameters:
            mine, yours = (_Item(name, each, _value(name, each)) for each in (value, raw.hyperparameters[name]))
            if not _same(mine.value, yours.value):
                found.append(Difference(mine.text(), yours.text()))
    return found


@dataclass(frozen=True)
class _Item:
    own_name: str
    own_value: Any
    value: Any

    def text(self) -> str:
        return f"{self.own_name}={self.own_value!r}"


def _counts_alone(name: str, item: _Item | None, class_name: str, one_framework: bool) -> bool:
    if not one_framework:
        return _matters(name, item, class_name)
    return item is not None and item.own_value not in (None, False) and item.value not in _IMPLIED.get(name, ())


def _canonical(layer: LayerRef, framework: str) -> dict[str, _Item]:
    found: dict[str, _Item] = {}
    for own, value in layer.hyperparameters.items():
        if own.startswith(CONFIG):
            continue
        plain = own.lstrip("_")
        name, common = as_common(framework, plain, value)
        name = _NAMES.get(name, name)
        found[name] = _Item(own, value, _value(name, common))
    stride, kernel = found.get("stride"), found.get("kernel_size")
    if stride is not None and stride.value is None and kernel is not None:  # a pooling's stride is its kernel's size
        found["stride"] = replace(stride, value=kernel.value)
    return found


def _value(name: str, value: Any) -> Any:
    if name == "approximate" and isinstance(value, bool):
        return "tanh" if value else "none"
    if name == "padding_idx" and value == -1:
        return None
    if isinstance(value, (list, tuple)):
        items = list(value)
        if items and (len(items) == 1 or name in _PER_AXIS) and all(_same(item, items[0]) for item in items):
            return _value(name, items[0])
        return items
    return value.lower() if isinstance(value, str) else value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=0.0) or (a != a and b != b)
    return a == b


def _matters(name: str, item: _Item | None, class_name: str) -> bool:
    implied = _IMPLIED.get(name) or (
        _IMPLIED.get("mode:Dropout") if name == "mode" and "Dropout" in class_name else None
    )
    return item is not None and implied is not None and item.own_value not in implied


def _relation(name: str, base: _Item, raw: _Item) -> str:
    """Say what a value is in the other framework's terms, where it is not what it says."""
    if name == "momentum" and base.own_value != base.value:
        return f"paddle's {base.own_value!r} is {base.value:.6g} in torch"
    if name == "momentum" and raw.own_value != raw.value:
        return f"paddle's {raw.own_value!r} is {raw.value:.6g} in torch"
    if base.own_name.lstrip("_") == raw.own_name.lstrip("_"):
        return ""
    for item in (base, raw):
        if isinstance(item.value, bool) and item.own_value != item.value:
            return f"{item.text()} is {name}={item.value!r}"
    return ""
