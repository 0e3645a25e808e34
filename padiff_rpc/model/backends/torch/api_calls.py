"""Report the functional calls that a torch model's own code makes, through torch's function mode; nothing is patched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)

from padiff_rpc.model.api_names import spellings
from padiff_rpc.model.backends.backend import Listen, NativeLayer, OnCall, module_of_forward

_NAMESPACES = (torch, torch.Tensor, torch.nn.functional, torch.special, torch.linalg)


def is_own_layer(layer: NativeLayer) -> bool:
    """Return True where the layer's forward was written in the package torch."""
    return module_of_forward(layer).partition(".")[0] == "torch"


@contextmanager
def intercept(on_call: OnCall) -> Iterator[Listen]:
    """Report functional calls to `on_call`, as Backend.intercept says.

    At the end the thread's stack of function modes is as it was before the block.
    """
    before = _get_current_function_mode_stack()
    mode = _Listening(on_call)
    try:
        yield mode.listen
    except BaseException:
        # The model's own `with` blocks are through too, but one that an exception left may have taken ours for its own.
        _set_stack(before)
        raise
    else:
        _set_stack([each for each in _get_current_function_mode_stack() if each is not mode])


class _Listening(TorchFunctionMode):
    """Report functional calls while it is on the stack of modes.

    It is on the stack only while it listens: under any mode torch's own layers leave their fast paths (attention in eval).
    """

    def __init__(self, on_call: OnCall) -> None:
        super().__init__()
        self._on_call = on_call
        self._listening = False
        self._inside = False  # torch has taken the mode off the stack, and will put it back

    def listen(self, listening: bool) -> None:
        self._listening = listening
        if self._inside:
            return
        if listening and not any(each is self for each in _get_current_function_mode_stack()):
            _push_mode(self)
        elif not listening and _get_current_function_mode() is self:
            _pop_mode()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._inside = True
        try:
            result = func(*args, **(kwargs or {}))
            name = _NAMES.get(func) if self._listening else None
            if name is not None:
                self._on_call(name, result)
            return result
        finally:
            self._inside = False


def _set_stack(modes: list[Any]) -> None:
    """Replace the thread's stack of modes, without calling the modes' own __enter__ and __exit__, which may do more."""
    while _get_current_function_mode() is not None:
        _pop_mode()
    for mode in modes:
        _push_mode(mode)


def _functions() -> dict[Any, str]:
    found: dict[Any, str] = {}
    for spelling, name in spellings("torch").items():
        for namespace in _NAMESPACES:
            function = getattr(namespace, spelling, None)
            if callable(function):
                found[function] = name
    return found


_NAMES = _functions()
