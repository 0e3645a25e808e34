"""The Backend of PyTorch (2.4 and newer)."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import AfterCall, BeforeCall, Listen, NativeLayer, NativeTensor, OnCall, Remove
from padiff_rpc.model.backends.neutral import KeptWeights
from padiff_rpc.model.backends.torch import api_calls as torch_api_calls
from padiff_rpc.model.backends.torch import optimizers
from padiff_rpc.model.backends.torch.hyperparameters import hyperparameters
from padiff_rpc.model.backends.torch.tensor import from_tensor, spec, to_bytes, writable
from padiff_rpc.model.backends.torch.training import backward, loss, optimizer
from padiff_rpc.model.model import LossSpec, OptimizerSpec, OptimizerState, OptionValue, ParameterKind
from padiff_rpc.tensors.tensor import Tensor, TensorSpec

_CASTS: dict[str, Callable[[NativeLayer], NativeLayer]] = {
    "float64": torch.nn.Module.double,
    "float32": torch.nn.Module.float,
    "bfloat16": torch.nn.Module.bfloat16,
    "float16": torch.nn.Module.half,
}


class TorchBackend:
    """Implement Backend with torch. `Backend` says what each method must do; comments here say how torch makes that hard."""

    name = "torch"

    def __init__(self) -> None:
        self._weights = KeptWeights()

    # -- the environment ------------------------------------------------------------------------------------------
    def version(self) -> str:
        """Return torch.__version__, such as `2.4.1+cpu`."""
        return str(torch.__version__)

    def device(self, model: NativeLayer) -> str:
        """Return the device of the first parameter, else of the first buffer; `cpu` for a model without either."""
        return str(_device(model))

    def seed(self, value: int) -> None:
        """Seed the generators of Python, NumPy (with the low 32 bits) and torch."""
        random.seed(value)
        np.random.seed(value % (1 << 32))  # NumPy's legacy generator takes 32 bits
        torch.manual_seed(value)

    @contextmanager
    def kept_randomness(self) -> Iterator[None]:
        """Restore the generators of Python, NumPy, the CPU and, where CUDA is initialised, all CUDA devices."""
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        pythons, numpys = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices):
                yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)

    def set_threads(self, count: int) -> None:
        """Set the number of threads with torch.set_num_threads."""
        torch.set_num_threads(count)

    # -- the model ------------------------------------------------------------------------------------------------
    def is_model(self, value: object) -> bool:
        """Return True for a torch.nn.Module."""
        return isinstance(value, torch.nn.Module)

    def prepare(self, model: NativeLayer, device: str | None, dtype: str | None) -> NativeLayer:
        """Move a module with Module.to, and cast it with Module.double, float, bfloat16 or half."""
        if dtype is not None and dtype not in _CASTS:
            raise PadiffError(
                f"a torch model cannot be cast to the dtype {dtype!r}",
                reason=Reason.BAD_CONFIG,
                hint=f"choose one of {', '.join(_CASTS)}",
            )
        if device is not None:
            _check_device(device)
            model = model.to(device=device)
        return model if dtype is None else _CASTS[dtype](model)

    def children(self, layer: NativeLayer) -> Iterable[tuple[str, NativeLayer]]:
        """List the direct submodules."""
        # named_children() would leave out a layer that is registered under a second name.
        return [(name, child) for name, child in layer._modules.items() if child is not None]

    def own_tensors(self, layer: NativeLayer) -> Iterator[tuple[str, NativeTensor, ParameterKind, bool]]:
        """Yield the module's own parameters and buffers, each under all its names; `trainable` is requires_grad."""
        for name, tensor in layer.named_parameters(recurse=False, remove_duplicate=False):
            yield name, tensor, "parameter", tensor.requires_grad
        for name, tensor in layer.named_buffers(recurse=False, remove_duplicate=False):
            yield name, tensor, "buffer", False

    def transient_buffers(self, layer: NativeLayer) -> Collection[str]:
        """Name the buffers that were registered with persistent=False."""
        return layer._non_persistent_buffers_set

    def hyperparameters(self, layer: NativeLayer) -> dict[str, Any]:
        """Read the module's attributes; see hyperparameters.py."""
        return hyperparameters(layer)

    def is_training(self, layer: NativeLayer) -> bool:
        """Return the module's `training`."""
        return bool(layer.training)

    def set_training(self, model: NativeLayer, training: bool) -> None:
        """Set the mode with Module.train."""
        model.train(training)

    # -- tensors --------------------------------------------------------------------------------------------------
    def is_tensor(self, value: object) -> bool:
        """Return True for a torch.Tensor."""
        return isinstance(value, torch.Tensor)

    def spec(self, tensor: NativeTensor) -> TensorSpec:
        """Return the header of a dense tensor; see `spec` in tensor.py."""
        return spec(tensor)

    def to_bytes(self, tensor: NativeTensor) -> np.ndarray:
        """Return a tensor's bytes, sharing the memory of a contiguous CPU tensor."""
        return to_bytes(tensor)

    def from_tensor(self, tensor: Tensor, like: NativeTensor | None, model: NativeLayer) -> NativeTensor:
        """Make a tensor on the CPU, then move it to its device, and cast it where `like` is given."""
        made = from_tensor(tensor)
        return made.to(_device(model)) if like is None else made.to(device=like.device, dtype=like.dtype)

    def traced(self, tensor: NativeTensor) -> NativeTensor:
        """Return a clone of a new leaf, whatever grad mode the caller is in."""
        with torch.enable_grad():
            return tensor.detach().requires_grad_().clone()  # a leaf could not be written to in place

    def cast(self, tensor: NativeTensor, dtype: str | None) -> NativeTensor:
        """Copy with Tensor.to, or Tensor.clone."""
        plain = tensor.detach()
        if dtype is None or not (plain.is_floating_point() or plain.is_complex()):
            return plain.clone()
        wanted = getattr(torch, dtype)
        return plain.to(wanted.to_complex() if plain.is_complex() else wanted, copy=True)

    def lend(self, tensor: NativeTensor, source: NativeTensor) -> Remove:
        """Set `data`, which leaves the object, and so every reference to it, in place."""
        memory = tensor.data
        gradient = tensor.grad if tensor.is_leaf else None  # of another tensor, reading it warns

        def put_back() -> None:
            if tensor.is_leaf:
                tensor.grad = None  # which must have the dtype of `data`
            tensor.data = memory
            if gradient is not None:
                tensor.grad = gradient

        if tensor.is_leaf:
            tensor.grad = None
        tensor.data = source
        return put_back

    def address(self, tensor: NativeTensor) -> int:
        """Return the address of the tensor's storage."""
        return tensor.untyped_storage().data_ptr()  # that of all views, wherever they begin

    def overwrite(self, target: NativeTensor, tensor: Tensor) -> None:
        """Copy the values into the target under no_grad."""
        with torch.no_grad():
            target.copy_(from_tensor(tensor))

    def writable(self, target: NativeTensor) -> np.ndarray | None:
        """Return the memory of a contiguous CPU tensor; None for any other tensor."""
        return writable(target)

    def gradient(self, parameter: NativeTensor) -> NativeTensor | None:
        """Return `grad` of a leaf; None for a tensor that an operation made."""
        return parameter.grad if parameter.is_leaf else None

    def part(self, tensor: NativeTensor, at: int) -> NativeTensor:
        """Return a view of the detached tensor."""
        return tensor.detach()[at]

    def own_gradient(self, parameter: NativeTensor) -> NativeTensor | None:
        """Return `grad` of a leaf, where it is strided."""
        gradient = self.gradient(parameter)
        return gradient if gradient is not None and gradient.layout == torch.strided else None

    def clear_gradients(self, model: NativeLayer) -> None:
        """Set every parameter's `grad` to None."""
        model.zero_grad(set_to_none=True)

    # -- running --------------------------------------------------------------------------------------------------
    def forward(self, model: NativeLayer, args: Sequence[Any], kwargs: Mapping[str, Any], gradients: bool) -> Any:
        """Call the module with torch's grad mode set."""
        with torch.set_grad_enabled(gradients):
            return model(*args, **kwargs)

    def hook(self, layer: NativeLayer, before: BeforeCall, after: AfterCall) -> Remove:
        """Register a forward pre-hook and a forward hook of torch's own.

        Raises:
            PadiffError: NOT_SUPPORTED for a module that torch.jit made static.
        """
        if isinstance(layer, torch.jit.ScriptModule):
            raise PadiffError(
                f"a {layer.original_name} was made static by torch.jit, and cannot be recorded layer by layer so",
                reason=Reason.NOT_SUPPORTED,
                hint="take the module as it was before torch.jit.script or torch.jit.trace",
            )
        handles = (
            layer.register_forward_pre_hook(lambda _, args, kwargs: before(args, kwargs), with_kwargs=True),
            layer.register_forward_hook(lambda _, args, kwargs, output: after(args, kwargs, output), with_kwargs=True),
        )

        def remove() -> None:
            for handle in handles:
                handle.remove()

        return remove

    def wants_gradient(self, tensor: NativeTensor) -> bool:
        """Return True where the tensor requires a gradient and grad mode is on."""
        # Inside a model's own no_grad block nothing is traced, whatever the tensor itself says.
        return bool(tensor.requires_grad) and torch.is_grad_enabled()

    def tap(self, tensor: NativeTensor, layer: NativeLayer) -> NativeTensor:
        """Return a view; in-place layers, and inputs that want no gradient, keep the tensor itself."""
        if getattr(layer, "inplace", False) or not self.wants_gradient(tensor):
            return tensor
        # A view shares memory and version counter, so in-place semantics stay; an autograd Function's output would not.
        tapped = tensor.view_as(tensor)
        tapped._padiff_tapped = tensor
        return tapped

    def on_gradient(self, tensor: NativeTensor, callback: Callable[[NativeTensor], NativeTensor | None]) -> Remove:
        """Register a tensor hook; a tap's gradient may come through the tensor behind it (see _on_tap_gradient)."""
        source = getattr(tensor, "_padiff_tapped", None)
        if source is None:
            return tensor.register_hook(callback).remove
        return _on_tap_gradient(tensor, source, callback)

    def substitute(self, tensor: NativeTensor, value: Tensor) -> NativeTensor:
        """Return a tensor with the strides of the recorded one, tied to it by an autograd Function."""
        if tuple(tensor.shape) != value.spec.shape:
            raise PadiffError(
                f"a tensor of shape {tuple(tensor.shape)} cannot be replaced by one of shape {value.spec.shape}",
                reason=Reason.BAD_TENSOR,
            )
        # Strides too: a later view() may rely on them, and dropout draws its mask in the order of memory.
        made = torch.empty_like(tensor, requires_grad=False).copy_(from_tensor(value))
        return _Substitute.apply(tensor, (made,)) if self.wants_gradient(tensor) else made

    def draw(self, layer: NativeLayer, tensor: NativeTensor) -> NativeTensor:
        """Run the layer on ones of the same strides, since a mask is drawn in the order of memory."""
        with torch.no_grad(), self.kept_randomness():
            return type(layer).forward(layer, torch.ones_like(tensor))

    def scaled(self, tensor: NativeTensor, factors: Tensor) -> NativeTensor:
        """Multiply by the factors."""
        return tensor * from_tensor(factors).to(tensor)

    def writes(self, tensor: NativeTensor) -> int:
        """Return the tensor's version counter; 0 for an inference tensor, which has none."""
        return 0 if tensor.is_inference() else tensor._version

    def copy_into(self, target: NativeTensor, source: NativeTensor) -> None:
        """Copy with Tensor.copy_."""
        target.copy_(source)

    def is_own_layer(self, layer: NativeLayer) -> bool:
        """Return True for a layer whose forward was written in the package torch."""
        return torch_api_calls.is_own_layer(layer)

    def intercept(self, layers: Iterable[NativeLayer], on_call: OnCall) -> AbstractContextManager[Listen]:
        """Listen through a torch function mode; `layers` is not needed, since nothing is patched."""
        return torch_api_calls.intercept(on_call)

    # -- loss, backward, optimiser --------------------------------------------------------------------------------
    def loss(self, spec: LossSpec, outputs: Sequence[NativeTensor]) -> NativeTensor:
        """Build a neutral loss; see `loss` in training.py."""
        return loss(spec, outputs, self._weights)

    def backward(self, loss: NativeTensor) -> None:
        """Run backward; MODEL_FAILED where the loss requires no gradient."""
        backward(loss)

    def item(self, tensor: NativeTensor) -> float:
        """Return the element as a float."""
        return float(tensor.item())

    def optimizer(self, spec: OptimizerSpec, model: NativeLayer) -> Any:
        """Make an optimiser of torch.optim; see `optimizer` in training.py."""
        return optimizer(spec, model)

    def step(self, optimizer: Any) -> None:
        """Apply one step of the optimiser."""
        optimizer.step()

    def is_optimizer(self, value: object) -> bool:
        """Return True for an optimiser of torch."""
        return optimizers.is_optimizer(value)

    def options_of(self, optimizer: Any) -> Iterable[tuple[NativeTensor, str, dict[str, OptionValue]]]:
        """Read the optimiser's groups; see optimizers.py."""
        return optimizers.options_of(optimizer)

    def state_of(self, optimizer: Any, parameter: NativeTensor, state: OptimizerState) -> NativeTensor | None:
        """Read the optimiser's state; see optimizers.py."""
        return optimizers.state_of(optimizer, parameter, state)


