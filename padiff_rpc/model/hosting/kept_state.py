"""Let layers run without leaving a trace in them: their tensors lend themselves to copies, their attributes are put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from padiff_rpc.model import nested
from padiff_rpc.model.backends.backend import Backend, NativeLayer, NativeTensor


@contextmanager
def kept_state(backend: Backend, layers: Sequence[NativeLayer]) -> Iterator[None]:
    """Put back at the end what a forward may have changed in these layers: attributes, modes, and all tensors but parameters.

    What lies in an object of another kind, deeper than a list or a dict in an attribute, is not known, and stays changed.
    """
    with ExitStack() as undo:
        for layer in layers:
            undo.callback(_Attributes(layer).put_back)
        parameters = {
            id(tensor) for layer in layers for _, tensor, kind, _ in backend.own_tensors(layer) if kind == "parameter"
        }
        for tensor in _held(backend, layers):
            if id(tensor) not in parameters:
                undo.callback(backend.lend(tensor, backend.cast(tensor, None)))
        yield


@contextmanager
def on_copies(backend: Backend, layers: Sequence[NativeLayer], dtype: str | None) -> Iterator[None]:
    """Have these layers compute with copies of all their tensors, cast to a dtype where one is given, and no gradients."""
    with ExitStack() as undo:
        for tensor in _held(backend, layers):
            undo.callback(backend.lend(tensor, backend.cast(tensor, dtype)))
        yield


def _held(backend: Backend, layers: Sequence[NativeLayer]) -> list[NativeTensor]:
    """List the tensors that layers hold, each once: parameters, buffers, and those in plain attributes."""
    found: dict[int, NativeTensor] = {}
    for layer in layers:
        own = [tensor for _, tensor, _, _ in backend.own_tensors(layer)]
        others = [tensor for _, tensor in nested.flatten(dict(vars(layer)), backend.is_tensor)]
        found.update((id(tensor), tensor) for tensor in (*own, *others))
    return list(found.values())


class _Attributes:
    """The attributes of a layer as they are now, and the contents of the lists and dicts among them."""

    def __init__(self, layer: NativeLayer) -> None:
        self._held: dict[str, Any] = vars(layer)
        self._values = dict(self._held)
        self._contents = [(value, value.copy()) for value in self._values.values() if isinstance(value, (dict, list))]

    def put_back(self) -> None:
        """Restore what has become another object; what is the same is not touched."""
        if not _same(self._held, self._values):
            self._held.clear()
            self._held.update(self._values)
        for value, contents in self._contents:
            if _same(value, contents):
                continue
            if isinstance(value, dict):
                value.clear()
                value.update(contents)
            else:
                value[:] = contents


def _same(value: Any, contents: Any) -> bool:
    """Tell whether two dicts or lists hold the same objects, in the same order."""
    if isinstance(value, dict):
        return list(value) == list(contents) and all(value[key] is contents[key] for key in value)
    return len(value) == len(contents) and all(one is other for one, other in zip(value, contents, strict=True))
