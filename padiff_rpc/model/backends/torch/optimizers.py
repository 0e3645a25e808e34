"""Look into torch's optimisers: their hyper-parameters and what they keep, by the names that the frameworks share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from padiff_rpc.model.model import OptimizerState, OptionValue

_OPTIONS: Mapping[str, str] = {
    "lr": "lr",
    "eps": "eps",
    "weight_decay": "weight_decay",
    "momentum": "momentum",
    "dampening": "dampening",
    "nesterov": "nesterov",
    "amsgrad": "amsgrad",
    "alpha": "rho",
    "rho": "rho",
    "centered": "centered",
    "maximize": "maximize",
}
_STATES: Mapping[str, Mapping[OptimizerState, str]] = {
    "SGD": {"momentum": "momentum_buffer"},
    "Adam": {"moment1": "exp_avg", "moment2": "exp_avg_sq"},
    "AdamW": {"moment1": "exp_avg", "moment2": "exp_avg_sq"},
    "NAdam": {"moment1": "exp_avg", "moment2": "exp_avg_sq"},
    "Adamax": {"moment1": "exp_avg", "moment2": "exp_inf"},
    "RMSprop": {"moment2": "square_avg"},
    "Adagrad": {"moment2": "sum"},
    "Adadelta": {"moment2": "square_avg"},
}


def is_optimizer(value: object) -> bool:
    """Return True for an optimiser of torch.optim, or of a class that is derived from one."""
    return isinstance(value, torch.optim.Optimizer)


def options_of(optimizer: Any) -> Iterator[tuple[Any, str, dict[str, OptionValue]]]:
    """Yield each parameter of an optimiser with its formula and hyper-parameters."""
    for group in optimizer.param_groups:
        algorithm = type(optimizer).__name__
        if algorithm == "Adam" and group.get("decoupled_weight_decay"):
            algorithm = "AdamW"
        options = {ours: _plain(group[theirs]) for theirs, ours in _OPTIONS.items() if theirs in group}
        if "betas" in group:
            options["beta1"], options["beta2"] = map(_plain, group["betas"])
        for parameter in group["params"]:
            yield parameter, algorithm, dict(options)


def state_of(optimizer: Any, parameter: Any, state: OptimizerState) -> Any:
    """Return what an optimiser keeps of a parameter's gradients; None where it keeps no such tensor."""
    name = _STATES.get(type(optimizer).__name__, {}).get(state)
    held = None if name is None else optimizer.state.get(parameter, {}).get(name)
    return held if isinstance(held, torch.Tensor) else None


def _plain(value: Any) -> OptionValue:
    return value if isinstance(value, (bool, str)) else float(value)
