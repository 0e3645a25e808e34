"""Stop a phase at the first divergence, once it is certain that a full run would name the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from padiff_rpc.align.run.judged_boundary import BoundaryPlace, Judged
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_LOSSES
from padiff_rpc.model.model import Boundary, LayerCall, Model, Observer, Phase, Releasing
from padiff_rpc.per_side import SideName
from padiff_rpc.result import STAGES, Stage
from padiff_rpc.tensors.tensor import Tensor


@dataclass(frozen=True)
class StoppedAt:
    """Where an alignment ended. midway: while the models ran that stage, not after it."""

    step: int
    stage: Stage
    midway: bool

    def words(self, settings: AlignSettings) -> str:
        """Say what was therefore not compared."""
        named = {
            "weights_before": "parameters",
            "grads": "gradients of parameters",
            "weights": "parameters after the step",
        }
        left_out: set[Stage] = {"loss"}
        if settings.diff_phase == "forward":
            left_out |= {"backward", "grads"}
        if settings.base_optimizer is None:
            left_out.add("weights")
        stages = [stage for stage in STAGES if stage not in left_out]
        here = self.stage
        rest: list[str] = [f"the rest of the {here}"] if self.midway or here == "weights_before" else []
        rest += [named.get(stage, stage) for stage in stages[stages.index(here) + 1 :]]
        if self.step + 1 < settings.steps:
            rest.append(f"{settings.steps - self.step - 1} more step{'s' if settings.steps - self.step > 2 else ''}")
        tail = f"; not compared: {', '.join(rest)}" if rest else ""
        return f"stopped at the first divergence, in stage {here} of step {self.step}, as asked (fail_fast){tail}"


class StopSide(Exception):
    """Ends a running model: raised by its observer, at the next boundary. It never leaves this package."""


class PhaseStopped(Exception):
    """A phase was stopped. judged: up to and with the first failing boundary, in base's order; leftovers: what one side alone
    has called before it. What comes after it is not known, and so not told."""

    def __init__(self, phase: Phase, judged: list[Judged], leftovers: dict[SideName, list[Boundary]]) -> None:
        self.phase: Phase = phase
        self.judged = judged
        self.leftovers = leftovers


class PhaseStop:
    """Follows one phase, and decides when it has shown the first divergence.

    Boundaries are judged as they arrive, and the first failing one to arrive need not be the first in base's order, by which
    blame goes. So the phase goes on until nothing before the first failing boundary can still be judged: all of it found its
    partner, or (in the forward) lies inside a call that both sides have left, and so was called by one side alone. Where that
    never comes about, the phase runs to its end.
    counts: whether a failing boundary may be what names the divergence; where one fails that may not be, the phase runs to its
    end. None: never stop. known: by side, the calls that both sides made in the forward: only their gradients count in the
    backward. None: this is the forward.
    """

    def __init__(
        self, counts: Callable[[Judged], bool] | None, known: Mapping[SideName, Collection[LayerCall]] | None = None
    ) -> None:
        self.stopped: bool = False
        self._counts = counts
        self._known = known
        self._lock = threading.Lock()
        self._ending = False
        self._in_doubt = False
        self._first: Judged | None = None
        self._judged: list[Judged] = []
        self._open: dict[SideName, dict[int, Boundary]] = {"base": {}, "raw": {}}
        self._callers: dict[SideName, dict[LayerCall, LayerCall | None]] = {"base": {}, "raw": {}}
        self._left: dict[SideName, set[LayerCall]] = {"base": set(), "raw": set()}

    def watch(self, side: SideName, observer: Observer) -> Observer:
        """Let an observer's model end when the phase is stopped or abandoned."""
        return _Watching(self, side, observer)

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """End the models at their next boundary where the block fails, rather than let them run for nothing."""
        try:
            yield
        except BaseException:
            self._ending = True
            raise

    def check(self) -> None:
        if self._ending:
            raise StopSide

    def arrived(self, side: SideName, boundary: Boundary) -> None:
        """Note a boundary, before it is paired; called in each side's thread, in its order."""
        self.check()
        if self._counts is None:
            return
        with self._lock:
            self._open[side][boundary.seq] = boundary
            self._callers[side].setdefault((boundary.route, boundary.call), boundary.caller)

    def judged(self, one: Judged) -> None:
        """Take a verdict, and stop both sides where it settles which divergence is the first."""
        if self._counts is None:
            return
        with self._lock:
            self._judged.append(one)
            for side, boundary in _sides(one):
                self._open[side].pop(boundary.seq, None)
                if boundary.side == "output" and not boundary.api:
                    self._left[side].add((boundary.route, boundary.call))
            if one.failed is not None and not one.base.api:
                self._in_doubt = self._in_doubt or not self._counts(one)
                if self._first is None or one.base.seq < self._first.base.seq:
                    self._first = one
            if self._first is not None and not self._in_doubt and not self._preceding(self._first):
                self.stopped = self._ending = True

    def raise_if_stopped(self, *sides: Future[Any]) -> None:
        """Raise PhaseStopped with what was judged up to the first divergence; what else ended a side comes first."""
        first = self._first
        if not self.stopped or first is None:
            return
        for error in (side.exception() for side in sides):
            if error is not None and not isinstance(error, StopSide):
                raise error
        judged = sorted((one for one in self._judged if one.base.seq <= first.base.seq), key=lambda one: one.base.seq)
        alone: dict[SideName, list[Boundary]] = {"base": [], "raw": []}
        if self._known is None:
            for side, at in _sides(first):
                alone[side] = [
                    one for one in self._open[side].values() if one.seq < at.seq and self._is_past(side, one)
                ]
        raise PhaseStopped("forward" if self._known is None else "backward", judged, alone)

    def _preceding(self, first: Judged) -> bool:
        """Tell whether something before the first failing boundary may still be judged."""
        base = (one for one in self._open["base"].values() if one.seq < first.base.seq)
        if self._known is None:
            return any(not self._is_past("base", one) for one in base)
        # A gradient that only raw has is told before the first of base's that raw reached after it.
        reached = max(one.raw.seq for one in self._judged if one.base.seq <= first.base.seq)
        raw = (one for one in self._open["raw"].values() if one.seq < reached)
        base_calls, raw_calls = self._known["base"], self._known["raw"]
        if any((one.route, one.call) in base_calls for one in base):
            return True
        return any((one.route, one.call) in raw_calls for one in raw)

    def _is_past(self, side: SideName, boundary: Boundary) -> bool:
        """Tell whether a call around it has ended on both sides, so that no partner comes any more."""
        caller = boundary.caller
        while caller is not None:
            if caller in self._left[side]:
                return True
            caller = self._callers[side].get(caller)
        return False


