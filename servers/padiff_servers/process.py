"""How a worker sets up its process before a framework is loaded."""

from __future__ import annotations

import os

from padiff_rpc.model.store.budgets import default_memory_bytes
from padiff_rpc.system.malloc import keep_freed_memory


def prepare_process() -> None:
    """Have threads sleep while they wait for each other, and keep freed memory for later steps.

    malloc then keeps what a step frees for the next step of its session, up to the store's default budget at the end of
    the heap.
    """
    # Read when a framework loads libgomp. By default its threads spin while they wait for each other, which takes the cores
    # from the other side's worker where both share a host.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory(kept_bytes=default_memory_bytes())
