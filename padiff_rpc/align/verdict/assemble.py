"""Put together the result of an alignment from what was found."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.sides import Sides
from padiff_rpc.align.stages.findings import StepFindings
from padiff_rpc.align.verdict.blame import Blame
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.scope import Scope
from padiff_rpc.model.model import Model, ModelDescription
from padiff_rpc.result import Divergence, Pair, Result

Described = tuple[ModelDescription, ModelDescription]


def blame_of(described: Described, matching: Matching, scope: Scope) -> Blame:
    """Return who finds the layers at fault."""
    return Blame(*described, {pair.base: pair.raw for pair in matching.layers}, scope.hidden)


def assemble(
    sides: Sides,
    described: Described,
    matching: Matching,
    settings: AlignSettings,
    divergences: list[Divergence],
    pairs: list[Pair],
    notes: Sequence[str],
    lacking: Sequence[str],
    figures: Mapping[str, Any],
) -> Result:
    """Return the result: aligned where nothing failed, and nothing that had to be compared is lacking."""
    unmatched = (*matching.unmatched_base, *matching.unmatched_raw)
    failed = any(pair.status == "fail" for pair in pairs) or any(item.fails for item in unmatched)
    return Result(
        aligned=not failed and not lacking,
        divergences=divergences,
        pairs=pairs,
        unmatched_base=list(matching.unmatched_base),
        unmatched_raw=list(matching.unmatched_raw),
        notes=[*notes, *lacking],
        settings=_plain_settings(settings),
        environment={"base": asdict(sides.base.info()), "raw": asdict(sides.raw.info())},
        figures=dict(figures),
        trees={
            side: [(layer.route, layer.class_name) for layer in description.layers]
            for side, description in zip(("base", "raw"), described, strict=True)
        },
        paired_routes=[(pair.base, pair.raw) for pair in matching.layers],
    )


def _plain_settings(settings: AlignSettings) -> dict[str, Any]:
    """Flatten to JSON values; the tensors of loss targets are shown by their specs."""

    def loss(side: str) -> dict[str, Any]:
        spec = getattr(settings, f"{side}_loss")
        targets = {name: str(tensor.spec) for name, tensor in spec.targets.items()}
        return {"name": spec.name, "options": dict(spec.options), "targets": targets}

    shallow = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    shallow.update(
        compare=asdict(settings.compare),
        base_loss=loss("base"),
        raw_loss=loss("raw"),
        base_optimizer=settings.base_optimizer and asdict(settings.base_optimizer),
        raw_optimizer=settings.raw_optimizer and asdict(settings.raw_optimizer),
        base_selection=dict(settings.base_selection.left_out),
        raw_selection=dict(settings.raw_selection.left_out),
    )
    return shallow


def divergences_of(blame: Blame, findings: list[StepFindings], single_step: bool) -> list[Divergence]:
    """Without single step, a step after the first that diverged only inherits."""
    found: dict[str, Divergence] = {}
    for one in findings:
        for divergence in blame.divergences(one, single_step):
            found.setdefault(divergence.base.route, divergence)
        if found and not single_step:
            break
    return list(found.values())


def peak_bytes() -> int:
    """Peak resident size of this process (ru_maxrss: KiB on Linux, bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def store_of(model: Model) -> dict[str, int] | None:
    """Return budgets, peaks and what was spilled, in bytes; None for a model without a store, such as a dump."""
    read: Any = getattr(model, "store_figures", None)
    if read is None:
        return None
    info, figures = model.info(), asdict(read())
    budgets = {"memory_budget_bytes": info.store_memory_bytes, "disk_budget_bytes": info.store_disk_bytes}
    return budgets | {name: figures[name] for name in ("peak_memory_bytes", "peak_disk_bytes", "spilled_bytes")}
