"""Open the models of a run: launch, connect or read, all at the same time, and end them whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from padiff_clients.plan import SidePlan
from padiff_rpc.model.model import Model
from padiff_rpc.remote.connect import CONNECT_TIMEOUT_S, connect
from padiff_rpc.remote.launch import launch
from padiff_rpc.tape.recorded_model import RecordedModel


@contextlib.contextmanager
def opened(plans: Sequence[SidePlan]) -> Iterator[list[Model]]:
    """Yield a model for each plan, and close all of them at the end of the block.

    The workers start at the same time, since importing a framework takes seconds.
    """
    with ThreadPoolExecutor(len(plans), thread_name_prefix="padiff-open") as pool, contextlib.ExitStack() as stack:
        futures = [pool.submit(open_model, plan) for plan in plans]
        try:
            yield [future.result() for future in futures]
        finally:
            # One may have come up although the other failed, or Ctrl-C came first.
            for future in futures:
                if future.exception() is None:
                    stack.callback(future.result().close)


def open_model(plan: SidePlan) -> Model:
    """Launch, connect to or read one model. Whoever gets it closes it."""
    if plan.spec.kind == "tape":
        return RecordedModel(plan.spec.target)
    if plan.spec.kind == "address":
        return connect(
            plan.spec.text,
            token=plan.token,
            tls=plan.tls_ca or False,
            connect_timeout_s=plan.connect_timeout_s or CONNECT_TIMEOUT_S,
        )
    return launch(
        plan.spec.text,
        python=plan.python,
        device=plan.device,
        dtype=plan.dtype,
        model_args=dict(plan.args),
        losses=dict(plan.losses),
        optimizers=dict(plan.optimizers),
        threads=plan.threads,
        store_memory_bytes=plan.store_memory_bytes,
        store_disk_bytes=plan.store_disk_bytes,
    )
