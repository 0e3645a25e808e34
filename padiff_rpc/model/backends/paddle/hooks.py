"""Hook the calls of a paddle layer, keyword arguments included, in the same way in paddle 2.6 and 3."""

from __future__ import annotations

import functools
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import AfterCall, BeforeCall, Remove
from padiff_rpc.model.backends.paddle.autograd import USER_HOOKS, Autograd
from padiff_rpc.model.backends.paddle.import_paddle import paddle

ProgramTranslator: Any = paddle.jit.dy2static.program_translator.ProgramTranslator
StaticFunction: Any = paddle.jit.dy2static.program_translator.StaticFunction


def hook(layer: Any, before: BeforeCall, after: AfterCall, autograd: Autograd) -> Remove:
    """Call `before` and `after` around every call of a layer, until the returned function is called.

    Raises:
        PadiffError: NOT_SUPPORTED for a layer that paddle.jit.to_static made static.
    """
    hooked = vars(layer).get("forward")
    if not isinstance(hooked, _HookedForward):
        hooked = _HookedForward(layer, autograd)
    return hooked.add(before, after)


class _HookedForward:
    """Stand in for a layer's `forward` while the layer is hooked.

    Paddle 2.6 hands no keyword arguments to hooks, so arguments are taken, and replaced, here: after a user's own
    pre-hooks, as the layer gets them. Two of paddle's own hooks support this. The first tells a call of the layer from a direct
    call of its `forward`, which by the rules of both frameworks fires no hooks. The second takes the output after a
    user's own post-hooks, as the layer's caller gets it.
    """

    def __init__(self, layer: Any, autograd: Autograd) -> None:
        _refuse_static(layer)
        self._layer = layer
        self._autograd = autograd
        self._hooks: dict[object, tuple[BeforeCall, AfterCall]] = {}
        self._called = False
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []  # arguments of those that have left forward
        self._original = layer.forward
        self._own = vars(layer).get("forward")  # a forward that somebody set on the instance, such as to_static's
        functools.update_wrapper(self, self._original)  # for those who look at forward's signature
        vars(layer)["forward"] = self
        USER_HOOKS.hold()
        self._handles = [
            layer.register_forward_pre_hook(self._before_call),
            layer.register_forward_post_hook(self._after_call),
        ]

    def add(self, before: BeforeCall, after: AfterCall) -> Remove:
        """Add a pair of hooks, and return their removal; removing the last pair restores the layer's forward."""
        key = object()
        self._hooks[key] = before, after

        def remove() -> None:
            if self._hooks.pop(key, None) is not None and not self._hooks:
                self._restore()

        return remove

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._called:
            return self._original(*args, **kwargs)
        self._called = False
        with self._autograd.call():
            for before, _ in list(self._hooks.values()):
                args, kwargs = before(args, kwargs) or (args, kwargs)
            output = self._original(*args, **kwargs)
        self._calls.append((args, kwargs))
        return output

    def _before_call(self, layer: Any, args: tuple[Any, ...]) -> None:
        self._called = True

    def _after_call(self, layer: Any, args: tuple[Any, ...], output: Any) -> Any:
        if not self._calls:
            return None  # hooked, or unhooked, while the call was under way
        given, kwargs = self._calls.pop()
        replaced = None
        for _, after in list(self._hooks.values()):
            new = after(given, kwargs, output)
            if new is not None:
                output = replaced = new
        return replaced  # anything but None would replace the output

    def _restore(self) -> None:
        USER_HOOKS.release()
        for handle in self._handles:
            handle.remove()
        if self._own is None:
            del vars(self._layer)["forward"]
        else:
            vars(self._layer)["forward"] = self._own


def _refuse_static(layer: Any) -> None:
    """Refuse a forward that to_static compiles: it runs no hooks of ours, and would take their code for the model's."""
    if isinstance(layer.forward, StaticFunction) and ProgramTranslator().enable_to_static:
        raise PadiffError(
            f"a {type(layer).__name__} was made static by paddle.jit.to_static, and cannot be recorded layer by layer so",
            reason=Reason.NOT_SUPPORTED,
            hint="call paddle.jit.enable_to_static(False) before, which runs it as it was written",
        )
