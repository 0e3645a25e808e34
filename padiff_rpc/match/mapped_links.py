"""Link the tensors that a user's map names, before anything is matched automatically."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.aoa.read_statements import read_statements
from padiff_rpc.match.layer_families import parameter_name, why_dispensable
from padiff_rpc.match.layer_map import Choice, ParameterLink
from padiff_rpc.match.layout_rules import fitting_rules, rule_named
from padiff_rpc.match.packed_parameters import packing_rule
from padiff_rpc.match.rule_between import RuleFound, rule_for_namesakes
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.match.user_map import MappedParameters, UserMap, renamed, with_numbers
from padiff_rpc.model.model import ParameterKind
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide, SideName
from padiff_rpc.tensors.tensor import TensorSpec

_NAMED = 3
"""How many names that the renames bring nowhere are shown."""


@dataclass(frozen=True)
class HeldTensor:
    """A tensor, the first layer that holds it, and its name in that layer."""

    node: LayerNode
    local: str

    @property
    def name(self) -> str:
        """The tensor's full name."""
        return self.node.own[self.local].name

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.node.own[self.local].spec.shape


@dataclass(frozen=True)
class MappedLink:
    """A link that a user's map demands.

    Attributes:
        link: the link.
        held: the tensors that it links.
        note: a sentence that a reader should see; mostly "".
        choices: what the entry leaves in doubt of the rule.
    """

    link: ParameterLink
    held: PerSide[tuple[HeldTensor, ...]]
    note: str = ""
    choices: tuple[Choice, ...] = ()


def mapped_links(user_map: UserMap, trees: PerSide[Mapping[str, LayerNode]]) -> tuple[list[MappedLink], list[str]]:
    """Return the links that a map demands, and sentences that a reader should see.

    Entries without stars go before entries with stars, those before AOA statements, and these before renames: what goes before
    settles a tensor.

    Args:
        user_map: the map.
        trees: all layers of each side, by route.

    Raises:
        PadiffError: UNKNOWN_NAME for a tensor that its side lacks; BAD_CONFIG for two entries that give a tensor different
            partners, or an AOA statement that cannot be read; MODELS_DO_NOT_MATCH for shapes that the entry's rule does not
            join, or no rule, or several.
    """
    owners = trees.map(_owners)
    exact = [entry for entry in user_map.parameters if not entry.has_stars]
    starred = [each for entry in user_map.parameters if entry.has_stars for each in _numbered(entry, owners.base)]
    stated, unused = read_statements(user_map.statements, owners.map(_specs))
    moved, notes = _renames(user_map.renames, owners, trees.raw)
    links: list[MappedLink] = []
    for entries in (exact, starred, stated, moved):
        settled = PerSide({name for one in links for name in one.link.base}, _raw_names(links))
        for entry in entries:
            held = PerSide(
                tuple(_find("base", name, owners.base) for name in entry.base),
                tuple(_find("raw", name, owners.raw) for name in entry.raw),
            )
            if not any(tensor.name in settled.of(side) for side in SIDES for tensor in held.of(side)):
                links += _linked(entry, held, links, owners.raw.values())
    links += [bias for one in links for bias in _biases(one, links)]
    return links, [*unused, *notes, *(one.note for one in links if one.note)]


def mapped_layers(
    layers: Mapping[str, str], trees: PerSide[Mapping[str, LayerNode]]
) -> list[tuple[LayerNode, LayerNode]]:
    """Return the pairs of layers that a map demands.

    Raises:
        PadiffError: UNKNOWN_NAME for a layer that its side lacks; BAD_CONFIG for a layer with two partners.
    """
    known = trees.map(
        lambda tree: {alias: node for node in tree.values() for alias in (node.route, *node.info.aliases)}
    )
    pairs: dict[LayerNode, LayerNode] = {}
    entries = [MappedParameters((base,), (raw,)) for base, raw in layers.items()]
    for entry in sorted(entries, key=lambda entry: entry.has_stars):
        numbered = list(with_numbers(entry, known.base))
        if not numbered:
            raise _unknown(f"base has no layer like {entry.base[0]!r}, where * is a number", entry.base[0], known.base)
        for each in numbered:
            base, raw = _layer("base", each.base[0], known.base), _layer("raw", each.raw[0], known.raw)
            taken = base in pairs or raw in pairs.values()
            if taken and not entry.has_stars:
                raise PadiffError(
                    f"the layer map pairs {entry.base[0]!r} with {entry.raw[0]!r}, but one of them has a partner already",
                    reason=Reason.BAD_CONFIG,
                    hint="give each layer one partner",
                )
            if not taken:
                pairs[base] = raw
    return list(pairs.items())


