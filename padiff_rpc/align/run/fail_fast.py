"""Stop a phase at the first divergence, once it is certain that a full run would name the same one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_LOSSES
from padiff_rpc.model.model import Boundary, LayerCall, Model, Observer, Phase, Releasing
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import STAGES, Stage
from padiff_rpc.tensors.tensor import Tensor


@dataclass(frozen=True)
class StoppedAt:
    """Where an alignment ended before its time.

    Attributes:
        step: counts the steps from 0.
        stage: is the stage in which it ended.
        midway: says that it ended while the models ran that stage, and not after it.
        raised: tells which model raised there, and what; empty where the alignment stopped as asked (fail_fast).
    """

    step: int
    stage: Stage
    midway: bool
    raised: str = ""

    def words(self, settings: AlignSettings) -> str:
        """Say in one sentence where the alignment ended, and what was therefore not compared."""
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
        if self.raised:
            return f"{self.raised} (in stage {here} of step {self.step}){tail}"
        return f"stopped at the first divergence, in stage {here} of step {self.step}, as asked (fail_fast){tail}"


class StopSide(Exception):
    """Ends a running model: its observer raises this at the next boundary. It never leaves this package."""


class PhaseStopped(Exception):
    """Says that a phase was stopped.

    What comes after the first failing boundary is not known, and so not told.

    Args:
        phase: is the phase that was stopped.
        judged: are the judged boundaries up to the first failing one, that one included, in base's order.
        leftovers: are the boundaries before it that one side alone has called.
        raised: tells which model raised, where that ended the phase.
    """

    def __init__(
        self, phase: Phase, judged: list[Judged], leftovers: PerSide[list[Boundary]], raised: str = ""
    ) -> None:
        self.phase: Phase = phase
        self.judged = judged
        self.leftovers = leftovers
        self.raised = raised


class PhaseStop:
    """Follows one phase, and decides when it has shown the first divergence.

    Boundaries are judged as they arrive, and the first failing one to arrive need not be the first in base's order, by which
    blame goes. So the phase goes on until nothing before the first failing boundary can still be judged: all of it found its
    partner, or (in the forward) lies inside a call that both sides have left, and so was called by one side alone. Where that
    never comes about, the phase runs to its end.

    Args:
        counts: tells whether a failing boundary may be the one that names the divergence. Where another one fails, the phase runs
            to its end. None never stops the phase.
        known: are the calls that both sides made in the forward, for each side: only their gradients count in the backward. None
            stands for the forward itself.
    """

    def __init__(
        self, counts: Callable[[Judged], bool] | None, known: PerSide[Collection[LayerCall]] | None = None
    ) -> None:
        self.stopped: bool = False
        self._counts = counts
        self._known = known
        self._lock = threading.Lock()
        self._ending = False
        self._in_doubt = False
        self._first: Judged | None = None
        self._judged: list[Judged] = []
        self._open: PerSide[dict[int, Boundary]] = PerSide({}, {})
        self._callers: PerSide[dict[LayerCall, LayerCall | None]] = PerSide({}, {})
        self._left: PerSide[set[LayerCall]] = PerSide(set(), set())

    def watch(self, side: SideName, observer: Observer) -> Observer:
        """Wrap an observer, so that its model ends when the phase is stopped or abandoned."""
        return _Watching(self, side, observer)

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """End the models at their next boundary where the block fails, since they would run for nothing."""
        try:
            yield
        except BaseException:
            self._ending = True
            raise

    def check(self) -> None:
        """Raise StopSide where the phase is stopped or abandoned."""
        if self._ending:
            raise StopSide

    def arrived(self, side: SideName, boundary: Boundary) -> None:
        """Note a boundary before it is paired; each side's thread calls this, in that side's order."""
        self.check()
        if self._counts is None:
            return
        with self._lock:
            self._open.of(side)[boundary.seq] = boundary
            self._callers.of(side).setdefault((boundary.route, boundary.call), boundary.caller)

    def judged(self, one: Judged) -> None:
        """Take a verdict, and stop both sides where it settles which divergence is the first."""
        if self._counts is None:
            return
        with self._lock:
            self._judged.append(one)
            for side, boundary in one.places.items():
                self._open.of(side).pop(boundary.seq, None)
                if boundary.side == "output" and not boundary.api:
                    self._left.of(side).add((boundary.route, boundary.call))
            if one.failed is not None and not one.base.api:
                self._in_doubt = self._in_doubt or not self._counts(one)
                if self._first is None or one.base.seq < self._first.base.seq:
                    self._first = one
            if self._first is not None and not self._in_doubt and not self._preceding(self._first):
                self.stopped = self._ending = True

    def raise_if_stopped(self, sides: PerSide[Future[Any]]) -> None:
        """Raise PhaseStopped, where the phase was stopped; a side's own error comes first."""
        first = self._first
        if not self.stopped or first is None:
            return
        for error in (side.exception() for side in sides):
            if error is not None and not isinstance(error, StopSide):
                raise error
        judged = sorted((one for one in self._judged if one.base.seq <= first.base.seq), key=lambda one: one.base.seq)
        alone: PerSide[list[Boundary]] = PerSide([], [])
        if self._known is None:
            for side, at in first.places.items():
                before = (one for one in self._open.of(side).values() if one.seq < at.seq)
                alone.of(side).extend(one for one in before if self._is_past(side, one))
        raise PhaseStopped("forward" if self._known is None else "backward", judged, alone)

    def _preceding(self, first: Judged) -> bool:
        """Tell whether something before the first failing boundary may still be judged."""
        base = (one for one in self._open.base.values() if one.seq < first.base.seq)
        if self._known is None:
            return any(not self._is_past("base", one) for one in base)
        # A gradient that only raw has is told before the first of base's that raw reached after it.
        reached = max(one.raw.seq for one in self._judged if one.base.seq <= first.base.seq)
        raw = (one for one in self._open.raw.values() if one.seq < reached)
        known = self._known
        if any((one.route, one.call) in known.base for one in base):
            return True
        return any((one.route, one.call) in known.raw for one in raw)

    def _is_past(self, side: SideName, boundary: Boundary) -> bool:
        """Tell whether a call around it has ended on both sides, so that no partner comes any more."""
        caller = boundary.caller
        while caller is not None:
            if caller in self._left.of(side):
                return True
            caller = self._callers.of(side).get(caller)
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
    """Return the PhaseStop of a forward; it stops where the settings ask for it.

    A forward that only serves the backward is never stopped, since it fails nothing.
    """
    return PhaseStop(_always if settings.fail_fast and settings.diff_phase != "backward" else None)


def backward_stop(settings: AlignSettings, models: PerSide[Model], forward: Collection[Judged]) -> PhaseStop:
    """Return the PhaseStop of a backward: it stops where the settings ask for it, and no finding at its end can take precedence.

    Two such findings exist. The losses' values can differ, unless both losses are neutral, are taken over outputs that agree, and
    send back the same gradients. And the sums in PaDiff's dumps may excuse a difference, which only a whole backward shows.
    """
    outputs = any(one.base.route == "" and one.base.side == "output" for one in forward)
    foreign = any(info.recorded and not info.padiff_version for info in (model.info() for model in models))
    if (
        not settings.fail_fast
        or foreign
        or not outputs
        or any(loss.name not in NEUTRAL_LOSSES for loss in settings.losses)
    ):
        return PhaseStop(None)
    base = {(one.base.route, one.base.call) for one in forward}
    raw = {(one.raw.route, one.raw.call) for one in forward}
    return PhaseStop(_not_of_the_loss, PerSide(base, raw))


def _always(one: Judged) -> bool:
    return True


def _not_of_the_loss(one: Judged) -> bool:
    return bool(one.base.route) or one.base.side == "input"
