"""Convert a checkpoint: write base's weights in raw's names, layouts and dtypes, once an aligned run has verified the map."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from padiff_rpc.align.align import OnAssigned
from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.prepare import match_described, with_raw_statements
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.checkpoint.write_checkpoint import check_format, written
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.model.model import Model, ModelDescription
from padiff_rpc.model.part_names import stack_name
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import TensorSpec
from padiff_rpc.version import __version__

_LIBRARIES = {"torch": "pt", "paddle": "pd"}
"""What libraries call the frameworks in the metadata of safetensors, where they look for it."""
Verify = Callable[[OnAssigned], Result]
"""Aligns the two models, tells by which map raw has got base's weights, and returns the result."""


@dataclass(frozen=True)
class Conversion:
    """The outcome of a conversion.

    Attributes:
        result: the result of the run that verified the map; None where none was asked for.
        is_written: whether the file was written.
        specs: the specs of the tensors that it holds, by name.
        kept: those of them that have raw's own values, since nothing of base corresponds.
        notes: what the map takes for granted, and what the assignment tells, where no run has told it.
    """

    result: Result | None
    is_written: bool
    specs: dict[str, TensorSpec]
    kept: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all tensors."""
        return sum(spec.size_bytes for spec in self.specs.values())


class _Differs(Exception):
    """Keeps what has been written from taking its place."""


def convert_checkpoint(
    models: PerSide[Model], path: Path, settings: AlignSettings, verify: Verify | None, *, unverified: bool = False
) -> Conversion:
    """Write a checkpoint of raw that holds base's weights, one tensor at a time.

    Base's weights are written into raw, and read from there, before either model has run with them. Buffers that the framework
    keeps out of checkpoints are left out; what nothing of base corresponds to has raw's own value. The file appears once `verify`
    has found the models aligned; where it has not, there is no file.

    Args:
        models: the two models; raw is one that runs.
        path: the file; its suffix names the format.
        settings: say how the models correspond; `verify` aligns them by the same ones.
        verify: aligns the models; None for an unverified file.
        unverified: writes the file whatever `verify` finds. Its metadata then say that it was not verified.

    Raises:
        PadiffError: BAD_CONFIG for settings that leave a part unverified, without both `verify` and `unverified`, or for
            a file that cannot be written; MODELS_DO_NOT_MATCH where base's weights cannot be assigned; NOT_SUPPORTED for a dtype
            that the format lacks; whatever `verify` raises.
    """
    _check(models.raw, settings, verify, unverified)
    described = models.map(lambda model: model.describe())
    specs = _saved(described.raw)
    check_format(path, specs)
    result: Result | None = None
    is_written = True
    notes: tuple[str, ...] = ()
    kept: list[str] = []
    try:
        with ExitStack() as file:

            def write(matching: Matching) -> None:
                streams = models.raw.read_parameters(list(specs))
                file.enter_context(written(path, specs, streams, _metadata(described, unverified)))
                linked = {stack_name(name) for link in matching.links for name in link.raw}
                kept.extend(info.name for info in described.raw.parameters if info.name in specs.keys() - linked)

            if verify is None:
                notes = _assign(models, described, settings, write)
            else:
                result = verify(write)
                if not result.aligned and not unverified:
                    raise _Differs
    except _Differs:
        is_written = False
    return Conversion(result, is_written, specs, tuple(kept), notes)


def _assign(
    models: PerSide[Model], described: PerSide[ModelDescription], settings: AlignSettings, assigned: OnAssigned
) -> tuple[str, ...]:
    """Give raw base's weights by the most plausible map, and return what it takes for granted."""
    matching = match_described(described, with_raw_statements(models.raw, settings))
    report = assign_weights(models.base, models.raw, matching)
    assigned(matching)
    return (*matching.sentences, *report.notes)


def _check(raw: Model, settings: AlignSettings, verify: Verify | None, unverified: bool) -> None:
    if verify is None and not unverified:
        raise PadiffError(
            "nothing verifies the map between the two models: no inputs are given to align them on",
            reason=Reason.BAD_CONFIG,
            hint="give --inputs, or take --unverified upon you",
        )
    if raw.info().recorded:
        raise PadiffError(
            "raw is a dump, which takes no weights", reason=Reason.BAD_CONFIG, hint="give the model itself as raw"
        )
    left_out = [
        name
        for name, given in (
            ("--no-assign", not settings.assign),
            ("--layers", settings.layers),
            ("--depth", settings.depth is not None),
            ("a selection", any(selection.left_out for selection in settings.selections)),
        )
        if given
    ]
    if left_out:
        raise PadiffError(
            f"a conversion verifies the whole model, and {', '.join(left_out)} would leave a part unverified",
            reason=Reason.BAD_CONFIG,
            hint=f"leave {', '.join(left_out)} out",
        )


def _saved(raw: ModelDescription) -> dict[str, TensorSpec]:
    """Return the specs of the tensors that a checkpoint of raw holds, under all their names."""
    kept = [info for info in raw.parameters if not info.transient]
    return {name: info.spec for info in kept for name in (info.name, *info.aliases)}


def _metadata(described: PerSide[ModelDescription], unverified: bool) -> dict[str, str]:
    library = _LIBRARIES.get(described.raw.framework)
    return {
        **({"format": library} if library else {}),
        "converted_by": f"padiff-rpc {__version__}",
        "converted_from": f"{described.base.framework} {described.base.class_name}",
        "verified": "false" if unverified else "true",
    }
