"""Write the links between two models as AOA statements, which Paddle's own engine takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import gcd

from padiff_rpc.match.aoa.grammar import CASTS, FLAGS, NOTHING, NUMBERS, TEXTS, TRANSPOSED
from padiff_rpc.match.layer_map import Matching, ParameterLink
from padiff_rpc.match.packed_parameters import packing_rule
from padiff_rpc.model.model import ModelDescription, ParameterInfo
from padiff_rpc.per_side import PerSide

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_WORDS = (*NUMBERS, *TEXTS, *FLAGS, NOTHING)
_OPTIMIZER_STATES = (".w_0", ".moment1_0", ".moment2_0", ".beta1_pow_acc_0", ".beta2_pow_acc_0")
"""How names end that Paddle's engine (3.3.1) takes for the state of an optimiser."""


@dataclass
class WrittenStatements:
    """A map as AOA statements.

    Attributes:
        statements: the statements, in their order.
        unsaid: what AOA cannot say, by the name of raw's tensor, each with the reason.
    """

    statements: list[str] = field(default_factory=list)
    unsaid: dict[str, str] = field(default_factory=dict)


def write_statements(matching: Matching, described: PerSide[ModelDescription]) -> WrittenStatements:
    """Return the links of a matching as AOA statements from base's tensors to raw's.

    A tensor without a link is dropped if it is base's, and keeps its own value if it is raw's. Each name that raw has for a tied
    tensor gets a statement. Values are cast where raw's dtype is another.

    Args:
        matching: the links.
        described: both models' descriptions.
    """
    return _Writer(matching, described).run()


