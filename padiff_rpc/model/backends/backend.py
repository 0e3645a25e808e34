"""The Backend seam: all that a framework must be able to do for HostedModel. One small class per framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from padiff_rpc.model.model import LossSpec, OptimizerSpec, ParameterKind
from padiff_rpc.tensors.tensor import Tensor, TensorSpec

NativeLayer = Any  # torch.nn.Module, paddle.nn.Layer, or the NumPy backend's Layer
NativeTensor = Any  # a framework's own tensor
Remove = Callable[[], None]
BeforeCall = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[tuple[Any, ...], dict[str, Any]] | None"]
AfterCall = Callable[[tuple[Any, ...], dict[str, Any], Any], Any]
OnCall = Callable[[str, Any], None]  # canonical name (api_names.py), what the function returned
Listen = Callable[[bool], None]


class Backend(Protocol):
    """A framework. Only its implementation imports it. Called from one thread, except to_bytes's result."""

    name: str
    """`torch`, `paddle` or `numpy`: as in a SPEC."""

    # -- the environment ------------------------------------------------------------------------------------------
    def version(self) -> str: ...

    def device(self, model: NativeLayer) -> str:
        """Where the model's first parameter lives, as the framework writes it (`cpu`, `cuda:0`, `gpu:0`)."""
        ...

    def seed(self, value: int) -> None:
        """Seed the framework's generators (all devices), and Python's and NumPy's."""
        ...

    def kept_randomness(self) -> AbstractContextManager[None]:
        """Put what seed() changes back as it was, at the end of the block."""
        ...

    def set_threads(self, count: int) -> None:
        """Use that many CPU threads for one operation."""
        ...

    # -- the model ------------------------------------------------------------------------------------------------
    def is_model(self, value: object) -> bool: ...

    def prepare(self, model: NativeLayer, device: str | None, dtype: str | None) -> NativeLayer:
        """Move to a device and cast floating parameters and buffers (`float64`, `float32`, `bfloat16`, `float16`).

        BAD_CONFIG for a device or dtype that the framework does not have here.
        """
        ...

    def children(self, layer: NativeLayer) -> Iterable[tuple[str, NativeLayer]]:
        """Direct sublayers with their names, in definition order; a slot that holds None is left out."""
        ...

    def own_tensors(self, layer: NativeLayer) -> Iterable[tuple[str, NativeTensor, ParameterKind, bool]]:
        """(name, tensor, kind, trainable) of what the layer itself holds, in definition order, parameters first.

        Running statistics are buffers, whatever the framework files them under.
        """
        ...

    def hyperparameters(self, layer: NativeLayer) -> dict[str, Any]:
        """Plain JSON values off the layer's public attributes: numbers, strings, booleans, None, lists of these.

        `training` and the framework's own bookkeeping are left out; a tensor or layer never appears. `bias`
        is True or False by whether the layer holds one, where its class can hold one.
        """
        ...

    def is_training(self, layer: NativeLayer) -> bool: ...

    def set_training(self, model: NativeLayer, training: bool) -> None: ...

    # -- tensors --------------------------------------------------------------------------------------------------
    def is_tensor(self, value: object) -> bool: ...

    def spec(self, tensor: NativeTensor) -> TensorSpec: ...

    def to_bytes(self, tensor: NativeTensor) -> np.ndarray:
        """Flat uint8 view of a contiguous row-major image of the tensor; may share its memory, so copy before going on."""
        ...

    def from_tensor(self, tensor: Tensor, like: NativeTensor | None, model: NativeLayer) -> NativeTensor:
        """Make a framework tensor: on `like`'s device and of its dtype, or on the model's device, as it is."""
        ...

    def traced(self, tensor: NativeTensor) -> NativeTensor:
        """Return a copy of a tensor that autograd carries a gradient to, and that a model may write to in place."""
        ...

    def address(self, tensor: NativeTensor) -> int:
        """Where the memory of a tensor that is not empty begins, so that two tensors of one memory can be told."""
        ...

    def overwrite(self, target: NativeTensor, tensor: Tensor) -> None:
        """Write values into a parameter or buffer in place, outside autograd. The specs are equal."""
        ...

    def writable(self, target: NativeTensor) -> np.ndarray | None:
        """Flat uint8 view of a parameter's or buffer's own memory, to be written to outside autograd; None where there is none.

        Taking it counts as an in-place operation, so that no graph goes on with values that it has not seen.
        """
        ...

    def gradient(self, parameter: NativeTensor) -> NativeTensor | None: ...

    def clear_gradients(self, model: NativeLayer) -> None: ...

    # -- running --------------------------------------------------------------------------------------------------
    def forward(self, model: NativeLayer, inputs: Mapping[str, Any], gradients: bool) -> Any:
        """Call model(**inputs), with autograd on or off."""
        ...

    def hook(self, layer: NativeLayer, before: BeforeCall, after: AfterCall) -> Remove:
        """Call `before(args, kwargs)` and `after(args, kwargs, output)` around every call of this layer.

        What they return, unless None, replaces (args, kwargs) or the output. `after` sees the args that the layer got.
        """
        ...

    def wants_gradient(self, tensor: NativeTensor) -> bool:
        """True when autograd will carry a gradient to this tensor."""
        ...

    def tap(self, tensor: NativeTensor, layer: NativeLayer) -> NativeTensor:
        """Return an alias of a layer's input whose gradient is the layer's own part of the tensor's.

        Values, memory and in-place semantics stay those of the tensor itself; where the framework cannot give
        that (in-place layers), the tensor itself is returned.
        """
        ...

    def on_gradient(self, tensor: NativeTensor, callback: Callable[[NativeTensor], NativeTensor | None]) -> Remove:
        """Call back with the gradient of the tensor as its present value had it; a returned tensor replaces it."""
        ...

    def substitute(self, tensor: NativeTensor, value: Tensor) -> NativeTensor:
        """Return a tensor with exactly the given values (dtype converted to the tensor's), through which the gradient passes
        to `tensor` unchanged."""
        ...

    def writes(self, tensor: NativeTensor) -> int:
        """Count the in-place operations that changed the tensor's values so far, through any alias; 0 where not known."""
        ...

    def copy_into(self, target: NativeTensor, source: NativeTensor) -> None:
        """Write source's values into target in place and under autograd, so that target's gradient goes on to source."""
        ...

    def is_own_layer(self, layer: NativeLayer) -> bool:
        """True where the layer's forward is the framework's own code, and not that of the model's author."""
        ...

    def intercept(self, layers: Iterable[NativeLayer], on_call: OnCall) -> AbstractContextManager[Listen]:
        """Call `on_call(name, result)` after each functional call that code of this thread makes outside the framework.

        Only while listening: the block gets `listen(True)` and `listen(False)`, and begins deaf. What a function calls
        inside is not told, nor is what `on_call` does. `layers`: all of the model, where references to functions may lie. At
        the end nothing of it is left, however the block ends. BAD_CONFIG for a custom operator that cannot be found.
        """
        ...

    # -- loss, backward, optimiser ----------------------------------------------------------------------------------
    def loss(self, spec: LossSpec, outputs: Sequence[NativeTensor]) -> NativeTensor:
        """Build the neutral loss over the flattened outputs that are floating; scalar. BAD_CONFIG where it cannot."""
        ...

    def backward(self, loss: NativeTensor) -> None: ...

    def item(self, tensor: NativeTensor) -> float: ...

    def optimizer(self, spec: OptimizerSpec, model: NativeLayer) -> Any:
        """Make the neutral optimiser over the trainable parameters, every option passed explicitly."""
        ...

    def step(self, optimizer: Any) -> None: ...


def module_of_forward(layer: NativeLayer) -> str:
    """Return the module that the layer's forward was written in: a subclass may have taken it over from another."""
    kind = type(layer)
    return getattr(getattr(kind, "forward", None), "__module__", None) or kind.__module__
