"""RecordedModel: a dump on disk, behind the Model protocol."""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import (
    BackwardResult,
    ForwardRequest,
    ForwardResult,
    Inputs,
    LossSpec,
    ModelDescription,
    ModelInfo,
    Observer,
    OptimizerSpec,
    RecordOptions,
    What,
)
from padiff_rpc.model.selection import Selection
from padiff_rpc.tape.entries import TensorRef
from padiff_rpc.tape.folders import TAPE, of_rank
from padiff_rpc.tape.json_files import damaged_file
from padiff_rpc.tape.manifest import Manifest, check_forward, check_loss, check_optimizer, read_manifest
from padiff_rpc.tape.read_report import TapedRun
from padiff_rpc.tape.replay import Replay
from padiff_rpc.tape.step_folder import StepFolder
from padiff_rpc.tensors.tensor import Digest, Statistics, TensorStream

Moment = Literal["before", "forward", "stepped"]
"""How far a step was replayed: not at all, its forward (and backward), its optimiser's step."""


class RecordedModel:
    """A dump of ours or of PaDiff's, replayed.

    path: a folder of steps (forward number n replays the n-th of them, reset() goes back to the first), or of one dump.
    A dump of several forwards is replayed forward by forward. only: look at one file of parameters, such as "weights.json",
    alone: no forward then, and its values and gradients are at hand at once.

    Nothing can be written into it, and what is asked of it must be what was recorded: BAD_CONFIG where the tape says
    otherwise. The loss of a dump that does not tell it is NaN, and `BackwardResult.unrecorded` says so. Gradients of a dump
    of several forwards are those after the last one; before it there are none.
    DATA_LOSS names the file that is missing or damaged, when its step is reached: the first one's when it is opened.
    """

    def __init__(self, path: str | Path, rank: int = 0, *, only: str | None = None) -> None:
        self.path: Path = Path(path)
        self._folders = [StepFolder(folder, only) for folder in of_rank(path, rank)]
        self._manifest = read_manifest(self.path) if (self.path / TAPE).exists() else None
        if self._manifest is not None and self._manifest.steps != len(self._folders):
            raise damaged_file(
                f"the tape {str(path)!r} was recorded with {self._manifest.steps} steps and holds {len(self._folders)}",
                self.path,
                "the tape is damaged: record it again",
            )
        self._only = only
        self._description = self._folders[0].description
        self._first_names = {
            name: info.name for info in self._description.parameters for name in (info.name, *info.aliases)
        }
        self._replay = Replay(self.path, self._description)
        self.reset()

    # -- what was recorded ------------------------------------------------------------------------------------------
    @property
    def recorded(self) -> Manifest | None:
        """With what it was recorded: loss, optimiser, seed, mode; None for a dump that is no tape."""
        return self._manifest

    @property
    def inputs(self) -> Inputs | None:
        """The inputs of the recorded forwards; None for a dump that is no tape."""
        return None if self._manifest is None else self._manifest.inputs

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self._folders)

    @property
    def selection(self) -> Selection:
        """Which layers were left out, and why."""
        return self._folders[0].selection

    @property
    def layer_map(self) -> tuple[str, ...]:
        """Routes of the layers that were mapped by hand, in order."""
        return self._folders[0].layer_map

    @property
    def name(self) -> str:
        """The model's name, as it was dumped."""
        return self._folders[0].model_name

    @property
    def runs(self) -> tuple[TapedRun, ...]:
        """All forwards of all steps, in order, with what each left of its backward."""
        return tuple(run for folder in self._folders for run in folder.report.runs)

    def info(self) -> ModelInfo:
        """Tell where it ran, as far as the dump knows; `recorded` is set."""
        return self._folders[0].info if self._manifest is None else self._manifest.info

    def describe(self) -> ModelDescription:
        return self._description

    # -- parameters ---------------------------------------------------------------------------------------------------
    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        """Stream as Model says: values of before the step, buffers of after its forward, values of after the optimiser's step.

        NOT_SUPPORTED for values that were not written.
        """
        found = self._find(names, what)
        turned = [(name, ref.transposed() if name in transposed else ref) for name, ref in found]
        return (ref.stream(name) for name, ref in turned)

    def digest_parameters(
        self,
        names: Sequence[str],
        what: What = "value",
        transposed: Collection[str] = (),
        statistics: Statistics = Statistics.ALL,
    ) -> dict[str, Digest]:
        # What is remembered of files is of their elements in order.
        return {
            name: ref.transposed().digest() if name in transposed else self._replay.digest(ref)
            for name, ref in self._find(names, what)
        }

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        """Refuse: NOT_SUPPORTED."""
        raise PadiffError(
            f"nothing can be written into the dump {str(self.path)!r}",
            reason=Reason.NOT_SUPPORTED,
            hint="make the recorded model base, or align without assigning weights",
        )

    # -- a step -------------------------------------------------------------------------------------------------------
    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        """Replay the next forward. OUT_OF_ORDER past the last; NOT_SUPPORTED in a synced run: a tape cannot be fed."""
        started = time.perf_counter()
        options = request.record
        at = self._next_place()
        if options is not None:
            self._replay.check(options, self._run_at(at))
        if self._manifest is not None:
            check_forward(self._manifest, request, at[0], self._folders[at[0]].description)
            if at[0] > self._at[0] >= 0 and self._moment != "stepped":
                check_optimizer(self._manifest, None)
        run = self._run_at(at)
        self._at, self._moment, self._options, self._graph = at, "forward", options, request.gradients
        self._replay.clear()
        outputs = () if options is None else self._replay.tell(run.forward, "forward", run, options, observer)
        return ForwardResult(outputs, time.perf_counter() - started)

    def backward(self, loss: LossSpec, observer: Observer | None = None) -> BackwardResult:
        """Replay the backward after the last forward. NOT_SUPPORTED where none was recorded."""
        started = time.perf_counter()
        if not self._graph:
            raise PadiffError(
                "backward without a forward that has gradients",
                reason=Reason.OUT_OF_ORDER,
                hint="each backward takes a forward of its own, with gradients",
            )
        run = self._run_at(self._at)
        if self._manifest is not None:
            check_loss(self._manifest, loss, _floating_outputs(run))
        if not run.backward_ran:
            raise PadiffError(
                f"the dump {str(self._folder.path)!r} holds no backward",
                reason=Reason.NOT_SUPPORTED,
                hint="run a backward before dumping, or compare the forward alone (diff_phase 'forward')",
            )
        self._graph = False
        self._graded = self._at
        options = self._options
        if options is not None and options.gradients:
            self._replay.tell(run.backward, "backward", run, options, observer)
        silent = () if options is None or not options.gradients else self._replay.silent(run, options)
        value = float("nan") if run.loss is None else run.loss
        return BackwardResult(value, silent, time.perf_counter() - started, run.unrecorded)

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        return (self._replay.find(identifier).stream(str(identifier)) for identifier in ids)

    def release_activations(self, ids: Sequence[int]) -> None:
        """Do nothing: they stay on disk."""

    def optimizer_step(self, optimizer: OptimizerSpec) -> None:
        """Go on to what was written after the recorded step. NOT_SUPPORTED where there is no weights.json."""
        if self._graded is None or self._moment != "forward":
            raise PadiffError(
                "an optimiser's step without a backward",
                reason=Reason.OUT_OF_ORDER,
                hint="run forward and backward first",
            )
        if self._manifest is not None:
            check_optimizer(self._manifest, optimizer)
        if self._folder.weights is None:
            raise PadiffError(
                f"the dump {str(self._folder.path)!r} does not hold the parameters after an optimiser's step",
                reason=Reason.NOT_SUPPORTED,
                hint="dump the weights after the step (weights.json), or align without an optimiser",
            )
        self._moment = "stepped"

    # -- the end ------------------------------------------------------------------------------------------------------
    def reset(self) -> None:
        """Go back to before the first step."""
        self._at: tuple[int, int] = (-1, 0)
        self._moment: Moment = "before"
        self._options: RecordOptions | None = None
        self._graph = False
        self._graded: tuple[int, int] | None = None
        self._replay.clear()

    def close(self) -> None:
        """Let go of what was read of the dump."""
        self.reset()
        for folder in self._folders:
            folder.forget()

    # -- inside -------------------------------------------------------------------------------------------------------
    @property
    def _folder(self) -> StepFolder:
        """The step that was replayed last; the first before any."""
        return self._folders[max(self._at[0], 0)]

    def _next_place(self) -> tuple[int, int]:
        """Return (step, run) of the forward that comes next."""
        step, run = self._at
        if step >= 0 and run + 1 < len(self._folders[step].report.runs):
            return step, run + 1
        if step + 1 == len(self._folders):
            raise PadiffError(
                f"forward number {step + 2} of {str(self.path)!r}, which holds {len(self._folders)} steps",
                reason=Reason.OUT_OF_ORDER,
                hint="ask for as many steps as were recorded; reset() goes back to the first",
            )
        if step >= 0:
            self._folders[step].forget()
        return step + 1, 0

    def _run_at(self, at: tuple[int, int]) -> TapedRun:
        runs = self._folders[at[0]].report.runs
        if not runs:
            raise PadiffError(
                f"the dump {str(self._folders[at[0]].path)!r} holds no forward",
                reason=Reason.NOT_SUPPORTED,
                hint="run the model before its report is dumped",
            )
        return runs[at[1]]

    def _find(self, names: Sequence[str], what: What) -> list[tuple[str, TensorRef]]:
        for name in names:
            if name not in self._first_names:
                nearest = difflib.get_close_matches(name, self._first_names, n=1)
                raise PadiffError(
                    f"the dump {str(self.path)!r} has no parameter or buffer {name!r}",
                    reason=Reason.UNKNOWN_NAME,
                    hint=f"did you mean {nearest[0]!r}?" if nearest else "describe() lists them",
                )
        found = [(name, self._tensor(self._first_names[name], what)) for name in names]
        return [(name, ref) for name, ref in found if ref is not None]

    def _tensor(self, name: str, what: What) -> TensorRef | None:
        info = self._description.parameter(name)
        if what == "value":
            after = self._moment == "stepped" or (self._moment == "forward" and info.kind == "buffer")
            ref = self._folder.value(name, after)
        elif self._only is not None:
            ref = self._folder.gradient(name)
        elif self._graded is None or self._graded[1] + 1 < len(self._folders[self._graded[0]].report.runs):
            return None
        else:
            ref = self._folders[self._graded[0]].gradient(name)
        if ref is not None and (ref.spec.shape != info.spec.shape or (what == "value" and ref.spec != info.spec)):
            raise damaged_file(
                f"the tensor file {str(ref.file.path)!r} holds {ref.spec} for {name!r}, which is {info.spec}",
                ref.file.path,
                "the steps of this dump are of different models, or it is damaged",
            )
        return ref


def _floating_outputs(run: TapedRun) -> list[str]:
    return [
        ref.name
        for boundary in run.forward
        if boundary.route == "" and boundary.side == "output"
        for ref in boundary.tensors
        if ref.spec.dtype.is_floating
    ]
