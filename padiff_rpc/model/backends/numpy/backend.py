"""The Backend of numpy_framework, on which the fast tests run, with real layers, hooks and gradients."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import AfterCall, BeforeCall, Listen, OnCall, Remove
from padiff_rpc.model.backends.numpy import api_calls as numpy_api_calls
from padiff_rpc.model.backends.numpy.training import Optimizer, neutral_loss
from padiff_rpc.model.model import LossSpec, OptimizerSpec, OptimizerState, OptionValue, ParameterKind
from padiff_rpc.numpy_framework.autograd import OPAQUE, Tensor, apply
from padiff_rpc.numpy_framework.functions import generator, seed_generator
from padiff_rpc.numpy_framework.graph import grad_enabled, grad_mode
from padiff_rpc.numpy_framework.nn import Layer
from padiff_rpc.tensors.tensor import DType, TensorSpec
from padiff_rpc.tensors.tensor import Tensor as PlainTensor

_CASTS = {"float64": DType.F64, "float32": DType.F32, "float16": DType.F16}


class NumpyBackend:
    """Implement Backend with numpy_framework.

    NumPy's floating-point warnings are off while it computes: NaN and Inf are for the comparison to find.
    """

    name = "numpy"

    # -- the environment ------------------------------------------------------------------------------------------
    def version(self) -> str:
        """Return NumPy's version."""
        return np.__version__

    def device(self, model: Layer) -> str:
        """Return `cpu`."""
        return "cpu"

    def seed(self, value: int) -> None:
        """Seed the generators of Python and NumPy, and the generator that this thread's layers use."""
        random.seed(value)
        np.random.seed(value % (1 << 32))
        seed_generator(value)

    @contextmanager
    def kept_randomness(self) -> Iterator[None]:
        """Restore the generators of Python and NumPy, and the generator that this thread's layers use."""
        pythons, numpys, own = random.getstate(), np.random.get_state(), generator().get_state()
        try:
            yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)
            generator().set_state(own)

    def set_threads(self, count: int) -> None:
        """Do nothing: NumPy has no call for it. Its BLAS reads OMP_NUM_THREADS and the like when it is loaded."""

    # -- the model ------------------------------------------------------------------------------------------------
    def is_model(self, value: object) -> bool:
        """Return True for a Layer of numpy_framework."""
        return isinstance(value, Layer)

    def prepare(self, model: Layer, device: str | None, dtype: str | None) -> Layer:
        """Cast the floating tensors to float64, float32 or float16; the only device is `cpu`."""
        if device not in (None, "cpu"):
            raise PadiffError(
                f"NumPy has no device {device!r}", reason=Reason.BAD_CONFIG, hint="leave the device out, or use 'cpu'"
            )
        if dtype is None:
            return model
        if dtype not in _CASTS:
            raise PadiffError(
                f"NumPy cannot compute in {dtype!r}",
                reason=Reason.BAD_CONFIG,
                hint=f"choose one of {', '.join(_CASTS)}",
            )
        for tensor in _distinct(tensor for layer in model.walk() for _, tensor, _, _ in self.own_tensors(layer)):
            if tensor.dtype.is_floating:
                tensor.convert_(_CASTS[dtype])
        return model

    def children(self, layer: Layer) -> Iterable[tuple[str, Layer]]:
        """Return the names and layers of the direct children."""
        return layer.children().items()

    def own_tensors(self, layer: Layer) -> Iterable[tuple[str, Tensor, ParameterKind, bool]]:
        """Yield the layer's own parameters and buffers; `trainable` is requires_grad."""
        for name, tensor in layer.parameters().items():
            yield name, tensor, "parameter", tensor.requires_grad
        for name, tensor in layer.buffers().items():
            yield name, tensor, "buffer", False

    def transient_buffers(self, layer: Layer) -> Collection[str]:
        """Name the buffers that were registered with persistent=False."""
        return layer.transient_buffers()

    def hyperparameters(self, layer: Layer) -> dict[str, Any]:
        """Return the public attributes that are plain values; Infinity and NaN appear as text."""
        found = {
            name: _plain(value)
            for name, value in vars(layer).items()
            if not name.startswith("_") and name != "training" and _is_plain(value)
        }
        if "bias" in layer.parameters() or vars(layer).get("bias", False) is None:
            found["bias"] = "bias" in layer.parameters()
        return found

    def is_training(self, layer: Layer) -> bool:
        """Return the layer's `training`."""
        return layer.training

    def set_training(self, model: Layer, training: bool) -> None:
        """Set the mode with Layer.train."""
        model.train(training)

    # -- tensors --------------------------------------------------------------------------------------------------
    def is_tensor(self, value: object) -> bool:
        """Return True for a Tensor of numpy_framework."""
        return isinstance(value, Tensor)

    def spec(self, tensor: Tensor) -> TensorSpec:
        """Return the dtype and shape; every Tensor has both."""
        return TensorSpec(tensor.dtype, tensor.shape)

    def to_bytes(self, tensor: Tensor) -> np.ndarray:
        """Return a tensor's bytes, sharing the memory of a contiguous tensor."""
        return np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8)

    def from_tensor(self, tensor: PlainTensor, like: Tensor | None, model: Layer) -> Tensor:
        """Make a Tensor, converted to the dtype of `like`; NOT_SUPPORTED to or from bfloat16 and float8."""
        dtype = tensor.spec.dtype if like is None else like.dtype
        return Tensor(_converted(tensor, dtype), dtype=dtype)

    def traced(self, tensor: Tensor) -> Tensor:
        """Return a copy with a node whose parent is a new leaf, whatever grad mode the caller is in."""
        with grad_mode(True):
            return apply(tensor.data.copy(), (Tensor(tensor.data, True, tensor.dtype),), lambda g: (g,))

    def cast(self, tensor: Tensor, dtype: str | None) -> Tensor:
        """Copy the array, or convert it."""
        copy = Tensor(tensor.data.copy(), dtype=tensor.dtype)
        if dtype is not None and tensor.dtype.is_floating:
            copy.convert_(_CASTS[dtype])
        return copy

    def lend(self, tensor: Tensor, source: Tensor) -> Remove:
        """Give the tensor another's array, and a leaf a new node."""
        return tensor.lend(source)

    def address(self, tensor: Tensor) -> int:
        """Return the address of the array's data."""
        return int(tensor.data.ctypes.data)

    def overwrite(self, target: Tensor, tensor: PlainTensor) -> None:
        """Write the values; BAD_TENSOR where the specs differ."""
        if tensor.spec != self.spec(target):
            raise PadiffError(f"{tensor.spec} does not fit {self.spec(target)}", reason=Reason.BAD_TENSOR)
        target.overwrite(tensor.to_array())

    def writable(self, target: Tensor) -> np.ndarray | None:
        """Return the memory of a contiguous, writeable array, and count a write to it; None for any other."""
        if not target.data.flags.c_contiguous or not target.data.flags.writeable:
            return None
        target.note_write()
        return target.data.reshape(-1).view(np.uint8)

    def gradient(self, parameter: Tensor) -> Tensor | None:
        """Return the tensor's `grad`."""
        return parameter.grad

    def part(self, tensor: Tensor, at: int) -> Tensor:
        """Return a Tensor over a view; a write to it does not count as one to the whole."""
        return Tensor(tensor.data[at], dtype=tensor.dtype)

    def own_gradient(self, parameter: Tensor) -> Tensor | None:
        """Return the tensor's `grad`, which is always dense."""
        return parameter.grad

    def clear_gradients(self, model: Layer) -> None:
        """Set every parameter's `grad` to None."""
        for layer in model.walk():
            for parameter in layer.parameters().values():
                parameter.grad = None

    # -- running --------------------------------------------------------------------------------------------------
    def forward(self, model: Layer, args: Sequence[Any], kwargs: Mapping[str, Any], gradients: bool) -> Any:
        """Call the layer with the grad mode of numpy_framework set."""
        with grad_mode(gradients), np.errstate(all="ignore"):
            return model(*args, **kwargs)

    def hook(self, layer: Layer, before: BeforeCall, after: AfterCall) -> Remove:
        """Register both hooks with Layer.register_hook."""
        return layer.register_hook(before, after)

    def wants_gradient(self, tensor: Tensor) -> bool:
        """Return True where the tensor has a node in the graph and grad mode is on."""
        return grad_enabled() and tensor.requires_grad

    def tap(self, tensor: Tensor, layer: Layer) -> Tensor:
        """Return an alias, for in-place layers, too: a change of the alias in place changes the tensor, graph included."""
        return tensor.alias()

    def on_gradient(self, tensor: Tensor, callback: Callable[[Tensor], Tensor | None]) -> Remove:
        """Register a hook with Tensor.register_hook."""
        return tensor.register_hook(callback)

    def substitute(self, tensor: Tensor, value: PlainTensor) -> Tensor:
        """Return a Tensor with the values, and a node that passes the gradient on."""
        if value.spec.shape != tensor.shape:
            raise PadiffError(
                f"{value.spec} cannot take the place of {self.spec(tensor)}: the shapes differ",
                reason=Reason.BAD_TENSOR,
            )
        array = _converted(value, tensor.dtype)
        if tensor.node is None:
            return Tensor(array, dtype=tensor.dtype)
        return apply(array, (tensor,), lambda g: (g,))

    def draw(self, layer: Layer, tensor: Tensor) -> Tensor:
        """Run the layer on ones."""
        with grad_mode(False), self.kept_randomness():
            return type(layer).forward(layer, Tensor(np.ones_like(tensor.values), dtype=tensor.dtype))

    def scaled(self, tensor: Tensor, factors: PlainTensor) -> Tensor:
        """Multiply by the factors."""
        return tensor * Tensor(_converted(factors, tensor.dtype), dtype=tensor.dtype)

    def writes(self, tensor: Tensor) -> int:
        """Return the version counter of the tensor's memory."""
        return tensor.version[0]

    def copy_into(self, target: Tensor, source: Tensor) -> None:
        """Copy with Tensor.copy_."""
        target.copy_(source)

    def is_own_layer(self, layer: Layer) -> bool:
        """Return True for a layer whose forward was written in numpy_framework."""
        return numpy_api_calls.is_own_layer(layer)

    def intercept(self, layers: Iterable[Layer], on_call: OnCall) -> AbstractContextManager[Listen]:
        """Patch the functions and Tensor methods of numpy_framework for the length of the block."""
        return numpy_api_calls.intercept(layers, on_call)

    # -- loss, backward, optimiser ----------------------------------------------------------------------------------
    def loss(self, spec: LossSpec, outputs: Sequence[Tensor]) -> Tensor:
        """Build a neutral loss in float64; see `neutral_loss` in training.py."""
        with np.errstate(all="ignore"):
            return neutral_loss(spec, outputs)

    def backward(self, loss: Tensor) -> None:
        """Run backward; RuntimeError where the loss depends on no parameter."""
        with np.errstate(all="ignore"):
            loss.backward()

    def item(self, tensor: Tensor) -> float:
        """Return the element as a float."""
        return float(tensor.values.item())

    def optimizer(self, spec: OptimizerSpec, model: Layer) -> Optimizer:
        """Make an Optimizer over the trainable parameters; a tied one counts once."""
        every = _distinct(tensor for layer in model.walk() for tensor in layer.parameters().values())
        return Optimizer(spec, [tensor for tensor in every if tensor.requires_grad])

    def step(self, optimizer: Optimizer) -> None:
        """Apply one step of the optimiser."""
        with np.errstate(all="ignore"):
            optimizer.step()

    def is_optimizer(self, value: object) -> bool:
        """Return True for an Optimizer."""
        return isinstance(value, Optimizer)

    def options_of(self, optimizer: Optimizer) -> Iterable[tuple[Tensor, str, dict[str, OptionValue]]]:
        """Return the options, which all parameters share."""
        return [(parameter, optimizer.name, dict(optimizer.options)) for parameter in optimizer.parameters]

    def state_of(self, optimizer: Optimizer, parameter: Tensor, state: OptimizerState) -> Tensor | None:
        """Return a moment in the parameter's dtype."""
        return optimizer.state(parameter, state)


def _distinct(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield each tensor once, though a tied tensor is found under several names."""
    return iter({id(tensor): tensor for tensor in tensors}.values())


def _converted(tensor: PlainTensor, dtype: DType) -> np.ndarray:
    """Copy the values, converted to `dtype`, into a new array."""
    if dtype is not tensor.spec.dtype and OPAQUE & {dtype, tensor.spec.dtype}:
        raise PadiffError(
            f"NumPy cannot convert {tensor.spec.dtype.value} to {dtype.value}", reason=Reason.NOT_SUPPORTED
        )
    return tensor.to_array().astype(dtype.storage)


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str, np.generic))


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
