"""Explain which of raw's parameters cannot be given base's values, layer by layer, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from padiff_rpc.align.assign.alike_lines import Problem
from padiff_rpc.align.assign.in_raw_layout import rule_of
from padiff_rpc.match.extras import holders_of
from padiff_rpc.match.layer_families import family_of, parameter_name
from padiff_rpc.match.layer_map import LayerPair, Matching, ParameterLink
from padiff_rpc.match.layout_rules import Rule
from padiff_rpc.match.routes import is_inside
from padiff_rpc.match.special_init import cure
from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.convert_dtype import convertible
from padiff_rpc.tensors.tensor import TensorSpec


@dataclass(frozen=True)
class AssignFailure:
    """One parameter or buffer of raw that gets no value, and the layers to look into.

    Base's part is empty where nothing in base corresponds.

    Attributes:
        base_route: is the route of the corresponding layer of base.
        base_class: is that layer's class.
        raw_route: is the route of the layer of raw that holds the tensor.
        raw_class: is that layer's class.
        base_parameter: is the full name of base's tensor.
        raw_parameter: is the full name of raw's tensor.
        base_shape: is the shape of base's tensor.
        raw_shape: is the shape of raw's tensor.
        why: gives the reason in one sentence.
        cure: names the special initialiser to register for a pair of the layer map; it is empty elsewhere.
        layer: is the route of the layer of raw without partner that the tensor lies in; it is empty where there is none.
        extra: says that raw alone has the tensor, so that raw may keep its own values in it (see `Extra`).
        proposal: is a map, in TOML, that gives it a value; it is empty where none is plausible.
    """

    base_route: str
    base_class: str
    raw_route: str
    raw_class: str
    base_parameter: str
    raw_parameter: str
    base_shape: tuple[int, ...]
    raw_shape: tuple[int, ...]
    why: str
    cure: str = ""
    layer: str = field(default="", compare=False)
    extra: bool = field(default=False, compare=False)
    proposal: str = field(default="", compare=False)

    @property
    def problem(self) -> Problem:
        """What a list of problems says of it: one problem for all tensors of a layer without partner."""
        return Problem(self.layer or self.raw_parameter, self.why, self.base_parameter, self.proposal)


def explain_mismatch(base: ModelDescription, raw: ModelDescription, matching: Matching) -> list[AssignFailure]:
    """Return the tensors of raw that get no values of base's, in raw's definition order; none where all get them.

    Those that raw alone has are among them (`extra`). A tensor inside a pair of the layer map is no such one while base's layer
    holds tensors that go nowhere: there a special initialiser is wanted.
    """
    return _Explanation(PerSide(base, raw), matching).failures()


class _Explanation:
    """What the misfits of a matching are told by: both models' layers and tensors, by name."""

    def __init__(self, described: PerSide[ModelDescription], matching: Matching) -> None:
        self._described = described
        self._matching = matching
        self._holders = described.map(holders_of)
        self._infos = described.map(_by_any_name)
        self._to_base = {pair.raw: pair.base for pair in matching.layers}
        self._used = {name for link in matching.links for name in link.base}
        self._entries = {entry.name: entry for entry in matching.unmatched_raw}
        self._extras = {name for entry in matching.unmatched_raw for name in entry.tensors}

    def failures(self) -> list[AssignFailure]:
        order = {info.name: at for at, info in enumerate(self._described.raw.parameters)}
        found = [*self._without_partner(), *(one for link in self._matching.links for one in self._misfits(link))]
        return sorted(found, key=lambda one: order.get(one.raw_parameter, len(order)))

    def _without_partner(self) -> list[AssignFailure]:
        """Describe every tensor of raw that no link writes, unless the matching says that it may be passed over."""
        linked = {name for link in self._matching.links for name in link.raw}
        failures: list[AssignFailure] = []
        for info in self._described.raw.parameters:
            if info.name in linked:
                continue
            route = info.name
            while route and route not in self._entries:
                route = route.rpartition(".")[0]
            entry = self._entries.get(route)
            if entry is not None and not entry.fails and (entry.what != "layer" or info.kind == "buffer"):
                continue
            why = entry.why if entry is not None else "no layer of base corresponds"
            layer = route if entry is not None and entry.what == "layer" else ""
            where = f"raw's layer {layer}, " if layer else "raw's "
            text = f"{where}{info.kind} {info.name} {list(info.spec.shape)}: {why}"
            failure = self._failure(info, self._counterpart(info), text)
            extra = info.name in self._extras and not failure.cure
            proposal = entry.proposal if entry is not None else ""
            failures.append(replace(failure, layer=layer, extra=extra, proposal=proposal))
        return failures

    def _counterpart(self, info: ParameterInfo) -> ParameterInfo | None:
        """Return the tensor of base's corresponding layer with the same name, or else its first tensor without a partner."""
        holder = self._holders.raw[info.name]
        if holder.route not in self._to_base:
            return None
        layer = self._described.base.layer(self._to_base[holder.route])
        free = [self._infos.base[name] for name in layer.parameters]
        free = [one for one in free if one.name not in self._used]
        wanted = _common(self._described.raw, holder, info.name)
        named = [one for one in free if _common(self._described.base, layer, one.name) == wanted]
        return next(iter([*named, *free]), None)

    def _misfits(self, link: ParameterLink) -> list[AssignFailure]:
        unknown = [*(set(link.base) - self._infos.base.keys()), *(set(link.raw) - self._infos.raw.keys())]
        if unknown:
            base = self._described.base.layer(link.base_route)
            raw = self._described.raw.layer(link.raw_route)
            return [
                AssignFailure(
                    base.route, base.class_name, raw.route, raw.class_name, "", name, (), (), f"{name}: no such tensor"
                )
                for name in unknown
            ]
        base = [self._infos.base[name] for name in link.base]
        raw = [self._infos.raw[name] for name in link.raw]
        rule = rule_of(link)
        if not isinstance(rule, Rule):
            return []
        why = _misfit(link, rule, [info.spec for info in base], [info.spec for info in raw])
        return [self._failure(raw[0], base[0], why)] if why else []

    def _failure(self, raw: ParameterInfo, base: ParameterInfo | None, why: str) -> AssignFailure:
        holder = self._holders.raw[raw.name]
        route = self._holders.base[base.name].route if base is not None else self._to_base.get(holder.route)
        layer = None if route is None else self._described.base.layer(route)
        return AssignFailure(
            base_route=layer.route if layer else "",
            base_class=layer.class_name if layer else "",
            raw_route=holder.route,
            raw_class=holder.class_name,
            base_parameter=base.name if base else "",
            raw_parameter=raw.name,
            base_shape=base.spec.shape if base else (),
            raw_shape=raw.spec.shape,
            why=why,
            cure=self._cure(holder.route),
        )

    def _cure(self, raw_route: str) -> str:
        """Name the special initialiser that is wanted, where the layer map pairs what the layer is in with unlike insides."""
        lost = [name for entry in self._matching.unmatched_base for name in entry.tensors]
        mapped = [
            pair
            for pair in self._matching.layers
            if pair.how == "explicit"
            and is_inside(raw_route, pair.raw)
            and any(is_inside(name, pair.base) for name in lost)
        ]
        if not mapped:
            return ""
        pair: LayerPair = max(mapped, key=lambda one: len(one.raw))
        return cure(
            _class_of(self._described.base, pair.base),
            _class_of(self._described.raw, pair.raw),
        )


