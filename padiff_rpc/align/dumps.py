"""What a dump cannot do is refused, and what it does not hold is not held against the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.model.model import Model, ModelDescription
from padiff_rpc.result import Unmatched


def check_dumps(
    base: Model, raw: Model, described: tuple[ModelDescription, ModelDescription], settings: AlignSettings
) -> None:
    """Refuse, with BAD_CONFIG, what the dumps among the two sides cannot do."""
    if settings.assign and described[0].unrecorded == "tensors":
        raise PadiffError(
            "base is a dump that holds no parameters, so that none can be assigned to raw",
            reason=Reason.BAD_CONFIG,
            hint="dump the parameters too (params.json), or turn the assignment off (assign=False, auto_init=False)",
        )
    if not raw.info().recorded:
        return
    if settings.assign:
        raise PadiffError(
            "raw is a dump, and base's weights cannot be assigned to it",
            reason=Reason.BAD_CONFIG,
            hint="turn the assignment off (assign=False, auto_init=False), or make the dump base",
        )
    if settings.single_step:
        raise PadiffError(
            "raw is a dump, and single step hands base's tensors to raw's layers while they run",
            reason=Reason.BAD_CONFIG,
            hint="compare without single step, or make the dump base and raw the model that runs",
        )


def without_unrecorded(matching: Matching, base: ModelDescription, raw: ModelDescription) -> Matching:
    """Return the matching without links to tensors that no dump holds, and with their absence excused."""
    links = matching.links
    notes = list(matching.notes)
    for side, description in (("base", base), ("raw", raw)):
        if description.unrecorded == "tensors":
            links = ()
            notes.append(f"{side} is a dump that holds no parameters and buffers: these were not compared")
    return replace(
        matching,
        links=links,
        notes=tuple(notes),
        unmatched_base=_excused(matching.unmatched_base, raw, "raw"),
        unmatched_raw=_excused(matching.unmatched_raw, base, "base"),
    )


def _excused(entries: Sequence[Unmatched], other: ModelDescription, other_side: str) -> tuple[Unmatched, ...]:
    """Let tensors stand alone of whose kind the other side's dump lists none; what it lists must correspond."""
    kinds = {"": (), "buffers": ("buffer",), "tensors": ("parameter", "buffer")}[other.unrecorded]
    absent = set(kinds) - {info.kind for info in other.parameters}
    return tuple(
        replace(entry, why=f"{other_side} is a dump that does not hold {entry.what}s", fails=False)
        if entry.fails and entry.what in absent
        else entry
        for entry in entries
    )
