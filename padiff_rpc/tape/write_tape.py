"""Run one model and write a tape: all that an alignment needs of it, to be replayed later or elsewhere."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import (
    Boundary,
    Flooring,
    ForwardRequest,
    Inputs,
    LossSpec,
    Model,
    ModelDescription,
    OptimizerSpec,
    RecordOptions,
)
from padiff_rpc.model.place_inputs import place_inputs
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.tape.header import Header
from padiff_rpc.tape.manifest import Manifest, write_manifest
from padiff_rpc.tape.tensor_files import DumpFolder, RecordFiles
from padiff_rpc.tape.unchanged import ValuesRead
from padiff_rpc.tape.write_params import (
    PARAMS,
    SHARED,
    HeldTensors,
    begin,
    finish,
    write_gradients,
    write_values,
    write_weights,
)
from padiff_rpc.tape.write_report import Run, write_report
from padiff_rpc.tape.writing import writing
from padiff_rpc.tape.writing_thread import WritingThread
from padiff_rpc.tensors.tensor import Statistics, TensorStream

OnBoundary = Callable[[int, Boundary], None]
"""Called with the number of a step and each boundary recorded in it."""


@dataclass(frozen=True)
class Recording:
    """What a recording cost, and what is to be said of it.

    Attributes:
        forward_s: Seconds that each step's forward took, as the model tells them.
        size_bytes: Size of the tape on disk.
        notes: What the caller should know, such as inputs that went by position.
    """

    forward_s: tuple[float, ...]
    size_bytes: int
    notes: tuple[str, ...] = ()


def record(
    model: Model,
    inputs: Inputs,
    folder: str | Path,
    *,
    model_name: str,
    steps: int = 1,
    training: bool | None = None,
    seed: int | None = 0,
    loss: LossSpec,
    optimizer: OptimizerSpec | None = None,
    backward: bool = True,
    selection: Selection = EVERYTHING,
    api_calls: bool = False,
    floor: bool = False,
    progress: OnBoundary | None = None,
) -> Recording:
    """Run a model, of this process or of a worker, and write a tape of it: step_N/rank_0 per step, and tape.json.

    The folder appears when all of it is written. Layers that are not recorded have their values written, to be assigned
    from.

    Args:
        model: The model. It is reset first.
        inputs: forward's arguments by name, the same in each step. Where forward does not know the names they go by
            position (see place_inputs()).
        folder: Where the tape goes: a new or an empty folder.
        model_name: The model's name in the tape, without a slash.
        steps: How many steps to run, 1 or more.
        training: The mode to set, True for training; None leaves each layer's mode.
        seed: Seed of step 0; step n runs from seed + n, as in an alignment. None seeds nothing.
        loss: The loss of each step's backward.
        optimizer: The optimiser that steps after each backward; None takes no step.
        backward: Whether to run the loss and a backward.
        selection: Which layers to record.
        api_calls: Whether to record functional calls too.
        floor: Whether to measure how far rounding alone moves each tensor, by one more run of each step, where the model can.
        progress: Called with the step's number and each boundary, as it is recorded.

    Raises:
        PadiffError: BAD_CONFIG if the folder holds something or cannot be written to, or arguments contradict each
            other.
        PadiffError: What the model raises.
    """
    check_asked(Path(folder).absolute(), steps, optimizer, backward)
    _check_name(model_name)
    with _written_whole(folder) as root:
        model.reset()
        info = model.info()
        given, note = place_inputs(model_name, inputs, model.describe().forward)
        header = Header(model_name, info.framework, device=info.device, info=info)
        writer = _StepWriter(model, header, selection, loss if backward else None, optimizer, api_calls, floor)
        forward_s: list[float] = []
        for step in range(steps):
            request = ForwardRequest(given, training, None if seed is None else seed + step, gradients=backward)
            tell = functools.partial(progress or _quiet, step)
            forward_s.append(writer.write(_step_folder(root, step), request, tell))
        write_manifest(root, Manifest(model_name, steps, inputs, training, seed, writer.loss, optimizer, info))
        size_bytes = sum(path.stat().st_size for path in root.actual.rglob("*") if path.is_file())
    return Recording(tuple(forward_s), size_bytes, () if note is None else (note,))


def _step_folder(root: DumpFolder, step: int) -> DumpFolder:
    name = f"step_{step}/rank_0"
    return DumpFolder(root.actual / name, root.shown_file(name))


@contextmanager
def _written_whole(folder: str | Path) -> Iterator[DumpFolder]:
    """Yield a folder to write to, which becomes `folder` at the end of the `with`, or is removed if that fails."""
    final = Path(folder).absolute()
    partial = final.parent / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing("a tape", folder, "choose a folder that can be written to and has room"):
            partial.mkdir(parents=True)
            yield DumpFolder(partial, str(folder))
            partial.replace(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


class _StepWriter:
    """Runs and writes one step after the other. With `loss` None it runs no backward."""

    def __init__(
        self,
        model: Model,
        header: Header,
        selection: Selection,
        loss: LossSpec | None,
        optimizer: OptimizerSpec | None,
        api_calls: bool,
        floor: bool,
    ) -> None:
        self.loss = loss
        self._floor = floor
        self._api_calls = api_calls
        self._model = model
        self._header = header
        self._selection = selection
        self._optimizer = optimizer

    def write(self, into: DumpFolder, request: ForwardRequest, tell: Callable[[Boundary], None]) -> float:
        """Run one step, write it, and return how many seconds the forward took. `tell` hears of each boundary."""
        model, selection = self._model, self._selection
        before = model.describe()
        begin(into, PARAMS)
        # An optimiser changes nearly all values, for good; without one hardly a forward changes more than buffers.
        begun = ValuesRead(model) if self._optimizer is None else None
        if begun is None:
            values = write_values(into, PARAMS, before, EVERYTHING, model.read_parameters)
        else:
            values = write_values(into, SHARED, before, EVERYTHING, begun.read)
        kept = tuple(layer.route for layer in before.layers if selection.keeps(layer.route))
        routes = kept if selection.left_out else None
        options = RecordOptions(routes=routes, gradients=self.loss is not None, api_calls=self._api_calls)
        files = RecordFiles(into)
        request = replace(request, record=options)
        if self._floor and isinstance(model, Flooring):
            model.measure_floor(request, self.loss)
        with WritingThread(model, files, tell) as writing_forward:
            forward_s = model.forward(request, writing_forward).wall_s
        forward = writing_forward.boundaries
        run = Run(forward, backward_ran=False, gradients=False, api_calls=self._api_calls)
        # The mode of each layer is what it was during the run, not before it.
        description = _with_modes(before, model.describe())
        if self.loss is not None:
            with WritingThread(model, files, tell) as writing_backward:
                result = model.backward(self.loss, writing_backward)
            backward = writing_backward.boundaries
            run = Run(forward, backward, result.loss, result.without_gradient, api_calls=self._api_calls)
        gradients = write_gradients(into, PARAMS, description, selection, self._read_gradients)
        held = HeldTensors(values, gradients, self._floors(gradients) if self._floor else {})
        finish(into, PARAMS, self._header, description, selection, held, whole=True)
        write_report(into, self._header, description, [run], model.read_activations, selection=selection, files=files)
        if self._optimizer is not None:
            model.optimizer_step(self._optimizer)
        written = {} if begun is None else {name: values[name] for name in begun.unchanged()}
        write_weights(into, self._header, description, selection, model.read_parameters, whole=True, written=written)
        return forward_s

    def _floors(self, gradients: Mapping[str, object]) -> dict[str, float]:
        """Return the floors of the parameters' gradients, by name."""
        digests = self._model.digest_parameters(list(gradients), "gradient", statistics=Statistics.SIZES)
        return {name: one.floor for name, one in digests.items() if one.floor is not None}

    def _read_gradients(self, names: Sequence[str]) -> Iterator[TensorStream]:
        return self._model.read_parameters(names, "gradient")


