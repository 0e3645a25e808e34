"""Look into paddle's optimisers: their hyper-parameters and what they keep, by the names that the frameworks share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from padiff_rpc.model.backends.paddle.import_paddle import paddle
from padiff_rpc.model.model import OptimizerState, OptionValue

_OPTIONS: Mapping[str, str] = {
    "_beta1": "beta1",
    "_beta2": "beta2",
    "_epsilon": "eps",
    "_momentum": "momentum",
    "_use_nesterov": "nesterov",
    "_amsgrad": "amsgrad",
    "_rho": "rho",
    "_centered": "centered",
}
_FORMULAS: Mapping[str, str] = {"Momentum": "SGD", "RMSProp": "RMSprop"}
"""Classes that torch calls otherwise."""
_STATES: Mapping[str, Mapping[OptimizerState, str]] = {
    "Momentum": {"momentum": "velocity"},
    "Adam": {"moment1": "moment1", "moment2": "moment2"},
    "AdamW": {"moment1": "moment1", "moment2": "moment2"},
    "Adamax": {"moment1": "moment", "moment2": "inf_norm"},
    "RMSProp": {"moment2": "mean_square"},
    "Adagrad": {"moment2": "moment"},
    "Adadelta": {"moment2": "_avg_squared_grad"},
}


def is_optimizer(value: object) -> bool:
    """Return True for an optimiser of paddle.optimizer, or of a class that is derived from one."""
    return isinstance(value, paddle.optimizer.Optimizer)


def options_of(optimizer: Any) -> Iterator[tuple[Any, str, dict[str, OptionValue]]]:
    """Yield each parameter of an optimiser with its formula and hyper-parameters.

    A parameter's own factor of the learning rate, and its own regularizer, count as they do in the step.
    """
    kind = type(optimizer).__name__
    options = {
        ours: _plain(getattr(optimizer, theirs)) for theirs, ours in _OPTIONS.items() if hasattr(optimizer, theirs)
    }
    clip = getattr(optimizer, "_grad_clip", None)
    if clip is not None:
        options["grad_clip"] = f"{type(clip).__name__}({getattr(clip, 'clip_norm', getattr(clip, 'max', ''))})"
    if kind == "SGD":
        options["momentum"] = 0.0
    for group, parameter in _parameters(optimizer):
        own = getattr(parameter, "optimize_attr", None) or {}
        factor = own.get("learning_rate", 1.0)
        found = dict(options)
        if isinstance(factor, (int, float)):
            found["lr"] = optimizer.get_lr() * float(factor)  # a group's own factor is in it
        found["weight_decay"] = _decay(optimizer, kind, group, parameter)
        yield parameter, _FORMULAS.get(kind, kind), found


def state_of(optimizer: Any, parameter: Any, state: OptimizerState) -> Any:
    """Return what an optimiser keeps of a parameter's gradients; None where it keeps no such tensor."""
    name = _STATES.get(type(optimizer).__name__, {}).get(state)
    return None if name is None else optimizer._accumulators.get(name, {}).get(parameter.name)


def _parameters(optimizer: Any) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Yield each parameter with its group; the group is empty where the optimiser was given a plain list."""
    for one in optimizer._param_groups or ():
        if isinstance(one, dict):
            yield from ((one, parameter) for parameter in one["params"])
        else:
            yield {}, one


def _decay(optimizer: Any, kind: str, group: Mapping[str, Any], parameter: Any) -> OptionValue:
    if kind == "AdamW":
        asked = optimizer._apply_decay_param_fun
        if asked is not None and not asked(parameter.name):
            return 0.0
        return _plain(group.get("weight_decay", optimizer._weight_decay))
    penalty = getattr(parameter, "regularizer", None)
    if penalty is None:
        penalty = group.get("weight_decay", getattr(optimizer, "regularization", None))
    if penalty is None:
        return _plain(getattr(optimizer, "_regularization_coeff", 0.0))  # Momentum takes L2 into its own kernel
    if isinstance(penalty, (int, float)):
        return float(penalty)
    coefficient = getattr(penalty, "_coeff", getattr(penalty, "_regularization_coeff", 0.0))
    return _plain(coefficient) if "L2" in type(penalty).__name__ else f"{type(penalty).__name__}({coefficient:g})"


def _plain(value: Any) -> OptionValue:
    return value if isinstance(value, (bool, str)) else float(value)
