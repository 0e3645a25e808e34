"""The Backend seam: the operations of a framework that HostedModel needs. Each framework has one small class for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from padiff_rpc.model.model import LossSpec, OptimizerSpec, OptimizerState, OptionValue, ParameterKind
from padiff_rpc.tensors.tensor import Tensor, TensorSpec

NativeLayer = Any  # torch.nn.Module, paddle.nn.Layer, or the NumPy backend's Layer
NativeTensor = Any  # a framework's own tensor
Remove = Callable[[], None]
"""Takes a hook off again."""
BeforeCall = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[tuple[Any, ...], dict[str, Any]] | None"]
"""Receives a layer call's args and kwargs, and returns others to use in their place, or None."""
AfterCall = Callable[[tuple[Any, ...], dict[str, Any], Any], Any]
"""Receives a layer call's args, kwargs and output, and returns another output to use in its place, or None."""
OnCall = Callable[[str, Any], None]
"""Receives a functional call's canonical name (see api_names.py), and the value that the function returned."""
Listen = Callable[[bool], None]
"""Turns the reporting of functional calls on (True) or off (False)."""


class Backend(Protocol):
    """Adapt one framework to HostedModel. Only the framework's own implementation imports it.

    All methods are called from one thread, but the array that to_bytes returns may be read in another.
    """

    name: str
    """`torch`, `paddle` or `numpy`, as in a SPEC."""

    # -- the environment ------------------------------------------------------------------------------------------
    def version(self) -> str:
        """Return the framework's own version string."""
        ...

    def device(self, model: NativeLayer) -> str:
        """Return the device of the model's first parameter, as the framework writes it (`cpu`, `cuda:0`, `gpu:0`)."""
        ...

    def seed(self, value: int) -> None:
        """Seed the random generators of the framework (on all devices), of Python and of NumPy."""
        ...

    def kept_randomness(self) -> AbstractContextManager[None]:
        """Return a context manager that restores, at its end, the state of all generators that seed() changes."""
        ...

    def set_threads(self, count: int) -> None:
        """Let a single operation use so many CPU threads."""
        ...

    # -- the model ------------------------------------------------------------------------------------------------
    def is_model(self, value: object) -> bool:
        """Return True for a layer of this framework, which any model is."""
        ...

    def prepare(self, model: NativeLayer, device: str | None, dtype: str | None) -> NativeLayer:
        """Move a model to a device, cast its floating parameters and buffers, and return it.

        Args:
            model: The model, which is changed in place where the framework does so.
            device: The device to move to, as the framework writes it; None leaves the model where it is.
            dtype: `float64`, `float32`, `bfloat16` or `float16`; None casts nothing.

        Raises:
            PadiffError: BAD_CONFIG for a device or dtype that the framework does not have here.
        """
        ...

    def children(self, layer: NativeLayer) -> Iterable[tuple[str, NativeLayer]]:
        """Return the names and layers of a layer's direct sublayers, in definition order, without slots that hold None."""
        ...

    def own_tensors(self, layer: NativeLayer) -> Iterable[tuple[str, NativeTensor, ParameterKind, bool]]:
        """Return (name, tensor, kind, trainable) of the tensors that a layer holds itself, parameters first, in definition order.

        Running statistics count as buffers, wherever the framework files them.
        """
        ...

    def transient_buffers(self, layer: NativeLayer) -> Collection[str]:
        """Name the buffers that a layer holds itself and that the framework leaves out of a checkpoint."""
        ...

    def hyperparameters(self, layer: NativeLayer) -> dict[str, Any]:
        """Read a layer's public attributes as plain JSON values: numbers, strings, booleans, None, and lists of these.

        `training` and the framework's own bookkeeping are left out; a tensor or layer never appears. `bias` is True where the
        layer holds a bias and False where it holds none, and is absent where its class can hold none.
        """
        ...

    def is_training(self, layer: NativeLayer) -> bool:
        """Return True for a layer in training mode, False for a layer in evaluation mode."""
        ...

    def set_training(self, model: NativeLayer, training: bool) -> None:
        """Put a model and all its layers into training mode, or into evaluation mode."""
        ...

    # -- tensors --------------------------------------------------------------------------------------------------
    def is_tensor(self, value: object) -> bool:
        """Return True for a tensor of this framework."""
        ...

    def spec(self, tensor: NativeTensor) -> TensorSpec:
        """Return a tensor's dtype and shape.

        Raises:
            PadiffError: NOT_SUPPORTED for a tensor that is not dense, or whose dtype has no DType.
        """
        ...

    def to_bytes(self, tensor: NativeTensor) -> np.ndarray:
        """Return a tensor's bytes, row-major and contiguous, as a flat uint8 array.

        The array may share the tensor's memory, so that the caller must copy it before the model goes on.
        """
        ...

    def from_tensor(self, tensor: Tensor, like: NativeTensor | None, model: NativeLayer) -> NativeTensor:
        """Make a framework tensor with the values of a Tensor.

        Args:
            tensor: The values.
            like: The tensor whose device and dtype the result takes; None for the model's device and the values' own dtype.
            model: The model whose device the result takes where `like` is None.
        """
        ...

    def traced(self, tensor: NativeTensor) -> NativeTensor:
        """Return a copy of a tensor that receives a gradient in backward, and that a model may change in place."""
        ...

    def cast(self, tensor: NativeTensor, dtype: str | None) -> NativeTensor:
        """Return a copy of a tensor in new memory, outside autograd.

        Floating values are cast to `dtype` (`float64`, `float32`), complex ones to that precision; None casts nothing.
        """
        ...

    def lend(self, tensor: NativeTensor, source: NativeTensor) -> Remove:
        """Let a tensor have the memory and the dtype of another, and no gradient, until the returned function is called.

        That gives the tensor its own memory, untouched in between, its dtype and its gradient back. Whoever holds the
        tensor sees the change, and no autograd graph of before may be used meanwhile.
        """
        ...

    def address(self, tensor: NativeTensor) -> int:
        """Return the memory address of a tensor that is not empty; tensors that share one memory have equal addresses."""
        ...

    def overwrite(self, target: NativeTensor, tensor: Tensor) -> None:
        """Write values into a parameter or buffer in place, outside autograd. The caller makes sure that the specs are equal."""
        ...

    def writable(self, target: NativeTensor) -> np.ndarray | None:
        """Return a parameter's or buffer's own memory as a flat uint8 array, to be written to outside autograd.

        None where the framework gives no access to the memory. A call counts as an in-place operation on the tensor, so that
        no autograd graph goes on with values that it has not seen.
        """
        ...

    def gradient(self, parameter: NativeTensor) -> NativeTensor | None:
        """Return the gradient that a parameter has collected; None where it has none."""
        ...

    def part(self, tensor: NativeTensor, at: int) -> NativeTensor:
        """Return what lies at a place of a tensor's first axis, outside autograd; it shares the tensor's memory."""
        ...

    def own_gradient(self, parameter: NativeTensor) -> NativeTensor | None:
        """Return the very tensor that an optimiser takes for a parameter's gradient; None where it has none, or no dense one."""
        ...

    def clear_gradients(self, model: NativeLayer) -> None:
        """Remove the gradients of all parameters of a model, so that gradient() returns None."""
        ...

    # -- running --------------------------------------------------------------------------------------------------
    def forward(self, model: NativeLayer, args: Sequence[Any], kwargs: Mapping[str, Any], gradients: bool) -> Any:
        """Call model(*args, **kwargs), with autograd on or off, and return its outputs."""
        ...

    def hook(self, layer: NativeLayer, before: BeforeCall, after: AfterCall) -> Remove:
        """Call `before(args, kwargs)` and `after(args, kwargs, output)` around every call of a layer; return the hooks' removal.

        A result of `before` other than None replaces (args, kwargs), and a result of `after` other than None replaces the
        output. `after` receives the arguments that the layer got.
        """
        ...

    def wants_gradient(self, tensor: NativeTensor) -> bool:
        """Return True where autograd will carry a gradient to this tensor."""
        ...

    def tap(self, tensor: NativeTensor, layer: NativeLayer) -> NativeTensor:
        """Return an alias of a layer's input whose gradient is the layer's own contribution to the input's gradient.

        The alias has the values, the memory and the in-place semantics of the tensor. Where the framework cannot give such an
        alias (for in-place layers), the tensor itself is returned.
        """
        ...

    def on_gradient(self, tensor: NativeTensor, callback: Callable[[NativeTensor], NativeTensor | None]) -> Remove:
        """Call back with the gradient of a tensor's present value, and return the hook's removal.

        A tensor that the callback returns replaces the gradient.
        """
        ...

    def substitute(self, tensor: NativeTensor, value: Tensor) -> NativeTensor:
        """Return a tensor with exactly the given values, through which the gradient passes to `tensor` unchanged.

        The values are converted to the dtype of `tensor`.

        Raises:
            PadiffError: BAD_TENSOR for values of another shape.
        """
        ...

    def draw(self, layer: NativeLayer, tensor: NativeTensor) -> NativeTensor:
        """Return what a dropout of the framework is about to draw for an input: its output will be the input times this.

        The generators are left as they were.
        """
        ...

    def scaled(self, tensor: NativeTensor, factors: Tensor) -> NativeTensor:
        """Return a tensor times given factors, under autograd. They are converted to its dtype."""
        ...

    def writes(self, tensor: NativeTensor) -> int:
        """Return the number of in-place operations that have changed a tensor's values so far, through any alias.

        0 where the number is not known.
        """
        ...

    def copy_into(self, target: NativeTensor, source: NativeTensor) -> None:
        """Write source's values into target in place and under autograd, so that target's gradient flows on to source."""
        ...

    def is_own_layer(self, layer: NativeLayer) -> bool:
        """Return True where the layer's forward is code of the framework, False where it is code of the model's author."""
        ...

    def intercept(self, layers: Iterable[NativeLayer], on_call: OnCall) -> AbstractContextManager[Listen]:
        """Call `on_call(name, result)` after each functional call that this thread's code outside the framework makes.

        The block receives a function `listen` and begins without listening; calls are reported between listen(True) and
        listen(False). The calls that a reported function makes inside, and those that `on_call` makes, are not reported.
        At the end nothing of the interception is left, however the block ends.

        Args:
            layers: All layers of the model; references to functions may lie in their modules and attributes.
            on_call: Receives the canonical name and the returned value.

        Raises:
            PadiffError: BAD_CONFIG for a custom operator that cannot be found.
        """
        ...

    # -- loss, backward, optimiser ----------------------------------------------------------------------------------
    def loss(self, spec: LossSpec, outputs: Sequence[NativeTensor]) -> NativeTensor:
        """Build a neutral loss, a scalar tensor, over the floating outputs, each flattened.

        Raises:
            PadiffError: BAD_CONFIG where these outputs cannot have this loss.
        """
        ...

    def backward(self, loss: NativeTensor) -> None:
        """Run backward from a scalar loss; the gradients of parameters add up in `gradient`."""
        ...

    def item(self, tensor: NativeTensor) -> float:
        """Return the value of a tensor of one element."""
        ...

    def optimizer(self, spec: OptimizerSpec, model: NativeLayer) -> Any:
        """Make a neutral optimiser over the model's trainable parameters, passing every option explicitly."""
        ...

    def step(self, optimizer: Any) -> None:
        """Apply one step of an optimiser that optimizer() made."""
        ...

    def is_optimizer(self, value: object) -> bool:
        """Return True for an optimiser of this framework, be it neutral or a user's."""
        ...

    def options_of(self, optimizer: Any) -> Iterable[tuple[NativeTensor, str, dict[str, OptionValue]]]:
        """Yield each parameter of an optimiser, with the formula and the hyper-parameters by names that the frameworks share."""
        ...

    def state_of(self, optimizer: Any, parameter: NativeTensor, state: OptimizerState) -> NativeTensor | None:
        """Return what an optimiser keeps of a parameter's gradients; None where it keeps no such tensor."""
        ...


def module_of_forward(layer: NativeLayer) -> str:
    """Return the name of the module in which the layer's forward was written.

    A subclass may have inherited its forward from a class of another module.
    """
    kind = type(layer)
    return getattr(getattr(kind, "forward", None), "__module__", None) or kind.__module__
