"""Faults that are planted into a paddle model after it is built: its own layers, with one mistake that ports have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import paddle

_HEAD_WIDTH = 16
"""In every model of the zoo of which heads are swapped: width 64, 4 heads."""
_HIDDEN = -1e4


def plant(model: Any, fault: Mapping[str, Any]) -> None:
    """Plant a fault: `kind` names one below, `at` the route of the layer that gets it, and the rest are its arguments."""
    arguments = dict(fault)
    kind, route = arguments.pop("kind"), arguments.pop("at")
    _PLANTS[kind](model, route, **arguments)


def _attribute(model: Any, route: str, name: str, value: Any) -> None:
    """Give a layer another hyper-parameter, or another number that its code uses."""
    layer = _layer(model, route)
    assert getattr(layer, name) != value, f"{route} has {name}={value} already"
    setattr(layer, name, value)


def _buffer(model: Any, route: str, name: str, factor: float) -> None:
    """Multiply a table that a layer made from the configuration."""
    table = getattr(_layer(model, route), name)
    table.set_value(table * factor)


def _relu(model: Any, route: str) -> None:
    """Put a ReLU in the place of an activation, which is a layer, or an attribute that is a function."""
    holder, _, name = route.rpartition(".")
    layer = getattr(_layer(model, holder), name)
    if isinstance(layer, paddle.nn.Layer):
        _set_forward(layer, paddle.nn.functional.relu)
    else:
        setattr(_layer(model, holder), name, lambda x, **_: paddle.nn.functional.relu(x))


def _scaled(model: Any, route: str, factor: float) -> None:
    _change_output(_layer(model, route), lambda output: output * factor)


def _detached(model: Any, route: str) -> None:
    _change_output(_layer(model, route), lambda output: output.detach())


def _shifted_ids(model: Any, route: str) -> None:
    """Look up the row after the one that is asked for."""
    _change_input(_layer(model, route), 0, lambda ids: ids + 1)


def _shifted_mask(model: Any, route: str, argument: int = 3) -> None:
    """Shift a mask by one key, as a causal mask that begins one position late."""
    _change_input(_layer(model, route), argument, lambda mask: paddle.roll(mask, 1, axis=-1))


def _hidden_key(model: Any, route: str, argument: int = 3) -> None:
    """Mask the last key, which an additive mask lets everyone see."""

    def hide(mask: Any) -> Any:
        last = paddle.nn.functional.one_hot(paddle.to_tensor([mask.shape[-1] - 1]), mask.shape[-1])
        return mask + _HIDDEN * last

    _change_input(_layer(model, route), argument, hide)


def _swapped_heads(model: Any, route: str) -> None:
    """Hand the heads to the layer in another order."""
    _change_input(_layer(model, route), 0, lambda heads: paddle.roll(heads, _HEAD_WIDTH, axis=-1))


def _reversed_heads(model: Any, route: str, argument: int, heads: int) -> None:
    """Hand what there is for each head, on the first axis together with the batch, over in the reverse order."""

    def reverse(tensor: Any) -> Any:
        return paddle.flip(tensor.reshape([-1, heads, *tensor.shape[1:]]), axis=[1]).reshape(tensor.shape)

    _change_input(_layer(model, route), argument, reverse)


def _swapped_parts(model: Any, route: str, groups: int, order: list[int]) -> None:
    """Return packed parts in another order: each of the groups holds as many equal parts as `order` has entries."""

    def swap(output: Any) -> Any:
        parts = output.reshape([*output.shape[:-1], groups, len(order), -1])
        return paddle.index_select(parts, paddle.to_tensor(order), axis=-2).reshape(output.shape)

    _change_output(_layer(model, route), swap)


def _exchanged(model: Any, route: str, other: str) -> None:
    """Have two layers compute what the other one should."""
    first, second = _layer(model, route), _layer(model, other)
    mine, theirs = first.forward, second.forward
    _set_forward(first, theirs)
    _set_forward(second, mine)


def _transposed(model: Any, route: str) -> None:
    """Return an image with its height and width exchanged."""
    _change_output(_layer(model, route), lambda image: paddle.transpose(image, [0, 1, 3, 2]))


def _layer(model: Any, route: str) -> Any:
    return dict(model.named_sublayers())[route] if route else model


def _change_output(layer: Any, change: Callable[[Any], Any]) -> None:
    """Change what a layer returns; of several tensors the first."""
    forward = layer.forward

    def changed(*args: Any, **keywords: Any) -> Any:
        output = forward(*args, **keywords)
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    _set_forward(layer, changed)


def _change_input(layer: Any, at: int, change: Callable[[Any], Any]) -> None:
    """Change the positional argument `at` of a layer, inside it: its caller hands over the right one."""
    forward = layer.forward

    def changed(*args: Any, **keywords: Any) -> Any:
        given = args[at] if at < len(args) else None
        assert given is not None, f"{type(layer).__name__} is not given argument {at} by position"
        return forward(*args[:at], change(given), *args[at + 1 :], **keywords)

    _set_forward(layer, changed)


def _set_forward(layer: Any, forward: Callable[..., Any]) -> None:
    # Not by setattr, in which paddlenlp adapts a forward to signatures that it inspects.
    layer.__dict__["forward"] = forward


_PLANTS: Mapping[str, Callable[..., None]] = {
    "attribute": _attribute,
    "buffer": _buffer,
    "relu": _relu,
    "scaled": _scaled,
    "detached": _detached,
    "shifted_ids": _shifted_ids,
    "shifted_mask": _shifted_mask,
    "hidden_key": _hidden_key,
    "swapped_heads": _swapped_heads,
    "reversed_heads": _reversed_heads,
    "swapped_parts": _swapped_parts,
    "exchanged": _exchanged,
    "transposed": _transposed,
}
