"""Follow AOA statements from base's tensors to raw's, one after the other, as Paddle's engine does."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.aoa.grammar import FLAGS, NOTHING, TRANSPOSED, Statement, unreadable
from padiff_rpc.match.aoa.pieces import Pieced, cut, joined, permuted, whole
from padiff_rpc.match.aoa.placeholders import written_out
from padiff_rpc.match.layout_rules import Shape
from padiff_rpc.per_side import PerSide

_FUSED_AXIS = 1
"""Along this axis the flags fuse, where a statement gives none."""


@dataclass
class Followed:
    """What statements make of base's tensors.

    Attributes:
        made: raw's tensors, by name.
        texts: the statement that makes each of them, by name.
        casts: the dtype that a statement casts a tensor of raw to, by name.
        unused: statements that lead nowhere, each with the reason.
        lost: tensors that are made, are none of raw's, and have been taken by no statement yet: the statement, by name.
    """

    made: dict[str, Pieced] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    casts: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


def follow(statements: Iterable[Statement], shapes: PerSide[Mapping[str, Shape]]) -> Followed:
    """Follow statements in their order. A name that a statement makes goes before base's tensor of that name.

    Args:
        statements: the statements, with their placeholders.
        shapes: the shapes of all tensors of base and raw, by name.

    Raises:
        PadiffError: BAD_CONFIG for a statement that says what no statement can say.
    """
    known: dict[str, Pieced] = {name: whole(name, shape) for name, shape in shapes.base.items()}
    result = Followed()
    for statement in statements:
        try:
            for one in written_out(statement, shapes):
                _follow_one(one, known, shapes.raw, result)
        except PadiffError as err:
            if err.reason not in (Reason.UNKNOWN_NAME, Reason.BAD_TENSOR):
                raise
            result.unused[statement.text] = err.message
    for name, text in result.lost.items():
        result.unused[text] = f"raw has no tensor {name!r}, and no later statement takes it"
    return result


def _follow_one(statement: Statement, known: dict[str, Pieced], raw: Collection[str], result: Followed) -> None:
    """Follow a statement without placeholders. Where it fails, its targets are unknown from then on."""
    if NOTHING in statement.left or NOTHING in statement.right:
        return
    try:
        made = _made(statement, known)
    except PadiffError:
        for name in statement.right:
            known.pop(name, None)
        raise
    for name in statement.left:
        result.lost.pop(name.removesuffix(TRANSPOSED), None)
    cast = statement.attributes.get("dst_dtype", statement.attributes.get("dtype"))
    for name, tensor in made.items():
        known[name] = tensor
        if name not in raw:
            result.lost[name] = statement.text
            continue
        result.made[name], result.texts[name] = tensor, statement.text
        result.casts.pop(name, None)
        if cast is not None:
            result.casts[name] = str(cast)


def _made(statement: Statement, known: Mapping[str, Pieced]) -> dict[str, Pieced]:
    """Return what a statement makes of its sources, by name."""
    sources = [_source(name, known) for name in statement.left]
    flags = [flag for flag in FLAGS if flag in statement.attributes]
    if len(flags) > 1:
        raise unreadable(statement.text, f"{' and '.join(flags)} at once")
    if flags:
        tensors = _fused(statement, flags[0], sources)
    elif len(statement.left) == len(statement.right) == 1:
        tensors = [permuted(sources[0], _axes(statement, len(sources[0].shape)))]
    elif set(statement.attributes) != {"axis"}:
        raise unreadable(statement.text, "tensors are joined and cut with the attribute axis, and no other")
    elif len(sources) > 1:
        tensors = [joined(sources, int(statement.attributes["axis"]))]
    else:
        tensors = cut(sources[0], int(statement.attributes["axis"]), len(statement.right))
    return dict(zip(statement.right, tensors, strict=True))


def _source(name: str, known: Mapping[str, Pieced]) -> Pieced:
    plain = name.removesuffix(TRANSPOSED)
    if plain not in known:
        raise PadiffError(f"base has no tensor {plain!r}, and no statement before makes it", reason=Reason.UNKNOWN_NAME)
    tensor = known[plain]
    return tensor if plain == name else permuted(tensor, range(len(tensor.shape))[::-1])


def _axes(statement: Statement, count: int) -> Sequence[int]:
    """Return the order of axes that `permute` asks for: the reverse where it gives none, and theirs where it is not there."""
    text = str(statement.attributes.get("permute", ""))
    if not text:
        return range(count)
    if not re.fullmatch(r"\[\s*(\d+\s*(,\s*\d+\s*)*)?\]", text):
        raise unreadable(statement.text, f"permute takes a list of axes, not {text!r}")
    return [int(axis) for axis in re.findall(r"\d+", text)] or range(count)[::-1]


def _fused(statement: Statement, flag: str, sources: Sequence[Pieced]) -> list[Pieced]:
    axis = int(statement.attributes.get("axis", _FUSED_AXIS))
    parts = 2 if flag == "fused_ffn" else 3
    count = PerSide(len(statement.left), len(statement.right))
    allowed = [PerSide(parts, 1), PerSide(1, parts)] + ([PerSide(1, 1)] if flag != "fused_qkv" else [])
    if count not in allowed:
        raise unreadable(statement.text, f"{flag} joins {parts} tensors, or cuts one into {parts}")
    if count == PerSide(1, 1):
        return list(sources)  # only the shards of a distributed model would lie otherwise
    if flag == "fused_ffn":
        return [joined(sources, axis)] if count.base == parts else cut(sources[0], axis, parts)
    heads, groups = _heads(statement)
    shares = [heads, groups, groups]
    if count.base == 1:
        units = cut(sources[0], axis, sum(shares))
        order = _order_by_group(heads, groups) if flag == "fused_qkv" else _order_by_part(shares)
        return [joined([units[at] for at, (of, _) in enumerate(order) if of == part], axis) for part in range(parts)]
    if flag == "fused_qkv_old":
        return [joined(sources, axis)]
    cuts = [cut(source, axis, share) for source, share in zip(sources, shares, strict=True)]
    return [joined([cuts[part][at] for part, at in _order_by_group(heads, groups)], axis)]


def _heads(statement: Statement) -> tuple[int, int]:
    heads = int(statement.attributes.get("num_heads", 0))
    groups = int(statement.attributes.get("num_key_value_groups", 0))
    if not heads or not groups or heads % groups:
        raise unreadable(
            statement.text, f"num_heads must be a multiple of num_key_value_groups, not {heads} and {groups}"
        )
    return heads, groups


def _order_by_group(heads: int, groups: int) -> list[tuple[int, int]]:
    """Return (part, head) in the order of `fused_qkv`: in each group its heads of q, its k and its v."""
    share = heads // groups
    return [
        entry
        for group in range(groups)
        for entry in [*((0, group * share + at) for at in range(share)), (1, group), (2, group)]
    ]


def _order_by_part(shares: Sequence[int]) -> list[tuple[int, int]]:
    return [(part, at) for part, share in enumerate(shares) for at in range(share)]
