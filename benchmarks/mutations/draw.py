"""Draw mutations of a model, by seed, from all that could be made in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from benchmarks.mutations.changes import INTEGER_CHANGES, PARAMETER_CHANGES, RESULT_CHANGES, VALUE_CHANGES
from benchmarks.mutations.frameworks import Framework
from benchmarks.mutations.mutation import Mutation
from benchmarks.mutations.seen import Seen

_OTHER = {"gelu": "silu", "silu": "gelu", "relu": "gelu", "tanh": "sigmoid", "sigmoid": "tanh"}
_CALL_KINDS = {
    "add": ("left out",),
    "mul": ("left out",),
    "divide": ("left out",),
    "fill": ("left out",),
    "layer_norm": ("left out",),
    "softmax": ("along another axis",),
    "triangle": ("diagonal off by one",),
    "positions": ("off by one",),
    "concat": ("order reversed",),
    "attention": ("without mask",),
}
_SETTINGS = ("eps", "scal", "factor", "heads", "groups", "slope", "theta", "approximate", "top_k", "axis")
_SIZES = ("hidden", "size", "num_features", "in_", "out_", "embed", "_dim")


def draw(fw: Framework, model: Any, seen: Seen, seed: int) -> Iterator[Mutation]:
    """Give mutations without end, or until there are no more: the kinds in turn, in an order that the seed makes."""
    rng = random.Random(seed)
    of_kind: dict[str, list[Mutation]] = {}
    for mutation in _all(fw, model, seen):
        of_kind.setdefault(mutation.label, []).append(mutation)
    labels = sorted(of_kind)
    rng.shuffle(labels)
    for label in labels:
        rng.shuffle(of_kind[label])
    while any(of_kind.values()):
        for label in labels:
            if of_kind[label]:
                yield of_kind[label].pop()


def _all(fw: Framework, model: Any, seen: Seen) -> Iterator[Mutation]:
    layers = {route: layer for route, layer in fw.layers(model).items() if route in seen.left}
    for route, layer in layers.items():
        yield from _of_parameters(fw, route, layer)
        yield from _of_values(route, seen)
        yield from _of_settings(route, layer)
    yield from _of_calls(fw, seen)
    yield from _exchanges(fw, layers)


def _of_parameters(fw: Framework, route: str, layer: Any) -> Iterator[Mutation]:
    for name, tensor in fw.parameters(layer).items():
        for kind, (fits, _) in PARAMETER_CHANGES.items():
            if fw.is_floating(tensor) and fits(tuple(tensor.shape)):
                yield Mutation("parameter", kind, route, {"parameter": name})


def _of_values(route: str, seen: Seen) -> Iterator[Mutation]:
    for of, slots in (("input", seen.entered[route]), ("output", seen.left[route])):
        for slot in slots:
            family, changes = ("value", VALUE_CHANGES) if slot.floating else ("integers", INTEGER_CHANGES)
            for kind, (fits, _) in changes.items():
                if fits(slot.shape):
                    yield Mutation(family, kind, route, {"of": of, "tensor": slot.number})


def _of_calls(fw: Framework, seen: Seen) -> Iterator[Mutation]:
    for (route, name), shapes in seen.calls.items():
        for number, shape in enumerate(shapes):
            detail = {"call": name, "number": number}
            for kind, (fits, _) in RESULT_CHANGES.items():
                if name != "positions" and fits(shape):
                    yield Mutation("call", kind, route, detail)
            for kind in _CALL_KINDS.get(name, ()):
                yield Mutation("call", kind, route, detail)
            if _OTHER.get(name) in fw.activations:
                yield Mutation("call", "another activation", route, {**detail, "by": _OTHER[name]})


def _of_settings(route: str, layer: Any) -> Iterator[Mutation]:
    for name, value in sorted(vars(layer).items()):
        if not any(part in name for part in _SETTINGS) or any(part in name for part in _SIZES):
            continue
        kind = f"another {name.strip('_')}"
        if isinstance(value, bool):
            yield Mutation("setting", kind, route, {"setting": name, "to": not value})
        elif isinstance(value, int) and value > 1 and value % 2 == 0:
            yield Mutation("setting", kind, route, {"setting": name, "to": value // 2})
        elif isinstance(value, float):
            to = max(1000 * value, 1e-3) if "eps" in name else 1.1 * value
            yield Mutation("setting", kind, route, {"setting": name, "to": to})
        elif value in ("none", "tanh") and "approximate" in name:
            yield Mutation("setting", kind, route, {"setting": name, "to": "tanh" if value == "none" else "none"})


def _exchanges(fw: Framework, layers: dict[str, Any]) -> Iterator[Mutation]:
    """Give siblings of one class whose parameters have the same shapes: experts, projections, blocks."""
    for route, layer in layers.items():
        parent = route.rpartition(".")[0]
        for other, twin in layers.items():
            beside = route < other and other.rpartition(".")[0] == parent and type(layer) is type(twin)
            if beside and route and _shapes(fw, layer) and _shapes(fw, layer) == _shapes(fw, twin):
                yield Mutation("exchange", f"two {type(layer).__name__}s", route, {"with": other})


def _shapes(fw: Framework, layer: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for inside in fw.layers(layer).values() for tensor in fw.parameters(inside).values()]
