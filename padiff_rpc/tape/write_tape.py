"""Run one model and write a tape: all that an alignment needs of it, to be replayed later or elsewhere."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import (
    Boundary,
    ForwardRequest,
    Inputs,
    LossSpec,
    Model,
    ModelDescription,
    OptimizerSpec,
    RecordOptions,
)
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
from padiff_rpc.tensors.tensor import TensorStream

OnBoundary = Callable[[int, Boundary], None]


@dataclass(frozen=True)
class Recording:
    """What recording took: seconds of each step's forward, as the model tells them, and bytes on disk."""

    forward_s: tuple[float, ...]
    size_bytes: int


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
    progress: OnBoundary | None = None,
) -> Recording:
    """Run `steps` steps of a model, hosted here or remote, on the same inputs, and write folder/step_N/rank_0 and tape.json.

    Layers that the selection leaves out are not recorded; what they hold is written all the same, to be assigned from.
    The folder appears when all of it is written. Step n runs from seed + n, as in an alignment. `progress` hears of each boundary
    and its step. BAD_CONFIG for a folder that holds something, or settings that contradict each other; and whatever the model
    raises.
    """
    final = Path(folder).absolute()
    check_asked(final, steps, optimizer, backward)
    _check_name(model_name)
    partial = final.parent / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    root = DumpFolder(partial, str(folder))
    try:
        with writing("a tape", folder, "choose a folder that can be written to and has room"):
            partial.mkdir(parents=True)
            model.reset()
            info = model.info()
            header = Header(model_name, info.framework, device=info.device, info=info)
            writer = _StepWriter(model, header, selection, loss if backward else None, optimizer, api_calls)
            forward_s: list[float] = []
            for step in range(steps):
                request = ForwardRequest(inputs, training, None if seed is None else seed + step, gradients=backward)
                name = f"step_{step}/rank_0"
                tell = functools.partial(progress or _quiet, step)
                forward_s.append(writer.write(DumpFolder(partial / name, root.shown_file(name)), request, tell))
            manifest = Manifest(model_name, steps, inputs, training, seed, writer.loss, optimizer, info)
            write_manifest(root, manifest)
            size_bytes = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
            partial.replace(final)
            return Recording(tuple(forward_s), size_bytes)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


class _StepWriter:
    """Runs and writes one step after the other. `loss` None: no backward."""

    def __init__(
        self,
        model: Model,
        header: Header,
        selection: Selection,
        loss: LossSpec | None,
        optimizer: OptimizerSpec | None,
        api_calls: bool,
    ) -> None:
        self.loss = loss
        self._api_calls = api_calls
        self._model = model
        self._header = header
        self._selection = selection
        self._optimizer = optimizer

    def write(self, into: DumpFolder, request: ForwardRequest, tell: Callable[[Boundary], None]) -> float:
        """Return how long the forward took."""
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
        with WritingThread(model, files, tell) as writing_forward:
            forward_s = model.forward(replace(request, record=options), writing_forward).wall_s
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
        finish(into, PARAMS, self._header, description, selection, HeldTensors(values, gradients), whole=True)
        write_report(into, self._header, description, [run], model.read_activations, selection=selection, files=files)
        if self._optimizer is not None:
            model.optimizer_step(self._optimizer)
        written = {} if begun is None else {name: values[name] for name in begun.unchanged()}
        write_weights(into, self._header, description, selection, model.read_parameters, whole=True, written=written)
        return forward_s

    def _read_gradients(self, names: Sequence[str]) -> Iterator[TensorStream]:
        return self._model.read_parameters(names, "gradient")


def _with_modes(description: ModelDescription, later: ModelDescription) -> ModelDescription:
    modes = {layer.route: layer.training for layer in later.layers}
    layers = tuple(replace(layer, training=modes.get(layer.route, layer.training)) for layer in description.layers)
    return replace(description, layers=layers)


def check_asked(folder: Path, steps: int, optimizer: OptimizerSpec | None, backward: bool) -> None:
    """Refuse, with BAD_CONFIG, a folder that holds something, and settings that contradict each other."""
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
