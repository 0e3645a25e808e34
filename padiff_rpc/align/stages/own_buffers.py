"""Compare the buffers that raw has computed itself, before an assignment overwrites them with base's.

A table of positions or of relative indices is computed from the configuration. Where raw computes it wrongly, an assignment would
hide that: with base's table in raw everything agrees, and with raw's own nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked", "_mean", "_variance")
"""The states of a training, which raw cannot have of itself."""


@dataclass(frozen=True)
class OwnBuffers:
    """The buffers of raw whose own values differ from base's.

    Attributes:
        failed: are the comparisons of those whose values no checkpoint brings.
        notes: tell of the others: a checkpoint has to bring base's values.
    """

    failed: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()


def compare_own_buffers(
    comparer: ParameterComparer, described: PerSide[ModelDescription], links: Sequence[ParameterLink]
) -> OwnBuffers:
    """Compare raw's own buffers with base's, within the tolerance of a forward, as two frameworks compute tables.

    Shapes and types that do not fit are left to the comparison that follows the assignment.

    Args:
        comparer: compares the two models' tensors.
        described: are the two models.
        links: say which tensors correspond; only buffers on both sides count, and no running statistics.
    """
    infos = described.map(
        lambda model: {name: info for info in model.parameters for name in (info.name, *info.aliases)}
    )
    tables = [
        link
        for link in links
        if link.special is None
        and all(infos.base[name].kind == "buffer" for name in link.base)
        and all(infos.raw[name].kind == "buffer" and name.rpartition(".")[2] not in _STATISTICS for name in link.raw)
    ]
    transient = {
        name
        for link in tables
        for name in link.raw
        if infos.raw[name].transient or any(infos.base[one].transient for one in link.base)
    }
    compared = comparer.compare(0, "forward", tables, "value").pairs
    differing = [replace(pair, stage="weights_before") for pair in compared if pair.failure in ("values", "nan")]
    why = "raw computes this buffer otherwise than base, and no checkpoint holds it"
    failed = [
        replace(pair, why=f"{why}; {pair.why}" if pair.why else why)
        for pair in differing
        if _full_name(pair) in transient
    ]
    overwritten = [_full_name(pair) for pair in differing if _full_name(pair) not in transient]
    note = (
        f"raw's own values of {_listed(overwritten)} differed from base's before the assignment: a checkpoint has to bring "
        "base's, or else the model differs"
    )
    return OwnBuffers(tuple(failed), (note,) if overwritten else ())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more buffers" if len(names) > 3 else "")


def _full_name(pair: Pair) -> str:
    return f"{pair.raw_route}.{pair.tensor}" if pair.raw_route else pair.tensor
