"""Apply a mutation to a model: from then on its forward computes the mutated thing, whatever weights are written into it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from benchmarks.mutations.changes import INTEGER_CHANGES, PARAMETER_CHANGES, RESULT_CHANGES, VALUE_CHANGES
from benchmarks.mutations.frameworks import Framework
from benchmarks.mutations.mutation import Mutation
from benchmarks.mutations.nested import with_tensor
from benchmarks.mutations.seen import CallCounter, calls_told, replace_forward, stacked


class Fired:
    """How often a mutation was computed."""

    def __init__(self) -> None:
        self.times: int = 0


def apply(fw: Framework, model: Any, mutation: Mutation) -> Fired:
    """Mutate a model, and return the count of its effects."""
    fired = Fired()
    layer = fw.layers(model)[mutation.route]
    if mutation.family == "parameter":
        _parameter(fw, layer, mutation, fired)
    elif mutation.family in ("value", "integers"):
        _value(fw, layer, mutation, fired)
    elif mutation.family == "call":
        _call(fw, model, mutation, fired)
    elif mutation.family == "setting":
        setattr(layer, mutation.detail["setting"], mutation.detail["to"])
        fired.times = 1
    else:
        other = fw.layers(model)[mutation.detail["with"]]
        here, there = layer.forward, other.forward
        replace_forward(layer, there)
        replace_forward(other, here)
        fired.times = 1
    return fired


def _parameter(fw: Framework, layer: Any, mutation: Mutation, fired: Fired) -> None:
    """Have a layer's forward compute with a changed parameter; the parameter itself stays what it is."""
    name, change = mutation.detail["parameter"], PARAMETER_CHANGES[mutation.kind][1]
    inner = layer.forward

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        own = fw.parameters(layer)[name]
        fw.hold(layer, name, change(fw, own))
        fired.times += 1
        try:
            return inner(*args, **kwargs)
        finally:
            fw.hold(layer, name, own)

    replace_forward(layer, forward)


def _value(fw: Framework, layer: Any, mutation: Mutation, fired: Fired) -> None:
    """Change a tensor as it enters a layer's forward, or as it leaves it."""
    number = mutation.detail["tensor"]
    changes = INTEGER_CHANGES if mutation.family == "integers" else VALUE_CHANGES
    change = changes[mutation.kind][1]
    inner = layer.forward

    def once(tensor: Any) -> Any:
        fired.times += 1
        return change(fw, tensor)

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if mutation.detail["of"] == "input":
            args, kwargs = with_tensor((args, kwargs), fw.tensor, number, once)
            return inner(*args, **kwargs)
        return with_tensor(inner(*args, **kwargs), fw.tensor, number, once)

    replace_forward(layer, forward)


def _call(fw: Framework, model: Any, mutation: Mutation, fired: Fired) -> None:
    """Change one functional call in a layer's own code."""
    stack, counter = stacked(fw, model), CallCounter()
    wanted = (mutation.route, mutation.detail["call"], mutation.detail["number"])
    make = _made_otherwise(fw, mutation)
    inner = model.forward

    def on_call(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)
        if not stack or not isinstance(result, fw.tensor):
            return result
        if (stack[-1], name, counter.next(stack[-1], name)) != wanted:
            return result
        fired.times += 1
        return make(function, args, kwargs, result)

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        counter.restart()
        with calls_told(fw, on_call, [mutation.detail["call"]]):
            return inner(*args, **kwargs)

    replace_forward(model, forward)


Make = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any], Any]
"""Gives another result of a call: function, arguments, keywords, right result -> the result."""


def _made_otherwise(fw: Framework, mutation: Mutation) -> Make:
    kind = mutation.kind
    if kind in RESULT_CHANGES:
        change = RESULT_CHANGES[kind][1]
        return lambda function, args, kwargs, result: change(fw, result)
    if kind == "left out":
        return lambda function, args, kwargs, result: args[0]
    if kind == "off by one":
        return lambda function, args, kwargs, result: result + 1
    if kind == "diagonal off by one":
        return lambda function, args, kwargs, result: function(args[0], _diagonal(args, kwargs) + 1)
    if kind == "order reversed":
        return lambda function, args, kwargs, result: function(list(args[0])[::-1], *args[1:], **kwargs)
    if kind == "along another axis":
        return lambda function, args, kwargs, result: _along_another(fw, function, args, kwargs)
    if kind == "without mask":
        return lambda function, args, kwargs, result: function(*args[:3], **_unmasked(kwargs))
    replacement = fw.activations[mutation.detail["by"]]
    return lambda function, args, kwargs, result: replacement(args[0])


def _diagonal(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return args[1] if len(args) > 1 else kwargs.get("diagonal", 0)


def _along_another(fw: Framework, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    last = len(args[0].shape) - 1
    turned = fw.swapped(args[0], last - 1, last)
    return fw.swapped(function(turned, *args[1:], **kwargs), last - 1, last)


def _unmasked(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in ("attn_mask", "is_causal")}
