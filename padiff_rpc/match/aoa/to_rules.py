"""Turn what AOA statements make into entries of a map: the layout rule that makes raw's tensors of base's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from padiff_rpc.match.aoa.pieces import Pieced, SourceBox
from padiff_rpc.match.layout_rules import Shape, rule_named
from padiff_rpc.match.packed_parameters import packing_rule
from padiff_rpc.match.user_map import MappedParameters
from padiff_rpc.per_side import PerSide, SideName

Shapes = PerSide[Mapping[str, Shape]]
"""The shapes of all tensors of base and raw, by name."""


@dataclass(frozen=True)
class _Run:
    """A stretch of a part, where it lies in the tensor that holds all parts; both along the axis that is cut."""

    part: str
    start: int
    stop: int
    at: int

    def continues(self, before: _Run) -> bool:
        """Whether it goes on where the run before ends, in both."""
        return (self.part, self.start, self.at) == (before.part, before.stop, before.at + before.stop - before.start)


def entries_of(made: Mapping[str, Pieced], shapes: Shapes) -> tuple[list[MappedParameters], dict[str, str]]:
    """Return an entry for each tensor of raw that a layout rule makes, and the reason by name for those that none makes.

    Args:
        made: raw's tensors, by name, as pieces of base's.
        shapes: the shapes of all tensors of base and raw, by name.
    """
    entries: list[MappedParameters] = []
    problems: dict[str, str] = {}
    cut_from: dict[str, list[str]] = defaultdict(list)  # base's tensor -> those of raw's that hold a part of it alone
    for name, tensor in made.items():
        sources = list(dict.fromkeys(piece.source for piece in tensor.pieces))
        if tensor.shape != shapes.raw[name]:
            problems[name] = f"it makes {name} of shape {list(tensor.shape)}, raw's is {list(shapes.raw[name])}"
        elif len(sources) == 1 and prod(tensor.shape) < prod(shapes.base[sources[0]]):
            cut_from[sources[0]].append(name)
        elif rule := _moved(tensor) if len(sources) == 1 else _packed(name, tensor, sources, shapes):
            entries.append(MappedParameters(tuple(sources), (name,), rule))
        else:
            problems[name] = f"no layout rule makes {name} of {', '.join(sources)} as it does"
    for source, names in cut_from.items():
        entry = _split(source, {name: made[name] for name in names}, shapes)
        if entry is None:
            problems |= dict.fromkeys(names, f"no layout rule cuts {source} into {', '.join(names)} as it does")
        else:
            entries.append(entry)
    return entries, problems


def _moved(tensor: Pieced) -> str:
    """Return the rule of a tensor that is one whole tensor of base, as it is or with axes swapped; "" where no rule does so."""
    in_place = all(begin == at for piece in tensor.pieces for (begin, _), at in zip(piece.box, piece.at, strict=True))
    axes = {piece.axes for piece in tensor.pieces}
    if not in_place or len(axes) != 1:
        return ""
    order = axes.pop()
    plain = tuple(sorted(order))
    if order == plain:
        return "identity"
    swapped = order == (*plain[:-2], plain[-1], plain[-2])
    return "transpose" if order == (1, 0) else "swap_last" if swapped else ""


def _packed(name: str, tensor: Pieced, sources: Sequence[str], shapes: Shapes) -> str:
    """Return the rule of a tensor that packs several whole tensors of base; "" where none does."""
    axis = _cut_axis(tensor.pieces, shapes.base)
    if axis is None:
        return ""
    transposed = _transposed(tensor.pieces)
    runs = _merged(_Run(piece.source, *piece.box[axis], piece.at[axis]) for piece in tensor.pieces)
    sizes = {source: shapes.base[source][tensor.pieces[0].axes[axis]] for source in sources}
    base = [shapes.base[source] for source in sources]
    return _fitting("raw", transposed, axis, _groups(runs, sizes), base, [shapes.raw[name]])


def _split(source: str, parts: Mapping[str, Pieced], shapes: Shapes) -> MappedParameters | None:
    """Return the entry of a tensor of base that is cut into several whole tensors of raw; None where no rule cuts it so."""
    pieces = [piece for part in parts.values() for piece in part.pieces]
    axis = _cut_axis(pieces, shapes.base)
    if axis is None:
        return None
    runs = _merged(
        _Run(name, piece.at[axis], piece.at[axis] + piece.box[axis][1] - piece.box[axis][0], piece.box[axis][0])
        for name, part in parts.items()
        for piece in part.pieces
    )
    names = list(dict.fromkeys(run.part for run in runs))
    sizes = {name: shapes.raw[name][axis] for name in names}
    along = pieces[0].axes[axis]
    raw = [shapes.raw[name] for name in names]
    rule = _fitting("base", _transposed(pieces), along, _groups(runs, sizes), [shapes.base[source]], raw)
    return MappedParameters((source,), tuple(names), rule) if rule else None


def _cut_axis(pieces: Sequence[SourceBox], base: Mapping[str, Shape]) -> int | None:
    """Return the one axis along which pieces are parts or lie side by side, all in one order of axes; None if there is none."""
    if len({piece.axes for piece in pieces}) != 1:
        return None
    moved = {
        axis
        for piece in pieces
        for axis, (of_source, box) in enumerate(zip(piece.axes, piece.box, strict=True))
        if piece.at[axis] or box != (0, base[piece.source][of_source])
    }
    order = pieces[0].axes
    return moved.pop() if len(moved) == 1 and order in (tuple(sorted(order)), (1, 0)) else None


def _transposed(pieces: Sequence[SourceBox]) -> bool:
    return pieces[0].axes == (1, 0)


def _merged(runs: Iterable[_Run]) -> list[_Run]:
    """Return runs in their order in the whole tensor, those that go on as one."""
    merged: list[_Run] = []
    for run in sorted(runs, key=lambda run: run.at):
        if merged and run.continues(merged[-1]):
            merged[-1] = _Run(run.part, merged[-1].start, run.stop, merged[-1].at)
        else:
            merged.append(run)
    return merged


def _groups(runs: Sequence[_Run], sizes: Mapping[str, int]) -> int:
    """Return into how many groups runs fall, each with an equal share of every part in the order of `sizes`; 0 if into none."""
    groups, rest = divmod(len(runs), len(sizes))
    if rest or any(size % groups for size in sizes.values()):
        return 0
    at = 0
    wanted: list[_Run] = []
    for group in range(groups):
        for part, size in sizes.items():
            share = size // groups
            wanted.append(_Run(part, group * share, (group + 1) * share, at))
            at += share
    return groups if list(runs) == wanted else 0


def _fitting(
    whole_side: SideName, transposed: bool, axis: int, groups: int, base: Sequence[Shape], raw: Sequence[Shape]
) -> str:
    """Return the packing rule along an axis of the whole tensor; "" where there is none, or it does not join the shapes."""
    if not groups or axis > 1:
        return ""
    rule = packing_rule(whole_side, transposed, axis == 1, groups)
    return rule if rule_named(rule).fits(base, raw) else ""