def _layer(side: SideName, route: str, known: Mapping[str, LayerNode]) -> LayerNode:
    if route not in known:
        raise _unknown(f"{side} has no layer {route!r}", route, known)
    return known[route]


def _unknown(message: str, name: str, known: Iterable[str]) -> PadiffError:
    """Return the error that a map names what its side lacks; it names what is near."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else "`padiff-rpc inspect SPEC` lists them"
    return PadiffError(message, reason=Reason.UNKNOWN_NAME, hint=hint)


def _owners(tree: Mapping[str, LayerNode]) -> dict[str, HeldTensor]:
    """Return the first layer that holds each tensor, under every name that the tensor has."""
    return {
        alias: HeldTensor(node, local)
        for node in reversed(list(tree.values()))
        for local, info in node.own.items()
        for alias in (info.name, *info.aliases)
    }


def _specs(owners: Mapping[str, HeldTensor]) -> dict[str, TensorSpec]:
    return {name: held.node.own[held.local].spec for name, held in owners.items()}


def _numbered(entry: MappedParameters, known: Mapping[str, HeldTensor]) -> list[MappedParameters]:
    found = list(with_numbers(entry, known))
    if not found:
        raise _unknown(
            f"base has no parameter or buffer like {entry.base[0]!r}, where * is a number", entry.base[0], known
        )
    return found


def _find(side: str, name: str, owners: Mapping[str, HeldTensor]) -> HeldTensor:
    if name not in owners:
        raise _unknown(f"{side} has no parameter or buffer {name!r}", name, owners)
    return owners[name]


def _renames(
    renames: Mapping[str, str], owners: PerSide[dict[str, HeldTensor]], raw: Mapping[str, LayerNode]
) -> tuple[list[MappedParameters], list[str]]:
    """Return an entry for each tensor of base that the renames bring to one of raw, and a note on those that they do not."""
    entries: list[MappedParameters] = []
    nowhere: list[str] = []
    names = dict.fromkeys(held.name for held in owners.base.values()) if renames else {}
    for name in names:
        held, new = owners.base[name], renamed(name, renames)
        found = new if new in owners.raw else _other_framework(held, new, raw)
        if found and (new != name or _fits(held, owners.raw[found])):
            entries.append(MappedParameters((name,), (found,)))
        elif not found and _needs_partner(held):
            nowhere.append(f"{name} -> {new}" if new != name else f"{name}, which none changes")
    if not nowhere:
        return entries, []
    shown = "; ".join(nowhere[:_NAMED]) + (f"; and {len(nowhere) - _NAMED} more" if len(nowhere) > _NAMED else "")
    return entries, [
        f"the renames bring {len(nowhere)} of base's names to none of raw's: {shown}: matched automatically"
    ]


def _other_framework(held: HeldTensor, new: str, raw: Mapping[str, LayerNode]) -> str:
    """Return raw's name for a tensor whose layer the renames find, but whose own name raw's framework spells otherwise."""
    route, _, local = new.rpartition(".")
    if route not in raw:
        return ""
    common = parameter_name(held.node.family, local)
    return next(
        (info.name for name, info in raw[route].own.items() if parameter_name(raw[route].family, name) == common), ""
    )


def _needs_partner(held: HeldTensor) -> bool:
    info = held.node.own[held.local]
    return not why_dispensable(held.local, info.kind, info.spec.dtype.is_floating, held.node.shapes)


def _fits(base: HeldTensor, raw: HeldTensor) -> bool:
    return bool(rule_for_namesakes(base.node, base.local, raw.node, raw.local).rule)


def _linked(
    entry: MappedParameters,
    held: PerSide[tuple[HeldTensor, ...]],
    links: Sequence[MappedLink],
    raw_tensors: Iterable[HeldTensor],
) -> list[MappedLink]:
    """Return the link of an entry; none where another name of the same tensors has led to it already."""
    base, raw = held.map(lambda tensors: tuple(tensor.name for tensor in tensors))
    if any((one.link.base, one.link.raw) == (base, raw) for one in links):
        return []
    others = {name for one in links for name in one.link.base if one.link.base != base}
    if others & set(base) or set(raw) & _raw_names(links) or len({*base}) < len(base) or len({*raw}) < len(raw):
        raise PadiffError(
            f"the map's entry {entry} names a tensor that has a partner already",
            reason=Reason.BAD_CONFIG,
            hint="give each parameter one partner",
        )
    found = _rule(entry, held, raw_tensors)
    kinds = {tensor.node.own[tensor.local].kind for side in held for tensor in side}
    kind: ParameterKind = "parameter" if kinds == {"parameter"} else "buffer"
    link = ParameterLink(held.base[0].node.route, held.raw[0].node.route, base, raw, found.rule, kind)
    return [MappedLink(link, held, found.note, tuple(found.choices(link)))]


def _biases(packed: MappedLink, links: Sequence[MappedLink]) -> list[MappedLink]:
    """Return the link of the biases of layers whose weights a map packs: they lie as the weights do, unless the map says more."""
    if len(packed.link.base) == len(packed.link.raw):
        return []
    locals_ = {(tensor, tensor.local.replace("weight", "bias")) for side in packed.held for tensor in side}
    if any(local == tensor.local or local not in tensor.node.own for tensor, local in locals_):
        return []
    bias = {tensor: HeldTensor(tensor.node, local) for tensor, local in locals_}
    held = packed.held.map(lambda tensors: tuple(bias[tensor] for tensor in tensors))
    names = held.map(lambda tensors: tuple(tensor.name for tensor in tensors))
    linked = {name for one in links for name in (*one.link.base, *one.link.raw)}
    groups = int(packed.link.rule.partition("@")[2] or 1)
    rule = packing_rule("base" if len(names.base) == 1 else "raw", transposed=False, columns=False, groups=groups)
    shapes = held.map(lambda tensors: [tensor.shape for tensor in tensors])
    if linked & {*names.base, *names.raw} or not rule_named(rule).fits(*shapes):
        return []
    return [MappedLink(replace(packed.link, base=names.base, raw=names.raw, rule=rule), held)]


def _raw_names(links: Iterable[MappedLink]) -> set[str]:
    return {name for one in links for name in one.link.raw}


def _rule(
    entry: MappedParameters, held: PerSide[tuple[HeldTensor, ...]], raw_tensors: Iterable[HeldTensor]
) -> RuleFound:
    """Return the rule of an entry: its own, or the one that names and shapes leave."""
    mine, theirs = held.map(lambda tensors: [tensor.shape for tensor in tensors])
    fitting = fitting_rules(mine, theirs)
    if entry.rule:
        found = RuleFound(entry.rule if rule_named(entry.rule).fits(mine, theirs) else "")
    elif len(mine) == len(theirs) == 1:
        (base,), (raw,) = held
        found = rule_for_namesakes(base.node, base.local, raw.node, raw.local)
    else:
        found = RuleFound(_packing(held) or (fitting[0] if len(fitting) == 1 else ""))
    if found.rule:
        return found
    raise _no_rule(entry, held, fitting, raw_tensors)


def _packing(held: PerSide[tuple[HeldTensor, ...]]) -> str:
    """Return the rule between a packed tensor and its parts, if how each of them lies is known; else ""."""
    whole_side: SideName = "base" if len(held.base) == 1 else "raw"
    whole, parts = held.of(whole_side)[0], held.of(OTHER_SIDE[whole_side])
    if len(whole.shape) == 1:
        return packing_rule(whole_side, transposed=False, columns=False)
    axes, part_axes = whole.node.axes(whole.local), {part.node.axes(part.local) for part in parts}
    if not axes or len(part_axes) != 1 or "" in part_axes:
        return ""
    rule = packing_rule(whole_side, transposed={axes} != part_axes, columns=axes == "in_out")
    fits = rule_named(rule).fits(*held.map(lambda tensors: [tensor.shape for tensor in tensors]))
    return rule if fits else ""


def _no_rule(
    entry: MappedParameters,
    held: PerSide[tuple[HeldTensor, ...]],
    fitting: Sequence[str],
    raw_tensors: Iterable[HeldTensor],
) -> PadiffError:
    """Return the error that no layout rule joins the tensors of an entry, or that several do; its hint is the cure."""
    base, raw = held.map(lambda tensors: ", ".join(f"{each.name!r} {list(each.shape)}" for each in tensors))
    why = f"the rule {entry.rule!r} does not join these shapes" if entry.rule else "no layout rule joins these shapes"
    if fitting:
        lines = " or ".join(str(replace(entry, rule=rule)) for rule in fitting)
        hint = f"other rules do: write {lines}"
        if not entry.rule:
            why = "which layout rule joins them does not follow from their layers"
            hint = f"say which: write {lines}"
    else:
        shapes = [each.shape for each in held.base]
        like = [each.name for each in raw_tensors if fitting_rules(shapes, [each.shape])] if len(entry.raw) == 1 else []
        near = get_close_matches(entry.raw[0], like, n=_NAMED, cutoff=0.0)
        hint = f"raw has tensors that fit: {', '.join(near)}" if near else "link tensors of as many elements"
    return PadiffError(
        f"the parameter map links base's {base} with raw's {raw}, and {why}",
        reason=Reason.MODELS_DO_NOT_MATCH,
        hint=hint,
    )
