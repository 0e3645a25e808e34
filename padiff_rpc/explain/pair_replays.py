"""Pair the tensors of two replays of one layer: outputs, gradients of inputs, gradients of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from padiff_rpc.align.assign.in_raw_layout import in_raw_layout
from padiff_rpc.compare.masks import masked_scores, may_be_scores, without
from padiff_rpc.explain.judgement import Quantity
from padiff_rpc.explain.layer_in_step import LayerInStep
from padiff_rpc.explain.replays import CannotJudge, Replayed
from padiff_rpc.match.pair_records import are_of_one_kind, pair_records
from padiff_rpc.model.part_names import parted
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import DType, Tensor

Key = tuple[Quantity, str, str]
"""What a tensor is, and its names in base and in raw."""


@dataclass
class Paired:
    """The tensors of both sides, base's in raw's layout.

    Attributes:
        tensors: Both sides' tensors, by what they are.
        missing: Gradients that one side alone has, in words.
        not_compared: What has no partner, or cannot be compared, in words.
    """

    tensors: dict[Key, PerSide[Tensor]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)


def pair_replays(layer: LayerInStep, replays: PerSide[Replayed], inputs: PerSide[Replayed] | None = None) -> Paired:
    """Pair what both sides' replays gave.

    Args:
        layer: The layer.
        replays: One replay of each side.
        inputs: The replays whose inputs tell which are equal; None for these.

    Raises:
        CannotJudge: An output has another shape, or is of another kind, on the other side, or there is none.
    """
    paired = Paired()
    _pair_outputs(replays, paired)
    _pair_input_gradients(replays, inputs or replays, paired)
    _pair_parameter_gradients(layer, replays, paired)
    return paired


def _pair_outputs(replays: PerSide[Replayed], paired: Paired) -> None:
    base, raw = replays
    for one, other in pair_records(base.outputs, raw.outputs):
        if one is None or other is None:
            side, record = ("raw", other) if one is None else ("base", one)
            assert record is not None
            paired.not_compared.append(f"{side} alone returns {record.name}")
            continue
        if one.spec.shape != other.spec.shape or not are_of_one_kind(one, other):
            raise CannotJudge(f"its output {one.name} is {one.spec} in base, and {other.name} {other.spec} in raw")
        found = PerSide(base.tensors[one.id], raw.tensors[other.id])
        masked = (
            masked_scores(found.base, found.raw)
            if may_be_scores(one.spec, one.digest, other.spec, other.digest)
            else None
        )
        if masked is not None and np.array_equal(*masked):
            found = found.map(lambda tensor, at=masked[0]: without(tensor, at))
        paired.tensors["output", one.name, other.name] = found
    if not paired.tensors:
        raise CannotJudge("it returns no tensor on either side")


def _pair_input_gradients(replays: PerSide[Replayed], takers: PerSide[Replayed], paired: Paired) -> None:
    """Pair the gradients of equal inputs.

    One tensor may come under several names (attention's q, k, v), under more of them on one side than on the other. What its
    gradients under all of them add up to, is the same on both.
    """
    names = takers.map(_by_content)
    gradients = replays.map(lambda replay: replay.input_gradients)
    for content in dict.fromkeys((*names.base, *names.raw)):
        mine, theirs = names.base.get(content, []), names.raw.get(content, [])
        if not mine or not theirs:
            side = "base" if mine else "raw"
            paired.not_compared.append(f"{side}'s own input {', '.join(mine or theirs)} has no equal on the other side")
            continue
        for one, other in _one_by_one(mine, theirs, gradients):
            found = PerSide(_total(one, gradients.base), _total(other, gradients.raw))
            key: Key = ("input gradient", "+".join(one), "+".join(other))
            _pair(paired, key, found)


def _by_content(replay: Replayed) -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = {}
    for record in replay.inputs.records:
        if record.spec.dtype.is_floating:
            found.setdefault(record.digest.hash, []).append(record.name)
    return found


def _one_by_one(
    mine: list[str], theirs: list[str], gradients: PerSide[dict[str, Tensor]]
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the names pair by pair where each has a gradient of its own, and otherwise all of them together."""
    apart = len(mine) == len(theirs) and all(name in gradients.base for name in mine)
    if apart and all(name in gradients.raw for name in theirs) and (sorted(mine) == sorted(theirs) or len(mine) == 1):
        partners = theirs if len(mine) == 1 else mine
        yield from (([one], [other]) for one, other in zip(mine, partners, strict=True))
    else:
        yield mine, theirs


def _total(names: Sequence[str], gradients: Mapping[str, Tensor]) -> Tensor | None:
    found = [gradients[name] for name in names if name in gradients]
    if len(found) < 2 or found[0].spec.dtype not in (DType.F64, DType.F32):
        return found[0] if found else None
    return Tensor.from_array(np.asarray(sum(tensor.to_array().astype(np.float64) for tensor in found)))


def _pair_parameter_gradients(layer: LayerInStep, replays: PerSide[Replayed], paired: Paired) -> None:
    gradients = PerSide(
        parted(replays.base.parameter_gradients, layer.described.base),
        parted(replays.raw.parameter_gradients, layer.described.raw),
    )
    left = gradients.map(set)
    for link in layer.parameter_links():
        first = PerSide(
            [layer.described.base.parameter(name).name for name in link.base],
            [layer.described.raw.parameter(name).name for name in link.raw],
        )
        left.base.difference_update(first.base)
        left.raw.difference_update(first.raw)
        if link.special is not None:
            paired.not_compared.append(f"the gradients of {', '.join(link.raw)}, which a special initialiser fills")
            continue
        mine = [gradients.base.get(name) for name in first.base]
        theirs = [gradients.raw.get(name) for name in first.raw]
        sources = [tensor for tensor in mine if tensor is not None]
        if len(sources) == len(mine) and None not in theirs:
            specs = [tensor.spec for tensor in theirs if tensor is not None]
            for (name, base), raw in zip(in_raw_layout(link, sources, specs), theirs, strict=True):
                _pair(paired, ("parameter gradient", ", ".join(link.base), name), PerSide(base, raw))
            continue
        for side, names, found in (("base", link.base, mine), ("raw", link.raw, theirs)):
            lacking = [name for name, tensor in zip(names, found, strict=True) if tensor is None]
            if lacking and any(tensor is not None and _is_nonzero(tensor) for tensor in (*mine, *theirs)):
                paired.missing.append(f"{side} gives {', '.join(lacking)} no gradient, though the other side's has one")
    for side, names in left.items():
        paired.not_compared += [f"{side}'s {name} has no partner" for name in sorted(names)]


def _pair(paired: Paired, key: Key, found: PerSide[Tensor | None]) -> None:
    base, raw = found
    if base is not None and raw is not None:
        if base.spec.shape != raw.spec.shape:
            paired.not_compared.append(f"the {key[0]} of {key[1]}, which is {base.spec} in base and {raw.spec} in raw")
        else:
            paired.tensors[key] = PerSide(base, raw)
    elif (base is not None and _is_nonzero(base)) or (raw is not None and _is_nonzero(raw)):
        side = "base" if base is None else "raw"
        paired.missing.append(f"{side} sends no gradient back to {key[1] if base is None else key[2]}")


def _is_nonzero(tensor: Tensor) -> bool:
    return bool(np.frombuffer(tensor.data, np.uint8).any()) if tensor.spec.count else False
