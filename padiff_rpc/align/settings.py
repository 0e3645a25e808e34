"""How an alignment is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from padiff_rpc.compare.rules import CompareRules, one_of
from padiff_rpc.model.model import LossSpec, OptimizerSpec
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.per_side import PerSide

DiffPhase = Literal["forward", "backward", "both"]


@dataclass(frozen=True)
class AlignSettings:
    """Settings of one alignment.

    assign: copy base's parameters and buffers into raw first. training: None leaves each model's mode. diff_phase:
    "forward" runs no backward; "backward" compares only the backward (with single_step, as in PaDiff). steps: how many
    steps on the same inputs; more than one needs an optimiser to be of use. layer_map: base route -> raw route, on top of
    the automatic match. parameter_map: base name -> raw name. single_step: replace raw's boundaries by base's, so that
    each layer's own error shows. api_calls: compare the functional calls (relu, add, ...) in layers' own code too, to tell
    where in a failing layer the difference begins. base_selection, raw_selection: a layer is compared where both sides keep it.
    held: compare what the models hold (parameters, buffers, parameter gradients) as well as what passes their layers.
    fail_fast: stop both models at the first divergence. layers, depth: record and compare only layers whose route, in base or
    raw, matches one of these globs, and that lie at most so many levels below the root; weights are assigned to all.
    verify_probe: first prove on each side that runs that recording changes no bit (see `verify_probe`).
    """

    compare: CompareRules = field(default_factory=CompareRules)
    assign: bool = True
    training: bool | None = None
    diff_phase: DiffPhase = "both"
    single_step: bool = False
    api_calls: bool = False
    steps: int = 1
    seed: int | None = 0
    base_loss: LossSpec = field(default_factory=lambda: LossSpec("projection", {"seed": 0.0}))
    raw_loss: LossSpec = field(default_factory=lambda: LossSpec("projection", {"seed": 0.0}))
    base_optimizer: OptimizerSpec | None = None
    raw_optimizer: OptimizerSpec | None = None
    layer_map: Mapping[str, str] = field(default_factory=dict)
    parameter_map: Mapping[str, str] = field(default_factory=dict)
    base_selection: Selection = EVERYTHING
    raw_selection: Selection = EVERYTHING
    held: bool = True
    fail_fast: bool = False
    layers: tuple[str, ...] = ()
    depth: int | None = None
    verify_probe: bool = False

    @property
    def selections(self) -> PerSide[Selection]:
        """Which layers each side keeps."""
        return PerSide(self.base_selection, self.raw_selection)

    @property
    def losses(self) -> PerSide[LossSpec]:
        """The loss over each side's outputs."""
        return PerSide(self.base_loss, self.raw_loss)

    @property
    def optimizers(self) -> PerSide[OptimizerSpec | None]:
        """Each side's optimiser, if a step is to follow the backward."""
        return PerSide(self.base_optimizer, self.raw_optimizer)

    def __post_init__(self) -> None:
        one_of("diff_phase", self.diff_phase, get_args(DiffPhase))
