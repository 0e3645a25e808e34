"""A layer call on both sides, what it stands in, and which parameters of it correspond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from padiff_rpc.align.assign.in_raw_layout import in_raw_layout
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import ForwardRequest, Model, ModelDescription
from padiff_rpc.model.part_names import joined, stack_name
from padiff_rpc.model.replaying import Replaying
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.tensors.tensor import Tensor, collect_all

_DIGESTED = ("identity", "transpose")
"""Rules under which equal hashes show that raw holds base's values; under the others both are read."""


class ReplayingModel(Model, Replaying, Protocol):
    """A model that runs, and whose layers can be replayed."""


@dataclass(frozen=True)
class LayerInStep:
    """A layer call on both sides, and what it stands in.

    Attributes:
        models: Both models.
        forwards: The step's forward on each side. Without `gradients` less memory is taken.
        routes: The layer's route on each side.
        call: The number of its call within the step.
        described: Both models' descriptions.
        links: The parameters and buffers that correspond; those of other layers do not count.
        inner: Layers inside that correspond, at whose outputs flipped signs are looked for.
        backward: Judge the gradients, too.
    """

    models: PerSide[ReplayingModel]
    forwards: PerSide[ForwardRequest]
    routes: PerSide[str]
    call: int
    described: PerSide[ModelDescription]
    links: Sequence[ParameterLink]
    inner: Sequence[PerSide[str]] = ()
    backward: bool = True

    def inside(self, side: SideName) -> set[str]:
        """Return the first names of the tensors of the layer and of all layers inside."""
        description = self.described.of(side)
        found: set[str] = set()
        ahead = [self.routes.of(side)]
        while ahead:
            layer = description.layer(ahead.pop())
            found.update(description.parameter(name).name for name in layer.parameters)
            ahead += layer.children
        return found

    @property
    def stacks(self) -> set[str]:
        """The names of raw's tensors that are matched in parts."""
        names = {info.name for info in self.described.raw.parameters}
        return {stack_name(name) for name in names} - names

    def parameter_links(self) -> list[ParameterLink]:
        """Return the links of parameters of which any side's lies in the layer."""
        inside = PerSide(self.inside("base"), self.inside("raw"))
        return [
            link
            for link in self.links
            if link.kind == "parameter"
            and (self.first_names("base", link.base) & inside.base or self.first_names("raw", link.raw) & inside.raw)
        ]

    def first_names(self, side: SideName, names: Sequence[str]) -> set[str]:
        """Return the names that the description has for these tensors, aliases resolved."""
        return {self.described.of(side).parameter(name).name for name in names}


def weights_for_raw(layer: LayerInStep) -> dict[str, Tensor]:
    """Return base's values of the parameters in raw's layer that are not equal there, by raw's names and in raw's layout.

    Of a stack that is matched in parts, the whole is returned.

    They drift apart once an optimiser has stepped, and are rounded where raw is kept in another dtype.
    """
    base, raw = layer.models
    inside = layer.inside("raw")
    links = [
        link
        for link in layer.parameter_links()
        if layer.first_names("raw", link.raw) & inside and not (link.special is not None and link.special.live)
    ]
    turned = [name for link in links if link.rule == "transpose" for name in link.base]
    plain = [name for link in links if link.rule == "identity" for name in link.base]
    mine = {**base.digest_parameters(plain), **base.digest_parameters(turned, transposed=turned)}
    theirs = raw.digest_parameters([name for link in links for name in link.raw])
    found: dict[str, Tensor] = {}
    open_links = [
        link for link in links if link.rule not in _DIGESTED or mine[link.base[0]].hash != theirs[link.raw[0]].hash
    ]
    stacks = {stack_name(name) for link in open_links for name in link.raw} & layer.stacks
    for link in links:
        if link not in open_links and stacks.isdisjoint(map(stack_name, link.raw)):
            continue
        held = collect_all(base.read_parameters(list(dict.fromkeys(link.base))))
        specs = [layer.described.raw.parameter(name).spec for name in link.raw]
        for name, tensor in in_raw_layout(link, [held[each] for each in link.base], specs):
            if layer.described.raw.parameter(name).name in inside and tensor.spec.dtype.is_floating:
                found[name] = tensor
    of_stacks = {name: tensor for name, tensor in found.items() if stack_name(name) in stacks}
    return {**{name: found[name] for name in found.keys() - of_stacks.keys()}, **joined(of_stacks)}
