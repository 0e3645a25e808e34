"""Taps, substitutes and gradient hooks in paddle's autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.paddle_import import paddle

_core = paddle.base.core
_DenseTensor = getattr(_core, "LoDTensor", None) or _core.DenseTensor  # renamed on the way to 3.x
_DIFFERENTIABLE = frozenset({"bfloat16", "float16", "float32", "float64", "complex64", "complex128"})


def wants_gradient(tensor: Any) -> bool:
    """True when autograd is on and leads to this tensor."""
    dtype = str(tensor.dtype).removeprefix("paddle.")
    return not tensor.stop_gradient and paddle.is_grad_enabled() and dtype in _DIFFERENTIABLE


class Taps:
    """Aliases of layers' inputs, and what becomes of those that their layer changes in place.

    Unlike torch, paddle does not carry an in-place operation on a view over to the autograd history of the tensor that it
    views: the values change, the gradient silently is wrong. So when a layer is left, the tensor behind each tap that was
    written to takes over the tap's history.

    What this cannot follow: code that changes a tap in place after its layer has returned it as its output, while the tensor
    behind it is used again.
    """

    def __init__(self) -> None:
        self._calls: list[list[tuple[Any, Any, int]]] = []  # of each layer call under way: (tensor, tap, its version)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Surround one layer call."""
        self._calls.append([])
        try:
            yield
            for tensor, tap, version in self._calls[-1]:
                if tap.inplace_version != version:
                    _take_over(tensor, tap)
        finally:
            self._calls.pop()

    def make(self, tensor: Any) -> Any:
        """Return a tap of a tensor that wants a gradient; an empty tensor is its own."""
        if 0 in tensor.shape:
            return tensor
        tap = _Tap.apply(tensor)
        if self._calls:
            self._calls[-1].append((tensor, tap, tap.inplace_version))
        return tap


class _Tap(paddle.autograd.PyLayer):
    """An identity whose output has the input's memory, but its own history and its own count of writes."""

    @staticmethod
    def forward(ctx: Any, tensor: Any) -> Any:
        # The other aliases share the count of writes (view, slices), whose rise when the tensor takes over would look
        # to the layer's own operations as if their saved tensors had been overwritten; or are taken for an in-place
        # operation (detach, the tensor itself); or lose strides (_share_buffer_to, DLPack in 2.6).
        alias = _DenseTensor()
        alias._share_data_with(tensor.detach().get_tensor())
        return paddle.Tensor(alias, tensor.place)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


def _take_over(tensor: Any, tap: Any) -> None:
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


class _Substitute(paddle.autograd.PyLayer):
    """Pass a gradient from the substitute to the tensor whose place it takes."""

    @staticmethod
    def forward(ctx: Any, tensor: Any, holder: list[Any]) -> Any:
        return holder.pop()  # in a list, because a tensor argument that is returned counts as changed in place

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


def substitute(tensor: Any, value: Any) -> Any:
    """Return `value` with the history of `tensor`, where that has one."""
    return _Substitute.apply(tensor, [value]) if wants_gradient(tensor) else value


class GradientCallbacks:
    """Hooks on tensors' gradients, and the exception that one of them raised."""

    def __init__(self) -> None:
        self._failure: BaseException | None = None

    def add(self, tensor: Any, callback: Callable[[Any], Any]) -> Callable[[], None]:
        """Call back with the gradient of the tensor; a later in-place operation does not move the hook."""

        def fire(gradient: Any) -> Any:
            try:
                return callback(gradient)
            except BaseException as err:
                self._failure = self._failure or err
                raise

        handle = tensor.register_hook(fire)
        return lambda: handle.remove() and None

    def backward(self, loss: Any) -> None:
        """Run backward and let a callback's exception through. MODEL_FAILED where autograd has nothing to follow."""
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
