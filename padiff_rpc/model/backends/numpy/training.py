"""Neutral losses and optimisers on numpy_framework, by torch's formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.losses_and_optimizers import (
    NEUTRAL_LOSSES,
    NEUTRAL_OPTIMIZERS,
    counted_positions,
    projection_weights,
)
from padiff_rpc.model.model import LossSpec, OptimizerSpec, OptimizerState
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.numpy_framework.functions import log_softmax
from padiff_rpc.tensors.tensor import DType


def neutral_loss(spec: LossSpec, outputs: Sequence[Tensor]) -> Tensor:
    """Build a neutral loss over the floating outputs that are not empty.

    The loss is a float64 scalar, so that nothing is lost in the sum.

    Raises:
        PadiffError: UNKNOWN_NAME for a loss that is not neutral. BAD_CONFIG for an unknown option, without such an output,
            or where the target is missing or does not fit.
    """
    options = _options("loss", spec.name, spec.options, NEUTRAL_LOSSES)
    floating = [output.cast(DType.F64) for output in outputs if output.dtype.is_floating and output.data.size]
    if not floating:
        raise PadiffError(
            f"the loss {spec.name!r} needs a floating output, the model returned "
            f"{', '.join(output.dtype.value for output in outputs) or 'no tensor'}",
            reason=Reason.BAD_CONFIG,
            hint="compare the forward alone, or let the model return what a loss can be made of",
        )
    if spec.name == "mean":
        return _total([output.mean() for output in floating]) / len(floating)
    if spec.name == "sum":
        return _total([output.sum() for output in floating])
    if spec.name == "projection":
        return _projection(floating, int(options["seed"]))
    target = spec.targets.get("target")
    if target is None:
        raise PadiffError(f"the loss {spec.name!r} needs a target", reason=Reason.BAD_CONFIG, hint="name it 'target'")
    array = target.to_array()
    output = floating[0]
    if spec.name == "mse":
        if array.shape != output.shape or array.dtype.kind != "f":
            raise _bad_target(spec, f"floating, of shape {output.shape}", array)
        difference = output - Tensor(array.astype(np.float64))
        return (difference * difference).mean()
    return _cross_entropy(spec, output, array)


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _projection(outputs: Sequence[Tensor], seed: int) -> Tensor:
    terms, start = [], 0
    for output in outputs:
        stop = start + output.data.size
        terms.append((output * Tensor(projection_weights(start, stop, seed).reshape(output.shape))).sum())
        start = stop
    return _total(terms) / math.sqrt(start)


def _cross_entropy(spec: LossSpec, logits: Tensor, target: np.ndarray) -> Tensor:
    if target.shape != logits.shape[:-1] or target.dtype.kind not in "iu":
        raise _bad_target(spec, f"class indices of shape {logits.shape[:-1]}", target)
    classes = logits.shape[-1]
    counted = counted_positions(target, classes)
    rows = log_softmax(logits.reshape(-1, classes))
    return -rows[counted, target.reshape(-1)[counted]].mean()


def _bad_target(spec: LossSpec, wanted: str, got: np.ndarray) -> PadiffError:
    return PadiffError(
        f"the target of {spec.name!r} must be {wanted}; got {got.dtype} of shape {got.shape}",
        reason=Reason.BAD_CONFIG,
        hint="it belongs to the model's first floating output",
    )


def _options(
    what: str, name: str, given: Mapping[str, float], known: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    if name not in known:
        raise PadiffError(
            f"no {what} is called {name!r}", reason=Reason.UNKNOWN_NAME, hint=f"there are {', '.join(known)}"
        )
    unknown = sorted(set(given) - set(known[name]))
    if unknown:
        raise PadiffError(
            f"{name} takes no option {unknown[0]!r}",
            reason=Reason.BAD_CONFIG,
            hint=f"its options are {', '.join(known[name]) or 'none'}",
        )
    return {**known[name], **given}


class Optimizer:
    """SGD, Adam or AdamW over parameters, with the state that they keep from step to step.

    A parameter without a gradient is left alone. The formulas are those of torch.optim's documentation.

    Raises:
        PadiffError: UNKNOWN_NAME for an optimiser that is not neutral. BAD_CONFIG for an unknown option, or without a
            parameter.
    """

    def __init__(self, spec: OptimizerSpec, parameters: Sequence[Tensor]) -> None:
        self.options: dict[str, float] = _options("optimizer", spec.name, spec.options, NEUTRAL_OPTIMIZERS)
        if not parameters:
            raise PadiffError(
                f"{spec.name} has nothing to train: the model has no trainable parameter",
                reason=Reason.BAD_CONFIG,
                hint="leave the optimizer out",
            )
        self.name: str = spec.name
        self.parameters: Sequence[Tensor] = parameters
        self._moments: dict[int, list[np.ndarray]] = {}
        self._steps: dict[int, int] = {}

    def step(self) -> None:
        """Update every parameter that has a gradient, in place."""
        update = self._sgd if self.name == "SGD" else self._adam
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            value, gradient = parameter.data, parameter.grad.data
            decay = self.options["weight_decay"]
            if decay and self.name == "AdamW":
                value = value * (1 - self.options["lr"] * decay)
            elif decay:
                gradient = gradient + decay * value
            parameter.overwrite(update(index, value, gradient).astype(parameter.data.dtype))

    def state(self, parameter: Tensor, state: OptimizerState) -> Tensor | None:
        """Return a moment that is kept of a parameter; None where there is none."""
        names = ("momentum",) if self.name == "SGD" else ("moment1", "moment2")
        index = next((at for at, one in enumerate(self.parameters) if one is parameter), -1)
        if state not in names or index not in self._moments:
            return None
        return Tensor(self._moments[index][names.index(state)].astype(parameter.data.dtype), dtype=parameter.dtype)

    def _sgd(self, index: int, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        momentum = self.options["momentum"]
        if momentum:
            before = self._moments.get(index)
            gradient = momentum * before[0] + gradient if before else gradient
            self._moments[index] = [gradient]
        return value - self.options["lr"] * gradient

    def _adam(self, index: int, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        beta1, beta2 = self.options["beta1"], self.options["beta2"]
        first, second = self._moments.get(index) or (np.zeros_like(value), np.zeros_like(value))
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient * gradient
        self._moments[index] = [first, second]
        self._steps[index] = step = self._steps.get(index, 0) + 1
        scale = np.sqrt(second) / math.sqrt(1 - beta2**step) + self.options["eps"]
        return value - self.options["lr"] / (1 - beta1**step) * first / scale
