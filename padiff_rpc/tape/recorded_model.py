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
from padiff_rpc.model.part_names import has_part, place_of_part
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
"""How far the step has been replayed.

"before": not at all. "forward": its forward, and perhaps its backward. "stepped": its optimiser's step too.
"""


class RecordedModel:
    """A dump of ours or of PaDiff's that is replayed as a model.

    Each forward replays the next one recorded: of the same step if that holds several, else of the next step. reset()
    goes back to the first. Nothing can be written into the dump. A request must be for what was recorded; if tape.json
    says otherwise, it is refused with BAD_CONFIG. If the dump does not tell the loss, the loss is NaN, and
    `BackwardResult.unrecorded` says so. Gradients of parameters in a step of several forwards are those after its last;
    before it there are none. Steps are read when they are reached.

    Args:
        path: A folder of steps, or of one dump.
        rank: Which rank to read of each step. A dump without ranks is of rank 0.
        only: Name of the one file of parameters to look at, such as "weights.json". There is no forward then, and its
            values and gradients can be read at once. None looks at all files.

    Raises:
        PadiffError: BAD_CONFIG if the path holds no dump, or not this rank.
        PadiffError: DATA_LOSS, naming it, if a file of the first step is missing or damaged; for other steps the method
            that reaches them raises it.
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
        """What the tape was recorded with: loss, optimiser, seed, mode. None for a dump that is no tape."""
        return self._manifest

    @property
    def inputs(self) -> Inputs | None:
        """The inputs of the recorded forwards; None for a dump that is no tape."""
        return None if self._manifest is None else self._manifest.inputs

    @property
    def steps(self) -> int:
        """How many steps the dump has."""
        return len(self._folders)

    @property
    def selection(self) -> Selection:
        """Which layers were left out of the dump, and why."""
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
        """All forwards of all steps, in order, each with its backward. Reads all reports."""
        return tuple(run for folder in self._folders for run in folder.report.runs)

    def info(self) -> ModelInfo:
        """Return where the model ran, as far as the dump tells; `recorded` is set."""
        return self._folders[0].info if self._manifest is None else self._manifest.info

    def describe(self) -> ModelDescription:
        """Return the model as it was in the first step. `unrecorded` says what the dump does not hold."""
        return self._description

    # -- parameters ---------------------------------------------------------------------------------------------------
    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        """Stream tensors from files, as Model does.

        Values are those before the step. Once its forward was replayed, buffers are those that the step left; after
        optimizer_step() all values are. Gradients are those of the last step whose backward was replayed.

        Raises:
            PadiffError: UNKNOWN_NAME if the dump describes no such tensor, NOT_SUPPORTED if its value was not written.
            PadiffError: BAD_TENSOR if a tensor in `transposed` is no matrix, DATA_LOSS if its file is missing or
                damaged.
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
        """Summarise what read_parameters() would stream.

        The digests have all statistics, whatever is asked for. Files of tensors that are not transposed are read once
        until the next forward.
        """
        # What is remembered of files is of their elements in order.
        return {
            name: ref.transposed().digest() if name in transposed else self._replay.digest(ref)
            for name, ref in self._find(names, what)
        }

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        """Raise NOT_SUPPORTED: nothing can be written into a dump."""
        raise PadiffError(
            f"nothing can be written into the dump {str(self.path)!r}",
            reason=Reason.NOT_SUPPORTED,
            hint="make the recorded model base, or align without assigning weights",
        )

    # -- a step -------------------------------------------------------------------------------------------------------
    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        """Replay the next forward: tell the observer of its boundaries.

        Raises:
            PadiffError: OUT_OF_ORDER after the last forward.
            PadiffError: NOT_SUPPORTED if the run is synced (a tape cannot be fed), functional calls are asked for that
                were not recorded, or the dump holds no forward.
            PadiffError: BAD_CONFIG if mode or seed are not the tape's, or the tape's optimiser was not stepped before.
            PadiffError: UNKNOWN_NAME if a layer that is asked for is not in the dump.
        """
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
        """Replay the backward after the last forward: tell the observer of its gradients, and return the recorded loss.

        Raises:
            PadiffError: OUT_OF_ORDER without a forward that has gradients.
            PadiffError: NOT_SUPPORTED if no backward was recorded, BAD_CONFIG if the loss is not the tape's.
        """
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
        """Stream records of the last forward and backward from their files, as Model does."""
        return (self._replay.find(identifier).stream(str(identifier)) for identifier in ids)

    def release_activations(self, ids: Sequence[int]) -> None:
        """Do nothing: the records stay on disk."""

    def optimizer_step(self, optimizer: OptimizerSpec) -> None:
        """Go on to the values that were written after the recorded step.

        Raises:
            PadiffError: OUT_OF_ORDER without a backward.
            PadiffError: BAD_CONFIG if the optimiser is not the tape's, NOT_SUPPORTED if there is no weights.json.
        """
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
        """Go back to before the first step, and let go of what was read. Files are read again when needed."""
        self.reset()
        for folder in self._folders:
            folder.forget()

    # -- inside -------------------------------------------------------------------------------------------------------
    @property
    def _folder(self) -> StepFolder:
        """The step that was replayed last; the first if none was."""
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
        found: list[tuple[str, TensorRef | None]] = []
        for name in names:
            place = None if name in self._first_names else place_of_part(name)
            whole, at = place or (name, None)
            if whole not in self._first_names or (
                at is not None and not has_part(self._description.parameter(whole).spec, at)
            ):
                nearest = difflib.get_close_matches(name, self._first_names, n=1)
                raise PadiffError(
                    f"the dump {str(self.path)!r} has no parameter or buffer {name!r}",
                    reason=Reason.UNKNOWN_NAME,
                    hint=f"did you mean {nearest[0]!r}?" if nearest else "describe() lists them",
                )
            ref = self._tensor(self._first_names[whole], what)
            found.append((name, ref if ref is None or at is None else ref.part(at)))
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
