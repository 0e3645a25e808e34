"""What is kept of a judged boundary."""

from __future__ import annotations

import math
from dataclasses import replace

from padiff_rpc.align.run.judged_boundary import judged
from padiff_rpc.model.model import Boundary, Record
from padiff_rpc.tensors.tensor import Digest, DType, TensorSpec


def boundary(norm: float | None) -> Boundary:
    digest = Digest(1, None, None, norm, 0.0, norm or 0.0, 0, 0, bytes(16))
    record = Record(1, "0", TensorSpec(DType.F64, (1,)), digest)
    return Boundary(0, "forward", "fc", 0, "input", ("", 0), (record,))


def test_a_norm_whose_square_leaves_float64_is_infinite() -> None:
    assert math.inf == judged(boundary(1e200), boundary(1e200), (), keep_whole=False).square


def test_a_norm_that_was_not_asked_for_is_no_zero() -> None:
    assert math.isnan(judged(boundary(None), boundary(None), (), keep_whole=False).square)


def test_an_element_on_either_side_makes_a_boundary_that_is_not_zero() -> None:
    assert judged(boundary(0.0), boundary(0.0), (), keep_whole=False).is_zero
    assert not judged(boundary(0.0), boundary(1.0), (), keep_whole=False).is_zero
    assert not judged(boundary(1.0), boundary(0.0), (), keep_whole=False).is_zero


def test_a_mask_adds_nothing_to_what_a_layer_took_in() -> None:
    """Its large numbers would make noise of every gradient of a parameter that the layer holds itself."""
    taken = boundary(3.0)
    mask = replace(taken.records[0], digest=replace(taken.records[0].digest, norm=1e10, min=-1e9, max=0.0))
    both = replace(taken, phase="forward", side="input", records=(*taken.records, mask))
    assert 9.0 == judged(both, both, (), keep_whole=False).square
