"""Hold the hyper-parameters of the two sides' optimisers against each other, parameter by parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from padiff_rpc.align.sides import Sides
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import DescribingOptimizers, Model, OptimizerGroup, OptimizerSpec, OptionValue
from padiff_rpc.model.part_names import stack_name
from padiff_rpc.per_side import SIDES, PerSide

_SHOWN = 3
_CLOSE = 1e-6
"""The relative difference of two equal numbers, one of which was kept in float32."""
Treated = Mapping[str, tuple[str, Mapping[str, OptionValue]]]
"""The formula and the hyper-parameters of each parameter."""


@dataclass(frozen=True)
class OptimizerOptions:
    """What both sides' optimisers tell of themselves.

    Attributes:
        groups: are the parameters that each side treats alike; empty where it tells nothing.
    """

    groups: PerSide[tuple[OptimizerGroup, ...]]

    @property
    def known(self) -> bool:
        """Whether both sides tell."""
        return all(self.groups)

    def treated(self, links: Sequence[ParameterLink]) -> PerSide[Treated]:
        """Return how each side treats each parameter of these links; a part of one as the whole."""
        told = self.groups.map(
            lambda groups: {name: (group.algorithm, group.options) for group in groups for name in group.parameters}
        )
        names = PerSide({name for link in links for name in link.base}, {name for link in links for name in link.raw})
        return PerSide(*(_of_names(told.of(side), names.of(side)) for side in SIDES))

    def differences(self, links: Sequence[ParameterLink]) -> list[str]:
        """Return a sentence for each hyper-parameter in which the sides differ, of those that both have."""
        treated = self.treated(links)
        pairs = [
            (name, *both)
            for link in links
            for name in link.raw
            for both in [(treated.base.get(link.base[0]), treated.raw.get(name))]
        ]
        found: dict[tuple[str, str, str], list[str]] = {}
        compared = 0
        for name, base, raw in pairs:
            if base is None and raw is None:
                continue
            compared += 1
            for difference in _differences(base, raw):
                found.setdefault(difference, []).append(name)
        return [
            f"the optimisers differ in {key}: {base} in base, {raw} in raw, for {_of(names, compared)}"
            for (key, base, raw), names in found.items()
        ]

    def figures(self) -> dict[str, list[dict[str, object]]]:
        """Return the groups for the result."""
        told = self.groups.map(
            lambda groups: [
                {"algorithm": one.algorithm, "options": dict(one.options), "parameters": len(one.parameters)}
                for one in groups
            ]
        )
        return dict(told.items())


def _of_names(told: Treated, names: Iterable[str]) -> Treated:
    found = {name: told.get(name) or told.get(stack_name(name)) for name in names}
    return {name: treated for name, treated in found.items() if treated is not None}


def read_options(sides: Sides, optimizers: PerSide[OptimizerSpec]) -> OptimizerOptions:
    """Ask both sides, before a step; a dump tells nothing."""

    def read(model: Model, optimizer: OptimizerSpec) -> tuple[OptimizerGroup, ...]:
        return model.describe_optimizer(optimizer) if isinstance(model, DescribingOptimizers) else ()

    return OptimizerOptions(PerSide(read(sides.base, optimizers.base), read(sides.raw, optimizers.raw)))


def _differences(
    base: tuple[str, Mapping[str, OptionValue]] | None, raw: tuple[str, Mapping[str, OptionValue]] | None
) -> Iterable[tuple[str, str, str]]:
    """Yield (what, base's, raw's) of two parameters that correspond."""
    if base is None or raw is None:
        yield "whether it is trained", "no" if base is None else "yes", "no" if raw is None else "yes"
        return
    (mine, ours), (other, theirs) = base, raw
    if mine != other and not _alike_without_decay(base, raw):
        yield "their formula", mine, other
    for key, value in ours.items():
        if key in theirs and not _equal(value, theirs[key]):
            yield key, _shown(value), _shown(theirs[key])


def _alike_without_decay(
    base: tuple[str, Mapping[str, OptionValue]], raw: tuple[str, Mapping[str, OptionValue]]
) -> bool:
    """Adam and AdamW differ in nothing but their decay."""
    idle = not base[1].get("weight_decay") and not raw[1].get("weight_decay")
    return idle and {base[0], raw[0]} == {"Adam", "AdamW"}


def _equal(base: OptionValue, raw: OptionValue) -> bool:
    if isinstance(base, str) or isinstance(raw, str):
        return base == raw
    return abs(base - raw) <= _CLOSE * max(abs(base), abs(raw))


def _shown(value: OptionValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return f"all {total} parameters"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} of {total} parameters ({', '.join(names[:_SHOWN])}{more})"
