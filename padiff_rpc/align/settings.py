"""The settings of an alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from padiff_rpc.compare.rules import CompareRules, one_of
from padiff_rpc.model.model import LossSpec, OptimizerSpec
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.per_side import PerSide

DiffPhase = Literal["forward", "backward", "both"]
ToleranceSource = Literal["table", "auto"]


@dataclass(frozen=True)
class AlignSettings:
    """Settings of one alignment.

    Args:
        compare: says how two tensors are judged.
        assign: copies base's parameters and buffers into raw first.
        training: sets the mode of both models; None leaves each model's own.
        diff_phase: runs no backward with "forward", and compares the backward alone with "backward". The latter needs
            single_step, as in PaDiff.
        single_step: replaces the tensors at raw's layer boundaries by base's, so that each layer's own error shows.
        api_calls: compares the functional calls (relu, add, ...) in layers' own code as well, to tell where in a failing
            layer the difference begins.
        steps: counts the steps, all on the same inputs; more than one needs an optimiser to be of use.
        seed: seeds both frameworks' random generators before the first step, and each later step with a seed 1 higher.
            None leaves the generators alone.
        base_loss: is the loss over base's outputs.
        raw_loss: is the loss over raw's outputs.
        base_optimizer: steps base after each backward; None for no optimiser. Both sides have one, or neither.
        raw_optimizer: steps raw after each backward.
        layer_map: maps routes of base to routes of raw, and stands above the automatic match. A star stands for a number.
        parameter_map: maps names of base's parameters and buffers to names of raw's, packs and rules included (see
            `parse_parameters`), and stands above the automatic match.
        renames: maps regular expressions to what they become, so that base's names become raw's (see `renamed`).
        aoa_statements: are AOA statements that make raw's tensors of base's.
        raw_statements: adds to these the statements that raw's own class gives.
        base_selection: says which layers of base are compared. A pair of layers is compared where both sides keep it.
        raw_selection: says which layers of raw are compared.
        held: compares what the models hold (parameters, buffers, parameter gradients) besides what passes their layers.
        fail_fast: stops both models at the first divergence.
        layers: records and compares only the layers whose route, in base or in raw, matches one of these globs; empty for all.
            Weights are assigned to all layers.
        depth: records and compares only the layers that lie at most this many levels below the root; None for all.
        tolerance: says what differences are held against in the mode "scaled": the "table" alone, or ("auto") also the floor of
            this run, which base measures by one more step on weights and inputs that are moved by their last bit.
        strict_inside: fails a difference inside a layer also where all that follows from it agrees (see `set_aside_what_heals`).
        allow_extra: accepts parameters, buffers and outputs that one side alone has, by globs over their full names (an output is
            `output.1`) and over the routes of the layers around them.
        explain: looks for the causes of the first divergence. The models then run the step once more, and hold nothing of the
            run after that.
        repeat: counts how often the first step runs on each side by itself, on copies and from the same state, to name the layer
            that does not compute the same bits again (see `repeat_step`). 1 repeats nothing.
        sync_random: gives raw's dropouts what base's draw, where they correspond and are of the frameworks' own classes.
        verify_probe: first proves, on each side that runs, that recording changes no bit (see `verify_probe`).

    Raises:
        PadiffError: BAD_CONFIG for a diff_phase that does not exist.
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
    renames: Mapping[str, str] = field(default_factory=dict)
    aoa_statements: tuple[str, ...] = ()
    raw_statements: bool = False
    base_selection: Selection = EVERYTHING
    raw_selection: Selection = EVERYTHING
    held: bool = True
    fail_fast: bool = False
    layers: tuple[str, ...] = ()
    depth: int | None = None
    verify_probe: bool = False
    tolerance: ToleranceSource = "table"
    strict_inside: bool = False
    allow_extra: tuple[str, ...] = ()
    explain: bool = True
    repeat: int = 1
    sync_random: bool = False

    @property
    def selections(self) -> PerSide[Selection]:
        """Which layers each side keeps."""
        return PerSide(self.base_selection, self.raw_selection)

    @property
    def measures_floor(self) -> bool:
        """Whether base's floor is measured. Single step needs none: errors do not add up, and its table is as sharp."""
        return self.tolerance == "auto" and self.compare.mode == "scaled" and not self.single_step

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
