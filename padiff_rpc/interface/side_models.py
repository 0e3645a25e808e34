"""Turn the arguments of auto_diff and assign_weight into models with their lists, losses and optimisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.proxy import ProxyModel
from padiff_rpc.interface.proxy_host import is_model
from padiff_rpc.interface.switches import skip_wrap_layers
from padiff_rpc.match.scope import wrap_layers
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_loss, parse_optimizer
from padiff_rpc.model.model import LossSpec, Model, OptimizerSpec
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.per_side import PerSide
from padiff_rpc.tape.recorded_model import RecordedModel

_LOSS, _OPTIMIZER = "loss_fn", "optimizer_fn"


@dataclass(frozen=True)
class SideModel:
    """One side of a comparison.

    Attributes:
        model: the model.
        name: the model's name in messages and log files.
        selection: the layers that its lists keep.
        layer_map: the routes in its layer map, in order.
        loss: the loss over its outputs.
        optimizer: its optimiser; None if no step is taken.
    """

    model: Model
    name: str
    selection: Selection
    layer_map: tuple[str, ...]
    loss: LossSpec
    optimizer: OptimizerSpec | None


def side_of(given: Any, side: str, loss: Any = None, optimizer: Any = None) -> SideModel:
    """Return one side of a comparison, made of the user's arguments.

    Args:
        given: a proxy, with its lists; a torch.nn.Module or paddle.nn.Layer; or any Model of this library. A dump has the lists
            that it was made with.
        side: "base" or "raw", for messages.
        loss: a function of the model's output or, if the model lives in another process, a name or LossSpec; None for the mean.
        optimizer: an object with step(), a function without arguments, a name such as "SGD(lr=0.1)", an OptimizerSpec or None. If
            the model lives in another process, it is given by name or OptimizerSpec.

    Raises:
        PadiffError: BAD_CONFIG if `given` is no model, or for a loss or an optimiser that it cannot have.
    """
    selection, layer_map = EVERYTHING, ()
    name = ""
    if isinstance(given, ProxyModel):
        selection, layer_map, name = given.selection(), given.layer_map, given.name
        given = given.model
    if isinstance(given, RecordedModel):
        selection, layer_map, name = given.selection, given.layer_map, given.name
    model: Model
    if not is_model(given):
        losses = {_LOSS: loss} if callable(loss) else {}
        optimizers = {_OPTIMIZER: _stepping(optimizer)} if _is_own_optimizer(optimizer) else {}
        model = HostedModel(given, losses=losses, optimizers=optimizers)
        loss = _LOSS if losses else loss
        optimizer = _OPTIMIZER if optimizers else optimizer
    else:
        model = given
    if not name:
        description = model.describe()
        name = f"{description.class_name}({side}_model)"
        if skip_wrap_layers():
            selection = wrap_layers(description)
    return SideModel(model, name, selection, layer_map, _loss(loss), _optimizer(optimizer))


def map_between(base: SideModel, raw: SideModel) -> Mapping[str, str]:
    """Return raw's route by base's route, from the layer maps of both sides in their order.

    Raises:
        PadiffError: BAD_CONFIG if their lengths differ.
    """
    if len(base.layer_map) != len(raw.layer_map):
        raise PadiffError(
            f"base's layer map has {len(base.layer_map)} layers, raw's {len(raw.layer_map)}: they correspond in order",
            reason=Reason.BAD_CONFIG,
            hint=f"base maps {', '.join(base.layer_map) or 'none'}; raw maps {', '.join(raw.layer_map) or 'none'}",
        )
    return dict(zip(base.layer_map, raw.layer_map, strict=True))


def pair_of(values: Any, name: str) -> PerSide[Any]:
    """Return base's and raw's value from a list or tuple of two.

    Args:
        values: the user's argument.
        name: its name, for messages.

    Raises:
        PadiffError: BAD_CONFIG if it is no list or tuple, or has another length.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        count = f" of {len(values)}" if isinstance(values, (Sequence, Mapping)) else ""
        raise PadiffError(
            f"{name} is a pair (base's, raw's), got {type(values).__name__}{count}",
            reason=Reason.BAD_CONFIG,
            hint=f"give one for each side: {name}=[base's, raw's]",
        )
    return PerSide(values[0], values[1])


def _loss(value: Any) -> LossSpec:
    if value is None:
        return parse_loss("mean")  # PaDiff's: the mean over the outputs
    if isinstance(value, LossSpec):
        return value
    if isinstance(value, str):
        return parse_loss(value)
    if not callable(value):
        raise PadiffError(
            f"a loss is a function of the model's output, or a name, got {value!r}", reason=Reason.BAD_CONFIG
        )
    raise PadiffError(
        f"the loss of a model in another process is given by name, got {value!r}",
        reason=Reason.BAD_CONFIG,
        hint="offer your function where the worker starts, launch(..., losses={NAME: 'file.py:function'}), and pass NAME",
    )


def _optimizer(value: Any) -> OptimizerSpec | None:
    if value is None or isinstance(value, OptimizerSpec):
        return value
    if isinstance(value, str):
        return parse_optimizer(value)
    if not _is_own_optimizer(value):
        raise PadiffError(
            f"an optimiser has step(), or is a function without arguments, or a name such as 'SGD(lr=0.1)', got {value!r}",
            reason=Reason.BAD_CONFIG,
        )
    raise PadiffError(
        f"the optimiser of a model in another process is given by name, got {value!r}",
        reason=Reason.BAD_CONFIG,
        hint="write for example 'Adam(lr=1e-3)', or offer your own where the worker starts and pass its name",
    )


def _is_own_optimizer(value: Any) -> bool:
    return hasattr(value, "step") or callable(value)


class _Stepping:
    """Has the step() that a Trainer calls: an optimiser's own, or a function without arguments."""

    def __init__(self, step: Callable[[], Any]) -> None:
        self.step = step


def _stepping(optimizer: Any) -> Callable[[Any], Any]:
    # Gradients are cleared before each backward, so that a framework's optimiser need not do it after its step.
    stepping = _Stepping(optimizer.step if hasattr(optimizer, "step") else optimizer)
    return lambda model: stepping