class _Substitute(torch.autograd.Function):
    """Pass a gradient from the substitute to the tensor whose place it takes."""

    @staticmethod
    def forward(ctx: Any, tensor: NativeTensor, holder: tuple[NativeTensor]) -> NativeTensor:
        # In a tuple, because a tensor argument that is returned becomes a view, which in-place layers may not change.
        return holder[0]

    @staticmethod
    def backward(ctx: Any, gradient: NativeTensor) -> tuple[NativeTensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, None


def _on_tap_gradient(
    tapped: NativeTensor, source: NativeTensor, callback: Callable[[NativeTensor], NativeTensor | None]
) -> Remove:
    """Listen for the gradient of a tap, and at the tensor behind it where the layer changes the tap in place.

    An in-place operation on a view moves the view's history behind its source's, so that the view's own node drops out of the
    graph and its hook never fires. The tensor as it entered the layer is then the source's node alone.
    """
    fired = False
    # A hook that held the tap would keep its own graph and every activation alive. This holds the version counter alone:
    # setting `data` leaves the counter shared with the tap and lets go of the memory.
    watch, version = tapped.detach(), tapped._version
    watch.data = watch.new_empty(0)

    def at_tap(gradient: NativeTensor) -> NativeTensor | None:
        nonlocal fired
        fired = True
        return callback(gradient)

    def at_source(gradient: NativeTensor) -> NativeTensor | None:
        return None if fired or watch._version == version else callback(gradient)

    handles = (tapped.register_hook(at_tap), source.register_hook(at_source))

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove


def _device(model: NativeLayer) -> Any:
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            return tensor.device
    return torch.device("cpu")


def _check_device(name: str) -> None:
    """Raise BAD_CONFIG for a device that torch does not know, or that is not here."""
    try:
        if torch.device(name).type == "meta":
            raise RuntimeError("the meta device holds no values")
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as err:  # builds without CUDA raise AssertionError
        raise PadiffError(
            f"torch has no device {name!r} here: {str(err).splitlines()[0]}",
            reason=Reason.BAD_CONFIG,
            hint="choose cpu, or a device that this machine and this build of torch have, such as cuda:0",
        ) from err
