"""Pair the recorded tensors of one boundary of base and the same boundary of raw."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from padiff_rpc.model.model import Boundary, Record
from padiff_rpc.tensors.tensor import DType


def pair_records(base: Boundary, raw: Boundary) -> Iterator[tuple[Record | None, Record | None]]:
    """Pair the tensors of two boundaries by name, and those that are left by likeness; one without a partner comes with None.

    Names alone will not do: frameworks pass the same tensor by position on one side and by keyword on the other, or nest it
    differently (an LSTM cell's `1` is the other's `1.1`).
    """
    raw_by_name = {record.name: record for record in raw.records}
    base_names = {record.name for record in base.records}
    spare = [record for record in raw.records if record.name not in base_names]
    for record in base.records:
        partner = raw_by_name.get(record.name)
        if partner is None and spare:
            partner = min(spare, key=partial(_unlikeness, record))
            spare.remove(partner)
        yield record, partner
    for record in spare:
        yield None, record


def _unlikeness(mine: Record, other: Record) -> tuple[bool, bool, float]:
    """Order candidates for a tensor: of its spec, then equal, then nearest in size; the first one among equals."""
    one, two = mine.digest, other.digest
    apart = abs(one.min - two.min) + abs(one.max - two.max)
    if one.norm is not None and two.norm is not None:
        apart += abs(one.norm - two.norm)
    return mine.spec != other.spec, mine.digest.hash != other.digest.hash, apart if apart == apart else float("inf")


def are_of_one_kind(mine: Record, other: Record) -> bool:
    """Tell whether both tensors are boolean, or both integer, floating or complex: tensors of two kinds are not comparable."""
    return _kind(mine.spec.dtype) == _kind(other.spec.dtype)


def _kind(dtype: DType) -> str:
    # bfloat16 and float8 are stored as integers.
    return "f" if dtype.is_floating else dtype.storage.kind.replace("u", "i")
