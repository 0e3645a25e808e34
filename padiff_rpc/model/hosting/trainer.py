"""Losses and optimisers of a hosted model: the neutral ones, and those that its process offers by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model import nested
from padiff_rpc.model.backends.backend import Backend, NativeTensor
from padiff_rpc.model.hosting.find_optimizers import find_optimizers
from padiff_rpc.model.hosting.user_errors import user_error
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_LOSSES, NEUTRAL_OPTIMIZERS
from padiff_rpc.model.model import LossSpec, OptimizerSpec, OptimizerState, OptionValue


class Trainer:
    """Compute losses and step optimisers for one model. It keeps each optimiser, with its state, under its spec.

    Raises:
        PadiffError: BAD_CONFIG where an offered loss or optimiser has the name of a neutral one.
    """

    def __init__(
        self,
        backend: Backend,
        model: Any,
        losses: Mapping[str, Callable[[Any], Any]],
        optimizers: Mapping[str, Callable[[Any], Any]],
    ) -> None:
        _refuse_neutral_names("loss", losses, NEUTRAL_LOSSES)
        _refuse_neutral_names("optimizer", optimizers, NEUTRAL_OPTIMIZERS)
        self._backend = backend
        self._model = model
        self._losses = dict(losses)
        self._optimizers = dict(optimizers)
        self._made: dict[tuple[str, tuple[tuple[str, float], ...]], Any] = {}
        self._stepped: Any = None
        self._found: dict[int, list[Any]] = {}  # the framework's own optimisers in each that was made

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The names of the losses that are offered beside the neutral ones."""
        return tuple(self._losses)

    @property
    def optimizer_names(self) -> tuple[str, ...]:
        """The names of the optimisers that are offered beside the neutral ones."""
        return tuple(self._optimizers)

    def loss(self, spec: LossSpec, outputs: Any) -> NativeTensor:
        """Compute a scalar loss of the value that the model returned.

        Raises:
            PadiffError: UNKNOWN_NAME for an unknown loss or output. BAD_CONFIG where these outputs cannot have this loss, or
                where it is no scalar. MODEL_FAILED where an offered loss raised.
        """
        offered = self._losses.get(spec.name)
        if offered is None:
            _check_known("loss", spec.name, NEUTRAL_LOSSES, self._losses)
            tensors = _selected(spec, dict(nested.flatten(outputs, self._backend.is_tensor)))
            floating = [tensor for tensor in tensors if self._backend.spec(tensor).dtype.is_floating]
            return self._backend.loss(spec, floating)
        _refuse_options("loss", spec.name, {**spec.options, **spec.targets})
        try:
            value = offered(outputs)
        except Exception as err:
            what = f"the loss {spec.name!r} raised"
            raise user_error(what, err, self._backend.name, Reason.MODEL_FAILED) from err
        if not self._backend.is_tensor(value) or self._backend.spec(value).count != 1:
            got = self._backend.spec(value) if self._backend.is_tensor(value) else type(value).__qualname__
            raise PadiffError(f"the loss {spec.name!r} returned {got}, not a scalar tensor", reason=Reason.BAD_CONFIG)
        return value

    def step(self, spec: OptimizerSpec) -> None:
        """Apply one step of the optimiser of this spec, which is made at its first step.

        Raises:
            PadiffError: UNKNOWN_NAME for an unknown optimiser. BAD_CONFIG for a model without trainable parameters, or for
                options of an offered optimiser. MODEL_FAILED where an offered optimiser raised.
        """
        optimizer = self._stepped = self._optimizer(spec)
        if spec.name not in self._optimizers:
            self._backend.step(optimizer)
            return
        with self._named_errors(spec):
            optimizer.step()

    def options(self, spec: OptimizerSpec) -> Iterator[tuple[NativeTensor, str, dict[str, OptionValue]]]:
        """Yield each parameter that the optimiser of this spec steps, with its formula and hyper-parameters.

        Only the framework's own optimisers tell them, be they the one that was made or inside of it. Raises as step() does.
        """
        for native in self._natives(self._optimizer(spec)):
            yield from self._backend.options_of(native)

    def state(self, parameter: NativeTensor, state: OptimizerState) -> NativeTensor | None:
        """Return what the optimiser that was stepped last keeps of a parameter; None where it keeps no such tensor."""
        for native in self._natives(self._stepped):
            held = self._backend.state_of(native, parameter, state)
            if held is not None:
                return held
        return None

    def _optimizer(self, spec: OptimizerSpec) -> Any:
        """Return the optimiser of this spec, which is made where there is none yet."""
        key = (spec.name, tuple(sorted(spec.options.items())))
        offered = self._optimizers.get(spec.name)
        if offered is None:
            _check_known("optimizer", spec.name, NEUTRAL_OPTIMIZERS, self._optimizers)
            if key not in self._made:
                self._made[key] = self._backend.optimizer(spec, self._model)
            return self._made[key]
        _refuse_options("optimizer", spec.name, spec.options)
        if key not in self._made:
            with self._named_errors(spec):
                self._made[key] = offered(self._model)
        return self._made[key]

    def _natives(self, made: Any) -> list[Any]:
        if id(made) not in self._found:
            backend = self._backend
            other = lambda value: backend.is_model(value) or backend.is_tensor(value)  # noqa: E731
            found = find_optimizers(made, backend.is_optimizer, other)
            if not found:
                return []  # it may make one in its first step
            self._found[id(made)] = found
        return self._found[id(made)]

    @contextmanager
    def _named_errors(self, spec: OptimizerSpec) -> Iterator[None]:
        try:
            yield
        except Exception as err:
            what = f"the optimizer {spec.name!r} raised"
            raise user_error(what, err, self._backend.name, Reason.MODEL_FAILED) from err

    def reset(self) -> None:
        """Forget every optimiser, with its state."""
        self._made.clear()
        self._found.clear()
        self._stepped = None


def _selected(spec: LossSpec, outputs: dict[str, NativeTensor]) -> list[NativeTensor]:
    for name in spec.outputs:
        if name not in outputs:
            raise PadiffError(
                f"the loss {spec.name!r} is to take the output {name!r}, which the model does not return",
                reason=Reason.UNKNOWN_NAME,
                hint=f"it returns {', '.join(outputs) or 'no tensor'}",
            )
    return [outputs[name] for name in spec.outputs or outputs]


def _check_known(what: str, name: str, neutral: Mapping[str, Any], offered: Mapping[str, Any]) -> None:
    if name in neutral:
        return
    known = [*neutral, *offered]
    nearest = difflib.get_close_matches(name, known, n=1)
    raise PadiffError(
        f"no {what} {name!r}",
        reason=Reason.UNKNOWN_NAME,
        hint=(f"did you mean {nearest[0]!r}? " if nearest else "") + f"there are {', '.join(known)}",
    )


def _refuse_neutral_names(what: str, offered: Mapping[str, Any], neutral: Mapping[str, Any]) -> None:
    for name in offered:
        if name in neutral:
            raise PadiffError(
                f"the {what} {name!r} has the name of a neutral one",
                reason=Reason.BAD_CONFIG,
                hint=f"rename it; {', '.join(neutral)} are taken",
            )


def _refuse_options(what: str, name: str, options: Mapping[str, Any]) -> None:
    if options:
        raise PadiffError(
            f"the {what} {name!r} is the worker's own and takes no options: {', '.join(options)}",
            reason=Reason.BAD_CONFIG,
        )
