"""What is known of the first difference of a run: the tensors of both sides, and the facts about their layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Failure, Stage


@dataclass(frozen=True)
class SeenLayer:
    """A layer of one side.

    Attributes:
        route: is its route.
        class_name: is its class.
        hyperparameters: are its hyper-parameters, under the names of its framework.
        framework: is the framework that it belongs to.
        version: is that framework's version.
        training: tells in which mode it ran.
    """

    route: str
    class_name: str
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    framework: str = ""
    version: str = ""
    training: bool = False


@dataclass(frozen=True)
class SeenOptimizer:
    """An optimiser of one side: its name and those of its options that are known."""

    name: str
    options: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenStep:
    """What an optimiser's step made of one parameter.

    Attributes:
        name: is the parameter's, in base.
        moves: is what the step changed on both sides.
        gradient: is base's gradient.
        before: is the value before the step, which was one for both sides.
    """

    name: str
    moves: PerSide[np.ndarray]
    gradient: np.ndarray
    before: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """All that the rules may look at. Arrays are float64, complex ones aside; those of base and raw are in one layout.

    Attributes:
        stage: names the part of the step in which the difference shows.
        step: counts the steps from 0.
        tensor: names the tensor that differs, as its comparison does.
        layers: are the layer at fault on both sides.
        failure: is the kind of the difference.
        why: is the reason that the comparison gave.
        enclosing: are the layers around it on both sides, the innermost first, whose configuration it may follow.
        inside: are the layers directly inside it on both sides, in base's order.
        before_it: are the calls of layers directly inside that came before the tensor on both sides, by base's names.
        dtypes: are the tensor's element types, under their names in safetensors.
        base: is base's tensor; None where it is not at hand, and then no rule may speak of numbers.
        raw: is raw's tensor.
        sources: are the tensors of base that the layer made it from, by name: what it took, then what the layers inside it
            returned, in their order. In the backward these are gradients.
        raw_sources: are raw's, as far as they are at hand.
        parameters: are base's own parameters and buffers of the layer, by the names in the layer.
        ids: are integer tensors that the layer, or the model, took: indices, masks, labels.
        before: is the parameter's or buffer's value before the step, which was one for both sides.
        gradient: is the parameter's gradient in base.
        steps: tell what the optimisers' step changed in parameters, that of the tensor first.
        tied: are all names of the parameter that differs on either side: more than one where it is tied.
        output: is the model's output that a loss takes.
        of_output: are the gradients of both losses with respect to it.
        optimizers: are the optimisers of both sides.
        shares_draw: tells that the layer is a dropout, and that raw's took what base's drew, or would have at a like rate.
    """

    stage: Stage
    step: int
    tensor: str
    layers: PerSide[SeenLayer]
    failure: Failure = "values"
    why: str = ""
    enclosing: tuple[PerSide[SeenLayer], ...] = ()
    inside: tuple[PerSide[SeenLayer], ...] = ()
    before_it: PerSide[tuple[str, ...]] = field(default_factory=lambda: PerSide((), ()))
    dtypes: PerSide[str] = field(default_factory=lambda: PerSide("", ""))
    base: np.ndarray | None = None
    raw: np.ndarray | None = None
    sources: Mapping[str, np.ndarray] = field(default_factory=dict)
    raw_sources: Mapping[str, np.ndarray] = field(default_factory=dict)
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)
    ids: Mapping[str, np.ndarray] = field(default_factory=dict)
    before: np.ndarray | None = None
    gradient: np.ndarray | None = None
    steps: Sequence[SeenStep] = ()
    tied: PerSide[tuple[str, ...]] = field(default_factory=lambda: PerSide((), ()))
    output: np.ndarray | None = None
    of_output: PerSide[np.ndarray] | None = None
    optimizers: PerSide[SeenOptimizer | None] = field(default_factory=lambda: PerSide(None, None))
    shares_draw: bool = False

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Both tensors, where they are at hand, of one shape, real, finite, not empty and not equal; None otherwise."""
        base, raw = self.base, self.raw
        if base is None or raw is None or base.shape != raw.shape or not base.size:
            return None
        if base.dtype.kind != "f" or raw.dtype.kind != "f":
            return None
        comparable = np.isfinite(base).all() and np.isfinite(raw).all() and not np.array_equal(base, raw)
        return (base, raw) if comparable else None

    @property
    def moves(self) -> tuple[np.ndarray, np.ndarray] | None:
        """By how much the step moved the tensor on each side; None unless its value before the step is known."""
        pair = self.pair
        if pair is None or self.before is None or self.before.shape != pair[0].shape:
            return None
        return pair[0] - self.before, pair[1] - self.before
