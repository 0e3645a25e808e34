"""The padding row of an embedding, which paddle returns as zeros and whose gradient both frameworks drop."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import square
from padiff_rpc.result import Cause

_CLEAN = 1e-8
"""The share of the squared difference that may lie outside the padding row."""


def padding_row(evidence: Evidence) -> Sequence[Cause]:
    """Find that the sides differ at one index of a table alone, where one of them holds zeros."""
    if evidence.stage == "forward":
        return _output(evidence)
    pair = evidence.moves if evidence.stage == "weights" else evidence.pair
    if evidence.stage not in ("grads", "weights") or pair is None or not _is_table(evidence):
        return ()
    base, raw = pair
    rows = ((raw - base) ** 2).reshape(len(base), -1).sum(axis=1)
    at = int(rows.argmax())
    if rows.sum() - rows[at] > _CLEAN * rows[at]:
        return ()
    silent = "base" if not base[at].any() else "raw" if not raw[at].any() else ""
    if not silent:
        return ()
    what = "gradient" if evidence.stage == "grads" else "update"
    other = "raw" if silent == "base" else "base"
    return (
        Cause(
            "padding_idx",
            f"{silent} treats index {at} as padding (padding_idx), {other} trains its row",
            f"the {what} of row {at} is zero in {silent} and is not in {other}; all other rows agree",
            0.97,
        ),
    )


def _is_table(evidence: Evidence) -> bool:
    return _is_embedding(evidence) and evidence.base is not None and evidence.base.ndim == 2 and len(evidence.base) > 2


def _is_embedding(evidence: Evidence) -> bool:
    return any("embed" in layer.class_name.lower() for layer in evidence.layers)


def _output(evidence: Evidence) -> Sequence[Cause]:
    pair = evidence.pair
    if pair is None or pair[0].ndim < 2 or not _is_embedding(evidence):
        return ()
    base, raw = pair
    for name, ids in evidence.ids.items():
        if ids.shape != base.shape[:-1]:
            continue
        apart = ((raw - base) ** 2).sum(axis=-1)
        value = ids.reshape(-1)[int(apart.argmax())]
        here = ids == value
        if here.all() or apart[~here].sum() > _CLEAN * apart.sum():
            continue
        for side, zero, other in (("raw", raw, base), ("base", base, raw)):
            if not zero[here].any() and square(other[here]):
                also = "; paddle returns zeros at padding_idx, torch the row" if side == _paddles(evidence) else ""
                return (
                    Cause(
                        "padding_idx",
                        f"{side} returns zeros where {name} is {value:g} (padding_idx){also}",
                        f"the two differ only at the {int(here.sum())} places where {name} is {value:g}",
                        0.97,
                    ),
                )
    return ()


def _paddles(evidence: Evidence) -> str:
    sides = {layer.framework: side for side, layer in evidence.layers.items()}
    return sides.get("paddle", "") if len(sides) == 2 else ""
