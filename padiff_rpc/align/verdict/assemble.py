"""Put the result of an alignment together from its findings."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict.blame import Blame
from padiff_rpc.align.verdict.guesses import open_guesses
from padiff_rpc.match.extras import settled
from padiff_rpc.model.model import LossSpec, Model, Storing, Transporting
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Divergence, Extra, Pair, Result


def blame_of(prepared: Prepared) -> Blame:
    """Return the Blame that finds these models' layers at fault."""
    routes = {pair.base: pair.raw for pair in prepared.matching.layers}
    inferred = {pair.base for pair in prepared.matching.layers if not pair.certain}
    return Blame(prepared.described, routes, prepared.scope.hidden, inferred)


def assemble(
    prepared: Prepared,
    divergences: list[Divergence],
    pairs: list[Pair],
    extras: Sequence[Extra],
    notes: Sequence[str],
    lacking: Sequence[str],
    figures: Mapping[str, Any],
) -> Result:
    """Return the result: it is aligned where nothing failed, and no comparison that had to be made is lacking.

    Args:
        prepared: are the matched models and the settings.
        divergences: are the layers at fault.
        pairs: are all comparisons.
        extras: are what one side alone has, each with what it comes to.
        notes: tell what a reader must know.
        lacking: tell which comparisons had to be made and were not; they become notes, too.
        figures: hold times and sizes.
    """
    matching = prepared.matching
    unmatched = PerSide(matching.unmatched_base, matching.unmatched_raw)
    base, raw = (
        settled(entries, [extra for extra in extras if extra.side == side]) for side, entries in unmatched.items()
    )
    alone = any(entry.fails for entry in (*base, *raw)) or any(extra.status == "fails" for extra in extras)
    failed = any(pair.status == "fail" for pair in pairs) or alone
    return Result(
        aligned=not failed and not lacking,
        divergences=divergences,
        pairs=pairs,
        unmatched_base=base,
        unmatched_raw=raw,
        notes=[*notes, *lacking],
        settings=_plain_settings(prepared.asked),
        environment=dict(prepared.sides.models.map(lambda model: asdict(model.info())).items()),
        figures=dict(figures),
        trees={
            side: [(layer.route, layer.class_name) for layer in description.layers]
            for side, description in prepared.described.items()
        },
        paired_routes=[(pair.base, pair.raw) for pair in matching.layers],
        inferred_routes=[(pair.base, pair.raw) for pair in matching.layers if not pair.certain],
        guessed_routes=open_guesses(matching.guessed_routes, pairs),
        extras=list(extras),
        lacking=list(lacking),
    )


def _plain_settings(settings: AlignSettings) -> dict[str, Any]:
    """Flatten to JSON values; the tensors of loss targets are shown by their specs."""

    def loss(spec: LossSpec) -> dict[str, Any]:
        targets = {name: str(tensor.spec) for name, tensor in spec.targets.items()}
        return {"name": spec.name, "options": dict(spec.options), "targets": targets}

    shallow = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    shallow.update(
        compare=asdict(settings.compare),
        base_loss=loss(settings.base_loss),
        raw_loss=loss(settings.raw_loss),
        base_optimizer=settings.base_optimizer and asdict(settings.base_optimizer),
        raw_optimizer=settings.raw_optimizer and asdict(settings.raw_optimizer),
        base_selection=dict(settings.base_selection.left_out),
        raw_selection=dict(settings.raw_selection.left_out),
    )
    return shallow


def divergences_of(blame: Blame, steps: Sequence[StepResult], single_step: bool) -> list[Divergence]:
    """Return the divergences of all steps, one per layer. Without single step, a step after the first diverging one inherits."""
    found: dict[str, Divergence] = {}
    for one in steps:
        for divergence in blame.divergences(one, single_step):
            found.setdefault(divergence.base.route, divergence)
        if found and not single_step:
            break
    return list(found.values())


def peak_bytes() -> int:
    """Return the peak resident size of this process (ru_maxrss is in KiB on Linux, and in bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def store_of(model: Model) -> dict[str, int] | None:
    """Return the size of a model's record store, in bytes; None for a model without a store.

    The keys are memory_budget_bytes, disk_budget_bytes, peak_memory_bytes, peak_disk_bytes and spilled_bytes (all that was
    written to disk since the run began).
    """
    if not isinstance(model, Storing):
        return None
    info, figures = model.info(), asdict(model.store_figures())
    budgets = {"memory_budget_bytes": info.store_memory_bytes, "disk_budget_bytes": info.store_disk_bytes}
    return budgets | {name: figures[name] for name in ("peak_memory_bytes", "peak_disk_bytes", "spilled_bytes")}


def transport_of(model: Model) -> str | None:
    """Return how a model's tensors reach this process; None for one that has them here."""
    return model.transport if isinstance(model, Transporting) else None
