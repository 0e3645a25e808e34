"""The Backend contract suite: which backend it tests, the zoo of tiny models that it needs, and what the tests share.

Running it
    PADIFF_TEST_BACKEND=torch|paddle|numpy python -m pytest tests/contract     (numpy when unset: the fast suite)
in an environment that has the framework. The backend class is `padiff_rpc.model.backends.NAME_backend.NameBackend`. A
backend that is missing fails every test; nothing here skips. `test_NAME_only.py` holds what only that framework has
and is collected for it alone.

The zoo
Each framework has `tests/contract/zoo_NAME.py`. It builds the same tiny models in its framework: same children names,
same definition order, same forward keyword names. Weights need no care: the suite overwrites every floating parameter
and buffer with fixed numbers through the backend. All parameters are created float32, in training mode, on the CPU. N
is any batch size; `x` is float32 [N, 4] unless said otherwise. Linear(i, o) is the framework's Linear layer.

Models (functions without arguments that return a model):
    mlp()        children fc1 = Linear(4, 8) with bias, act = Tanh, fc2 = Linear(8, 3) WITHOUT bias; forward(x) ->
        fc2(act(fc1(x)))
    shared()     child fc = Linear(4, 4); forward(x) -> fc(fc(fc(x)))
    tied()       children a = Linear(4, 4), b = Linear(4, 4), b.weight IS a.weight (one object); forward(x) -> b(a(x))
    nested()     children fc = Linear(4, 4), pack = a layer without parameters. pack(h) returns the zoo's dataclass
        Packed(first=h * 2, rest=(h + 1, [h - 1])). forward(x): p = pack(fc(x)); returns {"logits": p.first, "past":
        (p.rest[0], [p.rest[1][0]]), "count": an integer tensor of shape [2] holding 3 and 4, "nothing": None}
    keyword()    child scale: its forward(hidden, gain) returns hidden * scale.weight * gain, weight being a parameter
        of shape [4]. The model's forward(x) calls scale(hidden=x, gain=2.0): no positional argument. scale has the
        attributes slope = 0.5, mode = "fast", sizes = (2, 3), ready = True, nothing = None, `_secret` = 7 and `thing`
        = object().
    inplace()    children fc = Linear(4, 4), triple = a layer that multiplies its input by 3 IN PLACE and returns it,
        relu = the framework's in-place ReLU (in torch ReLU(inplace=True); a layer whose attribute `inplace` is True,
        or one of the zoo's own that calls the framework's in-place relu), out = Linear(4, 3). forward(x): h = fc(x);
        triple(h) [the result is NOT used: h itself has changed]; h = relu(h); out(h)
    norm()       children fc = Linear(4, 4), bn = batch norm over 4 features with epsilon 1e-3 and the momentum that
        torch calls 0.2 (paddle: 0.8); forward(x) -> bn(fc(x))
    embedding()  children table = Embedding(10, 4), fc = Linear(4, 3); forward(ids) with int64 ids [N, L] ->
        fc(table(ids)) [N, L, 3]
    residual()   children inner = Linear(4, 4), gap = a slot that holds None, registered the way the framework allows
        (left out where it does not), fc = Linear(4, 4); forward(x): h = inner(x); h + fc(h)
    dropout()    child drop = Dropout(p=0.5); forward(x) -> drop(x), x of any shape
    functional() calls functions in its own forward. Not among MODELS: for the tests of functional calls. Children fc =
        Linear(4, 4), act = the framework's Tanh layer, inner = a layer of the zoo's own; a parameter mix of shape [4, 4];
        an attribute activation = the framework's function gelu. The zoo's module imports softmax by its name and the
        other functions as attributes of their module. inner(h): exp of h by its method; then h * 0.5. forward(x): h = fc(x);
        relu; h + x; 2 * h; h - 1; h += x (in place); h @ mix; act(h); softmax; inner(h); activation; concat of (h, h) along
        the last axis; h / 2; a transpose there and back; and, of all elements, mean, which is returned as
        {"h": h, "mean": mean}
    failing()    functional(), but for inner, which raises KeyError in the middle of its forward
    extras()     no children. Holds, in this order, all float32 [4]: parameters scale (trainable) and frozen (NOT
        trainable), buffers kept (in the state dict) and passing (not in the state dict). forward(x) -> x * scale *
        frozen + kept + passing

Constants and further functions:
    ABSENT_DEVICE        a device that the framework knows by name but that no test machine has: "cuda:99", "gpu:99"
    DTYPES               tuple of DType: what the framework can hold as a tensor, in both directions
    CAST_DTYPES          tuple of str: what prepare(dtype=...) must manage here, out of float64, float32, bfloat16,
        float16
    BATCH_NORM_TENSORS   tuple of (name, kind, trainable): own_tensors of norm()'s bn
    Packed               the dataclass that pack returns
    hyperparameter_cases() -> list of (layer, dict): layers of the framework's own (convolution with stride, padding,
        dilation and groups; layer norm, dropout, activations with options, linear with and without bias, ...) and
        what hyperparameters(layer) must at least contain, under the framework's own names
    awkward_tensors() -> list of (label, tensor, DType, bytes): the framework's tensors that are not plain in memory
        (transposed, strided slice, a single column, expanded, 0-d slice, empty slice, requiring a gradient, ...) with the
        row-major little-endian bytes expected

What the suite settles where the protocol's docstrings leave room
    - an unknown loss or optimiser name is UNKNOWN_NAME; a missing target, a target of the wrong shape or dtype, a
      class index out of range, or outputs without a floating element are BAD_CONFIG; substitute() with another shape
      is BAD_TENSOR; from_tensor() of a dtype outside DTYPES is NOT_SUPPORTED; an optimiser for a model without trainable
      parameters is BAD_CONFIG
    - outputs that are not floating, or empty, do not count in a loss; half types are summed in float32 at least
    - gradient() is None before a backward and after clear_gradients()
    - from_tensor() copies: the framework's tensor does not share the memory of the bytes it was made from
    - hooks let exceptions through unchanged
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.model.backends.backend import Backend
from padiff_rpc.model.model import LossSpec
from padiff_rpc.tensors.tensor import DType, Tensor

HERE = Path(__file__).parent
NAMES = ("torch", "paddle", "numpy")
NAME = os.environ.get("PADIFF_TEST_BACKEND", "numpy")
MODELS = (
    "mlp",
    "shared",
    "tied",
    "nested",
    "keyword",
    "inplace",
    "norm",
    "embedding",
    "residual",
    "dropout",
    "extras",
)

collect_ignore = [f"test_{name}_only.py" for name in NAMES if name != NAME]


@dataclass(frozen=True)
class Kit:
    """A backend, its zoo, and the few operations that most tests need. Arrays are NumPy, natives the framework's."""

    backend: Backend
    zoo: Any

    def build(self, name: str) -> Any:
        """Build a zoo model with fixed weights."""
        model = getattr(self.zoo, name)()
        count = 0
        for layer in self.layers(model).values():
            for _, tensor, kind, _ in self.backend.own_tensors(layer):
                spec = self.backend.spec(tensor)
                if spec.dtype is not DType.F32:
                    continue
                values = 0.6 * np.sin(0.7 * np.arange(spec.count) + count)
                if kind == "buffer":
                    values = np.abs(values) + 0.5
                array = values.astype(np.float32).reshape(spec.shape)
                self.backend.overwrite(tensor, Tensor.from_array(array))
                count += 1
        return model

    def layers(self, model: Any) -> dict[str, Any]:
        """All layers by route, pre-order, the model itself under the empty route."""
        return dict(self._walk("", model))

    def _walk(self, route: str, layer: Any) -> Iterator[tuple[str, Any]]:
        yield route, layer
        for name, child in self.backend.children(layer):
            yield from self._walk(f"{route}.{name}" if route else name, child)

    def tensors(self, model: Any) -> dict[str, Any]:
        """All own tensors by full name; a tied one appears under each of its names."""
        return {
            f"{route}.{name}" if route else name: tensor
            for route, layer in self.layers(model).items()
            for name, tensor, _, _ in self.backend.own_tensors(layer)
        }

    def native(self, array: np.ndarray, model: Any, dtype: DType | None = None) -> Any:
        return self.backend.from_tensor(Tensor.from_array(array, dtype), None, model)

    def array(self, native: Any) -> np.ndarray:
        """Copy a framework's tensor into an array of its storage dtype."""
        spec = self.backend.spec(native)
        return self.backend.to_bytes(native).copy().view(spec.dtype.storage).reshape(spec.shape)

    def inputs(self, name: str, model: Any, rows: int = 5) -> dict[str, Any]:
        """Fixed inputs of a zoo model, as the framework's tensors."""
        if name == "embedding":
            return {"ids": self.native(np.arange(rows * 3, dtype=np.int64).reshape(rows, 3) % 10, model)}
        values = np.cos(0.9 * np.arange(rows * 4)).astype(np.float32).reshape(rows, 4)
        return {"x": self.native(values, model)}

    def forward(self, name: str, model: Any) -> Any:
        return self.backend.forward(model, (), self.inputs(name, model), True)

    def on_output(self, layer: Any, callback: Callable[[Any], Any]) -> Callable[[], None]:
        """Call back with the layer's output; what it returns, unless None, takes the output's place."""
        return self.backend.hook(layer, lambda args, kwargs: None, lambda args, kwargs, output: callback(output))

    def backward(self, outputs: Any) -> None:
        """Run backward from the projection of all outputs, under which no gradient is small."""
        self.backend.backward(self.backend.loss(LossSpec("projection", {"seed": 0.0}), self.flat(outputs)))

    def flat(self, nest: Any) -> list[Any]:
        """Flatten tuples, lists, dicts and the zoo's dataclass into the tensors they hold."""
        if self.backend.is_tensor(nest):
            return [nest]
        if isinstance(nest, self.zoo.Packed):
            return self.flat((nest.first, nest.rest))
        if isinstance(nest, Mapping):
            return self.flat(list(nest.values()))
        if isinstance(nest, (tuple, list)):
            return [tensor for part in nest for tensor in self.flat(part)]
        return []

    def gradients(self, model: Any) -> dict[str, np.ndarray]:
        """Parameter gradients by name, those that have one."""
        found = {name: self.backend.gradient(tensor) for name, tensor in self.tensors(model).items()}
        return {name: self.array(gradient) for name, gradient in found.items() if gradient is not None}


@pytest.fixture(scope="session")
def kit() -> Kit:
    """The backend under test and its zoo. Fails, never skips, when either is missing."""
    if NAME not in NAMES:
        pytest.fail(f"PADIFF_TEST_BACKEND={NAME!r}: choose one of {', '.join(NAMES)}")
    with warnings.catch_warnings():
        # A framework's own warnings while it is imported are not ours to fix; those of a call still are errors.
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"padiff_rpc.model.backends.{NAME}.backend")
        zoo = _load(HERE / f"zoo_{NAME}.py")
    return Kit(getattr(module, f"{NAME.capitalize()}Backend")(), zoo)


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes `model_name` every model of the zoo."""
    if "model_name" in metafunc.fixturenames:
        metafunc.parametrize("model_name", MODELS)
