"""Link the parts of stacked tensors with the Linears of a list of experts, each part with one Linear or with those it packs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from padiff_rpc.match.layer_families import Axes, name_in_common
from padiff_rpc.match.layer_map import Alternative, Choice, ParameterLink
from padiff_rpc.match.pack_layouts import PackLayout, pack_layouts
from padiff_rpc.match.pack_names import packed_parts
from padiff_rpc.match.packed_parameters import link_parts
from padiff_rpc.match.stacked_experts import Stack, find_stack, is_bias
from padiff_rpc.match.tree import LayerNode, loose_key
from padiff_rpc.model.model import ParameterInfo
from padiff_rpc.per_side import OTHER_SIDE, PerSide

_Place = tuple[int, str]
"""Where a Linear lies in an expert: in which of the lists, and its route below the list's layer."""


@dataclass
class StackLinks:
    """The links of the parts of one layer's stacks.

    Attributes:
        choices: the links of each stacked matrix and of its biases, in every way in which they may lie.
        absorbed: the layers of the lists, each with the reason why it has no partner of its own.
        notes: sentences that a reader should see.
        guesses: the full names, in base and raw, of tensors that were linked by their order alone.
    """

    choices: list[Choice] = field(default_factory=list)
    absorbed: dict[LayerNode, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    guesses: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Held:
    """A stacked matrix, the stack of its biases ("" for none), and the Linears that one part stands for, by name in common.

    is_guess: whether their order alone tells that they belong together, though others have the same shapes.
    """

    matrix: str
    bias: str
    linears: Mapping[str, _Place]
    is_guess: bool = False


def link_stacks(
    pair: PerSide[LayerNode], unlinked: PerSide[dict[str, ParameterInfo]], mapped: PerSide[set[str]]
) -> StackLinks:
    """Link the parts of the stacks that one layer of a pair holds with the lists of the other.

    Args:
        pair: two layers that correspond.
        unlinked: the tensors that each of them holds itself and that have no link yet, by their names in it. The parts that are
            linked are removed.
        mapped: full names of the tensors that the user's map links; experts that hold one are passed over for that stack.
    """
    result = StackLinks()
    stack = find_stack(pair)
    if stack is None:
        return result
    whole, other_side = pair.of(stack.side), OTHER_SIDE[stack.side]
    experts = [_linears(expert) for expert in stack.experts]
    hint: Axes = ""
    held = _held(whole, stack, experts[0])
    held.sort(key=lambda one: len(_axes(whole, stack, one, experts[0], "")))
    for one in held:
        axes = _axes(whole, stack, one, experts[0], hint)
        hint = hint or (axes[0] if len(axes) == 1 else "")
        alternatives = [
            Alternative(_words(layout, way, len(axes) > 1), links, layout.contrary)
            for layout, way in _ways(whole, one, experts[0], axes)
            if (links := tuple(_links(pair, stack, one, experts, layout, way, mapped)))
        ]
        if not alternatives:
            continue
        result.choices.append(_choice(pair, whole, stack, one, alternatives))
        linked = {name for link in alternatives[0].links for name in (link.base if stack.side == "base" else link.raw)}
        if one.is_guess:
            result.guesses += [(link.base[0], link.raw[0]) for link in alternatives[0].links]
            theirs = ", ".join(experts[0][place].shown for place in one.linears.values())
            result.notes.append(
                f"{whole.shown}: matched {one.matrix} -> {theirs} and so on by order, which is a guess, for their "
                "shapes are alike"
            )
        own = unlinked.of(stack.side)
        for name in [name for name, info in own.items() if info.name in linked]:
            del own[name]
    if result.choices:
        why = f"{stack.side}'s {whole.shown} holds its parameters, stacked, so that its output has no counterpart"
        inside = [node for each in stack.lists for node in each.subtree() if node is not pair.of(other_side)]
        result.absorbed = dict.fromkeys(inside, why)
        result.notes.append(
            f"{whole.shown} stacks in {stack.side} what {other_side} keeps in {len(experts)} layers of "
            f"{', '.join(each.shown for each in stack.lists)}: matched expert by expert"
        )
    return result


def _linears(expert: Sequence[LayerNode]) -> dict[_Place, LayerNode]:
    return {
        (at, node.route.removeprefix(layer.route)): node
        for at, layer in enumerate(expert)
        for node in layer.subtree()
        if node.family == "linear" and "weight" in node.own
    }


def _held(whole: LayerNode, stack: Stack, linears: Mapping[_Place, LayerNode]) -> list[_Held]:
    """Return which Linears each stacked matrix stands for: by name, and what is left by shape and order."""
    shapes = {name: whole.own[parts[0]].spec.shape for name, parts in stack.parts.items()}
    matrices = [name for name in stack.parts if len(shapes[name]) == 2]
    biases = {_plain(name): name for name in stack.parts if name not in matrices}
    left = {place: _name(node) for place, node in linears.items()}
    found: dict[str, dict[str, _Place]] = {}
    guessed: set[str] = set()
    for matrix in matrices:
        parts = packed_parts(_plain(matrix)) or (name_in_common(_plain(matrix)),)
        places = {part: place for part in parts for place, name in left.items() if name == part}
        if len(places) == len(parts) and len({*places.values()}) == len(parts):
            found[matrix] = places
            left = {place: name for place, name in left.items() if place not in places.values()}
    for matrix in matrices:
        if matrix not in found:
            like = [
                place
                for place in left
                if loose_key(linears[place].own["weight"].spec.shape) == loose_key(shapes[matrix])
            ]
            rivals = [
                other
                for other in matrices
                if other not in found and loose_key(shapes[other]) == loose_key(shapes[matrix])
            ]
            if len(like) > 1 or len(rivals) > 1:
                guessed.add(matrix)
            if like:
                found[matrix] = {left.pop(like[0]): like[0]}
    return [
        _Held(matrix, biases.get(_plain(matrix), ""), places, matrix in guessed) for matrix, places in found.items()
    ]


def _plain(name: str) -> str:
    """Return one name for a stack of matrices and the stack of their biases: w1 for w1, w1_weight, w1_bias and b1."""
    if is_bias(name) and "bias" not in name.lower():
        return "w" + name[1:]
    return name.lower().replace("bias", "").replace("weight", "").strip("_")


def _name(linear: LayerNode) -> str:
    """Return a Linear's name in common; of one that only a list numbers, the list's."""
    parts = [part for part in linear.route.split(".") if not part.isdigit()]
    return name_in_common(parts[-1]) if parts else ""


def _axes(whole: LayerNode, stack: Stack, one: _Held, linears: Mapping[_Place, LayerNode], hint: Axes) -> list[Axes]:
    """Return how the stacked matrices may lie, judged by their shape, the most plausible first.

    hint: how other stacks of the same layer lie, if that is known.
    """
    shape = whole.own[stack.parts[one.matrix][0]].spec.shape
    rows = [_out_in(linears[place]) for place in one.linears.values()]
    packed = (sum(out for out, _ in rows), rows[0][1])
    usual: Axes = "in_out" if whole.framework == "paddle" else "out_in"
    found: list[Axes] = [way for way in ("out_in", "in_out") if shape == (packed if way == "out_in" else packed[::-1])]
    return sorted(found, key=lambda way: way != (hint or usual))


def _out_in(linear: LayerNode) -> tuple[int, ...]:
    shape = linear.own["weight"].spec.shape
    return shape[::-1] if linear.axes("weight") == "in_out" else shape


def _ways(
    whole: LayerNode, one: _Held, linears: Mapping[_Place, LayerNode], axes: Sequence[Axes]
) -> Iterator[tuple[PackLayout, Axes]]:
    parts = {name: linears[place] for name, place in one.linears.items()}
    layouts = pack_layouts(_plain(one.matrix), whole, parts) if len(parts) > 1 else [PackLayout(tuple(parts))]
    for layout in layouts:
        for way in axes:
            yield layout, way


def _links(
    pair: PerSide[LayerNode],
    stack: Stack,
    one: _Held,
    experts: Sequence[Mapping[_Place, LayerNode]],
    layout: PackLayout,
    axes: Axes,
    mapped: PerSide[set[str]],
) -> Iterator[ParameterLink]:
    """Yield the links of all experts under one layout; none of an expert of which the user's map links a tensor."""
    routes, whole = pair.map(lambda node: node.route), pair.of(stack.side)
    for at, linears in enumerate(experts):
        parts = [linears[one.linears[name]] for name in layout.order]
        for kind, held in (("weight", one.matrix), ("bias", one.bias)):
            info = whole.own[stack.parts[held][at]] if held else None
            if info is None or info.name in mapped.of(stack.side):
                continue
            theirs = {part.own[kind].name for part in parts if kind in part.own}
            link = link_parts(routes, info, axes, parts, kind, stack.side, layout.groups)
            if link is not None and mapped.of(OTHER_SIDE[stack.side]).isdisjoint(theirs):
                yield link


def _words(layout: PackLayout, axes: Axes, is_open: bool) -> str:
    lies = f"each {'[out, in]' if axes == 'out_in' else '[in, out]'}" if is_open else ""
    return ", ".join(text for text in (layout.words if len(layout.order) > 1 else "", lies) if text)


def _choice(
    pair: PerSide[LayerNode], whole: LayerNode, stack: Stack, one: _Held, alternatives: Sequence[Alternative]
) -> Choice:
    what = f"{whole.shown}.{one.matrix}"
    shape = list(whole.own[stack.parts[one.matrix][0]].spec.shape)
    guess = (
        f"{what}, {len(stack.parts[one.matrix])} matrices {shape}, is taken to hold {alternatives[0].words}: if it lies "
        "otherwise, the outputs will differ"
    )
    most = len(alternatives[0].links)
    return Choice(
        what,
        pair.base.route,
        pair.raw.route,
        tuple(each for each in alternatives if len(each.links) == most),
        guess,
    )
