"""Parts of a stack of tensors: `experts.w1[3]` is what lies at 3 of the first axis of `experts.w1`, a tensor by itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from padiff_rpc.model.model import ModelDescription, ParameterInfo
from padiff_rpc.tensors.tensor import Tensor, TensorSpec

_PART = re.compile(r"(.+)\[(\d+)\]")


def part_name(stack: str, at: int) -> str:
    """Return the name of the part of a stack at a place of its first axis."""
    return f"{stack}[{at}]"


def place_of_part(name: str) -> tuple[str, int] | None:
    """Return the name of the stack and the place that a part's name tells; None for a name of another form."""
    found = _PART.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def stack_name(name: str) -> str:
    """Return the name of the stack that a part lies in, and any other name as it is."""
    place = place_of_part(name)
    return place[0] if place else name


def part_spec(spec: TensorSpec) -> TensorSpec:
    """Return the header of each part of a stack."""
    return TensorSpec(spec.dtype, spec.shape[1:])


def has_part(spec: TensorSpec, at: int) -> bool:
    """Return True if a tensor has a part at this place of its first axis."""
    return bool(spec.shape) and at < spec.shape[0]


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the parts of stacks put together, where all parts of a stack are there; other parts are left out.

    All parts of a stack must have one spec.
    """
    whole: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        place = place_of_part(name)
        if place is None:
            whole[name] = tensor
        else:
            parts.setdefault(place[0], {})[place[1]] = tensor
    for stack, found in parts.items():
        if sorted(found) == list(range(len(found))):
            arrays = [found[at].to_array() for at in range(len(found))]
            whole[stack] = Tensor.from_array(np.stack(arrays), found[0].spec.dtype)
    return whole


def parted(tensors: Mapping[str, Tensor], description: ModelDescription) -> dict[str, Tensor]:
    """Return tensors with those cut into parts that a description lists in parts."""
    known = {info.name for info in description.parameters}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in known or part_name(name, 0) not in known:
            found[name] = tensor
        else:
            for at, part in enumerate(tensor.to_array()):
                found[part_name(name, at)] = Tensor.from_array(np.ascontiguousarray(part), tensor.spec.dtype)
    return found


def with_parts(description: ModelDescription, names: Iterable[str]) -> ModelDescription:
    """Return a description that lists the parts of stacks in their place, for each stack of which a part is among the names."""
    own = {name for info in description.parameters for name in (info.name, *info.aliases)}
    places = [place_of_part(name) for name in names if name not in own]
    return in_parts(description, {place[0] for place in places if place})


def in_parts(description: ModelDescription, stacks: Collection[str]) -> ModelDescription:
    """Return a description that lists the parts of these stacks in their place."""
    cut = {
        name: info
        for info in description.parameters
        if info.spec.shape and not {info.name, *info.aliases}.isdisjoint(stacks)
        for name in (info.name, *info.aliases)
    }
    if not cut:
        return description
    layers = tuple(
        replace(layer, parameters=tuple(part for name in layer.parameters for part in _names(name, cut)))
        if any(name in cut for name in layer.parameters)
        else layer
        for layer in description.layers
    )
    parameters = [part for info in description.parameters for part in (_parts(info) if info.name in cut else [info])]
    return replace(description, layers=layers, parameters=tuple(parameters))


def _parts(info: ParameterInfo) -> list[ParameterInfo]:
    return [
        replace(
            info,
            name=part_name(info.name, at),
            spec=part_spec(info.spec),
            aliases=tuple(part_name(alias, at) for alias in info.aliases),
        )
        for at in range(info.spec.shape[0])
    ]


def _names(name: str, cut: dict[str, ParameterInfo]) -> list[str]:
    return [part_name(name, at) for at in range(cut[name].spec.shape[0])] if name in cut else [name]
