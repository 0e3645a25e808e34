"""Run one step of both sides once more, to read what one layer had in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.run.share_draws import DrawSharing
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.sides import Sides
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.step import losses_over_shared_outputs
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Boundary, ForwardRequest, Inputs, LayerCall, Model, RecordOptions
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import Divergence
from padiff_rpc.tensors.tensor import Statistics, Tensor

_ALIKE = 2.0
"""By how much the error of the step that was run again may differ from the run's, as a factor, to be taken for the same."""


class Lacking(Exception):
    """The tensors cannot be had, or would not be those of the run; the text says why."""


class Again:
    """Runs one step once more, the two sides in turn, without single step: what comes before the first divergence agrees."""

    def __init__(self, prepared: Prepared, step: StepResult, inputs: PerSide[Inputs]) -> None:
        self.prepared: Prepared = prepared
        self.sides: Sides = prepared.sides
        self.settings: AlignSettings = prepared.settings
        self._step = step.step
        self._draws = None if step.draws is None else step.draws.anew()
        self._inputs = inputs

    def check(self) -> None:
        """Raise Lacking where the step cannot be run as it was."""
        if self.sides.only_replays or (self.sides.replays and self._step):
            raise Lacking("a dump was not replayed once more for its tensors")

    def start(self, divergence: Divergence) -> None:
        """Drop what the models hold of the run, and give raw base's weights again where a step has moved them."""
        stepped = self.settings.base_optimizer is not None or divergence.step > 0 or divergence.stage == "buffers"
        for model in self.sides.models:
            model.reset()
        if stepped and not self.settings.assign:
            raise Lacking(
                "the run has moved weights or buffers that were not assigned, so its step was not run once more"
            )
        if stepped:
            assign_weights(self.sides.base, self.sides.raw, self.prepared.matching)

    def forward(self, side: SideName, keeper: Keeper | None, routes: Sequence[str], api_calls: bool = False) -> None:
        """Run one side's forward; with a keeper, record these layers."""
        settings = self.settings
        gradients = settings.diff_phase != "forward"
        model, draws = self.sides.models.of(side), self._draws
        drawing = () if draws is None else draws.routes.of(side)
        record = RecordOptions(
            routes=(*routes, *(route for route in drawing if route not in routes)),
            gradients=gradients and keeper is not None,
            api_calls=api_calls,
            statistics=Statistics.SIZES,
            draws=drawing,
            share_draws=side == "raw" and bool(drawing),
        )
        request = ForwardRequest(
            self._inputs.of(side),
            settings.training,
            None if settings.seed is None else settings.seed + self._step,
            gradients or settings.single_step,
            record if keeper is not None or drawing else None,
        )
        observer = keeper if draws is None else _Redrawing(draws, side, keeper or Keeper(model, _NOWHERE, _NOWHERE))
        try:
            model.forward(request, observer)
        except PadiffError as err:
            # A model that raises has come past the layer by then; whether it has, what was kept tells.
            if keeper is None or err.reason is not Reason.MODEL_FAILED:
                raise
        finally:
            if draws is not None and side == "base":
                draws.end_base()

    def backward(self, step: StepResult, side: SideName, keeper: Keeper | None) -> None:
        """Run one side's backward."""
        losses = losses_over_shared_outputs(self.settings, step.forward)
        self.sides.models.of(side).backward(losses.of(side), keeper)


@dataclass
class Keeper:
    """Keeps the boundaries of one layer call and of the calls directly inside it, and lets all other records go."""

    model: Model
    place: LayerCall
    parent: LayerCall
    kept: list[Boundary] = field(default_factory=list)
    releases: int = 0

    def observe(self, boundary: Boundary) -> None:
        """Keep the boundary, or release its records."""
        if self.parent in ((boundary.route, boundary.call), boundary.caller) or self.place == (
            boundary.route,
            boundary.call,
        ):
            self.kept.append(boundary)
        elif boundary.records:
            self.model.release_activations([record.id for record in boundary.records])
            self.releases += 1

    def await_room(self, releases: int) -> bool:
        """Say whether anything was released since; what is kept stays."""
        return self.releases > releases

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing."""
        return {}


_NOWHERE: LayerCall = ("", -1)


@dataclass
class _Redrawing:
    """Has raw's dropouts take base's draws, which stay in base's store until then; another observer hears of all else."""

    draws: DrawSharing
    side: SideName
    keeper: Keeper

    def observe(self, boundary: Boundary) -> None:
        """Keep base's draws."""
        if not boundary.draw:
            self.keeper.observe(boundary)
        elif self.side == "base":
            self.draws.drew(boundary)

    def await_room(self, releases: int) -> bool:
        """Say whether anything was released since."""
        return self.keeper.await_room(releases)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Answer raw's draw by base's, where base has drawn."""
        base = self.draws.await_base(boundary) if boundary.draw else None
        return {} if base is None else self.draws.answer(base, boundary)


def check_alike(divergence: Divergence, base: np.ndarray, raw: np.ndarray) -> None:
    """Raise Lacking where the step run once more does not differ as the run did: it would be evidence of something else."""
    metrics = divergence.metrics
    if metrics is None or divergence.found_at.failure != "values" or base.shape != raw.shape:
        return
    size, apart = float(np.linalg.norm(base)), float(np.linalg.norm(raw - base))
    told = metrics.rel_l2 * size
    if not (0.0 < told < math.inf and apart < math.inf) or 1 / _ALIKE <= apart / told <= _ALIKE:
        return
    raise Lacking(
        f"the step, run once more, differs by {apart / size:.2g} where the run differed by {metrics.rel_l2:.2g}, so that its "
        "tensors say nothing about the run"
    )
