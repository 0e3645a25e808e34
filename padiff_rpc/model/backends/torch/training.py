"""Neutral losses and optimisers in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.neutral import KeptWeights, is_integer, target_of, unknown
from padiff_rpc.model.backends.torch.tensor import from_tensor
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
    floats = [out for out in outputs if out.is_floating_point() and out.numel() > 0]
    if not floats:
        raise PadiffError(
            f"the loss {wanted.name!r} needs a floating output, but the {len(outputs)} outputs hold no floating element",
            reason=Reason.BAD_CONFIG,
            hint="give a model whose forward returns at least one floating tensor",
        )
    floats = [out if out.dtype is torch.float64 else out.to(torch.float32) for out in floats]
    if wanted.name == "mean":
        return _total([out.mean() for out in floats]) / len(floats)
    if wanted.name == "sum":
        return _total([out.sum() for out in floats])
    if wanted.name == "mse":
        return _mse(floats[0], target_of(wanted))
    if wanted.name == "cross_entropy":
        return _cross_entropy(floats[0], target_of(wanted))
    return _projection(floats, int(wanted.options.get("seed", 0)), kept)


def backward(loss: Any) -> None:
    """Run backward.

    Raises:
        PadiffError: MODEL_FAILED where the loss depends on no trainable parameter.
    """
    if not loss.requires_grad:
        raise PadiffError(
            "the loss depends on no trainable parameter, so there is no gradient to compute",
            reason=Reason.MODEL_FAILED,
            hint="check that forward runs with gradients on, and that the model does not detach its outputs",
        )
    loss.backward()


def optimizer(wanted: OptimizerSpec, model: Any) -> Any:
    """Make a neutral optimiser of torch.optim over the model's trainable parameters.

    Raises:
        PadiffError: UNKNOWN_NAME for an optimiser that is not neutral. BAD_CONFIG for a model without trainable parameters.
    """
    if wanted.name not in NEUTRAL_OPTIMIZERS:
        raise unknown("optimizer", wanted.name, NEUTRAL_OPTIMIZERS)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise PadiffError(
            f"{type(model).__name__} has no trainable parameter for {wanted.name} to step",
            reason=Reason.BAD_CONFIG,
            hint="leave the optimizer out",
        )
    options = {**NEUTRAL_OPTIMIZERS[wanted.name], **wanted.options}
    lr, weight_decay = options["lr"], options["weight_decay"]
    # foreach=False: the plain formula, tensor by tensor, on every device alike.
    if wanted.name == "SGD":
        return torch.optim.SGD(
            trainable,
            lr=lr,
            momentum=options["momentum"],
            weight_decay=weight_decay,
            dampening=0.0,
            nesterov=False,
            foreach=False,
        )
    kind = torch.optim.Adam if wanted.name == "Adam" else torch.optim.AdamW
    return kind(
        trainable,
        lr=lr,
        betas=(options["beta1"], options["beta2"]),
        eps=options["eps"],
        weight_decay=weight_decay,
        amsgrad=False,
        foreach=False,
    )


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
    return (output - from_tensor(target).to(device=output.device, dtype=output.dtype)).square().mean()


def _cross_entropy(output: Any, target: Tensor) -> Any:
    if output.dim() == 0 or target.spec.shape != tuple(output.shape[:-1]) or not is_integer(target):
        raise PadiffError(
            f"the cross_entropy target is {target.spec}, the first floating output has shape {list(output.shape)}",
            reason=Reason.BAD_CONFIG,
            hint="give integer class indices of the output's shape without its last axis, which runs over the classes",
        )
    classes, indices = output.shape[-1], target.to_array()
    rows, wanted = output.reshape(-1, classes), indices.astype(np.int64).reshape(-1)
    counted = counted_positions(wanted, classes)
    if counted.size < wanted.size:
        rows = rows[torch.from_numpy(counted).to(output.device)]
    return torch.nn.functional.cross_entropy(rows, torch.from_numpy(wanted[counted]).to(output.device))


def _projection(outputs: Sequence[Any], seed: int, kept: KeptWeights) -> Any:
    terms, start, weights = [], 0, kept.begin()
    for out in outputs:
        key = seed, start, out.shape, out.dtype, out.device
        terms.append((out * weights(key, out.nbytes, partial(_weights, out, start, seed))).sum())
        start += out.numel()
    return _total(terms) / math.sqrt(start)


def _weights(out: Any, start: int, seed: int) -> Any:
    dtype = np.float64 if out.dtype is torch.float64 else np.float32
    weights = projection_weights(start, start + out.numel(), seed, dtype)
    return torch.from_numpy(weights).to(out.device).reshape(out.shape)
