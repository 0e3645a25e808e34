"""Read what a loss that differs was computed from, the model's outputs, and what it sends back to them on either side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from padiff_rpc.align.run.pairing import pair_records
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict.read_rows import Rows, read_rows
from padiff_rpc.align.verdict.run_again import Again, Keeper, Lacking
from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.model.model import Boundary
from padiff_rpc.per_side import SIDES, PerSide, SideName
from padiff_rpc.result import Divergence


def of_loss(again: Again, step: StepResult, divergence: Divergence, facts: Evidence) -> Evidence:
    """Return the evidence with the model's first floating output that has a gradient, and both losses' gradients of it.

    Raises:
        Lacking: the models' outputs, or their gradients, are not recorded.
    """
    kept = PerSide(*(_run(again, step, side) for side in SIDES))
    outputs = [one for one in kept.base if one.phase == "forward" and one.side == "output"]
    for mine in (one for one in kept.base if one.phase == "backward" and one.side == "output"):
        for theirs in (one for one in kept.raw if one.phase == "backward" and one.side == "output"):
            for base, raw in pair_records(mine, theirs):
                if base is None or raw is None or base.name != raw.name or base.spec.shape != raw.spec.shape:
                    continue
                given = [record for one in outputs for record in one.records if record.name == base.name]
                rows = Rows.of(base.spec)
                gradients = [
                    _read(again, side, record.id, rows) for side, record in zip(SIDES, (base, raw), strict=True)
                ]
                output = _read(again, "base", given[0].id, rows) if given else None
                return replace(facts, output=output, of_output=PerSide(*gradients))
    raise Lacking("the losses' gradients of the outputs are not recorded")


def _run(again: Again, step: StepResult, side: SideName) -> list[Boundary]:
    keeper = Keeper(again.sides.models.of(side), ("", 0), ("", 0))
    again.forward(side, keeper, [""])
    again.backward(step, side, keeper)
    return [one for one in keeper.kept if one.route == "" and one.records]


def _read(again: Again, side: SideName, id: int, rows: Rows) -> np.ndarray:
    with again.sides.traffic.single(again.sides.models.of(side).read_activations([id])) as stream:
        return read_rows(stream, rows)
