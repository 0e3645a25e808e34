"""Run a step on copies of both models, in float64 if need be, and compare it; both are left as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.progress import quiet
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.sides import Sides
from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.stages.extra_tensors import ExtraTensors
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.step import StepRunner
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.errors import PadiffError
from padiff_rpc.model import nested
from padiff_rpc.model.model import Copies, Inputs, Lending, Model, ModelDescription, ParameterInfo
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.tensors.float64 import to_float64
from padiff_rpc.tensors.tensor import DType, Tensor, TensorSpec

_MOST_BYTES = 4 << 30
"""Of parameters of at most this size a worker holds copies beside them, in float64 of twice the size."""


def step_on_copies(
    prepared: Prepared,
    threads: SideThreads,
    inputs: PerSide[Inputs],
    step: int,
    copies: Copies,
    single_step: bool = False,
) -> tuple[StepResult | None, str]:
    """Run one step on copies of both models, without optimisers, from base's weights, and compare it by the table.

    Args:
        prepared: are the models, matched.
        threads: run the sides.
        inputs: are each side's inputs.
        step: is the number of the step whose random draws are used.
        copies: tells in which type both compute.
        single_step: has raw's layers start from base's tensors.

    Returns:
        The comparisons, and ""; or those until a model raised, or None, and why there are no more.
    """
    models, times = prepared.sides.models, "in float64" if copies == "float64" else "once more"
    why_not = cannot_copy(prepared, "base", times) or cannot_copy(prepared, "raw", times)
    if why_not:
        return None, why_not
    given, described = inputs, prepared.described
    if copies == "float64":
        given, described = inputs.map(_as_float64), described.map(_in_float64)
    try:
        with _working_on(models, threads, copies):
            found = _run(prepared, threads, given, described, step, single_step)
    except PadiffError as err:  # the comparisons that were made stand, whatever this run meets
        return None, f"{times} {err}"
    return found, "" if found.stopped is None else f"{times} {found.stopped.raised}"


def cannot_copy(prepared: Prepared, side: SideName, times: str) -> str:
    """Return why a side cannot be run `times` ("once more") on copies of its tensors; "" where it can."""
    if not isinstance(prepared.sides.models.of(side), Lending):
        return f"a dump cannot be run {times}"
    size_bytes = sum(info.spec.size_bytes for info in prepared.described.of(side).parameters)
    if size_bytes > _MOST_BYTES:
        return f"{side} holds {size_bytes >> 30} GiB, too much to hold copies of"
    return ""


@contextmanager
def _working_on(models: PerSide[Model], threads: SideThreads, copies: Copies) -> Iterator[None]:
    def go(copies: Copies | None) -> None:
        def of(model: Any) -> Callable[[], None]:
            return lambda: model.work_on(copies)

        threads.both(of(models.base), of(models.raw))

    try:
        go(copies)
        yield
    finally:
        go(None)


def _in_float64(description: ModelDescription) -> ModelDescription:
    def of(info: ParameterInfo) -> ParameterInfo:
        return replace(info, spec=TensorSpec(DType.F64, info.spec.shape)) if info.spec.dtype.is_floating else info

    return replace(description, parameters=tuple(map(of, description.parameters)))


def _run(
    prepared: Prepared,
    threads: SideThreads,
    inputs: PerSide[Inputs],
    described: PerSide[ModelDescription],
    step: int,
    single_step: bool,
) -> StepResult:
    asked = prepared.settings
    settings = replace(
        asked,
        compare=CompareRules(allow_dtype_difference=True),
        steps=1,
        seed=None if asked.seed is None else asked.seed + step,
        base_optimizer=None,
        raw_optimizer=None,
        fail_fast=False,
        tolerance="table",
        single_step=single_step,
        diff_phase="both" if asked.diff_phase == "backward" else asked.diff_phase,
    )
    old = prepared.sides
    sides = Sides(old.base, old.raw, settings.compare, single_step, old.traffic, old.attention)
    again = replace(prepared, sides=sides, described=described, settings=settings)
    if settings.assign:  # steps leave the sides' weights apart by rounding
        assign_weights(sides.base, sides.raw, prepared.matching)
    comparer = ParameterComparer(sides, threads, described)
    return StepRunner(again, threads, comparer, ExtraTensors(again), quiet).run(0, inputs)


def _as_float64(inputs: Inputs) -> Inputs:
    """Return inputs with their floating tensors in float64, wherever they are nested."""
    found = nested.flatten(inputs, _is_tensor)
    cast = {name: _cast(tensor) for name, tensor in found if tensor.spec.dtype.is_floating}
    return nested.rebuild(inputs, _is_tensor, cast)


def _cast(tensor: Tensor) -> Tensor:
    items = np.frombuffer(tensor.data, tensor.spec.dtype.storage)
    return Tensor.from_array(np.array(to_float64(items, tensor.spec.dtype)).reshape(tensor.spec.shape), DType.F64)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
