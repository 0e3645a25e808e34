"""What the models' stores held during an alignment, for the result's figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from padiff_rpc.model.model import Model


def store_of(model: Model) -> dict[str, int] | None:
    """Return budgets, peaks and what was spilled, in bytes; None for a model without a store, such as a dump."""
    read: Any = getattr(model, "store_figures", None)
    if read is None:
        return None
    info, figures = model.info(), asdict(read())
    budgets = {"memory_budget_bytes": info.store_memory_bytes, "disk_budget_bytes": info.store_disk_bytes}
    return budgets | {name: figures[name] for name in ("peak_memory_bytes", "peak_disk_bytes", "spilled_bytes")}
