"""Neutral losses and optimisers in paddle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.neutral import KeptWeights, is_integer, target_of, unknown
from padiff_rpc.model.backends.paddle.import_paddle import paddle
from padiff_rpc.model.backends.paddle.tensor import from_tensor
from padiff_rpc.model.losses_and_optimizers import (
    NEUTRAL_LOSSES,
    NEUTRAL_OPTIMIZERS,
    counted_positions,
    projection_weights,
)
from padiff_rpc.model.model import LossSpec, OptimizerSpec
from padiff_rpc.tensors.tensor import Tensor


def loss(wanted: LossSpec, outputs: Sequence[Any], kept: KeptWeights) -> Any:
    """Build a neutral loss, a scalar tensor, over the floating outputs that are not empty.

    Outputs of half types are converted to float32 first.

    Raises:
        PadiffError: UNKNOWN_NAME for a loss that is not neutral. BAD_CONFIG without such an output, or where the target is
            missing or does not fit.
    """
    if wanted.name not in NEUTRAL_LOSSES:
        raise unknown("loss", wanted.name, NEUTRAL_LOSSES)
    floats = [out for out in outputs if out.is_floating_point() and 0 not in out.shape]
    if not floats:
        raise PadiffError(
            f"the loss {wanted.name!r} needs a floating output, but the {len(outputs)} outputs hold no floating element",
            reason=Reason.BAD_CONFIG,
            hint="give a model whose forward returns at least one floating tensor",
        )
    floats = [out if out.dtype == paddle.float64 else out.astype("float32") for out in floats]
    if wanted.name == "mean":
        # Not mean(): on a CPU its float32 error grows with the size (3e-6 for 3 million elements, sum's is 1e-7).
        return _total([out.sum() / math.prod(out.shape) for out in floats]) / len(floats)
    if wanted.name == "sum":
        return _total([out.sum() for out in floats])
    if wanted.name == "mse":
        return _mse(floats[0], target_of(wanted))
    if wanted.name == "cross_entropy":
        return _cross_entropy(floats[0], target_of(wanted))
    return _projection(floats, int(wanted.options.get("seed", 0)), kept)


def optimizer(wanted: OptimizerSpec, model: Any) -> Any:
    """Make a neutral optimiser of paddle.optimizer over the model's trainable parameters.

    Adam's epsilon stands where torch has it: paddle's eps * sqrt(1 - beta2^t) beside sqrt(v) is the same formula. Rounding
    differs: Momentum and AdamW take their coefficients in float32 also for float64 parameters (4e-8 of the step), and
    for float32 parameters Adam computes 1 - beta2 in float32 (1e-5 of the step at beta2 = 0.999). A learning rate factor or a
    regularizer that a parameter carries itself (ParamAttr) goes beyond the neutral options, and stays in force.

    Raises:
        PadiffError: UNKNOWN_NAME for an optimiser that is not neutral. BAD_CONFIG for a model without trainable parameters.
    """
    if wanted.name not in NEUTRAL_OPTIMIZERS:
        raise unknown("optimizer", wanted.name, NEUTRAL_OPTIMIZERS)
    trainable = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    if not trainable:
        raise PadiffError(
            f"{type(model).__name__} has no trainable parameter for {wanted.name} to step",
            reason=Reason.BAD_CONFIG,
            hint="leave the optimizer out",
        )
    options = {**NEUTRAL_OPTIMIZERS[wanted.name], **wanted.options}
    common = {
        "learning_rate": options["lr"],
        "parameters": trainable,
        # A number is L2 regularisation, added to the gradient; for AdamW the decoupled decay, which takes no None.
        "weight_decay": options["weight_decay"] if wanted.name == "AdamW" else options["weight_decay"] or None,
        "grad_clip": None,
        "multi_precision": False,
    }
    if wanted.name == "SGD":
        if options["momentum"] == 0.0:
            return paddle.optimizer.SGD(**common)
        return paddle.optimizer.Momentum(momentum=options["momentum"], use_nesterov=False, **common)
    kind = paddle.optimizer.Adam if wanted.name == "Adam" else paddle.optimizer.AdamW
    return kind(beta1=options["beta1"], beta2=options["beta2"], epsilon=options["eps"], lazy_mode=False, **common)


def _total(terms: Sequence[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _mse(output: Any, target: Tensor) -> Any:
    if target.spec.shape != tuple(output.shape) or not target.spec.dtype.is_floating:
        raise PadiffError(
            f"the mse target is {target.spec}, the first floating output has shape {list(output.shape)}",
            reason=Reason.BAD_CONFIG,
            hint="give a floating target of the output's shape",
        )
    error = output - from_tensor(target, output.place).astype(output.dtype)
    return error.square().sum() / target.spec.count


def _cross_entropy(output: Any, target: Tensor) -> Any:
    if output.ndim == 0 or target.spec.shape != tuple(output.shape[:-1]) or not is_integer(target):
        raise PadiffError(
            f"the cross_entropy target is {target.spec}, the first floating output has shape {list(output.shape)}",
            reason=Reason.BAD_CONFIG,
            hint="give integer class indices of the output's shape without its last axis, which runs over the classes",
        )
    classes, indices = output.shape[-1], target.to_array()
    rows, wanted = output.reshape([-1, classes]), indices.astype(np.int64).reshape(-1)
    counted = counted_positions(wanted, classes)
    if counted.size < wanted.size:
        rows = paddle.gather(rows, paddle.to_tensor(counted, place=output.place))
    return paddle.nn.functional.cross_entropy(rows, paddle.to_tensor(wanted[counted], place=output.place))


def _projection(outputs: Sequence[Any], seed: int, kept: KeptWeights) -> Any:
    terms, start, weights = [], 0, kept.begin()
    for out in outputs:
        key = seed, start, tuple(out.shape), out.dtype, str(out.place)
        terms.append((out * weights(key, 8 * math.prod(out.shape), partial(_weights, out, start, seed))).sum())
        start += math.prod(out.shape)
    return _total(terms) / math.sqrt(start)


def _weights(out: Any, start: int, seed: int) -> Any:
    dtype = np.float64 if out.dtype == paddle.float64 else np.float32
    weights = projection_weights(start, start + math.prod(out.shape), seed, dtype)
    return paddle.to_tensor(weights.reshape(out.shape), place=out.place)
