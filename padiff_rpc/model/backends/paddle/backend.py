"""The Backend of PaddlePaddle (2.6.2, and 3.0 and newer)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import AfterCall, BeforeCall, Listen, NativeLayer, NativeTensor, OnCall, Remove
from padiff_rpc.model.backends.neutral import KeptWeights
from padiff_rpc.model.backends.paddle import api_calls as paddle_api_calls
from padiff_rpc.model.backends.paddle import optimizers as paddle_optimizers
from padiff_rpc.model.backends.paddle import tensor as paddle_tensor
from padiff_rpc.model.backends.paddle import training as paddle_training
from padiff_rpc.model.backends.paddle.autograd import Autograd, wants_gradient
from padiff_rpc.model.backends.paddle.hooks import hook
from padiff_rpc.model.backends.paddle.hyperparameters import hyperparameters
from padiff_rpc.model.backends.paddle.import_paddle import paddle
from padiff_rpc.model.model import LossSpec, OptimizerSpec, OptimizerState, OptionValue, ParameterKind
from padiff_rpc.tensors.tensor import Tensor, TensorSpec

_CASTS = ("float64", "float32", "bfloat16", "float16")

_STATISTICS = frozenset({"_mean", "_variance", "weight_u", "weight_v"})
"""The running statistics (of batch norm; of spectral norm) that paddle files under parameters, with stop_gradient set."""


class PaddleBackend:
    """Implement Backend with paddle. `Backend` says what each method must do; comments here say how paddle makes that hard."""

    name = "paddle"

    def __init__(self) -> None:
        self._autograd = Autograd()
        self._weights = KeptWeights()

    # -- the environment ------------------------------------------------------------------------------------------
    def version(self) -> str:
        """Return paddle.__version__, such as `3.0.0`."""
        return str(paddle.__version__)

    def device(self, model: NativeLayer) -> str:
        """Return the place of the first parameter, else of the first buffer, else the current device."""
        place = _place(model)
        if place.is_cpu_place():
            return "cpu"
        return f"gpu:{place.gpu_device_id()}" if place.is_gpu_place() else str(place)

    def seed(self, value: int) -> None:
        """Seed the generators of Python, NumPy (with the low 32 bits) and paddle."""
        random.seed(value)
        np.random.seed(value % (1 << 32))  # NumPy's legacy generator takes 32 bits
        paddle.seed(value)

    @contextmanager
    def kept_randomness(self) -> Iterator[None]:
        """Restore the generators of Python, NumPy, the CPU and the current device."""
        pythons, numpys = random.getstate(), np.random.get_state()
        # Of the current device; a CPU's apart, since paddle 2.6 fails where get_rng_state is told a device.
        cpu, state = paddle.base.core.default_cpu_generator(), paddle.get_rng_state()
        cpu_state = cpu.get_state()
        try:
            yield
        finally:
            paddle.set_rng_state(state)
            cpu.set_state(cpu_state)
            random.setstate(pythons)
            np.random.set_state(numpys)

    def set_threads(self, count: int) -> None:
        """Set the number of threads with paddle's core.set_num_threads."""
        paddle.base.core.set_num_threads(count)

    # -- the model ------------------------------------------------------------------------------------------------
    def is_model(self, value: object) -> bool:
        """Return True for a paddle.nn.Layer."""
        return isinstance(value, paddle.nn.Layer)

    def prepare(self, model: NativeLayer, device: str | None, dtype: str | None) -> NativeLayer:
        """Move a layer, set the process's current device to that device, and cast floating tensors only."""
        if dtype is not None and dtype not in _CASTS:
            raise PadiffError(
                f"a paddle model cannot be cast to the dtype {dtype!r}",
                reason=Reason.BAD_CONFIG,
                hint=f"choose one of {', '.join(_CASTS)}",
            )
        if device is not None:
            _check_device(device)
            # Process-wide, and needed: tensors that forward makes itself lie on the current device, and an operation on
            # tensors of two devices moves to the GPU without a word.
            paddle.set_device(device)
            model.to(device=device)
        if dtype is not None:
            model._to_impl(dtype=dtype, floating_only=True)  # what to() calls; to() casts integer buffers, too
        return model

    def children(self, layer: NativeLayer) -> Iterable[tuple[str, NativeLayer]]:
        """List the direct sublayers."""
        # named_children() would leave out a layer that is registered under a second name.
        return [(name, child) for name, child in layer._sub_layers.items() if child is not None]

    def own_tensors(self, layer: NativeLayer) -> Iterator[tuple[str, NativeTensor, ParameterKind, bool]]:
        """Yield the layer's own parameters and buffers, paddle's running statistics among the buffers."""
        held = [(name, tensor) for name, tensor in layer._parameters.items() if tensor is not None]
        statistics = [(name, tensor) for name, tensor in held if name in _STATISTICS and tensor.stop_gradient]
        taken = {name for name, _ in statistics}
        for name, tensor in held:
            if name not in taken:
                yield name, tensor, "parameter", not tensor.stop_gradient
        for name, tensor in [*statistics, *layer._buffers.items()]:
            if tensor is not None and name != "_dropout_state":  # a scratch area of LSTM and GRU, never filled on a CPU
                yield name, tensor, "buffer", False

    def transient_buffers(self, layer: NativeLayer) -> Collection[str]:
        """Name the buffers that were registered with persistable=False."""
        return layer._non_persistable_buffer_names_set

    def hyperparameters(self, layer: NativeLayer) -> dict[str, Any]:
        """Read the layer's attributes and constructor arguments; see hyperparameters.py."""
        return hyperparameters(layer)

    def is_training(self, layer: NativeLayer) -> bool:
        """Return the layer's `training`."""
        return bool(layer.training)

    def set_training(self, model: NativeLayer, training: bool) -> None:
        """Set the mode with Layer.train or Layer.eval."""
        if training:
            model.train()
        else:
            model.eval()

    # -- tensors --------------------------------------------------------------------------------------------------
    def is_tensor(self, value: object) -> bool:
        """Return True for a paddle.Tensor."""
        return isinstance(value, paddle.Tensor)

    def spec(self, tensor: NativeTensor) -> TensorSpec:
        """Return the header of a dense tensor; see `spec` in tensor.py."""
        return paddle_tensor.spec(tensor)

    def to_bytes(self, tensor: NativeTensor) -> np.ndarray:
        """Return a tensor's bytes, sharing the memory of a contiguous CPU tensor in paddle 3."""
        return paddle_tensor.to_bytes(tensor)

    def from_tensor(self, tensor: Tensor, like: NativeTensor | None, model: NativeLayer) -> NativeTensor:
        """Make a tensor on the device of `like`, cast to its dtype; else on the model's device."""
        if like is None:
            return paddle_tensor.from_tensor(tensor, _place(model))
        return paddle_tensor.from_tensor(tensor, like.place).astype(like.dtype)

    def traced(self, tensor: NativeTensor) -> NativeTensor:
        """Return a clone of a new leaf, whatever grad mode the caller is in."""
        leaf = tensor.detach()
        leaf.stop_gradient = False
        with paddle.set_grad_enabled(True):
            return leaf.clone()  # a leaf could not be written to in place

    def cast(self, tensor: NativeTensor, dtype: str | None) -> NativeTensor:
        """Copy with Tensor.astype, or Tensor.clone."""
        return paddle_tensor.cast(tensor, dtype)

    def lend(self, tensor: NativeTensor, source: NativeTensor) -> Remove:
        """Share the source's memory with the tensor's implementation; see `lend` in tensor.py."""
        return paddle_tensor.lend(tensor, source)

    def address(self, tensor: NativeTensor) -> int:
        """Return the tensor's data_ptr()."""
        return tensor.data_ptr()

    def overwrite(self, target: NativeTensor, tensor: Tensor) -> None:
        """Assign the values in the target's own memory; see `overwrite` in tensor.py."""
        paddle_tensor.overwrite(target, tensor)

    def writable(self, target: NativeTensor) -> np.ndarray | None:
        """Return the memory of a contiguous CPU tensor in paddle 3; None for any other tensor, and in paddle 2.6."""
        return paddle_tensor.writable(target)

    def gradient(self, parameter: NativeTensor) -> NativeTensor | None:
        """Return `grad` of a trainable leaf, with the rows of a sparse gradient added up."""
        gradient = None if parameter.stop_gradient or not parameter.is_leaf else parameter.grad
        return None if gradient is None else paddle_tensor.dense(gradient)

    def part(self, tensor: NativeTensor, at: int) -> NativeTensor:
        """Return a slice of the detached tensor, which is a view (2.6.2, 3.3.1)."""
        return tensor.detach()[at]

    def own_gradient(self, parameter: NativeTensor) -> NativeTensor | None:
        """Return `grad` of a trainable leaf, where it is dense: an optimiser treats the rows of a sparse one otherwise."""
        gradient = None if parameter.stop_gradient or not parameter.is_leaf else parameter.grad
        return gradient if gradient is not None and gradient.is_dense() else None

    def clear_gradients(self, model: NativeLayer) -> None:
        """Drop every parameter's gradient."""
        for parameter in model.parameters():
            parameter.clear_gradient(False)  # False: not to zeros

    # -- running --------------------------------------------------------------------------------------------------
    def forward(self, model: NativeLayer, args: Sequence[Any], kwargs: Mapping[str, Any], gradients: bool) -> Any:
        """Call the layer with paddle's grad mode set."""
        with paddle.set_grad_enabled(gradients):
            return model(*args, **kwargs)

    def hook(self, layer: NativeLayer, before: BeforeCall, after: AfterCall) -> Remove:
        """Replace the layer's forward while it is hooked; see hooks.py."""
        return hook(layer, before, after, self._autograd)

    def wants_gradient(self, tensor: NativeTensor) -> bool:
        """Return True where autograd is on and leads to this tensor."""
        return wants_gradient(tensor)

    def tap(self, tensor: NativeTensor, layer: NativeLayer) -> NativeTensor:
        """Return an alias with a history of its own; see autograd.py."""
        return self._autograd.tap(tensor)

    def on_gradient(self, tensor: NativeTensor, callback: Callable[[NativeTensor], NativeTensor | None]) -> Remove:
        """Register a hook that a later in-place operation does not move; see autograd.py."""
        return self._autograd.on_gradient(tensor, callback)

    def substitute(self, tensor: NativeTensor, value: Tensor) -> NativeTensor:
        """Make the values on the tensor's device, and give them the tensor's history."""
        if tuple(tensor.shape) != value.spec.shape:
            raise PadiffError(
                f"a tensor of shape {tuple(tensor.shape)} cannot be replaced by one of shape {value.spec.shape}",
                reason=Reason.BAD_TENSOR,
            )
        made = paddle_tensor.from_tensor(value, tensor.place).astype(tensor.dtype)
        return self._autograd.substitute(tensor, made)

    def draw(self, layer: NativeLayer, tensor: NativeTensor) -> NativeTensor:
        """Run the layer on ones."""
        with paddle.no_grad(), self.kept_randomness():
            return type(layer).forward(layer, paddle.ones_like(tensor))

    def scaled(self, tensor: NativeTensor, factors: Tensor) -> NativeTensor:
        """Multiply by the factors."""
        return tensor * paddle_tensor.from_tensor(factors, tensor.place).astype(tensor.dtype)

    def writes(self, tensor: NativeTensor) -> int:
        """Return the tensor's inplace_version."""
        return tensor.inplace_version

    def copy_into(self, target: NativeTensor, source: NativeTensor) -> None:
        """Copy with paddle.assign."""
        paddle.assign(source, output=target)

    def is_own_layer(self, layer: NativeLayer) -> bool:
        """Return True for a layer whose forward was written in paddle, its vision models excepted."""
        return paddle_api_calls.is_own_layer(layer)

    def intercept(self, layers: Iterable[NativeLayer], on_call: OnCall) -> AbstractContextManager[Listen]:
        """Patch paddle's functions and methods for the length of the block."""
        return paddle_api_calls.intercept(layers, on_call)

    # -- loss, backward, optimiser --------------------------------------------------------------------------------
    def loss(self, spec: LossSpec, outputs: Sequence[NativeTensor]) -> NativeTensor:
        """Build a neutral loss; see `loss` in training.py."""
        return paddle_training.loss(spec, outputs, self._weights)

    def backward(self, loss: NativeTensor) -> None:
        """Run backward; MODEL_FAILED where the loss depends on no trainable parameter."""
        self._autograd.backward(loss)

    def item(self, tensor: NativeTensor) -> float:
        """Return the element as a float."""
        return float(tensor.item())

    def optimizer(self, spec: OptimizerSpec, model: NativeLayer) -> Any:
        """Make an optimiser of paddle.optimizer; see `optimizer` in training.py."""
        return paddle_training.optimizer(spec, model)

    def step(self, optimizer: Any) -> None:
        """Apply one step of the optimiser."""
        optimizer.step()

    def is_optimizer(self, value: object) -> bool:
        """Return True for an optimiser of paddle."""
        return paddle_optimizers.is_optimizer(value)

    def options_of(self, optimizer: Any) -> Iterable[tuple[NativeTensor, str, dict[str, OptionValue]]]:
        """Read the optimiser's groups; see optimizers.py."""
        return paddle_optimizers.options_of(optimizer)

    def state_of(self, optimizer: Any, parameter: NativeTensor, state: OptimizerState) -> NativeTensor | None:
        """Read the optimiser's state; see optimizers.py."""
        return paddle_optimizers.state_of(optimizer, parameter, state)


def _place(model: NativeLayer) -> Any:
    """Return the place of a model's first parameter or buffer; the current device for a model without any."""
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            return tensor.place
    return paddle.to_tensor(0).place


def _check_device(name: str) -> None:
    """Raise BAD_CONFIG for a device that paddle does not know, or that this machine lacks."""
    wanted = re.fullmatch(r"cpu|gpu(?::(\d+))?", name)
    if wanted is None:
        problem = "it is neither cpu nor gpu:N"
    elif name == "cpu":
        return
    elif not paddle.is_compiled_with_cuda():
        problem = "this paddle is compiled without CUDA"
    elif int(wanted.group(1) or 0) >= (count := paddle.device.cuda.device_count()):
        problem = f"this machine has {count} of them"
    else:
        return
    raise PadiffError(
        f"paddle has no device {name!r} here: {problem}",
        reason=Reason.BAD_CONFIG,
        hint="choose cpu, or gpu:0 with the package paddlepaddle-gpu on a machine that has one",
    )
