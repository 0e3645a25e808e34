"""Taps, substitutes and gradient hooks in paddle's autograd."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import NativeTensor, Remove
from padiff_rpc.model.backends.paddle.import_paddle import paddle

_core = paddle.base.core
_DenseTensor = getattr(_core, "LoDTensor", None) or _core.DenseTensor  # renamed on the way to 3.x
_DIFFERENTIABLE = frozenset({"bfloat16", "float16", "float32", "float64", "complex64", "complex128"})

Callback = Callable[[NativeTensor], "NativeTensor | None"]


def wants_gradient(tensor: NativeTensor) -> bool:
    """Return True where autograd is on and leads to this tensor, whose dtype is differentiable."""
    dtype = str(tensor.dtype).removeprefix("paddle.")
    return not tensor.stop_gradient and paddle.is_grad_enabled() and dtype in _DIFFERENTIABLE


@dataclass
class _Gate:
    """Hold the callbacks through which a gradient passes from a tap, or a substitute, to the tensor behind it."""

    callbacks: dict[object, Callback] = field(default_factory=dict)

    def passed(self, gradient: NativeTensor) -> NativeTensor:
        for callback in list(self.callbacks.values()):
            new = callback(gradient)
            gradient = gradient if new is None else new
        return gradient


_gates: dict[int, _Gate] = {}
"""The gates behind the living taps and substitutes, by their id(): in 2.6 tensors take no attributes."""


@dataclass
class _GateHook:
    """The handle of a user's hook that was put into a gate, as paddle's own handles are."""

    gate: _Gate
    key: object

    def remove(self) -> bool:
        """Remove the hook; return True where it was there."""
        return self.gate.callbacks.pop(self.key, None) is not None


class _UserHooks:
    """Stand in for `Tensor.register_hook` while layers are hooked.

    Taps and substitutes are outputs of a PyLayer. A hook on such an output is called, but what it returns is ignored. So
    a hook that the model's own code puts on one goes into its gate, where it changes the gradient as in a plain run.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._plain: Any = None
        self._stand_in: Any = None

    def hold(self) -> None:
        """Stand in from now on; each call needs a release() of its own."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._plain = paddle.Tensor.register_hook
                self._stand_in = _gated_hooks(self._plain)
                paddle.Tensor.register_hook = self._stand_in

    def release(self) -> None:
        """End one hold(). The last one puts back what was there before."""
        with self._lock:
            self._users -= 1
            if not self._users and paddle.Tensor.register_hook is self._stand_in:
                paddle.Tensor.register_hook = self._plain


USER_HOOKS = _UserHooks()


def _gated_hooks(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def register_hook(tensor: NativeTensor, hook: Callback) -> Any:
        gate = _gates.get(id(tensor))
        if gate is None or tensor.inplace_version != 0:
            return plain(tensor, hook)
        key = object()
        gate.callbacks[key] = hook
        return _GateHook(gate, key)

    return register_hook


class Autograd:
    """Keep the state that paddle's tensors cannot: the taps of each layer call.

    Unlike torch, paddle does not carry an in-place operation on a view over to the history of the tensor that it views: the
    values change, and the gradient is silently wrong. So when a layer is left, the tensor behind each tap that was written to
    takes over the tap's history. This cannot follow code that changes a tap in place after its layer has returned it
    as its output, while the tensor behind it is used again.
    """

    def __init__(self) -> None:
        self._calls: list[
            list[tuple[NativeTensor, NativeTensor]]
        ] = []  # of each layer call under way: (tensor, its tap)
        self._failure: BaseException | None = None

    @contextmanager
    def call(self) -> Iterator[None]:
        """Surround one layer call, from the making of its taps to the end of its forward."""
        self._calls.append([])
        try:
            yield
            for tensor, tap in self._calls[-1]:
                if tap.inplace_version != 0:
                    _take_over(tensor, tap)
        finally:
            self._calls.pop()

    def tap(self, tensor: NativeTensor) -> NativeTensor:
        """Return an alias of a tensor, with a history of its own; the tensor itself where it is empty or wants no gradient.

        A tensor with three users or more then adds up its gradients in another order, which differs by rounding.
        """
        if not wants_gradient(tensor) or 0 in tensor.shape:
            return tensor
        tap = self._gated(tensor, lambda: _alias(tensor))
        if self._calls:
            self._calls[-1].append((tensor, tap))
        return tap

    def substitute(self, tensor: NativeTensor, value: NativeTensor) -> NativeTensor:
        """Return `value`, with the history of `tensor` where that has one."""
        return self._gated(tensor, lambda: value) if wants_gradient(tensor) else value

    def on_gradient(self, tensor: NativeTensor, callback: Callback) -> Remove:
        """Call back with the gradient of a tensor, and return the hook's removal.

        A later in-place operation on the tensor does not move the hook. A tensor that the callback returns replaces the
        gradient.
        """
        callbacks = {None: callback}

        def fire(gradient: NativeTensor) -> NativeTensor | None:
            try:
                return callbacks[None](gradient) if callbacks else None
            except BaseException as err:
                self._failure = self._failure or err
                raise

        gate = _gates.get(id(tensor))
        if gate is not None and tensor.inplace_version == 0:
            # A hook on the output of a PyLayer is called, but what it returns is ignored.
            gate.callbacks[fire] = fire
            return lambda: gate.callbacks.pop(fire, None) and None
        handle = tensor.register_hook(fire)
        if tensor.is_leaf:
            return lambda: handle.remove() and None
        # The handle would keep the tensor alive, and, once that has changed in place, warn that it finds no hook there.
        # Emptied, the hook goes when the graph goes.
        return callbacks.clear

    def backward(self, loss: NativeTensor) -> None:
        """Run backward, and raise a callback's exception as it is.

        Raises:
            PadiffError: MODEL_FAILED where the loss depends on no trainable parameter.
        """
        if loss.stop_gradient:  # paddle would return as if all were well
            raise PadiffError(
                "the loss depends on no trainable parameter, so there is no gradient to compute",
                reason=Reason.MODEL_FAILED,
                hint="check that forward runs with gradients on, and that the model does not detach its outputs",
            )
        self._failure = None
        try:
            loss.backward()
        except OSError:  # so comes back what a hook raises, with its text alone
            if self._failure is None:
                raise
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _gated(self, tensor: NativeTensor, make: Callable[[], NativeTensor]) -> NativeTensor:
        gate = _Gate()
        made = _Pass.apply(tensor, make, gate)
        _gates[id(made)] = gate
        weakref.finalize(made, _gates.pop, id(made))
        return made


class _Pass(paddle.autograd.PyLayer):
    """Return the result of make() in the place of a tensor, and pass its gradient through a gate to the tensor."""

    @staticmethod
    def forward(ctx: Any, tensor: NativeTensor, make: Callable[[], NativeTensor], gate: _Gate) -> NativeTensor:
        # Made in here, because an argument that is returned (in a list, too) counts as changed in place.
        ctx.gate = gate
        return make()

    @staticmethod
    def backward(ctx: Any, gradient: NativeTensor) -> NativeTensor:
        return ctx.gate.passed(gradient)


def _alias(tensor: NativeTensor) -> NativeTensor:
    """Return a tensor on the same memory, with its own count of writes.

    Other ways to make an alias fail. A view or a slice shares the count, whose rise when the tensor takes over would look to
    the layer's own operations as if the values that they saved had been overwritten. detach() counts as the tensor itself.
    _share_buffer_to, and DLPack in 2.6, lose strides.
    """
    source = tensor.detach()  # must outlive what get_tensor() returns, which only refers to it
    shared = _DenseTensor()
    shared._share_data_with(source.get_tensor())
    return paddle.Tensor(shared, tensor.place)


def _take_over(tensor: NativeTensor, tap: NativeTensor) -> None:
    """Give the tensor the value, shape and history of its tap."""
    moved = tap.data_ptr() != tensor.data_ptr()
    if tap.dtype != tensor.dtype or not (moved or tap.is_contiguous() == tensor.is_contiguous()):
        raise PadiffError(
            f"a layer changed the dtype or layout of its input in place ({tensor.dtype}{list(tensor.shape)} became "
            f"{tap.dtype}{list(tap.shape)}), which the recording of gradients cannot follow",
            reason=Reason.NOT_SUPPORTED,
            hint="record without gradients, or leave that layer out of the recording",
        )
    if list(tap.shape) != list(tensor.shape):
        tensor.reshape_(tap.shape)
    paddle.assign(tap, output=tensor)
