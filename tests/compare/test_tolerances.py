"""The table: complete, ordered, and between healthy pairs and real bugs."""

from __future__ import annotations

import pytest

from padiff_rpc.compare.tolerances import EPSILON, tolerance
from padiff_rpc.result import STAGES, Stage
from padiff_rpc.tensors.tensor import DType


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_every_floating_type_and_stage_has_a_tolerance_that_grows_with_epsilon(stage: Stage, single_step: bool) -> None:
    types = sorted((dtype for dtype in DType if dtype.is_floating), key=EPSILON.__getitem__)
    rtols = [tolerance(dtype, dtype, stage, single_step).rtol for dtype in types]
    assert rtols == sorted(rtols)
    assert len(types) == 6
    for dtype in types:
        allowed = tolerance(dtype, dtype, stage, single_step)
        assert allowed.rtol >= EPSILON[dtype]
        assert allowed.factor * allowed.rtol <= 1.0


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype.is_floating])
@pytest.mark.parametrize("stage", STAGES)
def test_single_step_is_never_looser(dtype: DType, stage: Stage) -> None:
    single, whole = tolerance(dtype, dtype, stage, True), tolerance(dtype, dtype, stage, False)
    assert single.rtol <= whole.rtol
    assert single.rtol * single.factor <= whole.rtol * whole.factor


def test_less_precise_type_decides_whichever_side_has_it() -> None:
    half = tolerance(DType.BF16, DType.BF16, "forward", False)
    assert tolerance(DType.BF16, DType.F32, "forward", False) == half
    assert tolerance(DType.F32, DType.BF16, "forward", False) == half
    assert tolerance(DType.F64, DType.F32, "forward", False) == tolerance(DType.F32, DType.F32, "forward", False)


def test_complex_types_are_judged_as_their_parts() -> None:
    assert tolerance(DType.C64, DType.C128, "grads", False) == tolerance(DType.F32, DType.F32, "grads", False)
    assert tolerance(DType.C128, DType.C128, "grads", True) == tolerance(DType.F64, DType.F64, "grads", True)


# Relative L2 errors measured on real pairs (see the table's comments).
@pytest.mark.parametrize(
    ("dtype", "stage", "single_step", "healthy"),
    [
        (DType.F32, "forward", False, 5.1e-6),
        (DType.F32, "backward", False, 8.1e-3),
        (DType.F32, "grads", False, 1.1e-2),
        (DType.F32, "weights", False, 2.2e-4),
        (DType.F32, "forward", True, 8.3e-7),
        (DType.F32, "backward", True, 8.3e-7),
        (DType.F32, "grads", True, 4.0e-6),
        (DType.F64, "forward", False, 1.1e-12),
        (DType.F64, "backward", False, 2.1e-8),
        (DType.F64, "buffers", False, 1.7e-7),
        (DType.BF16, "forward", False, 1.0e-2),
        (DType.BF16, "backward", False, 7.8e-2),
        (DType.F16, "forward", False, 1.4e-3),
    ],
)
def test_healthy_pairs_keep_a_distance_from_the_tolerance(
    dtype: DType, stage: Stage, single_step: bool, healthy: float
) -> None:
    assert tolerance(dtype, dtype, stage, single_step).rtol >= 3 * healthy


@pytest.mark.parametrize(
    ("stage", "single_step", "bug"),
    [
        ("forward", False, 2.0e-3),  # LayerNorm epsilon 1e-3 instead of 1e-12
        ("forward", False, 4.6e-4),  # GELU by tanh instead of erf, trained network
        ("forward", True, 9.8e-5),  # the same on narrow normal inputs
        ("forward", False, 3.2e-1),  # ReLU6 instead of ReLU
        ("buffers", False, 4.0e-1),  # BatchNorm momentum 0.1 instead of 0.9
        ("backward", False, 1.0e-1),  # a tenth of a gradient missing
    ],
)
def test_real_bugs_are_beyond_the_tolerance_of_float32(stage: Stage, single_step: bool, bug: float) -> None:
    assert tolerance(DType.F32, DType.F32, stage, single_step).rtol <= bug / 2