def _class_of(model: ModelDescription, route: str) -> str:
    return f"{model.framework}::{model.layer(route).class_name}"


def _by_any_name(model: ModelDescription) -> dict[str, ParameterInfo]:
    return {name: info for info in model.parameters for name in (info.name, *info.aliases)}


def _common(model: ModelDescription, layer: LayerInfo, name: str) -> str:
    """Return a tensor's name in its layer as every framework has it."""
    own = name.removeprefix(f"{layer.route}.") if layer.route else name
    return parameter_name(family_of(model.framework, layer.class_name, layer.class_path, {}), own)


def _misfit(link: ParameterLink, rule: Rule, base: Sequence[TensorSpec], raw: Sequence[TensorSpec]) -> str:
    names = f"base's {', '.join(link.base)} and raw's {', '.join(link.raw)}"
    if not rule.fits([spec.shape for spec in base], [spec.shape for spec in raw]):
        shapes = [", ".join(str(list(spec.shape)) for spec in specs) for specs in (base, raw)]
        return f"{names}: shape {shapes[0]} against {shapes[1]} under the rule {link.rule!r}"
    if len({spec.dtype for spec in base}) > 1:
        return f"{names}: base's parts differ in dtype, {', '.join(spec.dtype.value for spec in base)}"
    wrong = [spec for spec in raw if not convertible(base[0].dtype, spec.dtype)]
    return f"{names}: a {base[0].dtype.value} tensor cannot become {wrong[0].dtype.value}" if wrong else ""