class _Writer:
    """The statements as they grow."""

    def __init__(self, matching: Matching, described: PerSide[ModelDescription]) -> None:
        self._links = matching.links
        self._infos = described.map(lambda model: {info.name: info for info in model.parameters})
        self._names = described.map(
            lambda model: {name for info in model.parameters for name in (info.name, *info.aliases)}
        )
        self._made: set[str] = set()  # names of our own between base's and raw's
        self._kept: dict[str, str] = {}  # base's names that a statement overwrites before another one reads them
        self._result = WrittenStatements()

    def run(self) -> WrittenStatements:
        said = [link for link in self._links if self._sayable(link)]
        self._keep_what_is_overwritten(said)
        for link in said:
            self._result.statements += self._link(link)
        read = {name for link in said for name in link.base}
        written = {name for link in said for name in link.raw} | self._result.unsaid.keys()
        self._result.statements += [f"{name} -> {NOTHING}" for name in self._plain("base", read)]
        self._result.statements += [f"{NOTHING} -> {name}" for name in self._plain("raw", written)]
        return self._result

    def _sayable(self, link: ParameterLink) -> bool:
        why = self._why_not(link)
        if why:
            self._result.unsaid |= dict.fromkeys(link.raw, why)
        return not why

    def _why_not(self, link: ParameterLink) -> str:
        base = [self._infos.base[name] for name in link.base]
        raw = [self._infos.raw[name] for name in link.raw]
        names = [name for info in (*base, *raw) for name in (info.name, *(info.aliases if info in raw else ()))]
        odd = [name for name in names if not _is_name(name)]
        if odd:
            return f"AOA cannot name {odd[0]!r}"
        casts = {info.spec.dtype for info in raw if info.spec.dtype is not base[0].spec.dtype}
        if casts - CASTS.keys():
            return f"AOA casts to {', '.join(CASTS.values())} only"
        if link.rule in ("identity", "transpose", "swap_last") or _packing(link):
            return ""
        if link.rule == "reshape" and base[0].spec.shape == raw[0].spec.shape:
            return ""
        shapes = " -> ".join(", ".join(str(list(info.spec.shape)) for info in infos) for infos in (base, raw))
        return f"AOA has no words for the rule {link.rule!r} of {', '.join(link.base)} ({shapes})"

    def _keep_what_is_overwritten(self, links: Sequence[ParameterLink]) -> None:
        """Give each tensor of base a second name that is read after a tensor of raw with its name is made."""
        made: set[str] = set()
        for link in links:
            for name in made.intersection(link.base):
                self._kept[name] = self._new(f"{name}.of_base")
            made.update(name for info in self._raw(link) for name in (info.name, *info.aliases))
        self._result.statements += [f"{name} -> {kept}" for name, kept in self._kept.items()]

    def _link(self, link: ParameterLink) -> Iterator[str]:
        base = [self._kept.get(name, name) for name in link.base]
        dtype = self._infos.base[link.base[0]].spec.dtype
        casts = {info.name: CASTS[info.spec.dtype] for info in self._raw(link) if info.spec.dtype is not dtype}
        if found := _packing(link):
            targets = [self._new(f"{name}.uncast") if name in casts else name for name in link.raw]
            yield from (self._split if len(base) == 1 else self._pack)(link, base, targets, found)
            cast = zip(targets, link.raw, strict=True)
            yield from (f'{target} -> {name}, dtype="{casts[name]}"' for target, name in cast if name in casts)
        else:
            for source, name in zip(base, link.raw, strict=True):
                yield from self._move(link.rule, source, name, casts.get(name))
        yield from (f"{info.name} -> {alias}" for info in self._raw(link) for alias in info.aliases)

    def _move(self, rule: str, source: str, target: str, cast: str | None) -> Iterator[str]:
        """Give one whole tensor its name, the order of its axes and its dtype."""
        turned = TRANSPOSED if rule == "transpose" else ""
        if rule == "swap_last":
            *before, last, other = range(len(self._infos.raw[target].spec.shape))
            swapped = self._new(f"{target}.uncast") if cast else target
            yield f'{source} -> {swapped}, permute="{[*before, other, last]}"'
            if not cast:
                return
            source = swapped
        yield f"{source}{turned} -> {target}" + (f', dtype="{cast}"' if cast else "")

    def _pack(
        self, link: ParameterLink, base: Sequence[str], targets: Sequence[str], packing: _Packing
    ) -> Iterator[str]:
        axis, groups = packing.axis, packing.groups
        sources = [name + TRANSPOSED * packing.transposed for name in base]
        sizes = [_along(self._infos.base[name], 1 - axis if packing.transposed else axis) for name in link.base]
        heads = _heads(sizes, groups)
        if groups == 1:
            yield f"{', '.join(sources)} -> {targets[0]}, axis={axis}"
        elif heads:
            yield f"{', '.join(sources)} -> {targets[0]}, {_qkv(heads, groups, axis)}"
        else:
            cuts = [[self._new(f"{name}.part_{at}") for at in range(groups)] for name in base]
            for source, cut in zip(sources, cuts, strict=True):
                yield f"{source} -> {', '.join(cut)}, axis={axis}"
            yield f"{', '.join(cut[at] for at in range(groups) for cut in cuts)} -> {targets[0]}, axis={axis}"

    def _split(
        self, link: ParameterLink, base: Sequence[str], targets: Sequence[str], packing: _Packing
    ) -> Iterator[str]:
        """Cut a tensor into parts. What is to be cut and then transposed is transposed first, since statements must do so."""
        axis = 1 - packing.axis if packing.transposed else packing.axis
        source = base[0] + TRANSPOSED * packing.transposed
        sizes = [_along(self._infos.raw[name], axis) for name in link.raw]
        groups = packing.groups
        heads = _heads(sizes, groups)
        if groups == 1 and len(set(sizes)) == 1:
            yield f"{source} -> {', '.join(targets)}, axis={axis}"
        elif heads and groups > 1 and sizes[0] * groups == sizes[1] * heads and sizes[1] == sizes[2]:
            yield f"{source} -> {', '.join(targets)}, {_qkv(heads, groups, axis)}"
        else:
            unit = gcd(*(size // groups for size in sizes))
            units: dict[str, list[str]] = {name: [] for name in targets}
            order: list[str] = []
            for _ in range(groups):
                for target, size in zip(targets, sizes, strict=True):
                    made = [self._new(f"{base[0]}.part_{len(order) + at}") for at in range(size // groups // unit)]
                    units[target] += made
                    order += made
            yield f"{source} -> {', '.join(order)}, axis={axis}"
            for target, parts in units.items():
                yield f"{', '.join(parts)} -> {target}" + (f", axis={axis}" if len(parts) > 1 else "")

    def _raw(self, link: ParameterLink) -> list[ParameterInfo]:
        return [self._infos.raw[name] for name in link.raw]

    def _plain(self, side: str, without: Iterable[str]) -> list[str]:
        """Return all names of the tensors of a side that a statement can name, but for some tensors."""
        infos = self._infos.base if side == "base" else self._infos.raw
        left = [info for name, info in infos.items() if name not in without]
        return [name for info in left for name in (info.name, *info.aliases) if _is_name(name)]

    def _new(self, name: str) -> str:
        while name in self._made or name in self._names.base or name in self._names.raw:
            name += "_"
        self._made.add(name)
        return name


@dataclass(frozen=True)
class _Packing:
    """What a rule that packs or cuts does. axis: along which the whole tensor is cut."""

    axis: int
    transposed: bool
    groups: int


def _packing(link: ParameterLink) -> _Packing | None:
    """Return what the rule of a link does, if it is one that packs or cuts; else None."""
    _, _, groups = link.rule.partition("@")
    number = int(groups) if groups.isdecimal() else 1
    for side in ("base", "raw"):
        for axis in (0, 1):
            for transposed in (False, True):
                if packing_rule(side, transposed, axis == 1, number) == link.rule:
                    return _Packing(axis, transposed, number)
    return None


def _along(info: ParameterInfo, axis: int) -> int:
    return info.spec.shape[axis]


def _heads(sizes: Sequence[int], groups: int) -> int:
    """Return the number of heads under which `fused_qkv` takes shares of three parts in each group; 0 for other than three."""
    if len(sizes) != 3:
        return 0
    heads, rest = divmod(sizes[0] * groups, sizes[1])
    return groups if rest or heads % groups or sizes[0] % heads else heads


def _qkv(heads: int, groups: int, axis: int) -> str:
    return f"fused_qkv, num_heads={heads}, num_key_value_groups={groups}, axis={axis}"


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and name not in _WORDS and not name.endswith(_OPTIMIZER_STATES)
