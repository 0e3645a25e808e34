"""Whether a mutation changes anything, found without the tool: the model with and without it, in one process."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.mutations.frameworks import Framework
from benchmarks.mutations.nested import tensors_in

TOLERANCE = 1e-4
"""The relative L2 distance beyond which a tensor counts as changed (float32)."""

_NOISE_FACTOR = 10.0
"""How far above the rounding noise of a tensor a change must be."""

_LAST_BIT = 1e-7


@dataclass(frozen=True)
class Observed:
    """What a model gave: its floating outputs in order, gradients of parameters and inputs, what it then holds, by name."""

    outputs: list[np.ndarray]
    gradients: dict[str, np.ndarray]
    held: dict[str, np.ndarray]


@dataclass(frozen=True)
class Noise:
    """The healthy model, and by how much (L2) rounding may move each of its tensors."""

    healthy: Observed
    outputs: list[float]
    gradients: dict[str, float]
    held: dict[str, float]


@dataclass(frozen=True)
class Effect:
    """How far a mutated model is from the healthy one: the largest relative L2 distance of each kind of tensor.

    Attributes:
        outputs: That of the outputs.
        gradients: That of the gradients of parameters and inputs.
        buffers: That of what the model holds after the forward, such as running statistics.
        most: The gradient or buffer that changed most.
    """

    outputs: float
    gradients: float
    buffers: float
    most: str

    @property
    def there(self) -> bool:
        """True where any of them changed beyond the tolerance."""
        return not max(self.outputs, self.gradients, self.buffers) <= TOLERANCE


def observe(fw: Framework, model: Any, inputs: Mapping[str, np.ndarray]) -> Observed:
    """Run forward and backward; the loss is a sum of all outputs with fixed random weights."""
    leaves = {name: fw.leaf(array) for name, array in inputs.items()}
    outputs = [tensor for tensor in tensors_in(model(**leaves), fw.tensor) if fw.is_floating(tensor)]
    loss: Any = None
    for number, tensor in enumerate(outputs):
        if not _has_history(tensor):
            continue
        rng = np.random.default_rng(zlib.crc32(f"output {number}".encode()))
        part = (tensor * fw.constant(rng.standard_normal(tuple(tensor.shape)).astype("f4"), tensor)).sum()
        loss = part if loss is None else loss + part
    if loss is not None:
        loss.backward()
    gradients = {f"input {name}": fw.gradient(leaf) for name, leaf in leaves.items() if fw.is_floating(leaf)}
    for route, layer in fw.layers(model).items():
        for name, parameter in fw.parameters(layer).items():
            gradients[f"{route}.{name}".lstrip(".")] = fw.gradient(parameter)
    return Observed(
        [fw.array(tensor) for tensor in outputs],
        {name: gradient for name, gradient in gradients.items() if gradient is not None},
        {name: array.astype(np.float64) for name, array in fw.state(model).items()},
    )


def noise_of(
    fw: Framework, build: Callable[[], Any], state: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]
) -> Noise:
    """Move every weight by about its last bit, and return by how much each tensor then moves: what rounding may do.

    The gradient of a bias before a normalisation, which is zero but for rounding, moves by all that it is.
    """
    runs: list[Observed] = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model = build()
        moved = {
            name: array * (1 + _LAST_BIT * rng.choice([-1, 1], array.shape)).astype(array.dtype)
            if array.dtype.kind == "f" and seed
            else array
            for name, array in state.items()
        }
        fw.load(model, moved)
        runs.append(observe(fw, model, inputs))
    healthy, *others = runs
    return Noise(
        healthy,
        [max(_gap(array, other.outputs[at]) for other in others) for at, array in enumerate(healthy.outputs)],
        _moved(healthy.gradients, [other.gradients for other in others]),
        _moved(healthy.held, [other.held for other in others]),
    )


def _moved(healthy: Mapping[str, np.ndarray], others: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    return {name: max(_gap(array, other[name]) for other in others) for name, array in healthy.items()}


def effect(noise: Noise, mutated: Observed) -> Effect:
    """Compare what a mutated model gave with the healthy one."""
    healthy = noise.healthy
    outputs = np.inf
    if len(healthy.outputs) == len(mutated.outputs):
        outputs = max(map(_distance, healthy.outputs, mutated.outputs, noise.outputs), default=np.inf)
    gradients, gradient = _furthest(healthy.gradients, mutated.gradients, noise.gradients)
    buffers, buffer = _furthest(healthy.held, mutated.held, noise.held)
    return Effect(float(outputs), gradients, buffers, gradient or buffer)


def _furthest(
    healthy: Mapping[str, np.ndarray], mutated: Mapping[str, np.ndarray], noise: Mapping[str, float]
) -> tuple[float, str]:
    """Return the largest distance, and the tensor that has it."""
    worst, name = 0.0, ""
    for each in sorted({*healthy, *mutated}):
        here, there = healthy.get(each), mutated.get(each)
        if here is None or there is None:  # cut, or come anew; one that is zero may as well be absent
            distance = np.inf if np.any(there if here is None else here) else 0.0
        else:
            distance = _distance(here, there, noise[each])
        if not distance <= worst:
            worst, name = float(distance), each
    return worst, name


def _distance(healthy: np.ndarray, mutated: np.ndarray, noise: float) -> float:
    """Return ||mutated - healthy|| / ||healthy||: 0 where the difference may be noise, Inf where it is not finite."""
    gap = _gap(healthy, mutated)
    if gap <= _NOISE_FACTOR * noise:
        return 0.0
    size = float(np.linalg.norm(healthy[np.isfinite(healthy)]))
    return gap / size if size else np.inf


def _gap(healthy: np.ndarray, mutated: np.ndarray) -> float:
    """Return ||mutated - healthy||; elements of equal value, infinite ones too, do not differ."""
    if healthy.shape != mutated.shape:
        return np.inf
    differs = ~((healthy == mutated) | (np.isnan(healthy) & np.isnan(mutated)))
    if not differs.any():
        return 0.0
    gap = float(np.linalg.norm(mutated[differs] - healthy[differs]))
    return gap if np.isfinite(gap) else np.inf


def _has_history(tensor: Any) -> bool:
    wanted = getattr(tensor, "requires_grad", None)
    return not tensor.stop_gradient if wanted is None else bool(wanted)