def _with_modes(description: ModelDescription, later: ModelDescription) -> ModelDescription:
    modes = {layer.route: layer.training for layer in later.layers}
    layers = tuple(replace(layer, training=modes.get(layer.route, layer.training)) for layer in description.layers)
    return replace(description, layers=layers)


def check_asked(folder: Path, steps: int, optimizer: OptimizerSpec | None, backward: bool) -> None:
    """Refuse to record a tape that cannot be.

    Args:
        folder: Where it is to go.
        steps: How many steps are to be run.
        optimizer: The optimiser; None takes no step.
        backward: Whether a backward is to be run.

    Raises:
        PadiffError: BAD_CONFIG if the folder holds something, steps is less than 1, or an optimiser has no backward.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PadiffError(
            f"{str(folder)!r} is there already, and is not empty",
            reason=Reason.BAD_CONFIG,
            hint="give a new folder, or remove this one",
        )
    if steps < 1:
        raise PadiffError(f"steps is {steps}, it must be 1 or more", reason=Reason.BAD_CONFIG)
    if optimizer is not None and not backward:
        raise PadiffError(
            "an optimiser needs gradients, and no backward is to be recorded",
            reason=Reason.BAD_CONFIG,
            hint="drop the optimiser, or record the backward",
        )


def _quiet(step: int, boundary: Boundary) -> None:
    """Show nothing."""


def _check_name(model_name: str) -> None:
    if not model_name or "/" in model_name:
        raise PadiffError(
            f"{model_name!r} is no name for a model", reason=Reason.BAD_CONFIG, hint="use letters and digits"
        )
