"""Align two models one after the other: base runs and leaves a tape, its process ends, and only then raw begins."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from padiff_rpc.align.align import align
from padiff_rpc.align.preconditions import check_settings, refuse_shared_draws
from padiff_rpc.align.progress import OnProgress, Progress, quiet
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Boundary, Inputs, Model, ModelDescription, ModelInfo
from padiff_rpc.model.selection import Selection, asked_layers, narrowed
from padiff_rpc.result import Result
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_tape import Recording, record

OpenModel = Callable[[], Model]

_NOTE = "the models ran one after the other: base's had ended, and what it computed lay on disk, when raw's began"
_ROOM_HINT = (
    "point TMPDIR at a larger disk (not at one in memory), record fewer layers or steps, or compare the forward alone"
)


def align_sequentially(
    open_base: OpenModel,
    open_raw: OpenModel,
    base_inputs: Inputs,
    raw_inputs: Inputs,
    settings: AlignSettings,
    progress: OnProgress | None = None,
) -> Result:
    """Align, as align() does, two models of which this machine holds one at a time.

    Base is opened, run, recorded into a temporary tape below TMPDIR, and closed. Only then is raw opened. The tape gives raw its
    weights, is compared with it, and feeds it in single step. Both models are closed and the tape is gone when this returns or
    raises. Base's memory is freed as far as nobody else holds on to the model.

    Args:
        open_base: opens base.
        open_raw: opens raw.
        base_inputs: are the arguments of base's forward, by name.
        raw_inputs: are the arguments of raw's forward, by name.
        settings: say what is run and compared, and how.
        progress: is told how far the alignment has come, the recording of base included.

    Raises:
        PadiffError: as align() does, and at once where the settings are at fault; BAD_CONFIG where the disk has no room for the
            tape.
    """
    check_settings(settings)
    refuse_shared_draws(settings)
    begun = time.monotonic()
    tell = progress or quiet
    with tempfile.TemporaryDirectory(prefix="padiff-sequential-") as folder:
        tape = Path(folder) / "tape"
        info, recording = _record(open_base, base_inputs, settings, tape, tell)
        with _closing(open_raw()) as raw:
            base = RecordedModel(tape)
            taped = replace(settings, base_selection=base.selection)
            result = align(base, raw, base_inputs, raw_inputs, taped, tell)
    result.environment["base"] = asdict(info)
    result.notes = [*recording.notes, *result.notes, _NOTE]
    result.figures |= {
        "wall_s": round(time.monotonic() - begun, 3),
        "sequential": True,
        "tape_bytes": recording.size_bytes,
        "base_forward_s": [round(seconds, 4) for seconds in recording.forward_s],
    }
    return result


def _record(
    open_base: OpenModel, inputs: Inputs, settings: AlignSettings, tape: Path, tell: OnProgress
) -> tuple[ModelInfo, Recording]:
    """Run base and write its tape; base is closed in the end."""
    done = 0

    def heard(step: int, boundary: Boundary) -> None:
        nonlocal done
        done += 1
        tell(Progress(step, f"base {boundary.phase}", done, 0, boundary.route))

    with _closing(open_base()) as base:
        description = base.describe()
        trains = any(info.kind == "parameter" for info in description.parameters)
        backward = settings.diff_phase != "forward" and trains
        _check_room(description, settings, backward, tape.parent)
        try:
            recording = record(
                base,
                inputs,
                tape,
                model_name=description.class_name,
                steps=settings.steps,
                training=settings.training,
                seed=settings.seed,
                loss=settings.base_loss,
                optimizer=settings.base_optimizer if backward else None,
                backward=backward,
                selection=_selection(settings, description),
                api_calls=settings.api_calls and settings.diff_phase != "backward",
                floor=settings.measures_floor,
                progress=heard,
            )
        except PadiffError as err:
            if not isinstance(err.__cause__, OSError):
                raise
            raise PadiffError(
                f"base's records cannot be written to a tape in {tempfile.gettempdir()!r}: {err.__cause__}",
                reason=Reason.BAD_CONFIG,
                hint=_ROOM_HINT,
            ) from err
        return base.info(), recording


def _selection(settings: AlignSettings, base: ModelDescription) -> Selection:
    """Return which layers to record while raw's are unknown: all, where a glob matches none of base's and may be for raw's."""
    routes = [layer.route for layer in base.layers]
    foreign = any(not asked_layers(routes, (glob,), None) for glob in settings.layers)
    kept = asked_layers(routes, () if foreign else settings.layers, settings.depth)
    return narrowed(settings.base_selection, routes, kept)


def _check_room(description: ModelDescription, settings: AlignSettings, backward: bool, folder: Path) -> None:
    """Refuse where the disk has no room even for the values before and after an optimiser's step, and the gradients.

    The tensors that pass the layers come on top. Their size is not known before the model has run.
    """
    values = sum(info.spec.size_bytes for info in description.parameters)
    gradients = sum(info.spec.size_bytes for info in description.parameters if info.trainable) if backward else 0
    times = 2 if backward and settings.base_optimizer is not None else 1
    needed = settings.steps * (times * values + gradients)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PadiffError(
            f"the tape of base takes {_gib(needed)} for parameters and gradients alone, and {tempfile.gettempdir()!r} has "
            f"{_gib(free)} free",
            reason=Reason.BAD_CONFIG,
            hint=_ROOM_HINT,
        )


@contextmanager
def _closing(model: Model) -> Iterator[Model]:
    try:
        yield model
    finally:
        model.close()


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