class _Watching:
    """An observer that ends its model when the phase is over before its time."""

    def __init__(self, stop: PhaseStop, side: SideName, observer: Observer) -> None:
        self._stop = stop
        self._side: SideName = side
        self._observer = observer

    def await_room(self, releases: int) -> bool:
        granted = isinstance(self._observer, Releasing) and self._observer.await_room(releases)
        self._stop.check()
        return granted

    def observe(self, boundary: Boundary) -> None:
        self._stop.arrived(self._side, boundary)
        self._observer.observe(boundary)
        self._stop.check()

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        values = self._observer.substitute(boundary)
        self._stop.check()
        return values


def forward_stop(settings: AlignSettings) -> PhaseStop:
    """Return what stops a forward, where the settings ask for it. A forward that only serves the backward fails nothing."""
    return PhaseStop(_always if settings.fail_fast and settings.diff_phase != "backward" else None)


def backward_stop(settings: AlignSettings, models: Collection[Model], forward: Collection[Judged]) -> PhaseStop:
    """Return what stops a backward, where the settings ask for it and nothing that comes at its end can take precedence.

    Such are the losses' values, unless both are neutral, over outputs that agree, and send back the same gradients; and the sums
    in PaDiff's dumps, which may excuse a difference and of which a whole backward is needed.
    """
    losses = (settings.base_loss, settings.raw_loss)
    outputs = any(one.base.route == "" and one.base.side == "output" for one in forward)
    foreign = any(info.recorded and not info.padiff_version for info in (model.info() for model in models))
    if not settings.fail_fast or foreign or not outputs or any(loss.name not in NEUTRAL_LOSSES for loss in losses):
        return PhaseStop(None)
    known: dict[SideName, Collection[LayerCall]] = {
        "base": {(one.base.route, one.base.call) for one in forward},
        "raw": {(one.raw.route, one.raw.call) for one in forward},
    }
    return PhaseStop(_not_of_the_loss, known)


def _always(one: Judged) -> bool:
    return True


def _not_of_the_loss(one: Judged) -> bool:
    return bool(one.base.route) or one.base.side == "input"


def _sides(one: Judged) -> tuple[tuple[SideName, BoundaryPlace], tuple[SideName, BoundaryPlace]]:
    return ("base", one.base), ("raw", one.raw)
